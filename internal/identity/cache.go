package identity

import "sync"

// bounded is a map for many readers that never holds more than its bound: a full
// shard drops some entry, which costs its owner a verification and nothing else.
type bounded[K comparable, V any] struct {
	shards [cacheShards]struct {
		mu sync.RWMutex
		m  map[K]V
	}
	perShard int
}

const cacheShards = 64

func newBounded[K comparable, V any](max int) *bounded[K, V] {
	b := &bounded[K, V]{perShard: (max + cacheShards - 1) / cacheShards}
	for i := range b.shards {
		b.shards[i].m = map[K]V{}
	}
	return b
}

// get looks in the shard that the caller computes from k; hash must be the same for set.
func (b *bounded[K, V]) get(hash uint64, k K) (v V, ok bool) {
	s := &b.shards[hash%cacheShards]
	s.mu.RLock()
	v, ok = s.m[k]
	s.mu.RUnlock()
	return v, ok
}

// set keeps v. When the shard is full it first drops what dead says is of no
// more use among a few entries, or else any of them (Go's map order is random).
func (b *bounded[K, V]) set(hash uint64, k K, v V, dead func(V) bool) {
	const look = 8
	s := &b.shards[hash%cacheShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.m[k]; !there && len(s.m) >= b.perShard {
		n, victim := 0, k
		for other, value := range s.m {
			victim = other
			if n++; n == look || dead(value) {
				break
			}
		}
		delete(s.m, victim)
	}
	s.m[k] = v
}

func (b *bounded[K, V]) len() (n int) {
	for i := range b.shards {
		b.shards[i].mu.RLock()
		n += len(b.shards[i].m)
		b.shards[i].mu.RUnlock()
	}
	return n
}
