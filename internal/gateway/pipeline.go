package gateway

import (
	"fmt"
	"time"
)

// compose puts a route's stages together, in the order in which a request
// meets them. A stage that the route does not use is not there.
func (g *Gateway) compose(rt *Route, way destination) (Handler, error) {
	o, p := &g.options, rt.Policy
	stages := []Stage{
		abortStage(o),
		traceStage(o, g.metrics, rt),
		recoverStage(o), // inside, so that traces, metrics and the access log see a panic as the error it is
	}
	answer, err := g.answerStages(rt)
	if err != nil {
		return nil, err
	}
	stages = append(stages, answer...)
	stages = append(stages, clientStage(o, g.metrics, rt))
	if o.Maintenance != nil || rt.closures != (closures{}) {
		stages = append(stages, maintenanceStage(o, rt.closures, rt))
	}
	stages = append(stages, shedStage(g.guard, g.overloadMetrics, rt))
	if len(p.RateLimit) > 0 {
		limit, err := limitStage(o, g.limits, rt)
		if err != nil {
			return nil, err
		}
		stages = append(stages, limit)
	}
	if p.usesAPIKeys() {
		stages = append(stages, apiKeyStage(o, rt))
	}
	stages = append(stages, authenticateStage(o, rt), authoriseStage(o, rt), bodyStage(int64(p.MaxBody)))
	if p.Decompress {
		stages = append(stages, decompressStage(int64(p.MaxBody)))
	}
	if p.Idempotency != nil && !way.transactional {
		if g.idem == nil {
			return nil, fmt.Errorf("feature %s: idempotency needs a database", rt.Feature)
		}
		stages = append(stages, idempotencyStage(o, g.idem, rt))
	}
	if rt.contract != nil {
		stages = append(stages, contractStage(g.contracts, rt, rt.contract))
	}
	if len(p.Quota) > 0 {
		count, err := quotaStage(o, rt)
		if err != nil {
			return nil, err
		}
		stages = append(stages, count)
	}
	if p.Cache != nil && !rt.BuiltIn {
		stages = append(stages, g.cacheStage(rt))
	}
	if rt.invalidates {
		stages = append(stages, g.invalidateStage())
	}
	own := len(stages) // from here on it is the way that another route's fallback may ask
	if p.Fallback != nil {
		stages = append(stages, fallbackStage(p.Fallback, rt.other))
	}
	if rt.bulkhead != nil {
		stages = append(stages, bulkheadStage(rt.bulkhead, rt))
	}
	if way.upstream != nil {
		stages = append(stages, g.upstreamStages(rt, way, p.Timeout.D())...)
	} else if p.Timeout > 0 && rt.BuiltIn {
		stages = append(stages, handlerTimeoutStage(p.Timeout.D()))
	} else if p.Timeout > 0 {
		stages = append(stages, callsTimeoutStage(p.Timeout.D()))
	}
	rt.tail = chain(stages[own:], way.handler)
	return chain(stages[:own], rt.tail), nil
}

// upstreamStages are the last ones before an upstream: of a proxied route, and
// of each call of an aggregated one, which has its own timeout.
func (g *Gateway) upstreamStages(rt *Route, way destination, timeout time.Duration) []Stage {
	return []Stage{upstreamTimeoutStage(timeout), tryStage(way.upstream, way.breakers, rt, g.overloadMetrics.route(rt.Feature, way.upstream.name))}
}

// composeRefusal is the short way of a request that no route takes.
func (g *Gateway) composeRefusal(rt *Route) Handler {
	o := &g.options
	stages := []Stage{
		abortStage(o),
		traceStage(o, g.metrics, rt),
		recoverStage(o),
	}
	if rt.cors != nil { // so that pages can read the problem
		stages = append(stages, corsStage(rt.cors))
	}
	return chain(stages, refuse)
}

// destination is where a route's way ends.
type destination struct {
	handler  Handler
	upstream *upstream  // nil for a module's handler
	breakers []*breaker // one for each target, or nil

	transactional bool // the handler keeps the key itself, in one transaction with its writes
	plain         bool // handler is the same for every route to the upstream
}

// sharedWay is what tells the pipelines of one feature's plain routes apart.
type sharedWay struct {
	upstream    *upstream
	invalidates bool
}

// shares reports whether rt's pipeline is that of all routes of its feature with
// the same sharedWay. Then it is made once: what a request needs of its route
// alone is in the Route, and ten thousand routes have the closures of one, which
// the processor's caches hold.
func (rt *Route) shares(way destination) bool {
	p := rt.Policy
	return way.plain && rt.other == nil && rt.contract == nil && rt.Version == "" && p.Idempotency == nil && p.Cache == nil
}

// pipeline gives rt its handler, its own or that of a route before it.
func (g *Gateway) pipeline(f *feature, rt *Route, way destination) (err error) {
	if !rt.shares(way) {
		rt.handler, err = g.compose(rt, way)
		return err
	}
	key := sharedWay{way.upstream, rt.invalidates}
	if model := f.models[key]; model != nil {
		rt.handler, rt.tail, rt.headers = model.handler, model.tail, model.headers
		rt.beTold(g.metrics)
		return nil
	}
	if rt.handler, err = g.compose(rt, way); err != nil {
		return err
	}
	if f.models == nil {
		f.models = map[sharedWay]*Route{}
	}
	f.models[key] = rt
	return nil
}

func chain(stages []Stage, last Handler) Handler {
	h := last
	for i := len(stages) - 1; i >= 0; i-- {
		h = stages[i](h)
	}
	return h
}

// fill gives a policy its defaults where neither the file nor the module said anything.
func (c *FeatureConfig) fill() {
	if c.MaxBody == 0 {
		c.MaxBody = DefaultMaxBody
	}
	if c.ClientHeader == "" {
		c.ClientHeader = "optional"
	}
	if c.Fallback != nil && c.Fallback.Status == 0 {
		f := *c.Fallback
		f.Status = 200
		c.Fallback = &f
	}
	if c.Breaker != nil {
		b := c.Breaker.orDefaults()
		c.Breaker = &b
	}
}
