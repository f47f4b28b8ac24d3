package bus

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Follower keeps a node's copy of what others may change: it reads again when
// told to on Topic, when messages may have been missed, and every Every.
type Follower struct {
	What  string                      // for errors and the log, in the plural: "API keys"
	Topic string                      // news on it means: read again; the payload is not looked at
	Every time.Duration               // 0 = on news alone
	Read  func(context.Context) error // brings the copy up to date; never called twice at once
	Bus   Bus
	Log   *slog.Logger

	wake chan struct{}
	stop context.CancelFunc
	done sync.WaitGroup
}

// Start reads for the first time, whose failure is its error, and follows until Stop.
func (f *Follower) Start(ctx context.Context) error {
	if err := f.Read(ctx); err != nil {
		return fmt.Errorf("read the %s: %w", f.What, err)
	}
	f.wake = make(chan struct{}, 1)
	ctx, f.stop = context.WithCancel(context.WithoutCancel(ctx)) // #nosec G118 -- Stop calls it
	look := func() {
		select {
		case f.wake <- struct{}{}:
		default: // it will read anyway
		}
	}
	offNews := f.Bus.Subscribe(f.Topic, func([]byte) { look() })
	offGap := f.Bus.OnGap(look)
	f.done.Go(func() {
		defer offGap()
		defer offNews()
		f.follow(ctx)
	})
	return nil
}

// Stop ends following; it may be called without Start.
func (f *Follower) Stop(context.Context) error {
	if f.stop != nil {
		f.stop()
	}
	f.done.Wait()
	return nil
}

func (f *Follower) follow(ctx context.Context) {
	var tick <-chan time.Time
	if f.Every > 0 {
		t := time.NewTicker(f.Every)
		defer t.Stop()
		tick = t.C
	}
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		case <-tick:
		}
		err := f.Read(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			f.Log.Warn("the "+f.What+" cannot be read; the known ones stay in force", "error", err)
		}
		failing = err != nil
	}
}
