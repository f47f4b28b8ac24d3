package overload

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// ErrFull says that a Bulkhead had no place within its wait.
var ErrFull = errors.New("no place within the wait")

// Bulkhead bounds how many requests of one feature are under way. Beyond that,
// as many again may wait, each for a bounded time; whoever comes later is
// refused at once, since its turn would not come in time.
type Bulkhead struct {
	places  chan struct{}
	wait    time.Duration
	waiting atomic.Int64
}

// NewBulkhead returns a bulkhead of size places, size ≥ 1. With wait 0 nobody waits.
func NewBulkhead(size int, wait time.Duration) *Bulkhead {
	return &Bulkhead{places: make(chan struct{}, size), wait: wait}
}

// Acquire takes a place, which Release gives back. The error is ErrFull, or
// that of ctx.
func (b *Bulkhead) Acquire(ctx context.Context) error {
	select {
	case b.places <- struct{}{}:
		return nil
	default:
	}
	if b.wait <= 0 {
		return ErrFull
	}
	defer b.waiting.Add(-1)
	if b.waiting.Add(1) > int64(cap(b.places)) {
		return ErrFull
	}
	timer := time.NewTimer(b.wait)
	defer timer.Stop()
	select {
	case b.places <- struct{}{}:
		return nil
	case <-timer.C:
		return ErrFull
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Release gives a place back.
func (b *Bulkhead) Release() { <-b.places }

// Used and Waiting say how full it is.
func (b *Bulkhead) Used() int { return len(b.places) }

// Waiting is how many wait for a place.
func (b *Bulkhead) Waiting() int { return int(b.waiting.Load()) }
