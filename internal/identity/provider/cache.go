package provider

import (
	"context"
	"errors"
	"sync"
	"time"

	"landline/internal/clock"
)

// Times of what is fetched from providers.
const (
	minFresh     = 5 * time.Minute
	maxFresh     = 24 * time.Hour
	defaultFresh = time.Hour
	renewBurst   = 4                // fetches for keys that are not known, one right after the other,
	renewEvery   = 10 * time.Second // and one in this time from then on
	doubtEvery   = time.Minute      // fetches for signatures that known keys do not verify
	firstBackoff = 2 * time.Second  // after a failed fetch, doubled up to lastBackoff
	lastBackoff  = time.Minute
	patience     = time.Second // how long a fetch is waited for while an older document would do
)

// life is the time in which goroutines may be started.
type life struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
}

func newLife() *life {
	l := &life{}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// start runs f in a goroutine, or reports that it is over.
func (l *life) start(f func(context.Context)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.running.Go(func() { f(l.ctx) })
	return true
}

func (l *life) end() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cancel()
	l.running.Wait()
}

// cached is a document of a provider. It is fetched when it is first needed, by
// one goroutine for all callers; fetched anew in good time while it is in use;
// and used up to maxStale after its last fetch while the provider is down.
type cached[T any] struct {
	clock    clock.Clock
	life     *life
	maxStale time.Duration
	patience time.Duration
	fetch    func(context.Context) (T, time.Duration, error)

	mu       sync.Mutex
	value    T
	fetches  int       // that were begun
	version  int       // the number of the fetch that brought the value; 0 = there is none
	asked    time.Time // that fetch began then
	at       time.Time // and ended then
	until    time.Time // fresh until then
	tried    time.Time // the last fetch began then
	renewed  time.Time // renewEvery for each fetch of renew, from when it began or from the one before
	doubted  time.Time // the last fetch of doubt began then
	failures int       // since the last success
	err      error     // of the last fetch
	flight   chan struct{}
}

// get returns the document and its version.
func (c *cached[T]) get(ctx context.Context) (T, int, error) {
	c.mu.Lock()
	now := c.now()
	if c.version > 0 && now.Before(c.until) {
		defer c.mu.Unlock()
		if now.After(c.at.Add(c.until.Sub(c.at)/2)) && c.flight == nil && !now.Before(c.nextTry()) {
			c.takeOff(now)
		}
		return c.value, c.version, nil
	}
	if c.flight == nil && now.Before(c.nextTry()) {
		defer c.mu.Unlock()
		return c.stale(now)
	}
	wait := time.Duration(0)
	if c.usable(now) {
		if wait = c.patience; c.failures > 0 {
			wait = -1 // it is known to be down
		}
	}
	if err := c.join(ctx, now, wait); err != nil {
		var none T
		return none, 0, err
	}
	defer c.mu.Unlock()
	return c.stale(now)
}

// now is the time. A clock that was set back does not make the document younger:
// it is fetched anew, and is good for maxStale from now at most.
func (c *cached[T]) now() time.Time {
	now := c.clock.Now()
	if now.Before(c.tried) {
		c.tried, c.renewed, c.doubted = time.Time{}, time.Time{}, time.Time{}
	}
	if now.Before(c.at) {
		c.at, c.until, c.asked = now, now, time.Time{}
	}
	return now
}

// begun is the number of the last fetch that has begun: a version above it was
// asked for later than now.
func (c *cached[T]) begun() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fetches
}

// renew is for somebody who misses something in this version that was there at
// the time since. It returns a newer version: the one that is there, the one that
// is being fetched, or one of a fetch of its own. Such fetches are bounded, by
// renewBurst and renewEvery for all callers. Where the bound forbids one it returns
// the same version if that was asked for later than since, and else an error that
// says when to ask again.
func (c *cached[T]) renew(ctx context.Context, version int, since time.Time) (T, int, error) {
	var none T
	c.mu.Lock()
	now := c.now()
	if c.version == version && (c.flight != nil || c.mayRenew(now)) {
		if err := c.join(ctx, now, 0); err != nil {
			return none, 0, err
		}
	}
	defer c.mu.Unlock()
	switch {
	case c.version != version:
		return c.value, c.version, nil
	case c.err != nil:
		return none, 0, c.retryLater(now, c.renewable())
	case c.asked.Before(since):
		err := unavailable(nil, ReasonUnreachable, "the provider's keys were asked for too often a moment ago, and may have changed since")
		err.RetryAfter = c.renewable().Sub(now)
		return none, 0, err
	}
	return c.value, c.version, nil
}

// doubt is for somebody whose signature does not verify with what this version
// has: something else may have taken its place since. It returns the newest
// version, after a fetch where doubtEvery allows one. Whoever forges a signature
// gets here, so these fetches are not counted with those of renew, of which new
// keys need some to be left.
func (c *cached[T]) doubt(ctx context.Context, version int) (T, int, error) {
	c.mu.Lock()
	now := c.now()
	mayFetch := !now.Before(c.doubted.Add(doubtEvery)) && !now.Before(c.nextTry())
	if c.version == version && (c.flight != nil || mayFetch) {
		if c.flight == nil {
			c.doubted = now
		}
		if err := c.join(ctx, now, 0); err != nil {
			var none T
			return none, 0, err
		}
	}
	defer c.mu.Unlock()
	return c.value, c.version, nil
}

// mayRenew counts a fetch of renew, or reports that it has to wait. The lock is held.
func (c *cached[T]) mayRenew(now time.Time) bool {
	if now.Before(c.renewable()) || now.Before(c.nextTry()) {
		return false
	}
	if c.renewed.Before(now) {
		c.renewed = now
	}
	c.renewed = c.renewed.Add(renewEvery)
	return true
}

// renewable is when renew may fetch next. The lock is held.
func (c *cached[T]) renewable() time.Time { return c.renewed.Add(-(renewBurst - 1) * renewEvery) }

// join waits for a fetch that runs, or starts one: as long as it takes when wait
// is 0, else for wait at most. The lock is held before and after, and not held when
// it returns an error.
func (c *cached[T]) join(ctx context.Context, now time.Time, wait time.Duration) error {
	if c.flight == nil && !c.takeOff(now) {
		if wait != 0 {
			return nil
		}
		c.mu.Unlock()
		return unavailable(nil, ReasonClosed, "the server is stopping")
	}
	if wait < 0 {
		return nil
	}
	var enough <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		enough = timer.C
	}
	flight := c.flight
	c.mu.Unlock()
	select {
	case <-flight:
	case <-enough:
	case <-ctx.Done():
		if wait == 0 {
			return unavailable(ctx.Err(), ReasonUnreachable, "the provider did not answer in time")
		}
	}
	c.mu.Lock()
	return nil
}

// takeOff starts a fetch that no single caller can cancel. The lock is held.
func (c *cached[T]) takeOff(now time.Time) bool {
	done := make(chan struct{})
	number := c.fetches + 1
	started := c.life.start(func(ctx context.Context) {
		value, fresh, err := c.fetch(ctx)
		c.mu.Lock()
		defer c.mu.Unlock()
		defer close(done)
		c.flight, c.err = nil, err
		if err != nil {
			c.failures++
			return
		}
		c.failures = 0
		c.version, c.value, c.asked, c.at = number, value, now, c.clock.Now()
		c.until = c.at.Add(min(fresh, c.maxStale))
	})
	if started {
		c.flight, c.fetches, c.tried = done, number, now
	}
	return started
}

func (c *cached[T]) nextTry() time.Time {
	if c.failures == 0 {
		return c.tried
	}
	return c.tried.Add(min(firstBackoff<<min(c.failures-1, 10), lastBackoff))
}

func (c *cached[T]) usable(now time.Time) bool {
	return c.version > 0 && now.Before(c.at.Add(c.maxStale))
}

// stale returns the value if it is not too old. The lock is held.
func (c *cached[T]) stale(now time.Time) (T, int, error) {
	if c.usable(now) {
		return c.value, c.version, nil
	}
	var none T
	return none, 0, c.retryLater(now, c.nextTry())
}

// retryLater is the error of the last fetch, for who may ask again at next and not
// before nextTry.
func (c *cached[T]) retryLater(now, next time.Time) error {
	err := *asError(c.err)
	if wait := max(next.Sub(now), c.nextTry().Sub(now)); wait > 0 && err.Kind == Unavailable {
		err.RetryAfter = max(err.RetryAfter, wait)
	}
	return &err
}

func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return unavailable(err, ReasonUnreachable, "the provider cannot be asked")
}

// age is the time since the last successful fetch; ok is false before the first.
func (c *cached[T]) age() (age time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clock.Now().Sub(c.at), c.version > 0
}
