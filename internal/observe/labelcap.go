package observe

import (
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

// maxLabel is the longest label value, in bytes.
const maxLabel = 128

// Other stands for every value beyond a LabelCap's limit.
const Other = "other"

// LabelCap keeps a label that outsiders can fill from making metrics without
// end. It is safe for concurrent use; a value seen before costs no lock.
type LabelCap struct {
	max   int
	seen  sync.Map // string → string
	full  atomic.Bool
	mu    sync.Mutex
	count int
}

// CapLabel returns a LabelCap for max distinct values; "other" is one more.
func CapLabel(max int) *LabelCap {
	c := &LabelCap{max: max}
	c.full.Store(max <= 0)
	return c
}

// Value returns s if it is among the first max distinct values, else "other".
// What is longer than 128 bytes or no UTF-8 is "other" and uses up nothing.
func (c *LabelCap) Value(s string) string {
	if s == Other {
		return Other
	}
	if v, ok := c.seen.Load(s); ok {
		return v.(string)
	}
	if c.full.Load() || len(s) > maxLabel || !utf8.ValidString(s) {
		return Other
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.seen.Load(s); ok {
		return v.(string)
	}
	if c.count >= c.max {
		return Other
	}
	s = strings.Clone(s) // s may be a slice of a whole request
	c.seen.Store(s, s)
	c.count++
	c.full.Store(c.count >= c.max)
	return s
}
