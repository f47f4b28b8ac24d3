package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"landline/internal/gateway"
)

// drain takes the node out of service: readyz says 503 so that balancers stop
// sending, after shutdown.delay the listener closes, requests and jobs in
// flight get shutdown.grace, then what is left is cut. stopBackground ends what
// else uses storage, which closes last.
//
// Until the delay is over no connection is closed that a client may be sending
// on: it could not know whether its request was executed. Connections end with
// an answer that says so; Shutdown closes those that are idle even then.
//
// http.Server.Shutdown alone may wait for ever (streams, hijacked connections,
// golang/go#81153), therefore the deadline and the Close behind it.
func (a *App) drain(ctx context.Context, public, adminServer gateway.Server, stopBackground func()) error {
	began := time.Now()
	s := a.settings.Shutdown
	a.kernel.health.Drain()
	a.gateway.Leave()
	a.log.Info("draining", "delay", s.Delay.String(), "grace", s.Grace.String())
	time.Sleep(s.Delay.D())

	grace, cancel := context.WithTimeout(ctx, s.Grace.D())
	defer cancel()
	a.gateway.Drain()
	var errs []error
	if err := public.Shutdown(grace); err != nil {
		errs = append(errs, withExit(ExitDrain, fmt.Errorf("requests were cut off: shutdown.grace of %s ended", s.Grace)), ignoreClosed(public.Close()))
	}
	if err := a.kernel.queue.Stop(grace); err != nil {
		errs = append(errs, withExit(ExitDrain, fmt.Errorf("stop the queue: %w", err)))
	}
	for i := len(a.modules) - 1; i >= 0; i-- {
		if stop := a.modules[i].Stop; stop != nil {
			errs = append(errs, stop(grace))
		}
	}
	if err := adminServer.Shutdown(grace); err != nil {
		errs = append(errs, ignoreClosed(adminServer.Close()))
	}
	stopBackground()
	a.gateway.Close()
	closing, stopClosing := context.WithTimeout(ctx, 10*time.Second)
	defer stopClosing()
	errs = append(errs, a.kernel.close(closing))
	err := errors.Join(errs...)
	if err != nil {
		a.log.Error("stopped uncleanly", "error", err, "took_ms", time.Since(began).Milliseconds())
	} else {
		a.log.Info("stopped", "took_ms", time.Since(began).Milliseconds())
	}
	return err
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
