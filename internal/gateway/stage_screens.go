package gateway

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/module"
	"landline/internal/observe"
)

// maxScreenLabels bounds the screens that requests are counted by.
const maxScreenLabels = 200

// screenMetrics count requests by the screens of the app that their feature
// serves; a request of a feature with two screens counts for both.
type screenMetrics struct {
	requests *prometheus.CounterVec // screen outcome
	screens  *observe.LabelCap
}

func newScreenMetrics(reg prometheus.Registerer) *screenMetrics {
	return &screenMetrics{
		requests: observe.Counter(reg, "landline_gateway_screen_requests_total",
			"Requests of the features that a screen of the app names as its own: ok, degraded (a stock answer or a stale copy), refused (4xx), failed (5xx or cut short); other beyond 200 screens.", "screen", "outcome"),
		screens: observe.CapLabel(maxScreenLabels),
	}
}

// screenCounters are the counters of one feature's screens, looked up once.
type screenCounters []struct{ ok, degraded, refused, failed prometheus.Counter }

func (m *screenMetrics) of(screens []string) screenCounters {
	list := make(screenCounters, len(screens))
	for i, name := range screens {
		screen := m.screens.Value(name)
		list[i].ok = m.requests.WithLabelValues(screen, "ok")
		list[i].degraded = m.requests.WithLabelValues(screen, "degraded")
		list[i].refused = m.requests.WithLabelValues(screen, "refused")
		list[i].failed = m.requests.WithLabelValues(screen, "failed")
	}
	return list
}

// count counts a request that is over.
func (c screenCounters) count(x *Exchange, status int, aborted bool) {
	for i := range c {
		switch {
		case status >= 500 || aborted:
			c[i].failed.Inc()
		case x.Degraded != "":
			c[i].degraded.Inc()
		case status >= 400:
			c[i].refused.Inc()
		default:
			c[i].ok.Inc()
		}
	}
}

// Screens tells of each screen of the app on which features it depends and how
// they are doing on this node, sorted by name.
func (g *Gateway) Screens() []module.Screen {
	t := g.table.Load()
	if t == nil {
		return nil
	}
	byName := map[string]*module.Screen{}
	for _, f := range t.features {
		breaker := worst(f.breakers)
		sf := module.ScreenFeature{Name: f.name, Owner: f.policy.Owner, Health: healthOf(breaker), Breaker: breaker}
		for _, name := range f.policy.Screens {
			s := byName[name]
			if s == nil {
				s = &module.Screen{Name: name, Health: healthOK}
				byName[name] = s
			}
			s.Features = append(s.Features, sf)
			s.Health = worseHealth(s.Health, sf.Health)
		}
	}
	list := make([]module.Screen, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		list = append(list, *byName[name])
	}
	return list
}

// How a feature is doing.
const (
	healthOK       = "ok"
	healthDegraded = "degraded"
	healthDown     = "down"
)

func healthOf(breaker string) string {
	switch breaker {
	case "open":
		return healthDown
	case "half_open":
		return healthDegraded
	}
	return healthOK
}

func worseHealth(a, b string) string {
	order := []string{healthOK, healthDegraded, healthDown}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

// ContractViolations lists the differences from contracts that this node has
// met, of one feature or of all for "", the most frequent first.
func (g *Gateway) ContractViolations(feature string) []module.ContractViolation {
	return g.contracts.journal.List(feature)
}
