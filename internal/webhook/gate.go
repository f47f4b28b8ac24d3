package webhook

import (
	"sync"
	"time"
)

// A gate closes after closeAfter failures in a row that say that the endpoint
// is down, for minClosed at first and twice as long each time up to maxClosed.
// Then it lets one attempt through, which decides.
const (
	closeAfter = 5
	minClosed  = 30 * time.Second
	maxClosed  = 10 * time.Minute
)

// gate keeps an endpoint that is down from taking a worker for each of its
// deliveries. It belongs to one endpoint of one node.
type gate struct {
	mu       sync.Mutex
	failures int
	closed   time.Duration // how long it was closed the last time; 0 = it is open
	until    time.Time     // nothing passes before
	probing  bool          // the one attempt after a closure is under way
}

// enter reports whether an attempt may be made now. After true, leave is called.
func (g *gate) enter(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Before(g.until) || g.probing {
		return false
	}
	g.probing = g.closed > 0
	return true
}

// outcome is what an attempt says of its endpoint.
type outcome int

const (
	nothing outcome = iota // no attempt was made
	up
	down
)

// leave ends what enter began. pause > 0 is how long the endpoint asked to be
// left alone. It returns until when the gate is closed, zero when it did not
// close just now.
func (g *gate) leave(o outcome, pause time.Duration, now time.Time) (closedUntil time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	wasProbe := g.probing
	if o == nothing {
		g.probing = false
		return time.Time{}
	}
	g.probing = false
	before := g.until
	switch {
	case o == up:
		g.failures, g.closed = 0, 0
		if wasProbe {
			g.until = time.Time{}
		}
	default:
		g.failures++
		if wasProbe || g.failures == closeAfter {
			g.closed = min(max(2*g.closed, minClosed), maxClosed)
			g.until = later(g.until, now.Add(g.closed))
		}
	}
	if pause > 0 {
		g.until = later(g.until, now.Add(min(pause, maxPause)))
	}
	if g.until.After(before) {
		return g.until
	}
	return time.Time{}
}

// isClosed reports whether attempts are held back.
func (g *gate) isClosed(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return now.Before(g.until) || g.closed > 0
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
