package gateway

import (
	"errors"
	"net/http"

	"landline/internal/gateway/overload"
	"landline/internal/problem"
)

// bulkheadStage bounds how many requests of the feature are under way.
func bulkheadStage(b *overload.Bulkhead, rt *Route) Stage {
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			if err := b.Acquire(r.Context()); err != nil {
				if errors.Is(err, overload.ErrFull) {
					return rt.overloaded(rt.Feature + " has as many requests under way as it may").Wrap(err)
				}
				return errClientGone
			}
			defer b.Release()
			return next(x, w, r)
		}
	}
}

// overloaded is the answer to a request that is turned away.
func (rt *Route) overloaded(what string) *problem.Error {
	return problem.New(problem.Overloaded, "%s", what).After(overload.RetryAfter(rt.retryAfter))
}

// bulkheadFor is the feature's bulkhead: that of the table in use, if it would
// be the same. nil without one.
func (g *Gateway) bulkheadFor(f *feature) *overload.Bulkhead {
	c := f.policy.Bulkhead
	if c == nil || f.bulkhead != nil {
		return f.bulkhead
	}
	if t := g.table.Load(); t != nil {
		for _, old := range t.features {
			if old.name == f.name && old.bulkhead != nil && old.policy.Bulkhead != nil && *old.policy.Bulkhead == *c {
				f.bulkhead = old.bulkhead
			}
		}
	}
	if f.bulkhead == nil {
		f.bulkhead = overload.NewBulkhead(c.MaxConcurrent, c.MaxWait.D())
	}
	return f.bulkhead
}
