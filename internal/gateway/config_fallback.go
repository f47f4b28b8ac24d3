package gateway

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"landline/internal/config"
	"landline/internal/module"
)

// asksElsewhere reports whether a fallback has another way before its stock answer.
func (c *FallbackConfig) asksElsewhere() bool { return c.Route != "" || c.Upstream != "" }

// hasStock reports whether a fallback has a stock answer: always, unless it asks
// elsewhere and says nothing of one.
func (c *FallbackConfig) hasStock() bool {
	return !c.asksElsewhere() || len(c.Body) > 0 || len(c.Headers) > 0
}

// otherWay finds the faults of a fallback that asks elsewhere; f is its feature.
func (c *checker) otherWay(v *config.Validator, f *FeatureConfig) {
	fb := f.Fallback
	for i, m := range fb.Methods {
		if m != http.MethodGet && m != http.MethodHead {
			v.At("methods", i).Fault("leave route and upstream out, or methods", "only GET and HEAD can be asked elsewhere: a write may have taken effect already")
		}
	}
	switch {
	case fb.Route != "" && (fb.Upstream != "" || fb.Path != ""):
		v.At("route").Fault("remove one of them", "route and upstream are two ways")
		return
	case fb.Upstream != "":
		if c.settings.Upstreams[fb.Upstream] == nil {
			v.At("upstream").Fault(known("upstreams", slices.Sorted(maps.Keys(c.settings.Upstreams))), "there is no upstream %q", fb.Upstream)
		}
		for _, r := range f.Routes {
			if err := c.otherPath(fb.Path, r.Match); err != nil {
				v.At("path").Fault("use wildcards that every route of the feature has", "%s", err)
				return
			}
		}
		return
	}
	name, other, err := findRoute(c.settings.Features, fb.Route)
	if err != nil {
		v.At("route").Fault(`write the match of another feature's route, such as "GET /v1/other/{id}"`, "%s", err)
		return
	}
	if strength(c.settings.Features[name].Auth) > strength(f.Auth) {
		v.At("route").Fault("choose a route that asks for no more than this feature", "feature %s asks more of its callers than this one", name)
	}
	for _, r := range f.Routes {
		if own, err := parsePattern(r.Match); err == nil {
			if _, err := mapParams(own, other); err != nil {
				v.At("route").Fault("use wildcards that every route of the feature has", "%s", err)
				return
			}
		}
	}
}

func (c *checker) otherPath(path, match string) error {
	p, err := parsePattern(match)
	if err != nil || path == "" {
		return nil // told at the route
	}
	_, err = parseTemplate(path, p)
	return err
}

// fallbackLoops refuses features that fall back on one another in a circle.
func (c *checker) fallbackLoops(v *config.Validator) {
	for _, name := range slices.Sorted(maps.Keys(c.settings.Features)) {
		if way := fallbackLoop(c.settings.Features, name); way != nil {
			v.At(name, "fallback", "route").Fault("end it with a stock answer", "fallbacks go in a circle: %s", strings.Join(way, " → "))
		}
	}
}

// fallbackLoop is the circle that begins at a feature, nil without one.
func fallbackLoop(features map[string]*FeatureConfig, name string) []string {
	way := []string{name}
	for at := name; ; {
		f := features[at]
		if f == nil || f.Fallback == nil || f.Fallback.Route == "" {
			return nil
		}
		next, _, err := findRoute(features, f.Fallback.Route)
		if err != nil {
			return nil
		}
		way = append(way, next)
		if next == name {
			return way
		}
		if slices.Contains(way[:len(way)-1], next) {
			return nil // a circle that does not begin here
		}
		at = next
	}
}

// findRoute finds the feature and the pattern of a route by its match.
func findRoute(features map[string]*FeatureConfig, match string) (string, pattern, error) {
	p, err := parsePattern(match)
	if err != nil {
		return "", p, err
	}
	if p.method != "" && p.method != http.MethodGet {
		return "", p, fmt.Errorf("only a route for GET can stand in")
	}
	for _, name := range slices.Sorted(maps.Keys(features)) {
		if features[name] == nil {
			continue
		}
		for _, r := range features[name].Routes {
			if other, err := parsePattern(r.Match); err == nil && other.method == p.method && other.path() == p.path() {
				return name, other, nil
			}
		}
	}
	return "", p, fmt.Errorf("no feature has the route %q", match)
}

// mapParams says where the values of other's wildcards stand among own's.
func mapParams(own, other pattern) ([]int, error) {
	names := own.paramNames()
	var at []int
	for _, name := range other.paramNames() {
		i := slices.Index(names, name)
		if i < 0 || kindOf(own, name) != kindOf(other, name) {
			return nil, fmt.Errorf("%s has no wildcard {%s}", own.path(), name)
		}
		at = append(at, i)
	}
	return at, nil
}

// strength orders what callers must have proven.
func strength(a module.Auth) int {
	switch a {
	case module.AuthNone:
		return 0
	case module.AuthAnonymous:
		return 1
	}
	return 2 // an account is the default
}
