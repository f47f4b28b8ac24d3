// Package rolling counts events over the last few seconds: a window of ten
// buckets that moves with the clock. What it says is at most one bucket out.
package rolling

import "time"

const buckets = 10

// Window counts two kinds of events, for example requests and retries. The
// zero Window is not usable; it is not safe for concurrent use.
type Window struct {
	width  time.Duration // of a bucket
	head   int64         // number of the newest bucket since the epoch
	counts [buckets][2]int
	sum    [2]int
}

// New returns a window of the given length.
func New(length time.Duration) Window {
	return Window{width: max(length/buckets, time.Millisecond)}
}

// Add counts n events of kind 0 or 1 at now.
func (w *Window) Add(now time.Time, kind, n int) {
	w.move(now)
	w.counts[w.head%buckets][kind] += n
	w.sum[kind] += n
}

// Sums are the events of both kinds in the window that ends at now.
func (w *Window) Sums(now time.Time) (zero, one int) {
	w.move(now)
	return w.sum[0], w.sum[1]
}

// Reset forgets everything.
func (w *Window) Reset() {
	w.counts, w.sum = [buckets][2]int{}, [2]int{}
}

func (w *Window) move(now time.Time) {
	n := now.UnixNano() / int64(w.width)
	if n <= w.head {
		return // the same bucket, or a clock that was set back
	}
	for i := max(w.head+1, n-buckets+1); i <= n; i++ {
		c := &w.counts[i%buckets]
		w.sum[0] -= c[0]
		w.sum[1] -= c[1]
		*c = [2]int{}
	}
	w.head = n
}
