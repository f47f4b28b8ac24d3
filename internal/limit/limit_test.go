package limit

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"landline/internal/clock"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func policy(t testing.TB, l *Limiters, name string, r Rate) *Policy {
	t.Helper()
	p, err := l.Policy(name, r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func take(l *Limiters, p *Policy, key string) (bool, State) {
	var st [1]State
	ok := l.Take([]Check{{Policy: p, Key: key}}, st[:])
	return ok, st[0]
}

func TestBurstThenSteadyRate(t *testing.T) {
	clk := clock.NewFake(start)
	l := New(clk)
	p := policy(t, l, "f", Rate{Limit: 60, Window: time.Minute, Burst: 3})
	for want := 2; want >= 0; want-- {
		ok, st := take(l, p, "a")
		if !ok || st.Remaining != want {
			t.Fatalf("admitted=%v remaining=%d, want true %d", ok, st.Remaining, want)
		}
	}
	ok, st := take(l, p, "a")
	if ok || !st.Refused || st.Wait != time.Second || st.Full != 3*time.Second {
		t.Fatalf("over the burst: %v %+v", ok, st)
	}
	if ok, _ := take(l, p, "b"); !ok {
		t.Error("another key pays for the first")
	}
	clk.Advance(time.Second - time.Nanosecond)
	if ok, st := take(l, p, "a"); ok || st.Wait != time.Nanosecond {
		t.Errorf("a nanosecond early: %v %+v", ok, st)
	}
	clk.Advance(time.Nanosecond)
	if ok, _ := take(l, p, "a"); !ok {
		t.Error("refused after the wait it was told")
	}
}

// bucket is the model: a token bucket, which counts what is left where GCRA
// counts what is owed, so that a slip in one is not a slip in the other.
type bucket struct {
	level, at int64 // nanoseconds' worth of allowance
}

func TestMatchesModelWithSeveralPolicies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clk := clock.NewFake(start)
		l := New(clk)
		rates := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Rate {
			return Rate{
				Limit:  rapid.IntRange(1, 50).Draw(t, "limit"),
				Window: time.Duration(rapid.IntRange(1, 90).Draw(t, "window")) * time.Second,
				Burst:  rapid.IntRange(1, 20).Draw(t, "burst"),
			}
		}), 1, 4).Draw(t, "rates")
		var policies []*Policy
		model := make([]map[string]bucket, len(rates))
		for i, r := range rates {
			p, err := l.Policy(fmt.Sprint("p", i), r)
			if err != nil {
				t.Fatal(err)
			}
			policies = append(policies, p)
			model[i] = map[string]bucket{}
		}
		elapsed := int64(0)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			step := time.Duration(rapid.Int64Range(0, int64(10*time.Second)).Draw(t, "step"))
			if rapid.IntRange(0, 9).Draw(t, "jump back") == 0 {
				clk.Advance(-time.Hour)
				l.now() // time passes unseen only as long as nobody asks
			}
			clk.Advance(step)
			elapsed += int64(step)
			checks := make([]Check, len(policies))
			states := make([]State, len(policies))
			for i, p := range policies {
				checks[i] = Check{Policy: p, Key: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")}
			}
			got := l.Take(checks, states)
			want := true
			for i, c := range checks {
				cost := costOf(rates[i])
				b, known := model[i][c.Key]
				if !known {
					b = bucket{level: cost * int64(rates[i].Burst)}
				} else {
					b.level = min(b.level+elapsed-b.at, cost*int64(rates[i].Burst))
				}
				b.at = elapsed
				model[i][c.Key] = b
				want = want && b.level >= cost
			}
			if got != want {
				t.Fatalf("admitted %v, the model says %v", got, want)
			}
			for i, c := range checks {
				b := model[i][c.Key]
				if want {
					b.level -= costOf(rates[i])
					model[i][c.Key] = b
				}
				if left := int(b.level / costOf(rates[i])); states[i].Remaining != left {
					t.Fatalf("policy %d: %d remaining, the model says %d", i, states[i].Remaining, left)
				}
			}
		}
	})
}

func costOf(r Rate) int64 { return int64(math.Ceil(float64(r.Window) / float64(r.Limit))) }

// F15: what 64 parallel clients get through on one key is at most the limit of
// the time that passed and the burst.
func TestParallelCallersNeverExceedBurst(t *testing.T) {
	clk := clock.NewFake(start)
	l := New(clk)
	r := Rate{Limit: 100, Window: time.Minute, Burst: 20}
	p := policy(t, l, "f", r)
	var admitted atomic.Int64
	for round := range 10 {
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for range 20 {
					if ok, _ := take(l, p, "one"); ok {
						admitted.Add(1)
					}
				}
			})
		}
		wg.Wait()
		most := int64(r.Burst) + int64(round)*int64(time.Second)*int64(r.Limit)/int64(r.Window)
		if got := admitted.Load(); got > most || got < most-1 {
			t.Fatalf("after %ds: %d admitted, want %d", round, got, most)
		}
		clk.Advance(time.Second)
	}
}

func TestRefusedIsChargedToNoPolicyUnderParallelCallers(t *testing.T) {
	clk := clock.NewFake(start)
	l := New(clk)
	wide := policy(t, l, "wide", Rate{Limit: 1000, Window: time.Minute})
	tight := policy(t, l, "tight", Rate{Limit: 5, Window: time.Minute})
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			checks, states := []Check{{Policy: wide, Key: "all"}, {Policy: tight, Key: strconv.Itoa(i % 8)}}, make([]State, 2)
			for range 10 {
				if l.Take(checks, states) {
					admitted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if admitted.Load() != 8*5 {
		t.Errorf("%d admitted, want 40", admitted.Load())
	}
	if _, st := take(l, wide, "all"); st.Remaining != 1000-8*5-1 {
		t.Errorf("the wide policy has %d left, want %d", st.Remaining, 1000-8*5-1)
	}
}

func TestClockJumpBackNeitherLocksOutNorOpensUp(t *testing.T) {
	clk := clock.NewFake(start)
	l := New(clk)
	p := policy(t, l, "f", Rate{Limit: 60, Window: time.Minute, Burst: 2})
	take(l, p, "a")
	take(l, p, "a")
	clk.Advance(-24 * time.Hour)
	if ok, st := take(l, p, "a"); ok || st.Wait != time.Second {
		t.Fatalf("right after the jump: %v %+v", ok, st)
	}
	clk.Advance(time.Second)
	if ok, _ := take(l, p, "a"); !ok {
		t.Error("locked out by a clock that jumped back")
	}
	if ok, _ := take(l, p, "a"); ok {
		t.Error("opened up by a clock that jumped back")
	}
}

func TestReloadKeepsCountsOfAnUnchangedPolicy(t *testing.T) {
	clk := clock.NewFake(start)
	l := New(clk)
	r := Rate{Limit: 1, Window: time.Minute}
	p := policy(t, l, "f/x", r)
	take(l, p, "a")
	if again := policy(t, l, "f/x", r); again != p {
		t.Error("the same policy was made anew")
	}
	changed := policy(t, l, "f/x", Rate{Limit: 2, Window: time.Minute})
	if ok, _ := take(l, changed, "a"); !ok || changed == p {
		t.Error("a changed policy kept the old counts")
	}
	runtime.KeepAlive(p)
}

func TestPolicyThatNobodyHoldsIsFreed(t *testing.T) {
	l := New(clock.NewFake(start))
	func() {
		p := policy(t, l, "gone", Rate{Limit: 5, Window: time.Minute})
		for i := range 100 {
			take(l, p, strconv.Itoa(i))
		}
		if l.Keys() != 100 {
			t.Fatalf("%d keys held", l.Keys())
		}
	}()
	for range 100 {
		runtime.GC() // cleanups run some time after the cycle that found them
		runtime.Gosched()
		l.mu.Lock()
		left := len(l.policies)
		l.mu.Unlock()
		if left == 0 && l.Keys() == 0 {
			return
		}
	}
	t.Errorf("%d keys still counted", l.Keys())
}

func TestMemoryIsBoundedAndHotKeysSurvive(t *testing.T) {
	clk := clock.NewFake(start)
	const most = 6000
	l := newSized(clk, most)
	p := policy(t, l, "address", Rate{Limit: 10, Window: time.Hour})
	small := policy(t, l, "feature", Rate{Limit: 10, Window: time.Hour})
	for range 10 {
		take(l, small, "only")
		take(l, p, "hot")
	}
	for i := range 50_000 {
		take(l, p, strconv.Itoa(i))
		if i%10 == 0 {
			if ok, _ := take(l, small, "only"); ok {
				t.Fatalf("a policy with one key was forgotten for another's keys, at %d", i)
			}
		}
		if k := l.Keys(); k > most {
			t.Fatalf("%d keys held, at most %d allowed", k, most)
		}
	}
	if l.Forgotten() == 0 {
		t.Error("nothing counted as forgotten")
	}
}

func TestIdleKeysAreDroppedWithoutLoss(t *testing.T) {
	clk := clock.NewFake(start)
	l := New(clk)
	p := policy(t, l, "f", Rate{Limit: 60, Window: time.Minute, Burst: 5})
	for i := range 1000 {
		take(l, p, strconv.Itoa(i))
	}
	for range 3 {
		clk.Advance(6 * time.Second)
		for i := range 200 { // touch every shard
			take(l, p, "x"+strconv.Itoa(i))
		}
	}
	if k := l.Keys(); k > 400 {
		t.Errorf("%d keys held, only 200 are live", k)
	}
}

func TestPolicyRefusesNonsense(t *testing.T) {
	l := New(clock.NewFake(start))
	for _, r := range []Rate{{}, {Limit: 1}, {Window: time.Second}, {Limit: 1, Window: -1}, {Limit: 1, Window: 1, Burst: -1},
		{Limit: 1_000_001, Window: time.Second}, {Limit: 1, Window: 31 * 24 * time.Hour, Burst: 1 << 40}} {
		if _, err := l.Policy("x", r); err == nil {
			t.Errorf("%+v was accepted", r)
		}
	}
}

func TestSortIsStableOrder(t *testing.T) {
	l := New(clock.NewFake(start))
	a, b, c := policy(t, l, "a", Rate{Limit: 1, Window: time.Second}), policy(t, l, "b", Rate{Limit: 1, Window: time.Second}), policy(t, l, "c", Rate{Limit: 1, Window: time.Second})
	got := []*Policy{c, a, b}
	Sort(got)
	if !slices.Equal(got, []*Policy{a, b, c}) {
		t.Error("not in the order they were made")
	}
}

func BenchmarkTake(b *testing.B) {
	l := New(clock.System)
	p := policy(b, l, "f", Rate{Limit: 1_000_000, Window: time.Second})
	keys := make([]string, 10_000)
	for i := range keys {
		keys[i] = "ins_01h455vb4pex5vsknk0" + strconv.Itoa(i)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		checks, states := make([]Check, 1), make([]State, 1)
		for i := 0; pb.Next(); i++ {
			checks[0] = Check{Policy: p, Key: keys[i%len(keys)]}
			l.Take(checks, states)
		}
	})
}
