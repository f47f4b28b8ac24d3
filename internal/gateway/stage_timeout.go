package gateway

import (
	"context"
	"net/http"
	"sync"
	"time"

	"landline/internal/problem"
)

// errTimeout is the cause of a context that the timeout stage ended.
var errTimeout = problem.New(problem.UpstreamTimeout, "").Wrap(context.DeadlineExceeded)

// countdown is what is left of a feature's timeout. It runs while we wait for
// the upstream and stands still while the client is the slow one, be it with
// its body or with the answer: a bad connection must not open a breaker.
type countdown struct {
	mu     sync.Mutex
	timer  *time.Timer // nil before it starts and after it is forgotten
	left   time.Duration
	since  time.Time
	paused int // by how many of the two directions
}

func (c *countdown) start(d time.Duration, expired func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer, c.left, c.since, c.paused = time.AfterFunc(d, expired), d, time.Now(), 0
}

// pause stops the clock until as many resumes have come.
func (c *countdown) pause() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paused++; c.paused == 1 && c.timer != nil {
		c.left -= time.Since(c.since)
		c.timer.Stop()
	}
}

// resume starts the clock again with what was left.
func (c *countdown) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paused--; c.paused == 0 && c.timer != nil {
		c.since = time.Now()
		c.timer.Reset(max(c.left, 0))
	}
}

// forget ends the timeout for good: what follows is a stream.
func (c *countdown) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
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
			x.countdown.start(d, func() { cancel(errTimeout) })
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
