// Package kv keeps small values that may be lost: caches, counters of rate
// limits, one-time codes, leases.
//
// It guarantees: every operation on one key is atomic; a value is never seen
// after its time to live; an operation ends within about half a second, with
// ErrUnavailable when the store does not answer. After ErrUnavailable the
// outcome of a change is unknown: it may or may not have been made.
//
// It does not guarantee that a value is still there: the store may restart
// empty or evict when full. What must not be lost belongs in sqldb.
//
// There are two stores under one contract (kvtest): memory, for one node, and
// Redis or Valkey, shared by all nodes.
package kv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"landline/internal/problem"
)

// Bounds that both stores keep.
const (
	MaxKey   = 512     // bytes
	MaxValue = 1 << 20 // bytes
)

var (
	// ErrNotFound says that the key has no value, or had one that expired.
	ErrNotFound = errors.New("kv: not found")

	// ErrUnavailable says that the store did not answer, or refused to serve.
	// Errors that match it are *UnavailableError.
	ErrUnavailable = errors.New("kv: the store does not answer; check redis.url and that the server runs")

	// ErrTooLarge says that a key or a value exceeds MaxKey or MaxValue.
	ErrTooLarge = errors.New("kv: too large")

	// ErrInvalid says that an argument breaks the contract: an empty key, a
	// time to live that is not positive.
	ErrInvalid = errors.New("kv: invalid argument")

	// ErrNotCounter says that Add met a value that is no decimal int64, or
	// that the sum does not fit one.
	ErrNotCounter = errors.New("kv: the value is not a counter that can take this change")
)

// Store is a map from keys to values that expire. It is safe for concurrent
// use. Values given and returned are the caller's own: neither side keeps them.
type Store interface {
	// Get returns the value of key, or ErrNotFound.
	Get(ctx context.Context, key string) ([]byte, error)

	// Set stores value for ttl, whatever was there before.
	Set(ctx context.Context, key string, value []byte, ttl time.Duration) error

	// SetNX stores value for ttl if key has no value, and reports whether it did.
	SetNX(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error)

	// CompareAndSwap replaces the value old by new, for ttl from now, and
	// reports whether it did. A key without a value is never swapped: use SetNX.
	CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error)

	// CompareAndDelete deletes key if its value is old, and reports whether it did.
	CompareAndDelete(ctx context.Context, key string, old []byte) (bool, error)

	// Delete removes keys; one that has no value is no error.
	Delete(ctx context.Context, keys ...string) error

	// Add adds delta to the counter at key and returns the sum. A missing
	// counter is 0 and lives for ttl from now; a present one keeps the time to
	// live it has. Get shows a counter as decimal text.
	Add(ctx context.Context, key string, delta int64, ttl time.Duration) (int64, error)

	// Take admits or refuses one request under all buckets at once: one that any
	// of them refuses is charged to none. ahead, which must be as long as buckets,
	// is filled with the time until each bucket's allowance is whole again, by the
	// store's clock; a bucket admits as long as that is at most
	// Interval × (Burst-1). A clock of the store that jumps back uses up at most
	// one burst.
	Take(ctx context.Context, buckets []Bucket, ahead []time.Duration) (admitted bool, err error)

	// Ping returns nil if the store answers.
	Ping(ctx context.Context) error

	// Close frees what the store holds. Every later call is ErrUnavailable.
	Close() error
}

// UnavailableError is an ErrUnavailable with the operation and its cause.
type UnavailableError struct {
	Op    string
	Cause error
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("%v (%s: %v)", ErrUnavailable, e.Op, e.Cause)
}

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Cause }

// Is makes errors.Is(err, ErrUnavailable) true.
func (e *UnavailableError) Is(target error) bool { return target == ErrUnavailable }

// Problem makes the error a problem.Coder: storage_unavailable, retry in a second.
func (e *UnavailableError) Problem() *problem.Error {
	return problem.New(problem.StorageUnavailable, "").After(time.Second)
}

func checkKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: the key is empty", ErrInvalid)
	case len(key) > MaxKey:
		return fmt.Errorf("%w: the key has %d bytes, at most %d are allowed", ErrTooLarge, len(key), MaxKey)
	}
	return nil
}

func checkSet(key string, value []byte, ttl time.Duration) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if len(value) > MaxValue {
		return fmt.Errorf("%w: the value of %q has %d bytes, at most %d are allowed", ErrTooLarge, key, len(value), MaxValue)
	}
	if ttl <= 0 {
		return fmt.Errorf("%w: the time to live of %q is %v, it must be positive", ErrInvalid, key, ttl)
	}
	return nil
}
