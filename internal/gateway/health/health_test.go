package health

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func targets(n int) []*Target {
	list := make([]*Target, n)
	for i := range list {
		list[i] = NewTarget()
	}
	return list
}

func active() *Active {
	return &Active{Interval: time.Second, Timeout: 500 * time.Millisecond, Healthy: 2, Unhealthy: 3}
}

func passive() *Passive {
	return &Passive{Failures: 5, Ejection: 10 * time.Second, MaxEjection: 25 * time.Second, MaxEjected: 0.5}
}

func TestProbesDecideOnlyInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sick atomic.Bool
		var probes atomic.Int64
		var told []string
		m := New(Config{Active: active()}, targets(1), Events{Probed: func(_ int, healthy bool, why string) { told = append(told, fmt.Sprint(healthy, why)) }})
		m.Adopt()
		m.Start(func(context.Context, int) error {
			probes.Add(1)
			if sick.Load() {
				return errors.New("status 500")
			}
			return nil
		})
		defer m.Stop()
		state := func() string { return m.Status(0).State }
		time.Sleep(10 * time.Second)
		if n := probes.Load(); n < 9 || n > 13 || state() != Healthy {
			t.Fatalf("%d probes in 10 s, %s", n, state())
		}
		sick.Store(true)
		time.Sleep(1500 * time.Millisecond) // one or two probes
		if state() != Healthy {
			t.Fatal("two bad probes decided")
		}
		time.Sleep(2500 * time.Millisecond)
		if s := m.Status(0); s.State != Unhealthy || s.Why != "status 500" || m.Share(0, time.Now()) != 0 {
			t.Fatalf("%+v", s)
		}
		sick.Store(false)
		time.Sleep(3 * time.Second)
		synctest.Wait() // orders the probes' appends before the read
		if state() != Healthy || len(told) != 2 || told[0] != "falsestatus 500" && told[0] != "false status 500" {
			t.Fatalf("%s %q", state(), told)
		}
	})
}

// A target whose probes change their mind faster than the thresholds stays as it is.
func TestFlapping(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &Active{Healthy: rapid.IntRange(1, 4).Draw(t, "healthy"), Unhealthy: rapid.IntRange(1, 4).Draw(t, "unhealthy")}
		tg := NewTarget()
		down, run := false, 0
		for i, bad := range rapid.SliceOfN(rapid.Bool(), 1, 60).Draw(t, "probes") {
			var err error
			if bad {
				err = errors.New("bad")
			}
			changed := tg.probed(c, err)
			if bad == down {
				run = 0
			} else {
				run++
			}
			want := run == map[bool]int{false: c.Unhealthy, true: c.Healthy}[down]
			if want {
				down, run = !down, 0
			}
			if changed != want || tg.down != down {
				t.Fatalf("probe %d: changed %v, down %v; want %v, %v", i, changed, tg.down, want, down)
			}
		}
	})
}

func TestAHangingProbeIsABadOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Config{Active: active()}, targets(1), Events{})
		m.Adopt()
		m.Start(func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() })
		time.Sleep(6 * time.Second)
		if s := m.Status(0); s.State != Unhealthy || s.Why != "no answer within 500ms" {
			t.Errorf("%+v", s)
		}
		m.Stop()
		m.Stop() // twice is as good as once
	})
}

func TestEjection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Config{Passive: passive()}, targets(4), Events{})
		m.Adopt()
		fail := func(i, n int) {
			for range n {
				m.Report(i, true)
			}
		}
		fail(0, 4)
		m.Report(0, false)
		fail(0, 4)
		if m.Status(0).State != Healthy {
			t.Fatal("ejected for failures that were not in a row")
		}
		fail(0, 1)
		if s := m.Status(0); s.State != Ejected || time.Until(s.Until) != 10*time.Second || m.Share(0, time.Now()) != 0 {
			t.Fatalf("%+v", s)
		}
		fail(0, 50) // stragglers
		fail(1, 5)
		fail(2, 50)
		if m.Status(1).State != Ejected || m.Status(2).State != Healthy {
			t.Fatalf("max_ejected: %+v %+v", m.Status(1), m.Status(2))
		}
		time.Sleep(10 * time.Second)
		if m.Status(0).State != Healthy {
			t.Fatal("the ejection has no end")
		}
		fail(0, 5)
		if s := m.Status(0); time.Until(s.Until) != 20*time.Second {
			t.Fatalf("the second ejection in a row: %s", time.Until(s.Until))
		}
		time.Sleep(20 * time.Second)
		fail(0, 5)
		if s := m.Status(0); time.Until(s.Until) != 25*time.Second {
			t.Fatalf("max_ejection: %s", time.Until(s.Until))
		}
		time.Sleep(51 * time.Second)
		m.Report(0, false)
		fail(0, 5)
		if s := m.Status(0); time.Until(s.Until) != 10*time.Second {
			t.Fatalf("after a good time: %s", time.Until(s.Until))
		}
	})
}

func TestEjectionByRatio(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Passive{Ratio: 0.5, MinRequests: 10, Window: 10 * time.Second, Ejection: time.Second, MaxEjected: 1}
		m := New(Config{Passive: p}, targets(2), Events{})
		m.Adopt()
		for range 4 {
			m.Report(0, false)
			m.Report(0, true)
		}
		if m.Status(0).State != Healthy {
			t.Fatal("below min_requests")
		}
		m.Report(0, false)
		m.Report(0, true)
		if m.Status(0).State != Ejected {
			t.Fatal("half of ten failed")
		}
		for range 100 {
			m.Report(1, true)
		}
		if m.Status(1).State != Healthy {
			t.Fatal("the last target was ejected")
		}
	})
}

// Whatever happens, no more than the allowed share is ejected, and never all.
func TestMaxEjected(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(rt, "targets")
		share := rapid.Float64Range(0, 1).Draw(rt, "share")
		outcomes := rapid.SliceOfN(rapid.IntRange(0, 2*n), 1, 300).Draw(rt, "outcomes")
		synctest.Test(t, func(t *testing.T) {
			p := passive()
			p.Failures, p.MaxEjected = 2, share
			m := New(Config{Passive: p}, targets(n), Events{})
			m.Adopt()
			for _, o := range outcomes {
				if o == 2*n {
					time.Sleep(time.Second)
					continue
				}
				m.Report(o/2, o%2 == 1)
				out := 0
				for i := range n {
					if m.Status(i).State == Ejected {
						out++
					}
				}
				if most := max(1, int(share*float64(n))); out > most || out == n {
					t.Fatalf("%d of %d ejected", out, n)
				}
			}
		})
	})
}

func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, fresh := NewTarget(), NewTarget()
		m := New(Config{SlowStart: 10 * time.Second, Passive: passive()}, []*Target{old, fresh}, Events{})
		m.Adopt(fresh)
		if m.Share(0, time.Now()) != Full || m.Share(1, time.Now()) != firstShare || m.Status(1).State != Recovering {
			t.Fatalf("%d %d", m.Share(0, time.Now()), m.Share(1, time.Now()))
		}
		last := 0
		for range 10 {
			got := m.Share(1, time.Now())
			if got < last {
				t.Fatalf("%d after %d", got, last)
			}
			last = got
			time.Sleep(time.Second)
		}
		if m.Share(1, time.Now()) != Full || m.Status(1).State != Healthy {
			t.Fatal("slow start has no end")
		}
		for range 5 {
			m.Report(0, true)
		}
		time.Sleep(10 * time.Second)
		if got := m.Share(0, time.Now()); got != firstShare {
			t.Fatalf("after the ejection: %d", got)
		}
		time.Sleep(5 * time.Second)
		if got := m.Share(0, time.Now()); got != (Full+firstShare)/2 {
			t.Fatalf("half way: %d", got)
		}
	})
}
