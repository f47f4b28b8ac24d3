package gateway

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"landline/internal/problem"
)

// errTimeout is the cause of a context that the timeout stage ended.
var errTimeout = problem.New(problem.UpstreamTimeout, "").Wrap(context.DeadlineExceeded)

// watchAfter is how long a request to an upstream has been under way when it
// begins to look whether its client is still there. Most are over by then.
const watchAfter = 20 * time.Millisecond

// timed is what a countdown ends.
type timed interface {
	watch()  // called once, when the countdown has run for a moment
	expire() // called when it is over
}

// countdown is what is left of a feature's timeout. It runs while we wait for
// the upstream and stands still while the client is the slow one, be it with
// its body or with the answer: a bad connection must not open a breaker.
type countdown struct {
	mu     sync.Mutex
	of     timed
	timer  *time.Timer // nil before it starts and after it is forgotten
	left   time.Duration
	first  time.Duration // left when of is to watch; -1 once it does
	since  time.Time
	paused int // by how many of the two directions
}

func (c *countdown) start(d time.Duration, of timed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of, c.left, c.first, c.since, c.paused = of, d, max(d-watchAfter, 0), time.Now(), 0
	c.timer = time.AfterFunc(c.next(), c.fire)
}

// next is how long the timer runs.
func (c *countdown) next() time.Duration {
	if c.first >= 0 {
		return max(c.left-c.first, 0)
	}
	return max(c.left, 0)
}

// fire is called by the timer.
func (c *countdown) fire() {
	c.mu.Lock()
	if c.timer == nil || c.paused > 0 {
		c.mu.Unlock()
		return
	}
	now := time.Now()
	c.left, c.since = c.left-now.Sub(c.since), now
	watch := c.first >= 0
	c.first = -1
	over, of := c.left <= 0, c.of
	if over {
		c.timer = nil
	} else {
		c.timer.Reset(c.left)
	}
	c.mu.Unlock()
	switch {
	case over:
		of.expire()
	case watch:
		of.watch()
	}
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
		c.timer.Reset(c.next())
	}
}

// forget ends the timeout for good: the whole of the answer is there.
func (c *countdown) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stop()
}

// endless is forget where what follows is a stream, which its client's leaving ends.
func (c *countdown) endless() {
	c.mu.Lock()
	watch, of := c.timer != nil && c.first >= 0, c.of
	c.stop()
	c.mu.Unlock()
	if watch {
		of.watch()
	}
}

func (c *countdown) stop() {
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
			s := x.newScope(r)
			x.countdown.start(d, s)
			defer func() {
				x.countdown.forget()
				s.end(context.Canceled)
			}()
			return next(x, w, r.WithContext(s))
		}
	}
}

// handlerTimeoutStage gives a module's handler a deadline. Most handlers wait
// for something, a commit above all, and for the end of their context beside it:
// they hear of a client that leaves from watchAfter on, and who answers before
// that costs nobody the watching.
func handlerTimeoutStage(d time.Duration) Stage {
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			s := x.newScope(r)
			s.until, s.over, s.patient = time.Now().Add(d), context.DeadlineExceeded, true
			if earlier, ok := s.parent.Deadline(); ok && earlier.Before(s.until) {
				s.until = earlier // which ends the parent
			}
			x.countdown.start(d, s)
			defer func() {
				x.countdown.forget()
				s.end(context.Canceled)
			}()
			err := next(x, w, r.WithContext(s))
			if errors.Is(err, context.DeadlineExceeded) && s.Err() != nil && problem.From(err).Code == problem.Internal {
				return problem.New(problem.UpstreamTimeout, "").Wrap(err) // it says no more than its context has
			}
			return err
		}
	}
}

// callsTimeoutStage gives the calls of an aggregated answer their deadline. Each
// learns from the context's cause that it is over.
func callsTimeoutStage(d time.Duration) Stage {
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			ctx, cancel := context.WithTimeoutCause(r.Context(), d, errTimeout)
			defer cancel()
			return next(x, w, r.WithContext(ctx))
		}
	}
}

// newScope is the scope of the rest of r's way.
func (x *Exchange) newScope(r *http.Request) *scope {
	s := &x.scope
	if s.parent != nil { // of an earlier way of the same request, whose fallback this is
		s = new(scope)
	}
	s.parent = r.Context()
	return s
}
