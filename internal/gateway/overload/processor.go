package overload

import (
	"runtime"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"
)

// A node whose processors are the narrow part has no limit that anybody could
// have written down. But its goroutines then wait for a processor, and the
// runtime tells how long. While nine of ten wait no longer than they may,
// everybody is let in. When they wait longer for a tenth of a second, what is
// under way may not grow, and shrinks until they do not: a standing queue makes
// nothing faster and everything late (CoDel, RFC 8289). What is under way keeps
// the processors busy meanwhile, so that nothing is lost by shrinking.

const (
	// Every interval the wait is read and the limit is set.
	interval = 25 * time.Millisecond
	// A wait must last this many intervals before anybody is turned away for it,
	patience = 4
	// or one if as many requests a processor are under way.
	crowd = 256
	// What the runtime samples in an interval is too little to judge by below this.
	fewest = 10
	// So many requests a processor may always be under way: enough to keep it
	// busy, and whoever is alone is not the overload.
	always = 16
	// Critical requests may be this many times as many: some of them queue
	// elsewhere, for a slot to hash a password in.
	critical = 8
	// It holds until nobody has been turned away for so many intervals.
	calm = 40
	// After so long without a request nothing is known any more.
	forgotten = calm * interval
)

// processor bounds what is under way while goroutines wait for a processor.
type processor struct {
	next     atomic.Int64 // when to look again, Unix nanoseconds
	limit    atomic.Int64 // of requests under way; 0 = none
	critical atomic.Int64 // critical requests under way
	apart    atomic.Int64 // others under way that do nothing but wait
	refused  atomic.Int64 // since the last look
	done     atomic.Int64 // since the last look
	wait     atomic.Int64 // nanoseconds that nine of ten waited at most

	mu   sync.Mutex    // held by whoever looks
	last int64         // when it looked last
	late int           // intervals in a row
	free int           // intervals in a row in which nobody was turned away
	best float64       // requests a second that were done lately while it held
	was  time.Duration // the wait at the last look
	read func() (wait time.Duration, samples uint64)
}

func newProcessor() processor { return processor{read: (&waits{}).read} }

// enter reports whether a request of a level is let in. underWay counts it, and
// so does p.critical if it is critical.
func (p *processor) enter(level Level, c *GuardConfig, underWay int64) bool {
	t := time.Now().UnixNano()
	if next := p.next.Load(); t >= next && p.next.CompareAndSwap(next, t+int64(interval)) {
		p.look(t, c.Wait, underWay)
	}
	limit := p.limit.Load()
	if limit == 0 {
		return true
	}
	important := p.critical.Load()
	ok := important <= critical*limit
	if level != Critical {
		ok = underWay-important-p.apart.Load() <= int64(c.Shares.of(level, int(limit)))
	}
	if !ok {
		p.refused.Add(1)
	}
	return ok
}

// look reads the wait and sets the limit of the next interval.
func (p *processor) look(t int64, target time.Duration, underWay int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wait, samples := p.read()
	took := time.Duration(t - p.last)
	done := float64(p.done.Swap(0)) / took.Seconds()
	refused := p.refused.Swap(0)
	p.last = t
	p.wait.Store(int64(wait))
	if took > forgotten { // also the first look, whose samples are those of the start
		p.release()
		return
	}
	late := samples >= fewest && wait > target
	if late {
		p.late++
	} else {
		p.late = 0
	}
	limit, processors := p.limit.Load(), int64(runtime.GOMAXPROCS(0))
	if limit == 0 {
		if p.late < patience && (!late || underWay < crowd*processors) {
			return
		}
		limit, p.free, p.best, p.was = underWay, 0, done, 0
	}
	if p.free++; refused > 0 || late {
		p.free = 0
	}
	if p.free >= calm {
		p.release()
		return
	}
	p.best = max(done, 0.995*p.best)
	switch {
	case !late:
		limit += 1 + limit/25
	case wait < p.was, done < p.best/2: // the queue gets shorter by itself, or turning more away makes no more room
	default:
		limit = min(limit, underWay) * 4 / 5
	}
	p.was = wait
	p.limit.Store(max(limit, always*processors))
}

func (p *processor) release() {
	p.limit.Store(0)
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
