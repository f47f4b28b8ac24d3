package app

import "runtime/debug"

// heapFloor is memory that is reserved but never touched, so that it occupies
// address space alone. The collector starts a cycle when the heap has doubled;
// on a heap of a few megabytes, which is what a gateway without caches has, that
// is dozens of times a second. With the floor counted in, a cycle starts after
// so many bytes more at the earliest, and what is saved goes to requests.
const heapFloor = 32 << 20

// reserveHeap returns the floor, which must stay reachable; nil where the
// process was given little memory (GOMEMLIMIT), which the floor would count against.
func reserveHeap() []byte {
	if debug.SetMemoryLimit(-1) < 16*heapFloor {
		return nil
	}
	return make([]byte, heapFloor)
}
