package health

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Monitor watches the targets of one upstream.
type Monitor struct {
	config  Config
	targets []*Target
	events  Events

	ejecting sync.Mutex // one at a time, so that the share is kept
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// Events is told what changes; i is the target's index. Neither may block.
type Events struct {
	Probed  func(i int, healthy bool, why string) // a target's state changed by probes
	Ejected func(i int, until time.Time)
}

// New returns a monitor of targets that an earlier monitor may have watched.
// It changes nothing until Adopt.
func New(c Config, targets []*Target, e Events) *Monitor {
	return &Monitor{config: c, targets: targets, events: e}
}

// Adopt fits the targets to the configuration; it must be called once, before
// anything else. rising are those that are new beside others that have long
// been at work: they start slowly.
func (m *Monitor) Adopt(rising ...*Target) {
	for _, t := range m.targets {
		t.prepare(&m.config, slices.Contains(rising, t))
	}
}

// Share is what target i takes of its weight now: 0 to Full, in thousandths.
func (m *Monitor) Share(i int, now time.Time) int { return m.targets[i].share(&m.config, now) }

// Status describes target i.
func (m *Monitor) Status(i int) Status { return m.targets[i].status(&m.config, time.Now()) }

// Report tells how a request to target i ended, and ejects the target when
// that is due and allowed.
func (m *Monitor) Report(i int, failed bool) {
	c := m.config.Passive
	if c == nil || len(m.targets) < 2 {
		return
	}
	now := time.Now()
	if !m.targets[i].report(c, failed, now) {
		return
	}
	m.ejecting.Lock()
	defer m.ejecting.Unlock()
	out := 1
	for k, t := range m.targets {
		if k != i && t.isEjected(now) {
			out++
		}
	}
	if most := max(1, int(c.MaxEjected*float64(len(m.targets)))); out > min(most, len(m.targets)-1) || m.targets[i].isEjected(now) {
		return
	}
	m.targets[i].eject(c, now)
	if m.events.Ejected != nil {
		m.events.Ejected(i, m.Status(i).Until)
	}
}

// Probe asks target i whether it is well, within ctx.
type Probe func(ctx context.Context, i int) error

// Start begins to probe, if the monitor is to, until Stop.
func (m *Monitor) Start(probe Probe) {
	if m.config.Active == nil || m.stop != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.stop = cancel
	for i := range m.targets {
		m.running.Go(func() { m.watch(ctx, i, probe) })
	}
}

// Stop ends probing and waits for the probes that are under way.
func (m *Monitor) Stop() {
	if m.stop != nil {
		m.stop()
	}
	m.running.Wait()
}

// watch probes target i at once and then at the interval, ±10 % so that nodes
// do not fall into step.
func (m *Monitor) watch(ctx context.Context, i int, probe Probe) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		m.probe(ctx, i, probe)
		d := m.config.Active.Interval
		timer.Reset(d - d/10 + rand.N(d/5+1)) // #nosec -- spreading load is no secret
	}
}

func (m *Monitor) probe(ctx context.Context, i int, probe Probe) {
	within, cancel := context.WithTimeout(ctx, m.config.Active.Timeout)
	defer cancel()
	err := probe(within, i)
	if ctx.Err() != nil {
		return // stopped
	}
	if err != nil && within.Err() != nil {
		err = fmt.Errorf("no answer within %s", m.config.Active.Timeout)
	}
	t := m.targets[i]
	if t.probed(m.config.Active, err) && m.events.Probed != nil {
		s := t.status(&m.config, time.Now())
		m.events.Probed(i, s.State != Unhealthy, s.Why)
	}
}
