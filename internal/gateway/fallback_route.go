package gateway

import (
	"fmt"
	"net/http"
)

// otherWay is where a request is asked again when its own way has failed.
type otherWay struct {
	handler Handler
	route   *Route // whose way it is; nil for an upstream of the feature itself
	params  []int  // where the values of route's wildcards stand among the request's

	match string // route, until link finds it
	own   pattern
}

// otherWayOf compiles the way that c names, nil when it names none. p is the
// pattern of the route rt that it stands in for. A route is found later, by link.
func (g *Gateway) otherWayOf(t, old *table, f *feature, rt *Route, p pattern) (*otherWay, error) {
	c := f.policy.Fallback
	switch {
	case c == nil || !c.asksElsewhere():
		return nil, nil
	case c.Route != "":
		return &otherWay{match: c.Route, own: p}, nil
	}
	up := t.upstreams[c.Upstream]
	if up == nil {
		return nil, fmt.Errorf("fallback: there is no upstream %q", c.Upstream)
	}
	template := c.Path
	if template == "" {
		template = p.path()
	}
	path, err := parseTemplate(template, p)
	if err != nil {
		return nil, fmt.Errorf("fallback: %w", err)
	}
	way := destination{handler: g.forward(up, path), upstream: up, breakers: g.breakersFor(t, old, f, up)}
	return &otherWay{handler: chain(g.upstreamStages(rt, way, f.policy.Timeout.D()), way.handler)}, nil
}

// link finds the routes that fallbacks name, once all are there.
func (t *table) link() []error {
	var errs []error
	for _, f := range t.features {
		for _, rt := range f.routes {
			if rt.other != nil && rt.other.match != "" {
				if err := t.linkRoute(rt); err != nil {
					errs = append(errs, fmt.Errorf("feature %s: fallback: %w", f.name, err))
				}
			}
		}
	}
	return errs
}

func (t *table) linkRoute(rt *Route) error {
	name, p, err := findRoute(t.settings.Features, rt.other.match)
	if err != nil {
		return err
	}
	if loop := fallbackLoop(t.settings.Features, rt.Feature); loop != nil {
		return fmt.Errorf("fallbacks go in a circle: %v", loop)
	}
	params, err := mapParams(rt.other.own, p)
	if err != nil {
		return err
	}
	for _, f := range t.features {
		if f.name != name {
			continue
		}
		for _, other := range f.routes {
			if other.Method == p.method && other.pattern.path() == p.path() {
				if strength(other.Auth) > strength(rt.Auth) {
					return fmt.Errorf("feature %s asks more of its callers", name)
				}
				rt.other.route, rt.other.params, rt.other.handler = other, params, other.tail
				return nil
			}
		}
	}
	return fmt.Errorf("no feature has the route %q", rt.other.match)
}

// ask sends the request the other way. It has not failed before anything of the
// answer was sent when the error is nil or w has started.
func (o *otherWay) ask(x *Exchange, w http.ResponseWriter, r *http.Request) error {
	if o.route != nil {
		route, params := x.Route, x.Params
		defer func() { x.Route, x.Params = route, params }()
		values := make([]string, len(o.params))
		for i, at := range o.params {
			values[i] = params[at]
		}
		x.Route, x.Params = o.route, values
	}
	x.status = 0
	return o.handler(x, w, r)
}
