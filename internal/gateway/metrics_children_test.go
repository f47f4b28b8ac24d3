package gateway

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

func TestChildrenAreMadeOnce(t *testing.T) {
	var made atomic.Int64
	c := children[*string]{make: func(a, b string) *string {
		made.Add(1)
		s := a + " " + b
		return &s
	}}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 100 {
				a, b := fmt.Sprint(i%10), fmt.Sprint(i/10)
				if got := c.of(a, b); *got != a+" "+b || got != c.of(a, b) {
					t.Errorf("%q for %s %s", *got, a, b)
				}
			}
		})
	}
	wg.Wait()
	if made.Load() != 100 {
		t.Errorf("%d were made", made.Load())
	}
	a, b := "3", "4"
	if n := testing.AllocsPerRun(100, func() { c.of(a, b) }); n > 0 {
		t.Errorf("a known child allocates %v times", n)
	}
}
