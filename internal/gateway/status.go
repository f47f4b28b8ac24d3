package gateway

import (
	"maps"
	"slices"

	"landline/internal/gateway/health"
	"landline/internal/module"
)

// FeatureStatus and UpstreamStatus are what the admin API shows of the gateway.
type (
	FeatureStatus  = module.FeatureStatus
	UpstreamStatus = module.UpstreamStatus
)

// FeatureStatus tells how each feature is doing on this node, sorted by name.
func (g *Gateway) FeatureStatus() []FeatureStatus {
	t := g.table.Load()
	if t == nil {
		return nil
	}
	list := make([]FeatureStatus, 0, len(t.features))
	for _, f := range t.features {
		s := FeatureStatus{
			Name: f.name, Owner: f.policy.Owner, BuiltIn: f.builtIn, Auth: f.auth,
			Breaker: worst(f.breakers), Screens: f.policy.Screens, InFlight: f.inFlight.Load(), Routes: []module.RouteStatus{},
		}
		ups := map[string]bool{}
		for _, rt := range f.routes {
			s.Routes = append(s.Routes, module.RouteStatus{Match: rt.Match, Upstream: rt.Upstream, Auth: rt.Auth})
			ups[rt.Upstream] = true
		}
		if len(ups) == 1 && len(f.routes) > 0 {
			s.Upstream = f.routes[0].Upstream
		}
		list = append(list, s)
	}
	return list
}

// worst is the state of the breaker that is furthest from closed.
func worst(breakers []*breaker) string {
	state := ""
	for _, b := range breakers {
		switch now := b.state(); {
		case now == "open", now == "half_open" && state != "open", state == "":
			state = now
		}
	}
	return state
}

// UpstreamStatus tells how each upstream is doing as this node sees it, sorted
// by name. A target is unhealthy while its probes fail, while it is ejected,
// and while every breaker of it is open.
func (g *Gateway) UpstreamStatus() []UpstreamStatus {
	t := g.table.Load()
	if t == nil {
		return nil
	}
	list := make([]UpstreamStatus, 0, len(t.upstreams))
	for _, name := range slices.Sorted(maps.Keys(t.upstreams)) {
		u := t.upstreams[name]
		s := UpstreamStatus{Name: name, Targets: []module.TargetStatus{}}
		if u.limiter != nil {
			s.Limit = u.limiter.Limit()
		}
		for i := range u.targets {
			ts := t.targetStatus(u, i)
			s.InFlight += ts.InFlight
			s.Targets = append(s.Targets, ts)
		}
		list = append(list, s)
	}
	return list
}

func (t *table) targetStatus(u *upstream, i int) module.TargetStatus {
	tg := u.targets[i]
	ts := module.TargetStatus{Name: tg.name, URL: tg.url(), Weight: tg.weight, Healthy: true, State: health.Healthy, Share: 1, InFlight: tg.inFlight.Load()}
	if u.monitor != nil {
		h := u.monitor.Status(i)
		ts.State, ts.Share, ts.Since, ts.Error = h.State, float64(h.Share)/health.Full, &h.Since, h.Why
		ts.Healthy = h.Share > 0
		if h.State == health.Ejected {
			ts.Until = &h.Until
		}
	}
	if ts.Healthy && !t.reachable(u.name, tg.url()) {
		ts.Healthy, ts.State, ts.Share = false, health.Unhealthy, 0
		ts.Error = "the breaker of every feature that uses it is open"
	}
	return ts
}

func (t *table) reachable(upstream, url string) bool {
	guarded := false
	for key, b := range t.breakers {
		if key.upstream != upstream || key.url != url {
			continue
		}
		if b.state() != "open" {
			return true
		}
		guarded = true
	}
	return !guarded
}
