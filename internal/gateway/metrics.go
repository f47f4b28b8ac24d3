package gateway

import (
	"net/http"
	"sync"
	"sync/atomic"

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
	requests     *prometheus.CounterVec   // feature route method status api_version
	duration     *prometheus.HistogramVec // the same
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
	route := []string{"feature", "route", "method", "status", "api_version"}
	const area = "landline_gateway_"
	return &metrics{
		requests: observe.Counter(reg, area+"requests_total", "Requests answered, by class of status (2xx…).", route...),
		duration: observe.Histogram(reg, area+"request_duration_seconds", "Time from a request's header to the end of its answer.", nil, route...),
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

// Methods and classes of status that requests are counted by; the last stands for all others.
var (
	countedMethods = [...]string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions, http.MethodConnect, http.MethodTrace, observe.Other}
	countedStatus = [...]string{"1xx", "2xx", "3xx", "4xx", "5xx", observe.Other}
)

// routeMetrics are one route's children of the vectors, looked up once, so
// that counting a request compares few label values. What counts by feature is
// shared by the feature's routes.
type routeMetrics struct {
	*featureMetrics

	labels  []string                                      // feature, route, api version
	request [len(countedMethods)]atomic.Pointer[byStatus] // most routes have one method
	screens screenCounters
}

type byStatus [len(countedStatus)]atomic.Pointer[requestCount]

type requestCount struct {
	total    prometheus.Counter
	duration prometheus.Observer
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
}

// clientCount is what is counted by app version, and the requests by platform as well.
type clientCount struct{ requests, in, out prometheus.Counter }

func (m *metrics) route(rt *Route) *routeMetrics {
	r := &routeMetrics{featureMetrics: m.feature(rt.Feature), labels: []string{rt.Feature, rt.Match, rt.APIVersion}}
	if rt.Policy != nil {
		r.screens = m.screens.of(rt.Policy.Screens)
	}
	return r
}

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

// counted returns the counters of a method and a status.
func (m *routeMetrics) counted(method string, status int) *requestCount {
	mi := len(countedMethods) - 1
	for i, name := range countedMethods {
		if name == method {
			mi = i
			break
		}
	}
	si := status/100 - 1
	if si < 0 || si >= len(countedStatus) {
		si = len(countedStatus) - 1
	}
	of := m.request[mi].Load()
	if of == nil {
		m.request[mi].CompareAndSwap(nil, new(byStatus))
		of = m.request[mi].Load()
	}
	slot := &of[si]
	if c := slot.Load(); c != nil {
		return c
	}
	values := []string{m.labels[0], m.labels[1], countedMethods[mi], countedStatus[si], m.labels[2]}
	c := &requestCount{total: m.all.requests.WithLabelValues(values...), duration: m.all.duration.WithLabelValues(values...)}
	slot.Store(c) // another may have stored the same children: no matter
	return c
}
