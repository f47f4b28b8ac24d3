package overload

import (
		
	"math/rand/v2"
	"runtime"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"
)

// A node whose processors are the narrow part has no limit that anybody could
// have written down: what a request costs is known when it is over. But its
// goroutines then wait for a processor, and the runtime tells how long. While
// nine of ten wait no longer than they may, everybody is let in. Once more than
// that wait, for two intervals in a row, as much is let in as was done in the
// last one, and more or less of it in the next, as the wait is shorter or longer
// than it may be: a standing queue makes nothing faster and everything late
// (CoDel, RFC 8289; overload control at WeChat, SoCC 2018).

const (
	// Every interval the wait is read and the next one's share is set.
	interval = 100 * time.Millisecond
	// A wait must last this many intervals before anybody is turned away for it.
	patience = 2
	// What the runtime samples in an interval is too little to judge by below this.
	fewest = 20
	// So many requests a processor may always be under way: whoever is alone is not the overload.
	always = 16
	// It holds until nobody has been turned away for so many intervals.
	calm = 10
	// After so long without a request nothing is known any more.
	forgotten = calm * interval
)

// processor turns requests away when goroutines wait for a processor.
type processor struct {
	next    atomic.Int64 // when to look again, Unix nanoseconds
	admit   [levels]atomic.Uint32
	offered [levels]atomic.Int64
	done    atomic.Int64
	wait    atomic.Int64 // nanoseconds that nine of ten waited at most
	holds   atomic.Bool  // somebody is turned away

	mu     sync.Mutex // held by whoever looks
	last   int64      // when it looked last
	late   int        // intervals in a row
	free   int        // intervals in a row in which everybody was let in
	before time.Duration
	budget float64 // requests a second that are let in while it holds
	waits  waits
	read   func() (wait time.Duration, samples uint64) // for tests; nil = the runtime
}

const everyone = 1 << 16

// enter reports whether a request of a level is let in; underWay counts it.
func (p *processor) enter(level Level, target time.Duration, underWay int64) bool {
	t := time.Now().UnixNano()
	if next := p.next.Load(); t >= next && p.next.CompareAndSwap(next, t+int64(interval)) {
		p.look(t, target)
	}
	p.offered[level].Add(1)
	if !p.holds.Load() {
		return true
	}
	share := p.admit[level].Load()
	return share >= everyone || underWay <= always*int64(runtime.GOMAXPROCS(0)) || rand.Uint32N(everyone) < share // #nosec -- a choice of no secret
}

// look reads the wait and says who is let in during the next interval.
func (p *processor) look(t int64, target time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	read := p.read
	if read == nil {
		read = p.waits.read
	}
	wait, samples := read()
	took := time.Duration(t - p.last)
	p.last = t
	var offered [levels]float64
	for l := range levels {
		offered[l] = float64(p.offered[l].Swap(0)) / took.Seconds()
	}
	done := float64(p.done.Swap(0)) / took.Seconds()
	p.wait.Store(int64(wait))
	if took > forgotten { // also the first look, whose samples are those of the start
		p.late = 0
		p.release()
		return
	}
	late := samples >= fewest && wait > target
	if late {
		p.late++
	} else {
		p.late = 0
	}
	if !p.holds.Load() {
		if p.late < patience {
			return
		}
		p.free, p.before, p.budget = 0, 0, done
	}
	p.steer(wait, target, late, done)
	if p.share(offered); p.free >= calm {
		p.release()
	}
}

// steer sets the budget of the next interval.
func (p *processor) steer(wait, target time.Duration, late bool, done float64) {
	over := float64(wait) / float64(target)
	switch {
	case !late:
		p.budget *= 1 + 0.1*max(0, 1-over)
	case wait < p.before: // the queue gets shorter by itself
	default:
		p.budget = max(p.budget*max(0.75, 1-0.1*(over-1)), done/2)
	}
	p.before = wait
}

// share gives the budget to the levels, the most important first.
func (p *processor) share(offered [levels]float64) {
	left, all := p.budget, true
	for i := range levels {
		l := levels - 1 - i
		share := 1.0
		if offered[l] > left {
			share, all = left/offered[l], false
		}
		left -= min(left, offered[l])
		p.admit[l].Store(uint32(share * everyone))
	}
	if p.free++; !all {
		p.free = 0
	}
	p.holds.Store(true)
}

func (p *processor) release() {
	p.holds.Store(false)
	p.late = 0
}

// waits reads how long goroutines waited for a processor since the last reading.
type waits struct {
	sample [1]metrics.Sample
	counts []uint64 // at the last reading
}

func (w *waits) read() (nineOfTen time.Duration, samples uint64) {
	w.sample[0].Name = "/sched/latencies:seconds"
	metrics.Read(w.sample[:])
	if w.sample[0].Value.Kind() != metrics.KindFloat64Histogram {
		return 0, 0
	}
	h := w.sample[0].Value.Float64Histogram()
	if len(w.counts) != len(h.Counts) {
		w.counts = make([]uint64, len(h.Counts))
	}
	for i, n := range h.Counts {
		samples += n - w.counts[i]
	}
	sum := uint64(0)
	for i, n := range h.Counts {
		if sum += n - w.counts[i]; sum*10 >= samples*9 && samples > 0 {
			nineOfTen = time.Duration(max(0, h.Buckets[i]) * float64(time.Second)) // the lower edge: never more than it was
			break
		}
	}
	copy(w.counts, h.Counts)
	return nineOfTen, samples
}
