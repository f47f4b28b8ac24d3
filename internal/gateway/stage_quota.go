package gateway

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"landline/internal/gateway/quota"
	"landline/internal/problem"
)

// meter is one quota as a route uses it.
type meter struct {
	policy *quota.Policy
	key    string // what is counted together, as in QuotaConfig.Key
	name   string
}

// quotaStage refuses requests beyond the feature's quotas, and adds them to the
// RateLimit fields. It stands behind the idempotency stage, so that the answer
// to a repeated write is not counted again.
func quotaStage(o *Options, rt *Route) (Stage, error) {
	if o.Quotas == nil {
		return nil, fmt.Errorf("feature %s: quotas need a database", rt.Feature)
	}
	var meters []meter
	for i := range rt.Policy.Quota {
		c := &rt.Policy.Quota[i]
		p, err := c.policy(rt.Feature)
		if err != nil {
			return nil, fmt.Errorf("feature %s: %w", rt.Feature, err)
		}
		meters = append(meters, meter{policy: p, key: c.Key, name: c.policyName()})
	}
	if len(meters) > maxPolicy {
		return nil, fmt.Errorf("feature %s: %d quotas, at most %d are possible", rt.Feature, len(meters), maxPolicy)
	}
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			var checks [maxPolicy]quota.Check
			var states [maxPolicy]quota.State
			n := len(meters)
			for i := range meters {
				checks[i] = quota.Check{Policy: meters[i].policy, Key: x.limitKey(meters[i].key)}
			}
			admitted := o.Quotas.Take(r.Context(), checks[:n], states[:n])
			tellQuotas(w.Header(), meters, states[:n], admitted)
			if !admitted {
				return exceeded(meters, states[:n])
			}
			return next(x, w, r)
		}
	}, nil
}

// tellQuotas adds to RateLimit-Policy and RateLimit; after a refusal the latter
// has those that refused alone.
func tellQuotas(h http.Header, meters []meter, states []quota.State, admitted bool) {
	policy, state := h["Ratelimit-Policy"], h["Ratelimit"]
	if !admitted {
		state = nil
	}
	for i := range states {
		s, name := &states[i], strconv.Quote(meters[i].name)
		policy = append(policy, name+";q="+strconv.FormatInt(meters[i].policy.Limit(), 10)+";w="+strconv.FormatInt(ceilSeconds(s.Window), 10))
		if admitted || s.Refused {
			state = append(state, name+";r="+strconv.FormatInt(s.Remaining, 10)+";t="+strconv.FormatInt(ceilSeconds(s.Reset), 10))
		}
	}
	h["Ratelimit-Policy"], h["Ratelimit"] = []string{strings.Join(policy, ", ")}, []string{strings.Join(state, ", ")}
}

func exceeded(meters []meter, states []quota.State) error {
	var wait time.Duration
	var names []string
	for i := range states {
		if states[i].Refused {
			wait = max(wait, states[i].Reset)
			names = append(names, meters[i].name)
		}
	}
	slices.Sort(names)
	return problem.New(problem.QuotaExceeded, "%s is used up until the next period begins", strings.Join(names, " and ")).
		After(max(wait, time.Second)).With(violated, names)
}
