package overload

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// machine is a simulated processor: what is to be done waits in one queue, as
// goroutines do. Reading a request and turning it away costs refuse; what is let
// in costs its level's work in four pieces, with a wait before each.
type machine struct {
	p      processor
	config GuardConfig
	refuse time.Duration
	work   [levels]time.Duration
	rng    *rand.Rand

	upstream time.Duration // that the service behind takes, between two pieces

	queue    []piece
	away     []piece // at the service, the first come first
	under    int64
	recent   []time.Duration // waits since the last look
	good     [levels]int
	turned   [levels]int
	slowest  [levels][]time.Duration
	lastShed time.Time
}

type piece struct {
	level      Level
	left       int // pieces after this one
	came, here time.Time
}

// run offers rates for a while: requests a second of each level.
func (m *machine) run(length time.Duration, rates [levels]float64) {
	end := time.Now().Add(length)
	var next [levels]time.Time
	for l := range levels {
		next[l] = m.after(time.Now(), rates[l])
	}
	for time.Now().Before(end) {
		for l := range levels {
			for rates[l] > 0 && !next[l].After(time.Now()) {
				m.queue = append(m.queue, piece{l, 4, next[l], next[l]})
				next[l] = m.after(next[l], rates[l])
			}
		}
		for len(m.away) > 0 && !m.away[0].here.After(time.Now()) {
			m.queue, m.away = append(m.queue, m.away[0]), m.away[1:]
		}
		if len(m.queue) == 0 {
			time.Sleep(20 * time.Microsecond)
			continue
		}
		m.step()
	}
}

func (m *machine) after(t time.Time, rate float64) time.Time {
	return t.Add(time.Duration(m.rng.ExpFloat64() / max(rate, 1e-9) * float64(time.Second)))
}

func (m *machine) step() {
	w := m.queue[0]
	m.queue = m.queue[1:]
	m.recent = append(m.recent, time.Since(w.here))
	if w.left == 4 {
		time.Sleep(m.refuse)
		m.count(w.level, 1)
		if !m.p.enter(w.level, &m.config, m.under) {
			m.count(w.level, -1)
			m.turned[w.level]++
			m.lastShed = time.Now()
			return
		}
	} else {
		time.Sleep((m.work[w.level] - m.refuse) / 4)
	}
	if w.left == 0 {
		m.count(w.level, -1)
		m.p.done.Add(1)
		m.good[w.level]++
		m.slowest[w.level] = append(m.slowest[w.level], time.Since(w.came))
		return
	}
	next := piece{w.level, w.left - 1, w.came, time.Now()}
	if next.left == 1 && m.upstream > 0 {
		next.here = next.here.Add(m.upstream)
		m.away = append(m.away, next)
		return
	}
	m.queue = append(m.queue, next)
}

func (m *machine) count(l Level, n int64) {
	m.under += n
	if l == Critical {
		m.p.critical.Add(n)
	}
}

func newMachine() *machine {
	m := &machine{config: GuardConfig{Wait: 50 * time.Millisecond, Shares: shares}, refuse: 10 * time.Microsecond, rng: rand.New(rand.NewPCG(1, 2)),
		work: [levels]time.Duration{100 * time.Microsecond, 200 * time.Microsecond, 200 * time.Microsecond, 300 * time.Microsecond}}
	m.p.read = func() (time.Duration, uint64) {
		slices.Sort(m.recent)
		n := len(m.recent)
		if n == 0 {
			return 0, 0
		}
		w := m.recent[n*9/10]
		m.recent = m.recent[:0]
		return w, uint64(n)
	}
	return m
}

func (m *machine) forget() {
	m.good, m.turned, m.slowest = [levels]int{}, [levels]int{}, [levels][]time.Duration{}
}

// used is the processor time of what was answered.
func (m *machine) used() (sum time.Duration) {
	for l := range levels {
		sum += time.Duration(m.good[l]) * m.work[l]
	}
	return sum
}

func (m *machine) p99(l Level) time.Duration {
	all := m.slowest[l]
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)*99/100]
}

func TestAProcessorThatIsAskedForTooMuch(t *testing.T) {
	for _, upstream := range []time.Duration{0, 200 * time.Millisecond} {
		t.Run(upstream.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { askForTooMuch(t, upstream) })
		})
	}
}

// askForTooMuch offers five times what is done, with a service behind that takes a while.
func askForTooMuch(t *testing.T, upstream time.Duration) {
	m := newMachine()
	m.upstream = upstream
	normal := [levels]float64{Telemetry: 500, Background: 500, Interactive: 2500, Critical: 300} // 74 % of the processor
	m.run(2*time.Second, normal)
	if m.turned != [levels]int{} {
		t.Fatalf("turned away without need: %v", m.turned)
	}
	flood := normal
	for l := range levels {
		flood[l] *= 5
	}
	m.forget()
	m.run(5*time.Second, flood)
	used := m.used().Seconds() / 5
	t.Logf("at five times that %.2f of the processor went into answers; let in %v, turned away %v; p99 %s, %s", used, m.good, m.turned, m.p99(Interactive), m.p99(Critical))
	if used < 0.8*0.85 { // turning away 19,000 - 4,000 a second takes 15 %
		t.Errorf("%.2f of the processor went into answers", used)
	}
	if m.p99(Critical) > time.Second || m.p99(Interactive) > time.Second {
		t.Errorf("p99 %s and %s", m.p99(Interactive), m.p99(Critical))
	}
	if share := float64(m.turned[Critical]) / float64(m.turned[Critical]+m.good[Critical]); share > 0.05 {
		t.Errorf("%.0f %% of the critical were turned away", 100*share)
	}
	if m.good[Telemetry] > m.turned[Telemetry]/10 {
		t.Errorf("%d of telemetry let in", m.good[Telemetry])
	}
	m.forget()
	ended := time.Now()
	m.run(2*time.Second, normal)
	if late := m.lastShed.Sub(ended); late > 300*time.Millisecond+2*upstream {
		t.Errorf("somebody was turned away %s after the flood", late)
	}
}

// A request that takes long, a stall of the machine and a burst that is over
// soon are no reason to turn anybody away.
func TestAProcessorThatStallsForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		normal := [levels]float64{Interactive: 2500, Critical: 300}
		for range 5 {
			m.run(time.Second, normal)
			time.Sleep(50 * time.Millisecond) // nothing runs
		}
		if m.turned != [levels]int{} {
			t.Errorf("turned away: %v", m.turned)
		}
	})
}

// Who is nearly alone is not the overload, however long everything takes.
func TestFewRequestsAreAlwaysLetIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &processor{read: func() (time.Duration, uint64) { return time.Second, 1000 }}
		c := &GuardConfig{Wait: time.Millisecond, Shares: Shares{Telemetry: 0.5, Background: 0.5, Interactive: 1}}
		most := int64(always * runtime.GOMAXPROCS(0))
		for range 3 * calm {
			time.Sleep(interval)
			for range 100 {
				if !p.enter(Interactive, c, most) || !p.enter(Telemetry, c, most/2) {
					t.Fatal("turned away")
				}
			}
		}
		if p.enter(Interactive, c, most+1) || p.enter(Telemetry, c, most/2+1) {
			t.Error("more were let in")
		}
		p.critical.Store(critical * most)
		if !p.enter(Critical, c, most*100) || !p.enter(Interactive, c, critical*most+most) {
			t.Error("the critical do not count among the others")
		}
		p.apart.Store(50)
		if !p.enter(Interactive, c, critical*most+most+50) || p.enter(Interactive, c, critical*most+most+51) {
			t.Error("those who only wait do not count")
		}
		if p.critical.Add(1); p.enter(Critical, c, most*100) {
			t.Error("there is no end to critical requests")
		}
	})
}

// The runtime tells of goroutines that waited.
func TestWaitsAreRead(t *testing.T) {
	var w waits
	w.read()
	done := make(chan struct{})
	for range 2000 {
		go func() { done <- struct{}{} }()
	}
	for range 2000 {
		<-done
	}
	wait, n := w.read()
	if n == 0 || wait <= 0 {
		t.Errorf("%d samples, %s", n, wait)
	}
	if wait, n = w.read(); n > 1000 {
		t.Errorf("%d samples again, %s", n, wait)
	}
}
