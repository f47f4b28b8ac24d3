package gateway

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/observe"
)

// Caps of the labels that clients fill.
const (
	maxVersionLabels  = 50
	maxPlatformLabels = 10
)

// metrics are the gateway's figures about requests. Features, routes, upstreams
// and targets come from the configuration; what clients say is capped.
type metrics struct {
	requests     *requestMetrics
	clients      *prometheus.CounterVec   // feature app_version platform
	clientHeader *prometheus.CounterVec   // feature outcome
	upstream     *prometheus.HistogramVec // feature upstream target
	inFlight     *prometheus.GaugeVec     // feature
	received     *prometheus.CounterVec   // feature
	sent         *prometheus.CounterVec   // feature
	problems     *prometheus.CounterVec   // feature code
	limited      *prometheus.CounterVec   // feature policy
	idempotency  *prometheus.CounterVec   // feature outcome
	degraded     *prometheus.CounterVec   // feature kind

	payload payloadMetrics

	mu       sync.Mutex
	features map[string]*featureMetrics // as many as the configuration has had

	versions  *observe.LabelCap
	platforms *observe.LabelCap
	parsed    *clientCache // Landline-Client headers seen lately
	screens   *screenMetrics
}

// newMetrics declares the gateway's metrics on reg, or finds them there.
func newMetrics(reg *prometheus.Registry) *metrics {
	const area = "landline_gateway_"
	return &metrics{
		requests: newRequestMetrics(reg),
		clients: observe.Counter(reg, area+"client_requests_total",
			"Requests by what the app says of itself; unknown without Landline-Client, other beyond 50 versions and 10 platforms.", "feature", "app_version", "platform"),
		clientHeader: observe.Counter(reg, area+"client_headers_total",
			"Landline-Client headers by outcome: ok, absent, invalid, other_app (names another app than the configured one).", "feature", "outcome"),
		upstream:    observe.Histogram(reg, area+"upstream_duration_seconds", "Time an upstream took to its response header, or to fail.", nil, "feature", "upstream", "target"),
		inFlight:    observe.Gauge(reg, area+"requests_in_flight", "Requests being worked on.", "feature"),
		received:    observe.Counter(reg, area+"request_bytes_total", "Bytes of request bodies read.", "feature"),
		sent:        observe.Counter(reg, area+"response_bytes_total", "Bytes of response bodies written, as they travelled.", "feature"),
		problems:    observe.Counter(reg, area+"problems_total", "Failures that the gateway answered with a problem, by code.", "feature", "code"),
		limited:     observe.Counter(reg, area+"rate_limited_total", "Requests refused by a rate limit, by policy.", "feature", "policy"),
		idempotency: observe.Counter(reg, area+"idempotency_total", "Writes with an Idempotency-Key: executed, replayed, in_flight, reused, unknown, invalid; missing where one was required.", "feature", "outcome"),
		degraded:    observe.Counter(reg, area+"degraded_total", "Answers that were a stock answer or a stale copy, by kind.", "feature", "kind"),
		payload:     newPayloadMetrics(reg),
		features:    map[string]*featureMetrics{},
		versions:    observe.CapLabel(maxVersionLabels),
		platforms:   observe.CapLabel(maxPlatformLabels),
		parsed:      newClientCache(maxParsedClients),
		screens:     newScreenMetrics(reg),
	}
}

// featureMetrics are one feature's children of the vectors.
type featureMetrics struct {
	all            *metrics
	inFlight       prometheus.Gauge
	received, sent prometheus.Counter
	in, out        prometheus.Observer // sizes of bodies
	clients        children[*clientCount]
	upstream       children[prometheus.Observer]
	problems       *prometheus.CounterVec // code
	limited        *prometheus.CounterVec // policy
	idempotency    *prometheus.CounterVec // outcome
	degraded       *prometheus.CounterVec // kind

	headers *clientHeaderCounts // nil until it is asked for
}

// clientHeaderCounts are one feature's counters of Landline-Client, by outcome.
type clientHeaderCounts struct{ ok, absent, invalid, otherApp prometheus.Counter }

// clientCount is what is counted by app version, and the requests by platform as well.
type clientCount struct{ requests, in, out prometheus.Counter }

// feature returns the children of a feature, the same for each of its routes.
func (m *metrics) feature(name string) *featureMetrics {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.features[name]; f != nil {
		return f
	}
	labels := prometheus.Labels{"feature": name}
	f := &featureMetrics{
		all:         m,
		inFlight:    m.inFlight.With(labels),
		received:    m.received.With(labels),
		sent:        m.sent.With(labels),
		in:          m.payload.size.WithLabelValues(name, "in"),
		out:         m.payload.size.WithLabelValues(name, "out"),
		problems:    m.problems.MustCurryWith(labels),
		limited:     m.limited.MustCurryWith(labels),
		idempotency: m.idempotency.MustCurryWith(labels),
		degraded:    m.degraded.MustCurryWith(labels),
	}
	f.clients.make = func(version, platform string) *clientCount {
		return &clientCount{
			requests: m.clients.WithLabelValues(name, version, platform),
			in:       m.payload.bytes.WithLabelValues(name, version, "in"),
			out:      m.payload.bytes.WithLabelValues(name, version, "out"),
		}
	}
	f.upstream.make = func(upstream, target string) prometheus.Observer {
		return m.upstream.WithLabelValues(name, upstream, target)
	}
	m.features[name] = f
	return f
}

// clientHeaders returns a feature's counters of Landline-Client.
func (m *metrics) clientHeaders(name string) *clientHeaderCounts {
	f := m.feature(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if f.headers == nil {
		of := func(outcome string) prometheus.Counter { return m.clientHeader.WithLabelValues(name, outcome) }
		f.headers = &clientHeaderCounts{ok: of("ok"), absent: of("absent"), invalid: of("invalid"), otherApp: of("other_app")}
	}
	return f.headers
}
