package overload

import (
	"sync/atomic"
	"time"
)

// GuardConfig is what a Guard allows.
type GuardConfig struct {
	MaxInFlight int // requests at once, streams not counted; 0 = any number
	Shares      Shares
	Memory      int64  // bytes that may be in use; 0 = any amount
	MemoryFull  Shares // from which part of Memory on each level is turned away
	Adaptive    *LimitConfig
	Wait        time.Duration // for a processor, that nine of ten goroutines may have; 0 = any
}

// Guard admits requests to the node. It counts them from Enter to Leave.
type Guard struct {
	inFlight atomic.Int64
	config   atomic.Pointer[GuardConfig]
	limiter  atomic.Pointer[Limiter]
	memory   memory
	cpu      processor
}

// NewGuard returns a guard.
func NewGuard(c GuardConfig) *Guard {
	g := &Guard{cpu: newProcessor()}
	g.Configure(c)
	return g
}

// Configure changes what is allowed from now on. Requests in flight stay, and
// so does what an adaptive limit has learnt if its bounds are the same.
func (g *Guard) Configure(c GuardConfig) {
	old := g.config.Load()
	switch {
	case c.Adaptive == nil:
		g.limiter.Store(nil)
	case old == nil || old.Adaptive == nil || *old.Adaptive != *c.Adaptive:
		g.limiter.Store(NewLimiter(*c.Adaptive))
	}
	g.config.Store(&c)
}

// Why a request was turned away.
const (
	ByCap      = "in_flight"
	ByMemory   = "memory"
	ByAdaptive = "latency"
	ByCPU      = "cpu"
)

// Pass is the right to be in flight. The zero Pass is that of nobody.
type Pass struct {
	guard *Guard
	slot  Slot
	level Level
	waits bool
}

// Enter admits a request, or says why not. Whoever is in must Leave.
func (g *Guard) Enter(level Level) (p Pass, refused string) {
	c := g.config.Load()
	n := g.enter(level)
	switch {
	case c.MaxInFlight > 0 && n > int64(c.Shares.of(level, c.MaxInFlight)):
		refused = ByCap
	case c.Memory > 0 && level != Critical && g.memory.now() > int64(c.MemoryFull.of(level, int(c.Memory))):
		refused = ByMemory
	case c.Wait > 0 && !g.cpu.enter(level, c, n):
		refused = ByCPU
	default:
		if l := g.limiter.Load(); l != nil {
			slot, ok := l.Acquire(level)
			if !ok {
				refused = ByAdaptive
				break
			}
			p.slot = slot
		}
		p.guard, p.level = g, level
		return p, ""
	}
	g.leave(level)
	return Pass{}, refused
}

func (g *Guard) enter(level Level) int64 {
	if level == Critical {
		g.cpu.critical.Add(1)
	}
	return g.inFlight.Add(1)
}

func (g *Guard) leave(level Level) {
	if level == Critical {
		g.cpu.critical.Add(-1)
	}
	g.inFlight.Add(-1)
}

// Waits says that the request does nothing but wait, such as a long poll: it
// takes no processor time from others.
func (p *Pass) Waits() {
	if p.guard != nil && p.level != Critical && !p.waits {
		p.waits = true
		p.guard.cpu.apart.Add(1)
	}
}

// Answered tells that the request's answer has begun; its latency counts if timed.
func (p *Pass) Answered(timed bool) { p.slot.Release(timed) }

// Leave ends the request, for the guard at least: a stream that has begun is
// no longer its concern. Leaving twice is as good as once.
func (p *Pass) Leave() {
	if p.guard == nil {
		return
	}
	p.slot.Release(false)
	p.guard.leave(p.level)
	p.guard.cpu.done.Add(1)
	if p.waits {
		p.guard.cpu.apart.Add(-1)
	}
	p.guard = nil
}

// State is how full a node is.
type State struct {
	InFlight    int64
	MaxInFlight int   // 0 = any number
	Limit       int   // of the adaptive limit, 0 without one
	Memory      int64 // in use, 0 if it is not watched
	MaxMemory   int64
	Wait        time.Duration // for a processor, of nine in ten goroutines; 0 if it is not watched
}

// State describes g.
func (g *Guard) State() State {
	c := g.config.Load()
	s := State{InFlight: g.inFlight.Load(), MaxInFlight: c.MaxInFlight, MaxMemory: c.Memory}
	if l := g.limiter.Load(); l != nil {
		s.Limit = l.Limit()
	}
	if c.Memory > 0 {
		s.Memory = g.memory.now()
	}
	if c.Wait > 0 {
		s.Wait = time.Duration(g.cpu.wait.Load())
	}
	return s
}
