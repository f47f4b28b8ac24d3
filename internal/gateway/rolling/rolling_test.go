package rolling

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// A window agrees with a plain list of events, to within one bucket.
func TestWindowAgainstAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const length = 10 * time.Second
		w := New(length)
		now := time.Unix(1_800_000_000, 0)
		var events [2][]time.Time
		for range rapid.IntRange(1, 200).Draw(t, "events") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(4*time.Second)).Draw(t, "pause")))
			kind := rapid.IntRange(0, 1).Draw(t, "kind")
			w.Add(now, kind, 1)
			events[kind] = append(events[kind], now)
			var got [2]int
			got[0], got[1] = w.Sums(now)
			for k := range events {
				least, most := 0, 0
				for _, at := range events[k] {
					if age := now.Sub(at); age < length-length/buckets {
						least++
						most++
					} else if age < length {
						most++
					}
				}
				if got[k] < least || got[k] > most {
					t.Fatalf("kind %d: %d, want %d to %d", k, got[k], least, most)
				}
			}
		}
	})
}

// However requests and wishes to repeat come, within any window the repeats
// stay within the promise.
func TestBudgetKeepsItsPromise(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		share := rapid.Float64Range(0, 1).Draw(rt, "share")
		floor := rapid.IntRange(0, 5).Draw(rt, "floor")
		steps := rapid.SliceOfN(rapid.IntRange(0, 3), 1, 300).Draw(rt, "steps")
		synctest.Test(t, func(t *testing.T) {
			const length = 10 * time.Second
			b := NewBudget(share, floor, length)
			var first, repeated []time.Time
			for _, s := range steps {
				switch s {
				case 0:
					time.Sleep(300 * time.Millisecond)
				case 1:
					b.First()
					first = append(first, time.Now())
				default:
					if b.Repeat() {
						repeated = append(repeated, time.Now())
					}
				}
				in := func(list []time.Time, d time.Duration) (n int) {
					for _, at := range list {
						if time.Since(at) < d {
							n++
						}
					}
					return n
				}
				n, most := in(repeated, length-length/buckets), math.Max(float64(floor), share*float64(in(first, 2*length)))
				if float64(n) > most {
					t.Fatalf("%d repeats, at most %.1f", n, most)
				}
			}
			if float64(len(repeated)) > share*float64(len(first))+float64(floor)*(1+float64(len(steps))*0.3/9) {
				t.Fatalf("%d repeats for %d requests", len(repeated), len(first))
			}
		})
	})
}

func TestBudgetIsRefilledByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(0.2, 3, 10*time.Second)
		take := func() (n int) {
			for b.Repeat() {
				n++
			}
			return n
		}
		if n := take(); n != 3 {
			t.Fatalf("floor: %d", n)
		}
		for range 100 {
			b.First()
		}
		if n := take(); n != 17 {
			t.Fatalf("20 %% of 100: %d more than 3", n)
		}
		time.Sleep(11 * time.Second)
		if n := take(); n != 3 {
			t.Fatalf("after the window: %d", n)
		}
	})
}
