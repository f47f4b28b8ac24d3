package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// verdict is what verify found.
type verdict struct {
	installs, writes, orders   int
	lost                       atomic.Int64 // acknowledged and not there any more
	twice                      atomic.Int64 // careful writes that were executed more than once
	unexplained                atomic.Int64 // forwarded writes that were executed more often than tries were cut off
	repeated                   atomic.Int64 // forwarded writes that were executed more than once
	stuck                      atomic.Int64 // keys that no repetition settles
	unknown                    atomic.Int64 // careful writes with 409 idempotency_outcome_unknown
	known                      atomic.Int64 // those of them that the service executed
	phantom                    atomic.Int64 // writes that were acknowledged and never reached the service
	jobsLost, jobsRun, waiting int
}

// verify asks again about everything that the phones were told. Everything is
// healed by now. Keys may take until their lease ends, and jobs may take so long
// as jobs says. waitingJob tells whether an order's job is still in the queue;
// nil: there is no way to look.
func (f *fleet) verify(ctx context.Context, jobs time.Duration, waitingJob func(ctx context.Context, order string) (bool, error)) (*verdict, error) {
	const settle = 40 * time.Second // leases last 15
	f.rest()
	ctx, cancel := context.WithTimeout(ctx, settle+jobs+2*time.Minute)
	defer cancel()
	v := &verdict{}
	f.stop = make(chan struct{}) // phones may repeat again
	deadline := time.Now().Add(settle)
	var all sync.WaitGroup
	for _, p := range f.workers {
		all.Go(func() { p.settleAll(ctx, deadline, v) })
		v.installs += len(p.installs)
	}
	all.Wait()
	for _, p := range f.workers {
		for _, w := range p.writes {
			if w.order {
				v.orders++
			} else {
				v.writes++
				f.compare(w, v)
			}
		}
	}
	err := f.checkJobs(ctx, time.Now().Add(jobs), v, waitingJob)
	return v, err
}

// settleAll repeats what has no answer yet, and then everything that has.
func (p *phone) settleAll(ctx context.Context, deadline time.Time, v *verdict) {
	until := func(done func() bool) bool {
		for !done() {
			if time.Now().After(deadline) || ctx.Err() != nil {
				return false
			}
			p.wait(ctx, 50*time.Millisecond)
		}
		return true
	}
	for _, i := range p.installs {
		before := *i
		if before.id == "" {
			if !until(func() bool { return p.install(ctx, i) }) {
				v.stuck.Add(1)
				p.f.report.broken("the first launch %s is never answered", i.key)
			}
			continue
		}
		again := installation{key: i.key}
		if !until(func() bool { return p.install(ctx, &again) }) || again.id != before.id || again.secret != before.secret || again.user != before.user {
			v.lost.Add(1)
			p.f.report.broken("installation %s came back as %s", before.id, again.id)
		}
		until(func() bool { return p.renew(ctx, i) }) // counts a logout itself
	}
	for _, w := range p.writes {
		if w.by.id == "" {
			continue
		}
		before := w.acked
		if before != "" {
			w.acked = ""
		} else if w.unknown {
			continue
		}
		if !until(func() bool { return p.write(ctx, w) }) {
			v.stuck.Add(1)
			p.f.report.broken("key %s is stuck", w.key)
		}
		if before != "" && w.acked != before {
			v.lost.Add(1)
			p.f.report.broken("write %s was acknowledged with %s and is now %q, unknown=%v", w.key, before, w.acked, w.unknown)
		}
		if w.order && w.acked != "" {
			p.checkOrder(ctx, until, w, v)
		}
	}
}

func (p *phone) checkOrder(ctx context.Context, until func(func() bool) bool, w *write, v *verdict) {
	found := false
	until(func() bool {
		a := p.f.call(ctx, http.MethodGet, w.path, "", "", "", w.by.access)
		if p.stale(ctx, w.by, a) || a.transient() {
			return false
		}
		var o struct {
			User string `json:"user_id"`
		}
		found = a.status == 200 && json.Unmarshal(a.body, &o) == nil && o.User == w.by.user
		return true
	})
	if !found {
		v.lost.Add(1)
		p.f.report.broken("order %s was acknowledged and is not there", w.key)
	}
}

// compare holds a write against the ledger.
func (f *fleet) compare(w *write, v *verdict) {
	n := f.ledger.executions(w.key)
	careful := w.path[:len("/v1/careful/")] == "/v1/careful/"
	if w.unknown {
		v.unknown.Add(1)
		v.known.Add(int64(min(n, 1)))
	}
	switch {
	case w.acked != "" && n == 0:
		v.phantom.Add(1)
		f.report.broken("write %s was acknowledged and never executed", w.key)
	case careful && n > 1:
		v.twice.Add(1)
		f.report.broken("write %s was executed %d times", w.key, n)
	case n > 1+w.tries:
		v.unexplained.Add(1)
		f.report.broken("write %s was executed %d times after %d lost answers", w.key, n, w.tries)
	case n > 1:
		v.repeated.Add(1)
	}
}

// checkJobs waits until every order's job has run, or is still waiting in the queue at the deadline.
func (f *fleet) checkJobs(ctx context.Context, deadline time.Time, v *verdict, waitingJob func(context.Context, string) (bool, error)) error {
	var open []string
	for _, p := range f.workers {
		for _, w := range p.writes {
			if w.order && w.acked != "" {
				open = append(open, w.key)
			}
		}
	}
	total := len(open)
	for {
		var left []string
		for _, order := range open {
			if f.ledger.jobRuns(order) == 0 {
				left = append(left, order)
			}
		}
		if open = left; len(open) == 0 || time.Now().After(deadline) || ctx.Err() != nil {
			break
		}
		time.Sleep(20 * time.Millisecond) // between two looks at the ledger
	}
	v.jobsRun = total - len(open)
	for _, order := range open {
		there := false
		if waitingJob != nil {
			var err error
			if there, err = waitingJob(ctx, order); err != nil {
				return fmt.Errorf("look for the job of %s: %w", order, err)
			}
		}
		if there {
			v.waiting++
			continue
		}
		v.jobsLost++
		f.report.broken("the job of order %s never ran", order)
	}
	return nil
}

// tell adds a verdict and the fleet's counts to the report.
func (f *fleet) tell(v *verdict, suffix string) {
	r := f.report
	r.info("requests, of them cut off / refused for now"+suffix, "%d, %d / %d", f.requests.Load(), f.cut.Load(), f.refused.Load())
	r.info("installations, keyed writes, orders, refreshes, reads"+suffix, "%d, %d, %d, %d, %d", v.installs, v.writes, v.orders, f.refreshes.Load(), f.reads.Load())
	r.zero("acknowledged writes lost"+suffix, int(v.lost.Load()))
	r.zero("acknowledged writes that never happened"+suffix, int(v.phantom.Load()))
	r.zero("careful writes executed twice"+suffix, int(v.twice.Load()))
	r.zero("forwarded writes executed again without a lost answer"+suffix, int(v.unexplained.Load()))
	r.info("forwarded writes executed again after one"+suffix, "%d", v.repeated.Load())
	r.info("writes told that their outcome is unknown, of them executed"+suffix, "%d, %d", v.unknown.Load(), v.known.Load())
	r.zero("keys stuck"+suffix, int(v.stuck.Load()))
	r.zero("jobs lost"+suffix, v.jobsLost)
	r.info("jobs run, still waiting for their rescue"+suffix, "%d, %d", v.jobsRun, v.waiting)
	r.zero("unwanted logouts"+suffix, int(f.logouts.Load()))
	r.zero("answers that no document allows"+suffix, int(f.bad.Load()))
}
