package rolling

import (
	"sync"
	"time"
)

// Budget bounds repeated tries to a share of the first ones, so that a service
// that fails is not asked much more than one that works. Over every stretch of
// its window at most max(floor, share × first tries) repeats are let through:
// whatever happens, the service's load is at most (1+share) × requests + floor.
type Budget struct {
	share float64
	floor int

	mu     sync.Mutex
	window Window
}

// What a Budget counts.
const (
	firsts = iota
	repeats
)

// NewBudget returns a budget, for example of 0.2 with a floor of 3 over 10 s.
func NewBudget(share float64, floor int, window time.Duration) *Budget {
	return &Budget{share: share, floor: floor, window: New(window)}
}

// First counts a request's first try.
func (b *Budget) First() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.window.Add(time.Now(), firsts, 1)
}

// Repeat asks for one more try; true takes it from the budget.
func (b *Budget) Repeat() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	first, repeated := b.window.Sums(now)
	if repeated >= b.floor && float64(repeated+1) > b.share*float64(first) {
		return false
	}
	b.window.Add(now, repeats, 1)
	return true
}
