package gateway

import (
	"maps"
	"sync"
	"sync/atomic"
)

// children remembers the children of a vector by two of its labels: finding
// one that is known compares two strings, takes no lock and allocates nothing.
// The labels must be bounded, by the configuration or by a LabelCap.
type children[T any] struct {
	make  func(a, b string) T
	known atomic.Pointer[map[[2]string]T] // replaced, never changed
	mu    sync.Mutex                      // of those who replace it
}

func (c *children[T]) of(a, b string) T {
	if known := c.known.Load(); known != nil {
		if child, ok := (*known)[[2]string{a, b}]; ok {
			return child
		}
	}
	return c.add(a, b)
}

func (c *children[T]) add(a, b string) T {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := map[[2]string]T{}
	if known := c.known.Load(); known != nil {
		next = maps.Clone(*known)
	}
	child, ok := next[[2]string{a, b}]
	if !ok {
		child = c.make(a, b)
		next[[2]string{a, b}] = child
		c.known.Store(&next)
	}
	return child
}
