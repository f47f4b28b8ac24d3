package health

import (
	"sync"
	"time"

	"landline/internal/gateway/rolling"
)

// Full is the Share of a target that takes all that its weight gives it.
const Full = 1000

// firstShare is where slow start begins, in thousandths: without any request
// a target could not warm up.
const firstShare = 100

// Active configures probes.
type Active struct {
	Interval  time.Duration // between the end of a probe and the next; ±10 %
	Timeout   time.Duration // of one probe
	Healthy   int           // good probes in a row that make a target healthy
	Unhealthy int           // bad probes in a row that make it unhealthy
}

// Passive configures ejection.
type Passive struct {
	Failures    int           // failures in a row that eject; 0 = any number
	Ratio       float64       // share of failures in Window that ejects; 0 = any share
	MinRequests int           // outcomes in Window before Ratio means anything
	Window      time.Duration //
	Ejection    time.Duration // of the first ejection; the n-th in a row lasts n times as long
	MaxEjection time.Duration // longest ejection
	MaxEjected  float64       // share of the targets that may be ejected at once
}

// Config is how the targets of one upstream are watched. It must not be changed.
type Config struct {
	Active    *Active  // nil = no probes
	Passive   *Passive // nil = no ejection
	SlowStart time.Duration
}

// Target is what is known of one target. It may outlive the Monitor that made
// it: a reload gives it to the next one.
type Target struct {
	mu sync.Mutex

	down  bool   // probes say so
	why   string // what the last bad probe said
	run   int    // probes in a row that contradict down
	since time.Time

	ejected  time.Time // until when
	times    int       // ejections in a row
	failures int       // bad outcomes in a row
	window   rolling.Window

	risen time.Time // when it came back; the zero time once slow start is over
}

// NewTarget returns a target of which nothing is known.
func NewTarget() *Target { return &Target{since: time.Now()} }

// States of a target.
const (
	Healthy    = "healthy"
	Recovering = "recovering" // healthy, but does not yet get its whole share
	Unhealthy  = "unhealthy"  // probes fail
	Ejected    = "ejected"    // real requests failed
)

// Status is what an operator is shown of a target.
type Status struct {
	State string
	Since time.Time
	Share int       // thousandths of its weight that it gets
	Until time.Time // end of an ejection
	Why   string    // of the last bad probe or the ejection
}

// share is what t takes of its weight now, in thousandths.
func (t *Target) share(c *Config, now time.Time) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.shareLocked(c, now)
}

func (t *Target) shareLocked(c *Config, now time.Time) int {
	if t.down && c.Active != nil || c.Passive != nil && now.Before(t.ejected) {
		return 0
	}
	if t.risen.IsZero() || c.SlowStart <= 0 {
		return Full
	}
	age := now.Sub(t.risen)
	switch {
	case age >= c.SlowStart:
		t.risen = time.Time{}
		return Full
	case age < 0:
		return firstShare
	}
	return firstShare + int(int64(Full-firstShare)*int64(age)/int64(c.SlowStart))
}

// status describes t.
func (t *Target) status(c *Config, now time.Time) Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Status{State: Healthy, Since: t.since, Share: t.shareLocked(c, now)}
	switch {
	case t.down && c.Active != nil:
		s.State, s.Why = Unhealthy, t.why
	case c.Passive != nil && now.Before(t.ejected):
		s.State, s.Until, s.Why = Ejected, t.ejected, "requests to it kept failing"
	case s.Share < Full:
		s.State = Recovering
	}
	if !t.ejected.IsZero() && s.State != Ejected && t.ejected.After(s.Since) && c.Passive != nil {
		s.Since = t.ejected
	}
	return s
}

// probed takes the outcome of a probe, and reports whether it changed the state.
func (t *Target) probed(c *Active, err error) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.why = err.Error()
	}
	if bad := err != nil; bad == t.down {
		t.run = 0
		return false
	}
	t.run++
	need := c.Unhealthy
	if t.down {
		need = c.Healthy
	}
	if t.run < need {
		return false
	}
	t.down, t.run, t.since = !t.down, 0, time.Now()
	if !t.down {
		t.risen = t.since
	}
	return true
}

// report takes the outcome of a request, and reports whether t ought to be ejected.
func (t *Target) report(c *Passive, failed bool, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.ejected) {
		return false // a straggler
	}
	kind := 0
	if failed {
		kind = 1
		t.failures++
	} else {
		t.failures = 0
		if t.times > 0 && now.Sub(t.ejected) > c.MaxEjection {
			t.times = 0
		}
	}
	if c.Ratio > 0 {
		t.window.Add(now, kind, 1)
	}
	if !failed {
		return false
	}
	if c.Failures > 0 && t.failures >= c.Failures {
		return true
	}
	if c.Ratio <= 0 {
		return false
	}
	fine, bad := t.window.Sums(now)
	return fine+bad >= c.MinRequests && float64(bad) >= c.Ratio*float64(fine+bad)
}

// eject takes t out from now on.
func (t *Target) eject(c *Passive, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.times++
	t.ejected = now.Add(min(c.Ejection*time.Duration(t.times), max(c.MaxEjection, c.Ejection)))
	t.failures = 0
	t.window.Reset()
	t.since, t.risen = now, t.ejected
}

func (t *Target) isEjected(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return now.Before(t.ejected)
}

// prepare fits t to a configuration.
func (t *Target) prepare(c *Config, rise bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.Passive != nil && c.Passive.Ratio > 0 {
		t.window = rolling.New(c.Passive.Window)
	}
	if c.Active == nil {
		t.down, t.run = false, 0
	}
	if rise && c.SlowStart > 0 {
		t.risen = time.Now()
	}
}
