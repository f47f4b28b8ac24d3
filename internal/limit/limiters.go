package limit

import (
	"errors"
	"fmt"
	"hash/maphash"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"landline/internal/clock"
)

// MaxKeys is the most keys that all policies of a Limiters hold together.
const MaxKeys = 1 << 20

// Limiters holds the policies of a process. It is safe for concurrent use.
type Limiters struct {
	clk  clock.Clock
	base time.Time
	era  atomic.Pointer[era]
	seed maphash.Seed
	max  int64 // keys beyond which shards above their fair share forget the coldest

	mu       sync.Mutex
	sequence uint64
	policies map[identity]weak.Pointer[Policy]

	count *counters
}

// counters outlive the policies that they count for.
type counters struct {
	keys      atomic.Int64 // held by all policies
	policies  atomic.Int64
	forgotten atomic.Uint64
}

// identity is what makes two policies the same across a reload.
type identity struct {
	name string
	rate Rate
}

// Rate is what a policy allows.
type Rate struct {
	Limit  int           // requests per Window in the long run, at least 1
	Window time.Duration // at least a microsecond per request of Limit
	Burst  int           // requests at once; 0 = Limit
}

// New returns an empty Limiters that reads the time from clk.
func New(clk clock.Clock) *Limiters { return newSized(clk, MaxKeys) }

func newSized(clk clock.Clock, maxKeys int64) *Limiters {
	l := &Limiters{
		clk:      clk,
		base:     clk.Now(),
		seed:     maphash.MakeSeed(),
		max:      maxKeys / 3 * 2, // the last third is what shards below their fair share may still take
		policies: map[identity]weak.Pointer[Policy]{},
		count:    &counters{},
	}
	l.era.Store(&era{})
	return l
}

// era is a stretch of time between two jumps back of the clock.
type era struct {
	skew int64        // what the jumps before have taken from the clock
	last atomic.Int64 // furthest reading of the clock
}

// jump is how far back a reading must lie to be a jump, not a reading that was
// overtaken by another.
const jump = int64(time.Second)

// now is the time since New as policies see it, in nanoseconds: it never goes
// back. After a jump of the clock it goes on from where it was.
func (l *Limiters) now() int64 {
	clock := int64(l.clk.Now().Sub(l.base))
	for {
		e := l.era.Load()
		last := e.last.Load()
		switch {
		case clock < last-jump:
			next := &era{skew: e.skew + last - clock}
			next.last.Store(clock)
			l.era.CompareAndSwap(e, next)
		case clock <= last:
			return last + e.skew
		case e.last.CompareAndSwap(last, clock):
			return clock + e.skew
		}
	}
}

// Keys is how many keys are held at the moment.
func (l *Limiters) Keys() int64 { return l.count.keys.Load() }

// Forgotten is how many keys were given up, since the start, for want of room.
func (l *Limiters) Forgotten() uint64 { return l.count.forgotten.Load() }

// NewPace checks a rate.
func NewPace(r Rate) (*Pace, error) {
	if r.Burst == 0 {
		r.Burst = r.Limit
	}
	if r.Limit < 1 || r.Burst < 1 || r.Window <= 0 {
		return nil, errors.New("limit, window and burst must be positive")
	}
	interval := (r.Window + time.Duration(r.Limit) - 1) / time.Duration(r.Limit) // rounded up: never more than Limit
	if r.Window/time.Duration(r.Limit) < time.Microsecond {
		return nil, fmt.Errorf("%d requests in %s are more than one per microsecond", r.Limit, r.Window)
	}
	if interval > (1<<61)/time.Duration(r.Burst) {
		return nil, fmt.Errorf("a burst of %d at one request per %s takes decades to refill", r.Burst, interval)
	}
	return &Pace{interval: int64(interval), capacity: int64(interval) * int64(r.Burst), rate: r}, nil
}

// Policy returns the policy of that name and rate: the living one, so that a
// reload keeps its counts, or a new one. The name must hold whatever keeps two
// policies apart, such as the feature; on all nodes it must be the same.
func (l *Limiters) Policy(name string, r Rate) (*Policy, error) {
	pace, err := NewPace(r)
	if err != nil {
		return nil, fmt.Errorf("rate limit %q: %w", name, err)
	}
	if r.Burst == 0 {
		r.Burst = r.Limit
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	id := identity{name, r}
	if p := l.policies[id].Value(); p != nil {
		return p, nil
	}
	l.sequence++
	p := &Policy{limiters: l, sequence: l.sequence, pace: *pace, name: name, keys: new(atomic.Int64)}
	p.span.Store(pace.capacity)
	for i := range p.shards {
		p.shards[i].now = map[uint64]int64{}
		p.shards[i].before = map[uint64]int64{}
	}
	l.policies[id] = weak.Make(p)
	l.count.policies.Add(1)
	runtime.AddCleanup(p, func(held *atomic.Int64) { l.drop(id, held) }, p.keys)
	return p, nil
}

// drop forgets a policy that nobody holds any more.
func (l *Limiters) drop(id identity, held *atomic.Int64) {
	l.count.keys.Add(-held.Load())
	l.count.policies.Add(-1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.policies[id].Value() == nil { // not made anew meanwhile
		delete(l.policies, id)
	}
}
