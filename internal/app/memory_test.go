package app

import (
	"log/slog"
	"runtime/debug"
	"testing"
)

func TestHeapFloorYieldsToAMemoryLimit(t *testing.T) {
	before := debug.SetMemoryLimit(256 << 20)
	defer debug.SetMemoryLimit(before)
	if n := len(reserveHeap(slog.New(slog.DiscardHandler))); n != 0 {
		t.Errorf("%d bytes are reserved of a small limit", n)
	}
	debug.SetMemoryLimit(1 << 40)
	if n := len(reserveHeap(slog.New(slog.DiscardHandler))); n != heapFloor {
		t.Errorf("%d bytes are reserved", n)
	}
}
