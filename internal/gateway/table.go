package gateway

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/config"
	"landline/internal/gateway/cache"
	"landline/internal/gateway/overload"
	"landline/internal/module"
)

// table is everything that one set of Settings makes. It does not change once
// it is in use; a reload makes another.
type table struct {
	settings  *Settings
	router    router
	features  []*feature // sorted by name
	upstreams map[string]*upstream
	breakers  map[breakerKey]*breaker
	refused   *Route
	silent    *Route // refused without a word of CORS
	versions  versions
	documents contracts // of settings made in Go
	openAPI   *huma.OpenAPI
}

// feature is one feature of a table.
type feature struct {
	name     string
	builtIn  bool
	auth     module.Auth // "" when its routes differ
	policy   *FeatureConfig
	routes   []*Route
	breakers []*breaker
	inFlight *atomic.Int64        // carried over from table to table
	bulkhead *overload.Bulkhead   // so is this, while its configuration is the same; nil = none
	models   map[sharedWay]*Route // whose pipelines other routes have
}

// breakerKey is what makes a breaker the same across a reload.
type breakerKey struct {
	feature, upstream, url string
	config                 BreakerConfig
}

// Check reports what Apply would say of s, and changes nothing.
func (g *Gateway) Check(s *Settings, modules []*module.Module) error {
	g.applyMu.Lock()
	defer g.applyMu.Unlock()
	old := g.table.Load()
	t, err := g.build(s, modules, old)
	if err != nil {
		return err
	}
	retireUnused(t, old)
	return nil
}

// Apply builds a new table and swaps it in. On an error nothing has changed.
// Requests in flight end on the table they began with. Connections to
// upstreams that the new table does not use are closed as they become idle.
// s and modules must not be changed afterwards.
func (g *Gateway) Apply(s *Settings, modules []*module.Module) error {
	g.applyMu.Lock()
	defer g.applyMu.Unlock()
	old := g.table.Load()
	t, err := g.build(s, modules, old)
	if err != nil {
		g.upstreamMetrics.reloads.WithLabelValues("refused").Inc()
		return err
	}
	g.upstreamMetrics.reloads.WithLabelValues("applied").Inc()
	g.cache.apply(t)
	adoptUpstreams(t, old)
	g.guard.Configure(s.Overload.guard())
	g.table.Store(t)
	g.observeTable(t)
	g.contracts.journal.Keep(func(feature string) bool { return t.settings.Features[feature] != nil })
	watchUpstreams(t, old)
	retireUnused(old, t)
	return nil
}

// Close closes idle connections to upstreams; those in use close when their request ends.
func (g *Gateway) Close() {
	g.cache.close()
	watchUpstreams(nil, g.table.Load())
	retireUnused(g.table.Load(), nil)
}

// retireUnused retires the pools of t that kept does not share.
func retireUnused(t, kept *table) {
	if t == nil {
		return
	}
	used := map[*pool]bool{}
	if kept != nil {
		for _, u := range kept.upstreams {
			used[u.pool] = true
		}
	}
	for _, u := range t.upstreams {
		if !used[u.pool] {
			u.pool.retire()
		}
	}
}

// build makes a table; old may be nil.
func (g *Gateway) build(s *Settings, modules []*module.Module, old *table) (*table, error) {
	t := &table{settings: s, versions: newVersions(s.Versions), upstreams: map[string]*upstream{}, breakers: map[breakerKey]*breaker{}}
	if old == nil {
		old = &table{}
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.Upstreams)) {
		u, err := newUpstream(name, s.Upstreams[name], &g.options, s.Overload.shares(), old.upstreams[name])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		t.upstreams[name] = u
	}
	builtIn, err := g.capture(t, modules)
	if err != nil {
		errs = append(errs, err)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Features)) {
		c := s.Features[name]
		if len(c.Routes) == 0 {
			if !builtIn[name] {
				errs = append(errs, fmt.Errorf("feature %s has no routes, and no built-in feature has this name; built-in are %v", name, slices.Sorted(maps.Keys(builtIn))))
			}
			continue
		}
		if builtIn[name] {
			errs = append(errs, fmt.Errorf("feature %s: a built-in feature has this name; choose another, or leave out routes to change its policy", name))
			continue
		}
		errs = append(errs, g.addProxied(t, old, name, c)...)
	}
	for _, name := range s.Maintenance.Allow {
		if s.Features[name] == nil && !builtIn[name] {
			errs = append(errs, fmt.Errorf("maintenance.allow: there is no feature %q; built-in are %v", name, slices.Sorted(maps.Keys(builtIn))))
		}
	}
	errs = append(errs, t.link()...)
	if len(errs) > 0 {
		retireUnused(t, old)
		return nil, errors.Join(errs...)
	}
	slices.SortFunc(t.features, func(a, b *feature) int { return strings.Compare(a.name, b.name) })
	carryInFlight(t, old)
	t.refused = &Route{Feature: NoFeature, Auth: module.AuthNone, Policy: &FeatureConfig{}}
	t.refused.Policy.fill()
	silent := *t.refused
	t.silent = &silent
	t.silent.handler = g.composeRefusal(t.silent)
	t.refused.cors = newCORS(&s.CORS, t.versions.header)
	t.refused.handler = g.composeRefusal(t.refused)
	return t, nil
}

// addProxied adds a feature of the configuration.
func (g *Gateway) addProxied(t, old *table, name string, c *FeatureConfig) []error {
	policy := *c
	policy.fill()
	if policy.Timeout == 0 {
		policy.Timeout = config.Duration(DefaultTimeout)
	}
	if policy.Auth == "" {
		policy.Auth = module.AuthAccount
	}
	f := &feature{name: name, policy: &policy, auth: policy.Auth}
	t.features = append(t.features, f)
	var errs []error
	for i, rc := range c.Routes {
		if err := g.addProxiedRoute(t, old, f, rc); err != nil {
			errs = append(errs, fmt.Errorf("feature %s: route %d: %w", name, i+1, err))
		}
	}
	return errs
}

func (g *Gateway) addProxiedRoute(t, old *table, f *feature, rc RouteConfig) error {
	p, err := parsePattern(rc.Match)
	if err != nil {
		return err
	}
	if rc.Aggregate != nil || rc.GraphQL != nil {
		return g.addComposed(t, old, f, rc, p)
	}
	template := rc.Path
	if template == "" {
		template = p.path()
	}
	path, err := parseTemplate(template, p)
	if err != nil {
		return err
	}
	up := t.upstreams[rc.Upstream]
	if up == nil {
		return fmt.Errorf("there is no upstream %q", rc.Upstream)
	}
	rt := newRoute(f, rc.Match, p)
	rt.Auth, rt.Upstream, rt.path = f.policy.Auth, rc.Upstream, path
	rt.invalidates = t.caches() && cache.Invalidates(rt.Method, http.StatusOK)
	if rc.Version != "" {
		rt.Version, rt.APIVersion, rt.versions = rc.Version, rc.Version, t.versions
	}
	if rt.other, err = g.otherWayOf(t, old, f, rt, p); err != nil {
		return err
	}
	return g.finish(t, f, rt, destination{
		handler:  g.forward(up, nil),
		upstream: up,
		plain:    true,
		breakers: g.breakersFor(t, old, f, up),
	})
}

func newRoute(f *feature, match string, p pattern) *Route {
	return &Route{
		Feature: f.name, Owner: f.policy.Owner, Match: match, Method: p.method, APIVersion: apiVersionOf(p.path()),
		ParamNames: p.paramNames(), Policy: f.policy, Priority: priorityOf(f.policy.Priority), BuiltIn: f.builtIn, pattern: p,
	}
}

// finish composes a route's pipeline and enters it in the table.
func (g *Gateway) finish(t *table, f *feature, rt *Route, way destination) error {
	if f.inFlight == nil {
		f.inFlight = new(atomic.Int64)
	}
	rt.cors = t.corsFor(rt)
	rt.apiKeyHeader = http.CanonicalHeaderKey(t.settings.APIKeys.Header)
	rt.retryAfter, rt.bulkhead = t.settings.Overload.RetryAfter.D(), g.bulkheadFor(f)
	var err error
	if rt.closures, err = t.closuresOf(rt); err != nil {
		return err
	}
	if rt.contract, err = t.contractOf(rt); err != nil {
		return err
	}
	if err := g.pipeline(f, rt, way); err != nil {
		return err
	}
	rt.feature = f
	if err := t.router.add(rt); err != nil {
		return err
	}
	f.routes = append(f.routes, rt)
	return nil
}

// breakersFor gives a breaker for each target, those of old where they are the same.
func (g *Gateway) breakersFor(t, old *table, f *feature, up *upstream) []*breaker {
	if f.policy.Breaker == nil {
		return nil
	}
	list := make([]*breaker, len(up.targets))
	for i, tg := range up.targets {
		key := breakerKey{f.name, up.name, tg.url(), *f.policy.Breaker}
		b := t.breakers[key]
		if b == nil {
			if b = old.breakers[key]; b == nil {
				b = newBreaker(*f.policy.Breaker, g.breakerChanged(f.name, up.name, tg.name))
			}
			t.breakers[key] = b
			f.breakers = append(f.breakers, b)
		}
		list[i] = b
	}
	return list
}

// carryInFlight keeps the counts of requests that still run on the old table.
func carryInFlight(t, old *table) {
	counts := map[string]*atomic.Int64{}
	for _, f := range old.features {
		counts[f.name] = f.inFlight
	}
	for _, f := range t.features {
		if n := counts[f.name]; n != nil {
			f.inFlight = n
		} else if f.inFlight == nil {
			f.inFlight = new(atomic.Int64)
		}
	}
}

func priorityOf(s string) module.Priority {
	switch s {
	case "telemetry":
		return module.Telemetry
	case "background":
		return module.Background
	case "critical":
		return module.Critical
	}
	return module.Interactive
}
