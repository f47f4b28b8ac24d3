package gateway

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/observe"
)

// upstreamMetrics says how features see their upstreams. Labels are names of
// the configuration, and what a reload takes away is removed.
type upstreamMetrics struct {
	breakerState *prometheus.GaugeVec
	breakerTrips *prometheus.CounterVec
	reloads      *prometheus.CounterVec
	routes       prometheus.Gauge
	streams      prometheus.GaugeFunc

	mu    sync.Mutex
	shown map[[3]string]bool
}

func newUpstreamMetrics(reg *prometheus.Registry, s *streams) *upstreamMetrics {
	return &upstreamMetrics{
		breakerState: observe.Gauge(reg, "landline_gateway_breaker_state",
			"State of a feature's breaker for one target: 0 closed, 1 half-open, 2 open.", "feature", "upstream", "target"),
		breakerTrips: observe.Counter(reg, "landline_gateway_breaker_opened_total",
			"How often a feature's breaker for one target opened.", "feature", "upstream", "target"),
		reloads: observe.Counter(reg, "landline_gateway_tables_total",
			"Tables of routes that were built at start and on reload, by outcome.", "outcome"),
		routes: observe.Gauge(reg, "landline_gateway_routes_count",
			"Routes in the table that is in use.").WithLabelValues(),
		streams: observe.GaugeFunc(reg, "landline_gateway_streams_count",
			"Event streams and WebSockets to upstreams that are open.", func() float64 { return float64(s.count()) }),
		shown: map[[3]string]bool{},
	}
}

// breakerChanged returns what a breaker calls when its state changes.
func (g *Gateway) breakerChanged(feature, upstream, target string) func(state string) {
	labels := [3]string{feature, upstream, target}
	return func(state string) {
		value := map[string]float64{"closed": 0, "half_open": 1, "open": 2}[state]
		u := g.upstreamMetrics
		u.mu.Lock()
		defer u.mu.Unlock()
		if !u.shown[labels] {
			return // a breaker of an older table, or of one that is only checked
		}
		u.breakerState.WithLabelValues(labels[:]...).Set(value)
		if state == "open" {
			u.breakerTrips.WithLabelValues(labels[:]...).Inc()
			g.options.Log.Warn("breaker opened", "feature", feature, "upstream", upstream, "target", target)
		} else {
			g.options.Log.Info("breaker changed", "feature", feature, "upstream", upstream, "target", target, "state", state)
		}
	}
}

// observeTable shows the breakers of t and forgets those that are gone.
func (g *Gateway) observeTable(t *table) {
	u := g.upstreamMetrics
	u.routes.Set(float64(t.router.count))
	states := map[[3]string]float64{}
	for key, b := range t.breakers {
		labels := [3]string{key.feature, key.upstream, ""}
		for _, tg := range t.upstreams[key.upstream].targets {
			if tg.url() == key.url {
				labels[2] = tg.name
			}
		}
		states[labels] = map[string]float64{"closed": 0, "half_open": 1, "open": 2}[b.state()]
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for labels := range u.shown {
		if _, there := states[labels]; !there {
			delete(u.shown, labels)
			u.breakerState.DeleteLabelValues(labels[:]...)
			u.breakerTrips.DeleteLabelValues(labels[:]...)
		}
	}
	for labels, value := range states {
		u.shown[labels] = true
		u.breakerState.WithLabelValues(labels[:]...).Set(value)
		u.breakerTrips.WithLabelValues(labels[:]...).Add(0)
	}
}
