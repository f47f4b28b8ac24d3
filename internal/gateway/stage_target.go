package gateway

import (
	"context"
	"errors"
	"net/http"
	"time"

	"landline/internal/problem"
)

// errClientGone says that the caller left before its answer was complete.
// Nobody reads what is made of it; it is no fault of the feature.
var errClientGone = problem.New(problem.RequestTimeout, "the client went away").Wrap(context.Canceled)

// targetStage chooses the target of the upstream by weight, leaving out those
// whose breaker for this feature is open, and tells the breaker what became of
// the request. breakers is nil, or has one for each target.
func targetStage(up *upstream, breakers []*breaker) Stage {
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			x.Upstream = up.name
			if err := choose(x, up, breakers); err != nil {
				return err
			}
			x.Target = x.target.name
			defer x.settle(unknown) // a panic is no verdict
			err := next(x, w, r)
			x.settle(verdict(x.status, err))
			return err
		}
	}
}

// choose picks by weight and goes on to the next target while breakers refuse.
func choose(x *Exchange, up *upstream, breakers []*breaker) error {
	first := up.pick()
	if breakers == nil {
		x.target = up.targets[first]
		return nil
	}
	var soonest time.Duration
	for i := range up.targets {
		n := (first + i) % len(up.targets)
		t := up.targets[n]
		if t.weight == 0 {
			continue
		}
		permit, wait, ok := breakers[n].acquire()
		if ok {
			x.target, x.breaker, x.permit = t, breakers[n], permit
			return nil
		}
		if soonest == 0 || wait < soonest {
			soonest = wait
		}
	}
	return problem.New(problem.FeatureUnavailable, "%s is out of order for the moment", x.Route.Feature).After(soonest)
}

// settle tells the breaker the outcome, once.
func (x *Exchange) settle(o outcome) {
	if x.breaker != nil {
		x.breaker.release(x.permit, o)
		x.breaker = nil
	}
}

// verdict says what an answer or an error tells about the target.
func verdict(status int, err error) outcome {
	if err == nil {
		if status >= 500 {
			return bad
		}
		return good
	}
	var p *problem.Error
	if errors.As(err, &p) {
		switch p.Code {
		case problem.UpstreamTimeout, problem.UpstreamUnreachable, problem.UpstreamInvalid:
			return bad
		}
	}
	if errors.Is(err, errUpstream5xx) {
		return bad
	}
	return unknown
}
