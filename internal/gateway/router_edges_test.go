package gateway

import (
	"testing"
	"unsafe"

	"pgregory.net/rapid"
)

// TestEdgesAreAMap compares the table with Go's own map.
func TestEdgesAreAMap(t *testing.T) {
	type key struct {
		from uint32
		text string
	}
	rapid.Check(t, func(t *rapid.T) {
		var e edges
		want := map[key]uint32{}
		any := rapid.Custom(func(t *rapid.T) key {
			return key{rapid.Uint32Range(0, 3).Draw(t, "from"), rapid.StringMatching(`[ab]{0,3}|[ab]{22,25}`).Draw(t, "text")}
		})
		for i, k := range rapid.SliceOf(any).Draw(t, "edges") {
			if _, there := want[k]; !there {
				want[k] = uint32(i) + 1
				e.add(k.from, k.text, want[k])
			}
		}
		for k, to := range want {
			if got := e.find(k.from, k.text); got != to {
				t.Fatalf("%v leads to %d, want %d", k, got, to)
			}
		}
		if k := any.Draw(t, "asked"); e.find(k.from, k.text) != want[k] {
			t.Fatalf("%v leads to %d, want %d", k, e.find(k.from, k.text), want[k])
		}
	})
}

func TestNodesFitCacheLines(t *testing.T) {
	if n := unsafe.Sizeof(node{}); n != 64 {
		t.Errorf("a node has %d bytes", n)
	}
	if n := unsafe.Sizeof(edge{}); n != 32 {
		t.Errorf("an edge has %d bytes", n)
	}
	if n := unsafe.Sizeof(requestCount{}); n != 128 {
		t.Errorf("a requestCount has %d bytes", n)
	}
}
