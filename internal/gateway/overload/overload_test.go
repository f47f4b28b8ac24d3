package overload

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var shares = Shares{Telemetry: 0.5, Background: 0.7, Interactive: 0.9}

// However requests come and go: whenever a level is turned away, every lower
// one is as well, and whatever a level leaves free is there for the higher.
func TestTheLeastImportantIsTurnedAwayFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 200).Draw(t, "max")
		g := NewGuard(GuardConfig{MaxInFlight: most, Shares: shares})
		var in []*Pass
		for _, level := range rapid.SliceOfN(rapid.IntRange(-1, int(levels)-1), 1, 400).Draw(t, "requests") {
			if level < 0 {
				if len(in) > 0 {
					in[0].Leave()
					in[0].Leave()
					in = in[1:]
				}
				continue
			}
			var admitted [levels]bool
			for l := Telemetry; l < levels; l++ {
				p, why := g.Enter(l)
				admitted[l] = why == ""
				p.Leave()
			}
			if admitted[Telemetry] && !admitted[Background] || admitted[Background] && !admitted[Interactive] || admitted[Interactive] && !admitted[Critical] {
				t.Fatalf("%d in flight: %v", len(in), admitted)
			}
			for l := Telemetry; l < levels; l++ {
				if want := len(in) < shares.of(l, most); admitted[l] != want {
					t.Fatalf("%s with %d of %d in flight: %v", l, len(in), most, admitted[l])
				}
			}
			if p, why := g.Enter(Level(level)); why == "" {
				in = append(in, &p)
			}
		}
		if got := g.State().InFlight; got != int64(len(in)) || got > int64(most) {
			t.Fatalf("%d in flight, want %d", got, len(in))
		}
	})
}

func TestMemoryGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var used atomic.Int64
		var reads atomic.Int64
		g := NewGuard(GuardConfig{Memory: 1000, MemoryFull: Shares{Telemetry: 0.7, Background: 0.8, Interactive: 0.9}})
		g.memory.read = func() int64 { reads.Add(1); return used.Load() }
		admitted := func() (s string) {
			for l := Telemetry; l < levels; l++ {
				if p, why := g.Enter(l); why == "" {
					s += l.String()[:1]
					p.Leave()
				} else if why != ByMemory {
					t.Fatal(why)
				}
			}
			return s
		}
		for _, c := range []struct {
			used int64
			want string
		}{{0, "tbic"}, {700, "tbic"}, {701, "bic"}, {800, "bic"}, {801, "ic"}, {901, "c"}, {5000, "c"}, {10, "tbic"}} {
			used.Store(c.used)
			time.Sleep(sampleEvery)
			if got := admitted(); got != c.want {
				t.Errorf("%d bytes: %s, want %s", c.used, got, c.want)
			}
		}
		if n := reads.Load(); n != 8 {
			t.Errorf("read %d times in 8 intervals", n)
		}
	})
	// What is alive is seen, and garbage is not.
	live := make([]byte, 64<<20)
	runtime.GC()
	with := readMemory()
	runtime.KeepAlive(live)
	live = nil
	runtime.GC()
	if without := readMemory(); with-without < 60<<20 || without <= 0 {
		t.Errorf("with 64 MiB %d, without %d", with, without)
	}
}

func TestBulkhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBulkhead(2, time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		for range 2 {
			if err := b.Acquire(ctx); err != nil {
				t.Fatal(err)
			}
		}
		got := make(chan error, 2)
		for range 2 {
			go func() { got <- b.Acquire(ctx) }()
		}
		synctest.Wait()
		began := time.Now()
		if err := b.Acquire(ctx); !errors.Is(err, ErrFull) || time.Since(began) != 0 || b.Waiting() != 2 {
			t.Fatalf("the queue is full: %v after %s, %d wait", err, time.Since(began), b.Waiting())
		}
		b.Release()
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		if err := <-got; !errors.Is(err, ErrFull) || time.Since(began) != time.Second {
			t.Fatalf("%v after %s", err, time.Since(began))
		}
		go func() { got <- b.Acquire(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-got; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		b.Release()
		b.Release()
		if b.Used() != 0 || b.Waiting() != 0 {
			t.Fatalf("%d used, %d waiting", b.Used(), b.Waiting())
		}
		none := NewBulkhead(1, 0)
		if err := none.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := none.Acquire(t.Context()); !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
	})
}

// service is a simulated upstream that works on capacity requests at once, each
// for 20 ms; what is more has to queue.
func simulate(l *Limiter, clients, capacity int, d time.Duration) (served, refused int64, worst time.Duration) {
	work := make(chan struct{}, capacity)
	var mu sync.Mutex
	var wg sync.WaitGroup
	end := time.Now().Add(d)
	for range clients {
		wg.Go(func() {
			for time.Now().Before(end) {
				slot, ok := l.Acquire(Critical)
				if !ok {
					mu.Lock()
					refused++
					mu.Unlock()
					time.Sleep(50 * time.Millisecond)
					continue
				}
				began := time.Now()
				work <- struct{}{}
				time.Sleep(20 * time.Millisecond)
				<-work
				slot.Release(true)
				mu.Lock()
				served++
				if end.Sub(began) < d/4 {
					worst = max(worst, time.Since(began))
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return served, refused, worst
}

func TestAdaptiveLimitFindsTheCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(LimitConfig{Min: 4, Max: 1000, Initial: 20, Shares: shares})
		served, refused, worst := simulate(l, 400, 20, 2*time.Minute)
		perSecond := float64(served) / 120
		t.Logf("400 clients, capacity 20 (1000/s): %.0f/s served, %d refused, limit %d, latency at the end ≤ %s", perSecond, refused, l.Limit(), worst)
		if perSecond < 800 {
			t.Errorf("served only %.0f/s of 1000", perSecond)
		}
		if worst > 150*time.Millisecond { // without a limit: 400 ms
			t.Errorf("latency up to %s", worst)
		}
		if l.InFlight() != 0 {
			t.Errorf("%d places were not given back", l.InFlight())
		}
	})
}

func TestUntimedWorkDoesNotMoveTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(LimitConfig{Min: 4, Max: 1000, Initial: 50, Shares: shares})
		for i := range 2000 {
			s, ok := l.Acquire(Background)
			if !ok {
				t.Fatal("refused")
			}
			time.Sleep(time.Duration(i) * time.Millisecond)
			s.Release(false)
			s.Release(true) // given back already
		}
		if l.Limit() != 50 {
			t.Errorf("limit %d", l.Limit())
		}
	})
}

func TestALimitKeepsPlacesForTheImportant(t *testing.T) {
	l := NewLimiter(LimitConfig{Min: 10, Max: 10, Initial: 10, Shares: shares})
	taken := map[Level]int{}
	var all []Slot
	for level := Telemetry; level < levels; level++ {
		for {
			s, ok := l.Acquire(level)
			if !ok {
				break
			}
			taken[level]++
			all = append(all, s)
		}
	}
	if taken[Telemetry] != 5 || taken[Background] != 2 || taken[Interactive] != 2 || taken[Critical] != 1 {
		t.Errorf("%v", taken)
	}
	for i := range all {
		all[i].Release(true)
	}
}

func TestReloadKeepsWhatIsKnown(t *testing.T) {
	c := GuardConfig{MaxInFlight: 1, Shares: shares, Adaptive: &LimitConfig{Min: 1, Max: 5, Initial: 3}}
	g := NewGuard(c)
	p, why := g.Enter(Critical)
	if why != "" {
		t.Fatal(why)
	}
	same, limiter := *c.Adaptive, g.limiter.Load()
	g.Configure(GuardConfig{MaxInFlight: 2, Shares: shares, Adaptive: &same})
	if g.limiter.Load() != limiter || g.State().InFlight != 1 || g.State().Limit != 3 {
		t.Errorf("%+v", g.State())
	}
	g.Configure(GuardConfig{})
	p.Answered(true)
	p.Leave()
	if g.State() != (State{}) {
		t.Errorf("%+v", g.State())
	}
}

func TestRetryAfterIsSpread(t *testing.T) {
	seen := map[time.Duration]int{}
	for range 1000 {
		d := RetryAfter(2 * time.Second)
		if d%time.Second != 0 || d < 2*time.Second || d > 4*time.Second {
			t.Fatal(d)
		}
		seen[d]++
	}
	if len(seen) != 3 {
		t.Error(seen)
	}
}

func BenchmarkGuard(b *testing.B) {
	g := NewGuard(GuardConfig{MaxInFlight: 10_000, Shares: shares, Memory: 1 << 40, MemoryFull: shares})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p, _ := g.Enter(Interactive)
			p.Leave()
		}
	})
}
