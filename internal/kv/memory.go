package kv

import (
	"bytes"
	"container/heap"
	"container/list"
	"context"
	"errors"
	"math"
	"strconv"
	"sync"
	"time"

	"landline/internal/clock"
)

// maxMemory bounds the bytes of all keys and values of a memory store.
const maxMemory = 256 << 20

var errClosed = errors.New("the store is closed")

// NewMemory returns a Store of this process alone. It holds at most maxEntries
// entries (at least 1) and 256 MiB; when full, expired entries go first, then
// those written longest ago. It runs no goroutine.
func NewMemory(c clock.Clock, maxEntries int) Store {
	return &memory{clock: c, maxEntries: max(maxEntries, 1), maxBytes: maxMemory, entries: map[string]*entry{}, written: list.New()}
}

type memory struct {
	clock      clock.Clock
	maxEntries int
	maxBytes   int

	mu      sync.Mutex
	closed  bool
	bytes   int
	entries map[string]*entry
	written *list.List // of *entry, oldest write first
	expiry  expiryHeap // soonest first
}

type entry struct {
	key     string
	value   []byte
	expires time.Time
	place   *list.Element // in memory.written
	index   int           // in memory.expiry
}

func (e *entry) size() int { return len(e.key) + len(e.value) }

// do runs fn under the lock, with the time of the operation.
func (m *memory) do(ctx context.Context, op string, fn func(now time.Time) error) error {
	if err := ctx.Err(); err != nil {
		return callerGone(op, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return &UnavailableError{Op: op, Cause: errClosed}
	}
	return fn(m.clock.Now())
}

// live returns the entry of key, dropping it if its time is over.
func (m *memory) live(key string, now time.Time) *entry {
	e := m.entries[key]
	if e != nil && !now.Before(e.expires) {
		m.drop(e)
		return nil
	}
	return e
}

func (m *memory) drop(e *entry) {
	delete(m.entries, e.key)
	m.written.Remove(e.place)
	heap.Remove(&m.expiry, e.index)
	m.bytes -= e.size()
}

func (m *memory) put(key string, value []byte, expires, now time.Time) {
	if e := m.entries[key]; e != nil {
		m.drop(e)
	}
	e := &entry{key: key, value: bytes.Clone(value), expires: expires}
	for len(m.entries) > 0 && (len(m.entries) >= m.maxEntries || m.bytes+e.size() > m.maxBytes) {
		m.evict(now)
	}
	e.place = m.written.PushBack(e)
	heap.Push(&m.expiry, e)
	m.entries[key] = e
	m.bytes += e.size()
}

func (m *memory) evict(now time.Time) {
	if soonest := m.expiry[0]; !now.Before(soonest.expires) {
		m.drop(soonest)
		return
	}
	m.drop(m.written.Front().Value.(*entry))
}

func (m *memory) Get(ctx context.Context, key string) (value []byte, err error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	err = m.do(ctx, "get", func(now time.Time) error {
		e := m.live(key, now)
		if e == nil {
			return ErrNotFound
		}
		value = append([]byte{}, e.value...)
		return nil
	})
	return value, err
}

func (m *memory) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := checkSet(key, value, ttl); err != nil {
		return err
	}
	return m.do(ctx, "set", func(now time.Time) error {
		m.put(key, value, now.Add(ttl), now)
		return nil
	})
}

func (m *memory) SetNX(ctx context.Context, key string, value []byte, ttl time.Duration) (done bool, err error) {
	if err := checkSet(key, value, ttl); err != nil {
		return false, err
	}
	err = m.do(ctx, "set if absent", func(now time.Time) error {
		if done = m.live(key, now) == nil; done {
			m.put(key, value, now.Add(ttl), now)
		}
		return nil
	})
	return done, err
}

func (m *memory) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (done bool, err error) {
	if err := checkSet(key, new, ttl); err != nil {
		return false, err
	}
	err = m.do(ctx, "compare and swap", func(now time.Time) error {
		e := m.live(key, now)
		if done = e != nil && bytes.Equal(e.value, old); done {
			m.put(key, new, now.Add(ttl), now)
		}
		return nil
	})
	return done, err
}

func (m *memory) CompareAndDelete(ctx context.Context, key string, old []byte) (done bool, err error) {
	if err := checkKey(key); err != nil {
		return false, err
	}
	err = m.do(ctx, "compare and delete", func(now time.Time) error {
		e := m.live(key, now)
		if done = e != nil && bytes.Equal(e.value, old); done {
			m.drop(e)
		}
		return nil
	})
	return done, err
}

func (m *memory) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := checkKey(key); err != nil {
			return err
		}
	}
	return m.do(ctx, "delete", func(time.Time) error {
		for _, key := range keys {
			if e := m.entries[key]; e != nil {
				m.drop(e)
			}
		}
		return nil
	})
}

func (m *memory) Add(ctx context.Context, key string, delta int64, ttl time.Duration) (sum int64, err error) {
	if err := checkSet(key, nil, ttl); err != nil {
		return 0, err
	}
	err = m.do(ctx, "add", func(now time.Time) error {
		expires := now.Add(ttl)
		if e := m.live(key, now); e != nil {
			have, err := strconv.ParseInt(string(e.value), 10, 64)
			if err != nil || overflows(have, delta) {
				return ErrNotCounter
			}
			sum, expires = have, e.expires
		}
		sum += delta
		m.put(key, strconv.AppendInt(nil, sum, 10), expires, now)
		return nil
	})
	return sum, err
}

func overflows(a, b int64) bool {
	return b > 0 && a > math.MaxInt64-b || b < 0 && a < math.MinInt64-b
}

func (m *memory) Ping(ctx context.Context) error {
	return m.do(ctx, "ping", func(time.Time) error { return nil })
}

func (m *memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.entries, m.expiry, m.bytes = nil, nil, 0
	m.written.Init()
	return nil
}

// expiryHeap is a container/heap of entries, the one that expires soonest first.
type expiryHeap []*entry

func (h expiryHeap) Len() int           { return len(h) }
func (h expiryHeap) Less(i, j int) bool { return h[i].expires.Before(h[j].expires) }
func (h expiryHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *expiryHeap) Push(x any) {
	e := x.(*entry)
	e.index = len(*h)
	*h = append(*h, e)
}

func (h *expiryHeap) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return e
}
