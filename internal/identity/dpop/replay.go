package dpop

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"landline/internal/clock"
)

// ReplayStore remembers which proofs were used.
type ReplayStore interface {
	// Use reports whether id is seen for the first time, and remembers it until
	// expires. An error means that it is not known: refuse the request with 503.
	Use(ctx context.Context, id string, expires time.Time) (first bool, err error)
}

// ErrReplayFull says that a ReplayCache holds as many proofs as it may. To
// forget one would be to accept its replay, so requests are refused until the
// oldest expire; the answer is 503 with Retry-After.
var ErrReplayFull = errors.New("dpop: as many proofs are remembered as memory is given for; raise the capacity or limit the rate of requests")

// MaxReplayLife is the longest that a ReplayCache remembers.
const MaxReplayLife = 2 * maxWindow

const (
	replayShards = 16 // a power of two
	replayBucket = 16 // seconds of expiry that share a bucket
)

type replayKey [16]byte

// ReplayCache is a ReplayStore in memory, for one node. It holds at most its
// capacity of proofs, about 60 bytes each, and never forgets one too early. All
// that expire within the same seconds are dropped at once: no sweeping, and no
// goroutine.
type ReplayCache struct {
	clock    clock.Clock
	capacity int // per shard
	shards   [replayShards]replayShard
}

type replayShard struct {
	mu      sync.Mutex
	count   int
	buckets map[int64]map[replayKey]struct{} // by expiry / replayBucket
	swept   int64
}

// NewReplayCache holds up to capacity proofs, rounded up to a multiple of 16; c nil = clock.System.
func NewReplayCache(capacity int, c clock.Clock) (*ReplayCache, error) {
	if capacity < 1 {
		return nil, fmt.Errorf("dpop: the capacity of the replay cache must be at least 1, is %d", capacity)
	}
	if c == nil {
		c = clock.System
	}
	r := &ReplayCache{clock: c, capacity: (capacity + replayShards - 1) / replayShards}
	for i := range r.shards {
		r.shards[i].buckets = map[int64]map[replayKey]struct{}{}
	}
	return r, nil
}

// Use implements ReplayStore without I/O. One id must always come with the same
// expires, as Proof's does. An id that has expired is refused as seen.
func (r *ReplayCache) Use(_ context.Context, id string, expires time.Time) (bool, error) {
	now := r.clock.Now()
	if !now.Before(expires) {
		return false, nil
	}
	if expires.Sub(now) > MaxReplayLife {
		return false, fmt.Errorf("dpop: a proof would have to be remembered for more than %s", MaxReplayLife)
	}
	raw, err := decode64(id)
	if err != nil || len(raw) < len(replayKey{}) {
		return false, fmt.Errorf("dpop: a replay id is not one of Proof.ReplayID")
	}
	key := replayKey(raw[:len(replayKey{})])
	s := &r.shards[key[0]%replayShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(now.Unix() / replayBucket)
	at := expires.Unix() / replayBucket
	bucket := s.buckets[at]
	if _, seen := bucket[key]; seen {
		return false, nil
	}
	if s.count >= r.capacity {
		return false, ErrReplayFull
	}
	if bucket == nil {
		bucket = map[replayKey]struct{}{}
		s.buckets[at] = bucket
	}
	bucket[key] = struct{}{}
	s.count++
	return true, nil
}

// sweep drops the buckets of which everything has expired, at most once per bucket's time.
func (s *replayShard) sweep(now int64) {
	if now == s.swept {
		return
	}
	s.swept = now
	for at, bucket := range s.buckets {
		if at < now {
			s.count -= len(bucket)
			delete(s.buckets, at)
		}
	}
}

// Len is how many proofs are remembered, for a metric.
func (r *ReplayCache) Len() int {
	n := 0
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		n += s.count
		s.mu.Unlock()
	}
	return n
}

// Setter stores a value once; kv.Store is one.
type Setter interface {
	SetNX(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error)
}

// Shared is a ReplayStore of all nodes: Redis or Valkey behind kv.
type Shared struct {
	Store  Setter
	Prefix string      // of the keys, for example "dpop:"
	Clock  clock.Clock // nil = clock.System
}

// Use implements ReplayStore. When the store does not answer, whether the id is
// new is unknown: the error matches kv.ErrUnavailable.
func (s Shared) Use(ctx context.Context, id string, expires time.Time) (bool, error) {
	c := s.Clock
	if c == nil {
		c = clock.System
	}
	life := expires.Sub(c.Now())
	if life <= 0 {
		return false, nil
	}
	first, err := s.Store.SetNX(ctx, s.Prefix+id, []byte{1}, life+time.Second)
	if err != nil {
		return false, fmt.Errorf("dpop: remember a proof: %w", err)
	}
	return first, nil
}

// Layered asks each store in turn, the cheapest first, and stops at the first that has seen the id.
type Layered []ReplayStore

// Use implements ReplayStore.
func (l Layered) Use(ctx context.Context, id string, expires time.Time) (bool, error) {
	for _, s := range l {
		if first, err := s.Use(ctx, id, expires); err != nil || !first {
			return false, err
		}
	}
	return len(l) > 0, nil
}

// Once turns what a ReplayStore says into the error to answer: an *Error when
// the proof was used before, the store's own error when it is not known.
func Once(ctx context.Context, s ReplayStore, p *Proof) error {
	first, err := s.Use(ctx, p.ReplayID, p.Expires)
	switch {
	case err != nil:
		return err
	case !first:
		return invalid("it was used before: make a new one, with a new jti, for every request and every retry")
	}
	return nil
}
