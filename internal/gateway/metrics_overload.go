package gateway

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/gateway/health"
	"landline/internal/observe"
)

// overloadMetrics says what overload and failing targets cost.
type overloadMetrics struct {
	shed    *prometheus.CounterVec // feature priority reason
	retries *prometheus.CounterVec // feature upstream outcome
	hedges  *prometheus.CounterVec // feature upstream outcome
}

func newOverloadMetrics(reg *prometheus.Registry, g *Gateway) *overloadMetrics {
	const area = "landline_gateway_"
	observe.GaugeFunc(reg, area+"admitted_count", "Requests under way on this node, without open streams.",
		func() float64 { return float64(g.guard.State().InFlight) })
	observe.GaugeFunc(reg, area+"admitted_limit_count", "Adaptive limit of requests under way on this node; 0 without one.",
		func() float64 { return float64(g.guard.State().Limit) })
	observe.GaugeFunc(reg, area+"cpu_wait_seconds", "How long work that could go on waited for a processor at most in nine cases of ten of the last tenth of a second with requests; 0 if it is not watched.",
		func() float64 { return g.guard.State().Wait.Seconds() })
	watched := observe.Metric{Name: area + "target_share_ratio", Type: "gauge",
		Help:   "Part of its weight that a target gets: 0 unhealthy or ejected, 1 healthy, between while it starts slowly.",
		Labels: []string{"upstream", "target"}}
	observe.Collect(reg, watched, &tableCollector{g, prometheus.NewDesc(watched.Name, watched.Help, watched.Labels, nil), shares})
	limits := observe.Metric{Name: area + "upstream_limit_count", Type: "gauge",
		Help: "Adaptive limit of requests that wait for an upstream, where there is one.", Labels: []string{"upstream"}}
	observe.Collect(reg, limits, &tableCollector{g, prometheus.NewDesc(limits.Name, limits.Help, limits.Labels, nil), upstreamLimits})
	return &overloadMetrics{
		shed: observe.Counter(reg, area+"shed_total",
			"Requests turned away because the node was overloaded, by reason: in_flight, memory, latency, cpu.", "feature", "priority", "reason"),
		retries: observe.Counter(reg, area+"retries_total",
			"Failed tries by what became of them: retried; or not, because it was unsafe, the budget was used up (budget), or no target took it (target).",
			"feature", "upstream", "outcome"),
		hedges: observe.Counter(reg, area+"hedges_total",
			"Requests that took long by what became of them: sent a second time (sent), answered first by that (won), or not sent (refused).",
			"feature", "upstream", "outcome"),
	}
}

// tableCollector computes samples from the table in use.
type tableCollector struct {
	g    *Gateway
	desc *prometheus.Desc
	emit func(u *upstream, sample func(value float64, labels ...string))
}

// Describe implements prometheus.Collector.
func (c *tableCollector) Describe(out chan<- *prometheus.Desc) { out <- c.desc }

// Collect implements prometheus.Collector.
func (c *tableCollector) Collect(out chan<- prometheus.Metric) {
	t := c.g.table.Load()
	if t == nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(t.upstreams)) {
		c.emit(t.upstreams[name], func(value float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, value, append([]string{name}, labels...)...)
		})
	}
}

func shares(u *upstream, sample func(value float64, labels ...string)) {
	for i, t := range u.targets {
		share := 1.0
		if u.monitor != nil {
			share = float64(u.monitor.Status(i).Share) / health.Full
		}
		sample(share, t.name)
	}
}

func upstreamLimits(u *upstream, sample func(value float64, labels ...string)) {
	if u.limiter != nil {
		sample(float64(u.limiter.Limit()))
	}
}

// tryMetrics are one route's counters of retries and hedges.
type tryMetrics struct{ retries, hedges *prometheus.CounterVec }

func (m *overloadMetrics) route(feature, upstream string) *tryMetrics {
	labels := prometheus.Labels{"feature": feature, "upstream": upstream}
	return &tryMetrics{m.retries.MustCurryWith(labels), m.hedges.MustCurryWith(labels)}
}

func (m *tryMetrics) retried()           { m.retries.WithLabelValues("retried").Inc() }
func (m *tryMetrics) refused(why string) { m.retries.WithLabelValues(why).Inc() }
func (m *tryMetrics) hedged(what string) { m.hedges.WithLabelValues(what).Inc() }
