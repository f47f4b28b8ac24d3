package gateway

import (
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

// outcome is what a request through a breaker says about its target.
type outcome uint8

const (
	unknown outcome = iota // nothing: the client went away, or its request was at fault
	good                   // the target answered
	bad                    // 5xx, timeout, connection or protocol failure
)

// breaker guards one feature's use of one target. It is closed while the share
// of bad outcomes in a rolling window is below the threshold, open for a fixed
// time once it is not, then half-open: a few trial requests decide.
//
// Outcomes of requests that began before the last change of state are not
// counted, so that stragglers neither close nor reopen it.
type breaker struct {
	config  BreakerConfig
	changed func(state string)

	mu     sync.Mutex
	policy circuitbreaker.CircuitBreaker[struct{}]
	era    uint64 // grows with every change of state
}

func newBreaker(c BreakerConfig, changed func(state string)) *breaker {
	b := &breaker{config: c, changed: changed}
	b.policy = circuitbreaker.NewBuilder[struct{}]().
		WithFailureRateThreshold(c.FailureRatio, uint(c.MinRequests), c.Window.D()).
		WithDelay(c.Open.D()).
		WithSuccessThreshold(uint(c.Probes)).
		OnStateChanged(func(e circuitbreaker.StateChangedEvent) { // called by policy's methods, so under mu
			b.era++
			b.changed(stateName(e.NewState))
		}).
		Build()
	return b
}

// acquire asks for a permit; every permit must be given back with release.
// When refused, wait is how long the breaker stays open.
func (b *breaker) acquire() (permit uint64, wait time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.policy.TryAcquirePermit() {
		return b.era, 0, true
	}
	// Half-open with all trials under way gives 0: the next second may know more.
	return 0, max(b.policy.RemainingDelay(), time.Second), false
}

// release gives a permit back with what became of the request.
func (b *breaker) release(permit uint64, o outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if permit != b.era {
		return
	}
	switch o {
	case good:
		b.policy.RecordSuccess()
	case bad:
		b.policy.RecordFailure()
	case unknown:
		if b.policy.IsHalfOpen() {
			// The policy takes a trial back only with a verdict. Entering the
			// state anew frees it without one.
			b.policy.Open()
			b.policy.HalfOpen()
		}
	}
}

// state is "closed", "half_open" or "open".
func (b *breaker) state() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return stateName(b.policy.State())
}

func stateName(s circuitbreaker.State) string {
	switch s {
	case circuitbreaker.OpenState:
		return "open"
	case circuitbreaker.HalfOpenState:
		return "half_open"
	}
	return "closed"
}
