package gateway

import (
	"context"
	"errors"
	"math"
	"net/http"
	"sync/atomic"
	"time"
)

// errHedgeLost is the cause of a context whose try was not needed any more.
var errHedgeLost = errors.New("the other try answered first")

// hedge decides when a GET that takes long is sent a second time.
type hedge struct {
	after    time.Duration
	quantile float64
	estimate atomic.Uint64 // bits of a float64: nanoseconds that quantile of the tries take
}

func newHedge(c HedgeConfig) *hedge {
	h := &hedge{after: c.After.D(), quantile: c.Quantile}
	h.estimate.Store(math.Float64bits(float64(h.after)))
	return h
}

// step is how far one observation moves the estimate: about a hundred follow a change.
const step = 0.05

// observe learns from the time that a first try took to its header. The
// estimate goes up a lot for each that took longer and down a little for each
// that did not, so that it rests where the shares balance (Ma et al. 2013,
// frugal streaming, with steps in proportion).
func (h *hedge) observe(took time.Duration) {
	if h.quantile <= 0 {
		return
	}
	for {
		bits := h.estimate.Load()
		e := math.Float64frombits(bits)
		if float64(took) > e {
			e *= 1 + step*h.quantile
		} else {
			e *= 1 - step*(1-h.quantile)
		}
		e = min(max(e, float64(time.Millisecond)), float64(h.after))
		if h.estimate.CompareAndSwap(bits, math.Float64bits(e)) {
			return
		}
	}
}

// delay is how long the first try may take.
func (h *hedge) delay() time.Duration {
	if h.quantile <= 0 {
		return h.after
	}
	return time.Duration(math.Float64frombits(h.estimate.Load()))
}

// hedges reports whether r may be sent twice at the same time.
func (t *tries) hedges(r *http.Request) bool {
	return t != nil && t.policy.hedge != nil && (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		(r.Body == nil || r.Body == http.NoBody) && len(r.Header["Upgrade"]) == 0 && len(t.policy.up.targets) > 0
}

// runner is one of two calls that race.
type runner struct {
	call   *call
	try    attempt // as it was taken; kept in the Exchange while its call is at work
	cancel context.CancelCauseFunc
	began  time.Time
	res    *http.Response
	err    error
}

// race asks x.attempt's target and, if that takes long, another one. The
// winner's attempt is the Exchange's afterwards; the loser is cut off, which
// says nothing about its target.
func (g *Gateway) race(x *Exchange, up *upstream, path *pathTemplate, w http.ResponseWriter, r *http.Request) error {
	h := x.tries.policy.hedge
	results := make(chan *runner, 2)
	first, err := g.start(x, up, path, w, r, results)
	if err != nil {
		return err
	}
	x.attempt = attempt{} // the runners have theirs
	timer := time.NewTimer(h.delay())
	defer timer.Stop()
	running, winner := 1, (*runner)(nil)
	var second *runner
	for running > 0 && winner == nil {
		select {
		case <-timer.C:
			if second = g.startSecond(x, up, path, w, r, results); second != nil {
				running++
			}
		case done := <-results:
			running--
			if done.fine() || running == 0 {
				winner = done
			} else {
				done.lose(x, bad) // the other may still answer
			}
		}
	}
	loser := second
	if winner == second {
		loser = first
		x.tries.policy.metrics.hedged("won")
	}
	if winner == first || winner.fine() {
		h.observe(time.Since(first.began))
	}
	if running > 0 {
		loser.cancel(errHedgeLost)
		loser.try.settle(unknown)
		go func() { // ends with the transport's answer to the cancellation
			(<-results).end()
		}()
	}
	return winner.finish(x, first.began)
}

// start sends x.attempt on its way.
func (g *Gateway) start(x *Exchange, up *upstream, path *pathTemplate, w http.ResponseWriter, r *http.Request, results chan<- *runner) (*runner, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	n := &runner{cancel: cancel, try: x.attempt, began: time.Now()}
	n.call = g.newCall(x, up, w, r.WithContext(ctx))
	n.call.raced = true
	n.call.final = true // two calls must not both pass informational answers on
	if err := n.call.prepare(path); err != nil {
		n.end()
		return nil, err
	}
	go func() {
		n.res, n.err = n.call.roundTrip()
		results <- n
	}()
	return n, nil
}

// startSecond sends the request to another target, if one takes it and the budget allows.
func (g *Gateway) startSecond(x *Exchange, up *upstream, path *pathTemplate, w http.ResponseWriter, r *http.Request, results chan<- *runner) *runner {
	t := x.tries
	asked := t.asked
	try, err := up.choose(x, t.policy.breakers, &asked)
	if err != nil {
		asked = targetSet{}
		try, err = up.choose(x, t.policy.breakers, &asked)
	}
	if err != nil {
		t.policy.metrics.hedged("refused")
		return nil
	}
	if !up.budget.Repeat() {
		try.settle(unknown)
		t.policy.metrics.hedged("refused")
		return nil
	}
	for i := range t.asked {
		t.asked[i] |= asked[i]
	}
	before := x.attempt
	x.attempt = try
	n, err := g.start(x, up, path, w, r, results)
	x.attempt = before
	if err != nil {
		try.settle(unknown)
		return nil
	}
	t.policy.metrics.hedged("sent")
	return n
}

// fine reports whether the answer is one to pass on without waiting for the other.
func (n *runner) fine() bool { return n.err == nil && n.res.StatusCode < 500 }

// lose ends a call whose answer is not wanted.
func (n *runner) lose(x *Exchange, o outcome) {
	x.Sent = x.Sent || n.call.sent.Load()
	if n.err != nil && n.call.in.Context().Err() != nil {
		o = unknown
	}
	n.try.settle(o)
	n.end()
}

// end frees what the call holds.
func (n *runner) end() {
	if n.res != nil {
		n.res.Body.Close()
	}
	n.call.end()
	n.cancel(nil)
}

// finish passes the winner's answer on.
func (n *runner) finish(x *Exchange, began time.Time) error {
	x.attempt, x.Target = n.try, n.try.target.name
	defer n.cancel(nil)
	defer n.call.end()
	return n.call.finish(n.res, n.err, time.Since(began))
}
