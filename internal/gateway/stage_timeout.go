package gateway

import (
	"context"
	"net/http"
	"time"

	"landline/internal/problem"
)

// errTimeout is the cause of a context that the timeout stage ended.
var errTimeout = problem.New(problem.UpstreamTimeout, "").Wrap(context.DeadlineExceeded)

// countdown is what is left of a feature's timeout. It runs while we wait for
// the upstream, and stands still while the client is the slow one.
type countdown struct {
	timer *time.Timer
	left  time.Duration
	since time.Time
}

// pause stops the clock. It reports whether the timeout is still ahead.
func (c *countdown) pause() bool {
	if c.timer == nil {
		return true
	}
	c.left -= time.Since(c.since)
	return c.timer.Stop()
}

// resume starts the clock again with what was left.
func (c *countdown) resume() {
	if c.timer != nil {
		c.since = time.Now()
		c.timer.Reset(max(c.left, 0))
	}
}

// forget ends the timeout for good: what follows is a stream.
func (c *countdown) forget() {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}

// upstreamTimeoutStage ends a request whose upstream does not answer in time.
// The target stage pauses the clock while the client is slow and forgets it for streams.
func upstreamTimeoutStage(d time.Duration) Stage {
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			ctx, cancel := context.WithCancelCause(r.Context())
			x.countdown = countdown{timer: time.AfterFunc(d, func() { cancel(errTimeout) }), left: d, since: time.Now()}
			defer func() {
				x.countdown.forget()
				cancel(nil)
			}()
			return next(x, w, r.WithContext(ctx))
		}
	}
}

// handlerTimeoutStage gives a module's handler a deadline.
func handlerTimeoutStage(d time.Duration) Stage {
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			ctx, cancel := context.WithTimeoutCause(r.Context(), d, errTimeout)
			defer cancel()
			return next(x, w, r.WithContext(ctx))
		}
	}
}
