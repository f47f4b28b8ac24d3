package dpop

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"landline/internal/clock"
	"landline/internal/kv"
)

func newCache(t testing.TB, capacity int, c clock.Clock) *ReplayCache {
	t.Helper()
	r, err := NewReplayCache(capacity, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The cache against a map: an id is new once until it expires, whatever the order of calls and times.
func TestReplayCacheRemembers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fake := clock.NewFake(testNow)
		r, err := NewReplayCache(100_000, fake)
		if err != nil {
			t.Fatal(err)
		}
		expiry, seen := map[string]time.Time{}, map[string]bool{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			fake.Advance(time.Duration(rapid.IntRange(0, 40_000).Draw(t, "wait")) * time.Millisecond)
			id := replayID("key", fmt.Sprint(rapid.IntRange(0, 30).Draw(t, "id")))
			if _, ok := expiry[id]; !ok {
				expiry[id] = fake.Now().Add(time.Duration(rapid.IntRange(1, 600).Draw(t, "life")) * time.Second).Truncate(time.Second)
			}
			want := !seen[id] && fake.Now().Before(expiry[id])
			got, err := r.Use(context.Background(), id, expiry[id])
			if err != nil || got != want {
				t.Fatalf("first is %v, %v; want %v", got, err, want)
			}
			seen[id] = seen[id] || got
		}
	})
}

func TestReplayCacheIsBounded(t *testing.T) {
	fake := clock.NewFake(testNow)
	r := newCache(t, 1024, fake)
	expires := testNow.Add(2 * time.Minute)
	taken, full := 0, 0
	for i := range 20_000 {
		switch first, err := r.Use(context.Background(), replayID("key", fmt.Sprint(i)), expires); {
		case errors.Is(err, ErrReplayFull):
			full++
		case err != nil || !first:
			t.Fatal(first, err)
		default:
			taken++
		}
	}
	if taken != 1024 || full != 20_000-1024 || r.Len() != 1024 {
		t.Errorf("%d taken, %d refused, %d held", taken, full, r.Len())
	}
	if first, err := r.Use(context.Background(), replayID("key", "0"), expires); first || err != nil {
		t.Errorf("a full cache forgot: %v, %v", first, err)
	}
	fake.Advance(2*time.Minute + replayBucket*time.Second)
	taken = 0
	for i := range 1024 {
		if first, err := r.Use(context.Background(), replayID("new", fmt.Sprint(i)), fake.Now().Add(time.Minute)); first && err == nil {
			taken++
		}
	}
	if taken < 800 || r.Len() != taken { // the shards do not fill evenly
		t.Errorf("after everything expired %d were taken and %d are held", taken, r.Len())
	}
}

func TestReplayCacheRefuses(t *testing.T) {
	if _, err := NewReplayCache(0, nil); err == nil {
		t.Error("a cache without room was made")
	}
	r := newCache(t, 16, clock.NewFake(testNow))
	id := replayID("key", "jti")
	if first, err := r.Use(context.Background(), id, testNow); first || err != nil {
		t.Errorf("expired: %v, %v", first, err)
	}
	if _, err := r.Use(context.Background(), id, testNow.Add(MaxReplayLife+time.Second)); err == nil {
		t.Error("remembered for longer than there is memory for")
	}
	for _, bad := range []string{"", "short", id + "\n", "äöü"} {
		if first, err := r.Use(context.Background(), bad, testNow.Add(time.Minute)); first || err == nil {
			t.Errorf("the id %q: %v, %v", bad, first, err)
		}
	}
}

func TestReplayedOnceInParallel(t *testing.T) {
	memory := kv.NewMemory(clock.System, 100_000)
	stores := map[string]ReplayStore{
		"cache":   newCache(t, 100_000, nil),
		"shared":  Shared{Store: memory, Prefix: "dpop:"},
		"layered": Layered{newCache(t, 100_000, nil), Shared{Store: memory, Prefix: "layered:"}},
	}
	for name, s := range stores {
		t.Run(name, func(t *testing.T) {
			expires := time.Now().Add(time.Minute).Truncate(time.Second)
			var firsts atomic.Int64
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					for i := range 200 {
						switch err := Once(context.Background(), s, &Proof{ReplayID: replayID(name, fmt.Sprint(i)), Expires: expires}); {
						case err == nil:
							firsts.Add(1)
						case codeOf(err) != InvalidProof:
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			if firsts.Load() != 200 {
				t.Errorf("%d of 200 proofs were used", firsts.Load())
			}
		})
	}
}

// Two nodes share what they saw; a node whose shared store does not answer accepts nothing.
func TestLayers(t *testing.T) {
	memory := kv.NewMemory(clock.System, 100_000)
	node := func() ReplayStore {
		return Layered{newCache(t, 1000, nil), Shared{Store: memory, Prefix: "dpop:"}}
	}
	p := &Proof{ReplayID: replayID("key", "jti"), Expires: time.Now().Add(time.Minute).Truncate(time.Second)}
	if err := Once(context.Background(), node(), p); err != nil {
		t.Fatal(err)
	}
	if err := Once(context.Background(), node(), p); codeOf(err) != InvalidProof {
		t.Errorf("another node accepts it again: %v", err)
	}
	down := Layered{newCache(t, 1000, nil), Shared{Store: brokenSetter{}}}
	if err := Once(context.Background(), down, p); !errors.Is(err, kv.ErrUnavailable) {
		t.Errorf("without the shared store: %v", err)
	}
	if first, err := (Layered{}).Use(context.Background(), p.ReplayID, p.Expires); first || err != nil {
		t.Errorf("no store at all: %v, %v", first, err)
	}
	if first, err := (Shared{Store: memory}).Use(context.Background(), p.ReplayID, time.Now()); first || err != nil {
		t.Errorf("expired: %v, %v", first, err)
	}
}

type brokenSetter struct{}

func (brokenSetter) SetNX(context.Context, string, []byte, time.Duration) (bool, error) {
	return false, kv.ErrUnavailable
}
