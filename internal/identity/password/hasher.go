package password

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"landline/internal/problem"
)

// ErrBusy says that hashing is at its limits. It leaves as 503 overloaded.
var ErrBusy = &BusyError{}

// BusyError is the type of ErrBusy.
type BusyError struct{}

func (*BusyError) Error() string { return "password: more passwords are to be hashed than can be" }

// Problem implements problem.Coder.
func (*BusyError) Problem() *problem.Error {
	return problem.New(problem.Overloaded, "").After(time.Second)
}

// Hasher hashes within its limits. It is safe for concurrent use.
type Hasher struct {
	params params
	memory *semaphore.Weighted // KiB
	budget int64
	queue  int64
	wait   time.Duration

	waiting, running atomic.Int64
	refused          atomic.Uint64
}

// New returns a Hasher with the costs and limits of c, which must be checked.
func New(c Config) (*Hasher, error) {
	if !c.aboveFloor() {
		return nil, fmt.Errorf("password: %s with %d iterations is less than is safe", c.Memory, c.Iterations)
	}
	h := &Hasher{
		params: params{memory: uint32(c.Memory >> 10), iterations: uint32(c.Iterations), parallelism: uint8(c.Parallelism)}, // #nosec G115 -- checked
		queue:  int64(c.Queue), wait: c.Wait.D(),
	}
	h.budget = int64(c.slots()) * int64(h.params.memory)
	h.memory = semaphore.NewWeighted(h.budget)
	return h, nil
}

// Hash returns the PHC string to store for a password that Rules allow. Errors:
// ErrBusy, and the context's.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	prepared, err := prepare(password)
	if err != nil {
		return "", err
	}
	fresh := &hash{params: h.params, salt: make([]byte, saltSize)}
	rand.Read(fresh.salt)
	err = h.within(ctx, h.params, func() { fresh.key = derive(prepared, fresh.salt, fresh.params, keySize) })
	if err != nil {
		return "", err
	}
	return fresh.String(), nil
}

// Verify reports whether password is that of the stored PHC string, and whether
// it should be hashed anew, because the configured costs have risen. Errors:
// ErrBusy, the context's, and that of a stored hash that cannot be read.
func (h *Hasher) Verify(ctx context.Context, password, stored string) (ok, rehash bool, err error) {
	parsed, err := parse(stored)
	if err != nil {
		return false, false, err
	}
	prepared, err := prepare(password)
	if err != nil { // can be nobody's; takes the time all the same
		_, err := h.against(ctx, "", parsed)
		return false, false, err
	}
	ok, err = h.against(ctx, prepared, parsed)
	return ok, ok && parsed.weaker(h.params), err
}

// VerifyNone is Verify for somebody who does not exist or has no password: the
// same work, and never true.
func (h *Hasher) VerifyNone(ctx context.Context, password string) error {
	nobody := &hash{params: h.params, salt: make([]byte, saltSize), key: make([]byte, keySize)}
	prepared, err := prepare(password)
	if err != nil {
		prepared = ""
	}
	_, err = h.against(ctx, prepared, nobody)
	return err
}

func (h *Hasher) against(ctx context.Context, prepared string, stored *hash) (ok bool, err error) {
	err = h.within(ctx, stored.params, func() { ok = stored.matches(prepared) })
	return ok, err
}

// within runs work when there is memory for it.
func (h *Hasher) within(ctx context.Context, p params, work func()) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("password: %w", err)
	}
	need := int64(p.memory)
	if need > h.budget {
		return fmt.Errorf("password: a stored hash needs %d KiB, but memory × slots is %d KiB: raise one of them", need, h.budget)
	}
	if !h.memory.TryAcquire(need) {
		if err := h.await(ctx, need); err != nil {
			return err
		}
	}
	h.running.Add(1)
	defer func() {
		h.running.Add(-1)
		h.memory.Release(need)
	}()
	work()
	return nil
}

func (h *Hasher) await(ctx context.Context, need int64) error {
	defer h.waiting.Add(-1)
	if h.waiting.Add(1) > h.queue {
		h.refused.Add(1)
		return ErrBusy
	}
	limited, cancel := context.WithTimeoutCause(ctx, h.wait, ErrBusy)
	defer cancel()
	if err := h.memory.Acquire(limited, need); err != nil {
		if errors.Is(context.Cause(limited), ErrBusy) {
			h.refused.Add(1)
			return ErrBusy
		}
		return fmt.Errorf("password: %w", err)
	}
	return nil
}

// Stats are for metrics.
type Stats struct {
	Running, Waiting int64
	Refused          uint64 // with ErrBusy, since the start
	MemoryKiB        int64  // that hashing may take at once
}

// Stats tells the load.
func (h *Hasher) Stats() Stats {
	return Stats{Running: h.running.Load(), Waiting: min(h.waiting.Load(), h.queue), Refused: h.refused.Load(), MemoryKiB: h.budget}
}
