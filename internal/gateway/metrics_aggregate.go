package gateway

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/observe"
)

// callMetrics are the figures of aggregated routes. Their labels come from the
// configuration; outcomes are a fixed list.
type callMetrics struct {
	calls    *prometheus.CounterVec   // feature call upstream outcome
	duration *prometheus.HistogramVec // feature call upstream
	partial  *prometheus.CounterVec   // feature
}

func newCallMetrics(reg *prometheus.Registry) *callMetrics {
	const area = "landline_gateway_"
	return &callMetrics{
		calls: observe.Counter(reg, area+"calls_total",
			"Calls of aggregated routes by outcome: ok, errors (GraphQL answered in part or with errors alone), timeout, unreachable, invalid, status, breaker_open, overloaded, value, cancelled, internal.",
			"feature", "call", "upstream", "outcome"),
		duration: observe.Histogram(reg, area+"call_duration_seconds", "Time a call of an aggregated route took, its body included.", nil, "feature", "call", "upstream"),
		partial:  observe.Counter(reg, area+"partial_answers_total", "Answers of aggregated routes that lacked something.", "feature"),
	}
}

// callMetric are the figures of one call.
type callMetric struct {
	ok       prometheus.Counter
	outcomes *prometheus.CounterVec // outcome
	duration prometheus.Observer
}

func (m *callMetrics) of(feature, call, upstream string) callMetric {
	outcomes := m.calls.MustCurryWith(prometheus.Labels{"feature": feature, "call": call, "upstream": upstream})
	return callMetric{ok: outcomes.WithLabelValues("ok"), outcomes: outcomes, duration: m.duration.WithLabelValues(feature, call, upstream)}
}

func (m *callMetric) observe(outcome string, took time.Duration) {
	m.duration.Observe(took.Seconds())
	if outcome == "ok" {
		m.ok.Inc()
		return
	}
	m.outcomes.WithLabelValues(outcome).Inc()
}
