package app

import (
	"context"
	"log/slog"
	"runtime"
	"runtime/debug"
	"time"
)

// heapFloor is memory that is reserved but never touched, so that it occupies
// address space alone. The collector starts a cycle when the heap has doubled;
// on a heap of a few megabytes, which is what a gateway without caches has, that
// is dozens of times a second. With the floor counted in, a cycle starts after
// so many bytes more at the earliest, and what is saved goes to requests.
const heapFloor = 32 << 20

// afterStart is how long after the node is ready the memory of its start is
// given back: what starts in the background has ended by then.
const afterStart = time.Second

// reserveHeap returns the floor, which must stay reachable; nil where the
// process was given little memory (GOMEMLIMIT), which the floor would count against.
func reserveHeap(log *slog.Logger) []byte {
	if debug.SetMemoryLimit(-1) < 16*heapFloor {
		return nil
	}
	floor := make([]byte, heapFloor)
	// Where a part of it has been used before, the runtime has cleared all of it,
	// page by page.
	if err := untouch(floor); err != nil {
		log.Debug("the heap's floor may occupy memory", "error", err)
	}
	return floor
}

// giveBackStart returns to the system what only the start has needed: freed
// heap, and the pages of the binary that were read once, for the schemas, the
// configuration and the migrations. They come back from the page cache as they
// are needed.
func giveBackStart(ctx context.Context, log *slog.Logger) {
	timer := time.NewTimer(afterStart)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
	}
	runtime.GC() // what a sync.Pool holds survives one collection
	debug.FreeOSMemory()
	if err := dropBinary(); err != nil {
		log.Debug("the pages of the binary stay in memory", "error", err)
	}
}
