package overload

import (
	"math"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// sampleEvery is how old a reading of the memory in use may be.
const sampleEvery = 100 * time.Millisecond

// memory reads how much memory is in use that no garbage collection frees:
// what the last one found alive, and the stacks. What is merely not collected
// yet is no reason to turn anybody away.
type memory struct {
	next atomic.Int64 // when to read again, Unix nanoseconds
	used atomic.Int64
	read func() int64 // for tests; nil = the process
}

var memorySamples = [...]string{"/gc/heap/live:bytes", "/memory/classes/heap/stacks:bytes", "/memory/classes/os-stacks:bytes"}

func readMemory() int64 {
	var samples [len(memorySamples)]metrics.Sample
	for i, name := range memorySamples {
		samples[i].Name = name
	}
	metrics.Read(samples[:])
	var sum uint64
	for _, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			sum += s.Value.Uint64()
		}
	}
	return int64(min(sum, math.MaxInt64)) // #nosec -- bounded
}

// now is the memory in use, read by at most one caller every sampleEvery.
func (m *memory) now() int64 {
	t := time.Now().UnixNano()
	if next := m.next.Load(); t >= next && m.next.CompareAndSwap(next, t+int64(sampleEvery)) {
		if m.read != nil {
			m.used.Store(m.read())
		} else {
			m.used.Store(readMemory())
		}
	}
	return m.used.Load()
}

// ProcessLimit is the process's soft memory limit (GOMEMLIMIT), 0 without one.
func ProcessLimit() int64 {
	if n := debug.SetMemoryLimit(-1); n < math.MaxInt64 {
		return n
	}
	return 0
}
