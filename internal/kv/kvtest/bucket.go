package kvtest

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"landline/internal/kv"
)

// take asks once; slack is what may pass between two calls of a test.
func take(t *testing.T, s kv.Store, buckets ...kv.Bucket) (bool, []time.Duration) {
	t.Helper()
	ahead := make([]time.Duration, len(buckets))
	ok, err := s.Take(t.Context(), buckets, ahead)
	must(t, err)
	return ok, ahead
}

func takeBurst(t *testing.T, s kv.Store) {
	b := kv.Bucket{Key: "b", Interval: time.Hour, Burst: 3}
	for n := range 3 {
		ok, ahead := take(t, s, b)
		if most := time.Duration(n+1) * time.Hour; !ok || ahead[0] > most || ahead[0] < most-time.Minute {
			t.Fatalf("request %d: %v, %v ahead, want about %v", n+1, ok, ahead[0], most)
		}
	}
	if ok, ahead := take(t, s, b); ok || ahead[0] > 3*time.Hour || ahead[0] < 3*time.Hour-time.Minute {
		t.Fatalf("above the burst: %v, %v ahead", ok, ahead[0])
	}
	if ok, _ := take(t, s, kv.Bucket{Key: "other", Interval: time.Hour, Burst: 1}); !ok {
		t.Error("another bucket pays for the first")
	}
	must(t, s.Delete(t.Context(), "b"))
	if ok, _ := take(t, s, b); !ok {
		t.Error("a bucket that is gone is not a fresh one")
	}
}

func takeAllOrNone(t *testing.T, s kv.Store) {
	wide, tight := kv.Bucket{Key: "wide", Interval: time.Hour, Burst: 5}, kv.Bucket{Key: "tight", Interval: time.Hour, Burst: 1}
	if ok, _ := take(t, s, wide, tight); !ok {
		t.Fatal("the first was refused")
	}
	for range 3 {
		ok, ahead := take(t, s, wide, tight)
		if ok || ahead[0] > time.Hour || ahead[1] > time.Hour {
			t.Fatalf("%v, %v: a refused request was charged", ok, ahead)
		}
	}
	if ok, ahead := take(t, s, wide); !ok || ahead[0] > 2*time.Hour {
		t.Errorf("%v, %v", ok, ahead)
	}
}

func takeRefuses(t *testing.T, s kv.Store) {
	good := kv.Bucket{Key: "k", Interval: time.Second, Burst: 1}
	for name, buckets := range map[string][]kv.Bucket{
		"nothing":      {},
		"no burst":     {{Key: "k", Interval: time.Second}},
		"no interval":  {{Key: "k", Burst: 1}},
		"a nanosecond": {{Key: "k", Interval: 1, Burst: 1}},
		"centuries":    {{Key: "k", Interval: 24 * time.Hour, Burst: 1 << 40}},
		"twice":        {good, good},
		"too many":     make([]kv.Bucket, kv.MaxBuckets+1),
		"no key":       {{Interval: time.Second, Burst: 1}},
	} {
		if _, err := s.Take(t.Context(), buckets, make([]time.Duration, len(buckets))); !errors.Is(err, kv.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	long := kv.Bucket{Key: strings.Repeat("k", kv.MaxKey+1), Interval: time.Second, Burst: 1}
	if _, err := s.Take(t.Context(), []kv.Bucket{long}, make([]time.Duration, 1)); !errors.Is(err, kv.ErrTooLarge) {
		t.Errorf("a long key: %v", err)
	}
	// The longest capacity, which must not lose a microsecond to rounding.
	big := kv.Bucket{Key: "big", Interval: 1 << 40 * time.Microsecond, Burst: 1 << 12}
	for n := int64(1); n <= 3; n++ {
		if ok, ahead := take(t, s, big); !ok || ahead[0] > time.Duration(n)*big.Interval || ahead[0] < time.Duration(n)*big.Interval-time.Minute {
			t.Errorf("%v, %v ahead after %d", ok, ahead[0], n)
		}
	}
}

// What parallel callers get through is the burst, and all of it.
func takeParallel(t *testing.T, s kv.Store) {
	b := kv.Bucket{Key: "hot", Interval: time.Hour, Burst: 20}
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			ahead := make([]time.Duration, 1)
			for range 3 {
				ok, err := s.Take(t.Context(), []kv.Bucket{b}, ahead)
				if err != nil {
					t.Error(err)
				}
				if ok {
					admitted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if admitted.Load() != 20 {
		t.Errorf("%d admitted, want 20", admitted.Load())
	}
}

func takeRefills(t *testing.T, s kv.Store) {
	b := kv.Bucket{Key: "b", Interval: 20 * time.Millisecond, Burst: 2}
	take(t, s, b)
	take(t, s, b)
	Eventually(t, "the bucket admits again", func() bool { ok, _ := take(t, s, b); return ok })
	Eventually(t, "a whole bucket is kept no longer", gone(t, s, "b"))
}

// A bucket of a day ahead is what a clock that jumps back by a day leaves.
func takeJump(t *testing.T, s kv.Store) {
	tomorrow := time.Now().Add(24 * time.Hour).UnixMicro()
	must(t, s.Set(t.Context(), "b", strconv.AppendInt(nil, tomorrow, 10), 48*time.Hour))
	b := kv.Bucket{Key: "b", Interval: 10 * time.Millisecond, Burst: 2}
	if ok, ahead := take(t, s, b); ok || ahead[0] != 20*time.Millisecond {
		t.Fatalf("%v, %v ahead", ok, ahead[0])
	}
	Eventually(t, "the bucket admits again", func() bool { ok, _ := take(t, s, b); return ok })
}
