package gateway

import (
	"fmt"
	"net/http"
	"slices"

	"landline/internal/gateway/maintenance"
	"landline/internal/module"
)

// closures are the notices of the configuration that concern a route.
type closures struct {
	feature, app *maintenance.Notice // nil = none
}

// closuresOf reads them for a route; the app's is nil where the route is exempt.
func (t *table) closuresOf(rt *Route) (closures, error) {
	var c closures
	var err error
	if c.feature, err = rt.Policy.Maintenance.configured(nil); err != nil {
		return c, fmt.Errorf("feature %s: maintenance: %w", rt.Feature, err)
	}
	app := t.settings.Maintenance
	if c.app, err = app.configured(app.Allow); err != nil {
		return c, fmt.Errorf("maintenance: %w", err)
	}
	if c.app != nil && exempt(rt, c.app) {
		c.app = nil
	}
	return c, nil
}

// exempt reports whether a route stays reachable while the whole app is under
// maintenance: an app that could not refresh its token would sign its user out.
func exempt(rt *Route, n *maintenance.Notice) bool {
	return rt.BuiltIn && rt.Priority >= module.Critical || slices.Contains(n.Allow, rt.Feature)
}

// maintenanceStage answers 503 with what the app shows its user, while an
// operator or the configuration has put the feature or the whole app under
// maintenance. What is said of the feature by name goes before what is said of
// the app, and an operator's switch before the configuration.
func maintenanceStage(o *Options, c closures, rt *Route) Stage {
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			var switched *maintenance.State
			if o.Maintenance != nil {
				switched = o.Maintenance.State()
			}
			if switched == nil && c.feature == nil && c.app == nil {
				return next(x, w, r)
			}
			candidates := [4]*maintenance.Notice{1: c.feature, 3: c.app}
			if switched != nil {
				candidates[0] = switched.Features[rt.Feature]
				if switched.App != nil && !exempt(rt, switched.App) {
					candidates[2] = switched.App
				}
			}
			now := o.Clock.Now()
			for _, n := range candidates {
				if n.Active(now) {
					return n.Problem(now)
				}
			}
			return next(x, w, r)
		}
	}
}
