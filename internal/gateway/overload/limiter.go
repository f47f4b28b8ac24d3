package overload

import (
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
)

// LimitConfig bounds an adaptive limit.
type LimitConfig struct {
	Min, Max, Initial int
	Shares            Shares
}

// peakMemory is how long a burst keeps the limit from shrinking to what little
// traffic there is between bursts.
const peakMemory = time.Minute

// Limiter is a limit of concurrency that follows latency. It compares the
// recent 90th percentile with a long-term baseline: when it grows, requests
// queue somewhere and the limit goes down; when it does not, the limit goes
// up, at most to five times what was in flight at the recent peak.
type Limiter struct {
	config LimitConfig
	policy adaptivelimiter.AdaptiveLimiter[struct{}]
}

// NewLimiter returns a limiter; Min ≤ Initial ≤ Max must hold.
func NewLimiter(c LimitConfig) *Limiter {
	return &Limiter{config: c, policy: adaptivelimiter.NewBuilder[struct{}]().
		WithLimits(uint(c.Min), uint(c.Max), uint(c.Initial)).
		WithMaxLimitStabilizationWindow(peakMemory).
		Build()}
}

// Slot is a place under a Limiter. It must be given back exactly once. The
// zero Slot is the place of a request that no limiter concerns.
type Slot struct{ permit adaptivelimiter.Permit }

// Taken reports whether the slot has to be given back.
func (s *Slot) Taken() bool { return s.permit != nil }

// Release gives the place back. The time since Acquire counts as latency if
// timed: not for streams, uploads and long polls, whose time says nothing, nor
// for failures that come faster than work.
func (s *Slot) Release(timed bool) {
	if s.permit == nil {
		return
	}
	p := s.permit
	s.permit = nil
	if timed {
		p.Record()
	} else {
		p.Drop()
	}
}

// Acquire asks for a place. It does not wait.
func (l *Limiter) Acquire(level Level) (Slot, bool) {
	if level != Critical && l.policy.Inflight() >= l.config.Shares.of(level, l.policy.Limit()) {
		return Slot{}, false
	}
	permit, ok := l.policy.TryAcquirePermit()
	if !ok {
		return Slot{}, false
	}
	return Slot{permit}, true
}

// Config is what the limiter was made with.
func (l *Limiter) Config() LimitConfig { return l.config }

// Limit is the present limit.
func (l *Limiter) Limit() int { return l.policy.Limit() }

// InFlight is how many places are taken.
func (l *Limiter) InFlight() int { return l.policy.Inflight() }
