package limit

import (
	"cmp"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const shardCount = 16 // a power of two

// Policy is one rate limit. Make it with Limiters.Policy.
//
// For each key it keeps the theoretical arrival time (TAT): the instant at
// which the key's allowance is whole again. A request moves it one interval
// on; it is refused if that would put it further than capacity ahead of now.
type Policy struct {
	limiters *Limiters
	sequence uint64        // order in which several policies are locked
	pace     Pace          // of keys without one of their own
	name     string        // the same on every node, with the rate
	span     atomic.Int64  // how far ahead a TAT may lie: the largest capacity seen
	keys     *atomic.Int64 // held in the shards
	shards   [shardCount]shard
}

// Pace is a Rate in the terms of the algorithm. Make it with NewPace.
type Pace struct {
	interval int64 // nanoseconds that one request costs
	capacity int64 // interval × burst
	rate     Rate
}

// Rate is what the pace was made of.
func (p *Pace) Rate() Rate { return p.rate }

// shard is a part of the keys under a lock of its own, in two generations: a
// generation lasts at least a span, after which a TAT that was not moved is
// in the past, which is the same as none. So forgetting a whole generation
// loses nothing, and costs nothing per key.
type shard struct {
	mu     sync.Mutex
	now    map[uint64]int64
	before map[uint64]int64
	turned int64 // when now was begun

	_ [32]byte // a cache line each
}

// A Check asks one policy about one key.
type Check struct {
	Policy *Policy
	Key    string
	Pace   *Pace // of this key; nil = the policy's
	Shared bool  // counted together with all nodes; see Shared
}

func (c *Check) pace() Pace {
	if c.Pace != nil {
		return *c.Pace
	}
	return c.Policy.pace
}

// A State is what a policy says of a key after a decision.
type State struct {
	Remaining int           // requests that would be admitted at once, now
	Full      time.Duration // until Remaining is the burst again, without further requests
	Wait      time.Duration // until one request would be admitted; 0 = now
	Refused   bool          // this policy refused the request
}

// Take admits or refuses one request under all checks at once, and fills
// states, which must be as long, with what each policy says. It returns
// whether the request is admitted; a refused one is charged to no policy. The
// checks must be in the order of Sort, and each policy at most once.
func (l *Limiters) Take(checks []Check, states []State) bool {
	var hashes [maxChecks]uint64
	var tats [maxChecks]int64
	admitted := true
	now := l.lock(checks, &hashes)
	for i := range checks {
		pace, s := checks[i].pace(), checks[i].Policy.shard(hashes[i])
		tats[i] = max(s.get(hashes[i]), now) + pace.interval
		if wait := tats[i] - pace.capacity - now; wait > 0 {
			admitted = false
			states[i] = State{Refused: true, Wait: time.Duration(wait)}
		} else {
			states[i] = State{}
		}
	}
	for i := range checks {
		p, pace := checks[i].Policy, checks[i].pace()
		s := p.shard(hashes[i])
		if admitted {
			p.put(s, hashes[i], tats[i], now, pace.capacity)
		} else {
			tats[i] -= pace.interval
		}
		states[i].describe(pace, tats[i]-now)
		s.mu.Unlock()
	}
	return admitted
}

// lock takes the locks of all checks' keys and returns the time from which on
// they are held.
func (l *Limiters) lock(checks []Check, hashes *[maxChecks]uint64) (now int64) {
	for i := range checks {
		hashes[i] = maphash.String(l.seed, checks[i].Key)
		checks[i].Policy.shard(hashes[i]).mu.Lock()
	}
	return l.now()
}

// correct brings what Take has charged in line with the verdict of all nodes:
// ahead is how far each shared check's key is used up among them. A request
// that they refuse is taken back from every policy.
func (l *Limiters) correct(checks []Check, states []State, admitted bool, ahead []time.Duration) {
	var hashes [maxChecks]uint64
	now := l.lock(checks, &hashes)
	for i := range checks {
		p, pace := checks[i].Policy, checks[i].pace()
		s := p.shard(hashes[i])
		tat := s.get(hashes[i])
		if !admitted {
			tat -= pace.interval
		}
		states[i] = State{}
		if checks[i].Shared {
			far := int64(ahead[0])
			ahead = ahead[1:]
			tat = max(tat, now+min(far, pace.capacity))
			if wait := far + pace.interval - pace.capacity; !admitted && wait > 0 {
				states[i] = State{Refused: true, Wait: time.Duration(wait)}
			}
			states[i].describe(pace, min(far, pace.capacity))
		} else {
			states[i].describe(pace, max(tat-now, 0))
		}
		p.put(s, hashes[i], tat, now, pace.capacity)
		s.mu.Unlock()
	}
}

// maxChecks is the most policies that Take decides at once.
const maxChecks = 16

// Sort puts policies into the order in which Take must be given them: it is
// the same everywhere, so that two callers never wait for one another.
func Sort(policies []*Policy) {
	slices.SortFunc(policies, func(a, b *Policy) int { return cmp.Compare(a.sequence, b.sequence) })
}

// describe fills st from how far a key's TAT lies ahead.
func (st *State) describe(p Pace, ahead int64) {
	st.Full = time.Duration(ahead)
	st.Remaining = int((p.capacity - ahead) / p.interval)
	if st.Remaining == 0 {
		st.Wait = time.Duration(ahead + p.interval - p.capacity)
	}
}

func (p *Policy) shard(hash uint64) *shard { return &p.shards[hash>>60&(shardCount-1)] }

func (s *shard) get(hash uint64) int64 {
	if tat, ok := s.now[hash]; ok {
		return tat
	}
	return s.before[hash]
}

// put stores a TAT, and turns the generations when it is time or when there is no room.
func (p *Policy) put(s *shard, hash uint64, tat, now, capacity int64) {
	span := p.span.Load()
	for span < capacity && !p.span.CompareAndSwap(span, capacity) {
		span = p.span.Load()
	}
	if span = max(span, capacity); now-s.turned >= span {
		p.turn(s, now, now-s.turned >= 2*span)
	}
	if _, held := s.now[hash]; held {
		s.now[hash] = tat
		return
	}
	if _, moved := s.before[hash]; moved {
		delete(s.before, hash)
		s.now[hash] = tat
		return
	}
	count := p.limiters.count
	if count.keys.Load() >= p.limiters.max {
		fair := p.limiters.max / (shardCount * max(count.policies.Load(), 1))
		if int64(len(s.now)) >= max(fair/2, 1) {
			count.forgotten.Add(uint64(len(s.before)))
			p.turn(s, now, false)
		}
	}
	s.now[hash] = tat
	p.keys.Add(1)
	count.keys.Add(1)
}

// turn begins a new generation and drops the one before, or both. In due time
// their TATs are all in the past; when room is short, they are those of the
// keys that were not used for longest.
func (p *Policy) turn(s *shard, now int64, both bool) {
	p.dropped(len(s.before))
	s.before = renew(s.before)
	if both {
		p.dropped(len(s.now))
		s.now = renew(s.now)
	}
	s.now, s.before, s.turned = s.before, s.now, now
}

func (p *Policy) dropped(n int) {
	p.keys.Add(-int64(n))
	p.limiters.count.keys.Add(-int64(n))
}

// renew empties a map; a large one is given back, since a map never shrinks.
func renew(m map[uint64]int64) map[uint64]int64 {
	if len(m) > 1024 {
		return map[uint64]int64{}
	}
	clear(m)
	return m
}
