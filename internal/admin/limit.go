package admin

import (
	"crypto/sha256"
	"maps"
	"math"
	"net/netip"
	"sync"
	"time"

	"landline/internal/clock"
)

// Bounds on bad tokens: an address has maxFailures, and gains one back every refill.
const (
	maxFailures  = 20
	refill       = 6 * time.Second
	maxAddresses = 4096
)

// failureLimit counts bad tokens per address, IPv6 by /64. Guessing 256 bits is
// hopeless anyway; the limit keeps it from costing the database and the log.
type failureLimit struct {
	clock clock.Clock
	mu    sync.Mutex
	seen  map[netip.Prefix]*bucket
}

type bucket struct {
	failures float64
	at       time.Time
}

func newFailureLimit(c clock.Clock) *failureLimit {
	return &failureLimit{clock: c, seen: map[netip.Prefix]*bucket{}}
}

func keyOf(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address: all such share one bucket
	}
	return p
}

// leak lowers the count by the time that has passed.
func (b *bucket) leak(now time.Time) {
	b.failures = math.Max(0, b.failures-math.Max(0, now.Sub(b.at).Seconds())/refill.Seconds())
	b.at = now
}

// blocked returns how long the address has to wait, or 0.
func (l *failureLimit) blocked(a netip.Addr) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.seen[keyOf(a)]
	if b == nil {
		return 0
	}
	b.leak(l.clock.Now())
	if b.failures <= maxFailures-1 {
		return 0
	}
	return time.Duration((b.failures - (maxFailures - 1)) * float64(refill))
}

// failed counts one bad token.
func (l *failureLimit) failed(a netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, k := l.clock.Now(), keyOf(a)
	b := l.seen[k]
	if b == nil {
		if len(l.seen) >= maxAddresses {
			l.makeRoom(now)
		}
		b = &bucket{at: now}
		l.seen[k] = b
	}
	b.leak(now)
	b.failures = math.Min(b.failures+1, maxFailures)
}

// makeRoom drops addresses that have nothing against them any more, or, when
// all have, the one that has least.
func (l *failureLimit) makeRoom(now time.Time) {
	var least netip.Prefix
	lowest := math.Inf(1)
	for k, b := range l.seen {
		b.leak(now)
		if b.failures == 0 {
			delete(l.seen, k)
		} else if b.failures < lowest {
			least, lowest = k, b.failures
		}
	}
	if len(l.seen) >= maxAddresses {
		delete(l.seen, least)
	}
}

// lastKnown remembers whom recent tokens belonged to, for the time that the
// database is away. It holds digests of tokens, and only for reading metrics,
// health and profiles. An operator who is removed meanwhile, by a node that the
// database is not away for, is forgotten when the bus tells; if the bus has
// missed anything, all are. Without either, knownFor bounds it.
type lastKnown struct {
	clock clock.Clock
	mu    sync.Mutex
	ops   map[[sha256.Size]byte]knownOperator
}

type knownOperator struct {
	Operator
	until time.Time
}

const (
	knownFor = 5 * time.Minute
	maxKnown = 256
)

func newLastKnown(c clock.Clock) *lastKnown {
	return &lastKnown{clock: c, ops: map[[sha256.Size]byte]knownOperator{}}
}

func (k *lastKnown) put(token string, op Operator) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.clock.Now()
	if len(k.ops) >= maxKnown {
		for d, o := range k.ops {
			if now.After(o.until) {
				delete(k.ops, d)
			}
		}
		if len(k.ops) >= maxKnown {
			return
		}
	}
	k.ops[sha256.Sum256([]byte(token))] = knownOperator{op, now.Add(knownFor)}
}

func (k *lastKnown) get(token string) (Operator, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	o, ok := k.ops[sha256.Sum256([]byte(token))]
	if !ok || k.clock.Now().After(o.until) {
		return Operator{}, false
	}
	return o.Operator, true
}

// forget drops an operator, or all for "".
func (k *lastKnown) forget(operatorID string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.DeleteFunc(k.ops, func(_ [sha256.Size]byte, o knownOperator) bool { return operatorID == "" || o.ID == operatorID })
}
