package webhook

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/observe"
	"landline/internal/sqldb"
)

var (
	attemptBuckets = []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15, 30}
	delayBuckets   = []float64{.05, .1, .5, 1, 5, 30, 120, 600, 3600, 4 * 3600, 24 * 3600, 72 * 3600}
)

// metrics are labelled by endpoint and type, which the configuration and the
// program fix, so they are bounded.
type metrics struct {
	events    *prometheus.CounterVec
	attempts  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	delivered *prometheus.HistogramVec
	dead      *prometheus.CounterVec
}

func newMetrics(h *Hub, reg prometheus.Registerer) *metrics {
	m := &metrics{
		events: observe.Counter(reg, "landline_webhook_events_total", "Events emitted and committed by this node.", "type"),
		attempts: observe.Counter(reg, "landline_webhook_attempts_total",
			"Attempts to deliver an event; outcome is 2xx to 5xx, timeout, blocked (an address that may not be called) or error.", "endpoint", "outcome"),
		duration:  observe.Histogram(reg, "landline_webhook_attempt_duration_seconds", "Time that one attempt took.", attemptBuckets, "endpoint"),
		delivered: observe.Histogram(reg, "landline_webhook_delivery_seconds", "Time from an event to its delivery, attempts that failed included.", delayBuckets, "endpoint"),
		dead:      observe.Counter(reg, "landline_webhook_dead_total", "Deliveries that were given up; they can be replayed.", "endpoint"),
	}
	observe.Collect(reg, observe.Metric{Name: depthName, Type: "gauge", Help: depthHelp, Labels: depthLabels}, &depth{h: h})
	observe.Collect(reg, observe.Metric{Name: stateName, Type: "gauge", Help: stateHelp, Labels: stateLabels}, states{h})
	return m
}

const (
	depthName = "landline_webhook_deliveries"
	depthHelp = "Deliveries of the whole cluster by endpoint and state (pending, sending, dead), counted at most every 15 s."
	stateName = "landline_webhook_gate_state"
	stateHelp = "Whether this node holds back deliveries because the endpoint is down or asked for a pause: 0 no, 1 yes."
)

var (
	depthLabels = []string{"endpoint", "state"}
	depthDesc   = prometheus.NewDesc(depthName, depthHelp, depthLabels, nil)
	stateLabels = []string{"endpoint"}
	stateDesc   = prometheus.NewDesc(stateName, stateHelp, stateLabels, nil)
)

const depthEvery = 15 * time.Second

// depth counts rows when metrics are collected, and not oftener than depthEvery.
type depth struct {
	h    *Hub
	mu   sync.Mutex
	at   time.Time
	last []prometheus.Metric
}

func (d *depth) Describe(ch chan<- *prometheus.Desc) { ch <- depthDesc }

func (d *depth) Collect(ch chan<- prometheus.Metric) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.at) >= depthEvery {
		d.at, d.last = time.Now(), nil
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		counts, err := d.h.counts(ctx)
		if err != nil { // no figure rather than an old one
			d.h.log.Warn("the deliveries of webhooks could not be counted", "error", err)
		}
		for _, c := range counts {
			d.last = append(d.last, prometheus.MustNewConstMetric(depthDesc, prometheus.GaugeValue, float64(c.n), c.endpoint, string(c.state)))
		}
	}
	for _, m := range d.last {
		ch <- m
	}
}

// states tells of each endpoint's gate.
type states struct{ h *Hub }

func (s states) Describe(ch chan<- *prometheus.Desc) { ch <- stateDesc }

func (s states) Collect(ch chan<- prometheus.Metric) {
	now := s.h.clock.Now()
	for name, e := range s.h.endpoints() {
		value := 0.0
		if e.gate.isClosed(now) {
			value = 1
		}
		ch <- prometheus.MustNewConstMetric(stateDesc, prometheus.GaugeValue, value, name)
	}
}

// count is how many deliveries of an endpoint are in a state.
type count struct {
	endpoint string
	state    State
	n        int64
}

func (h *Hub) counts(ctx context.Context) (out []count, err error) {
	err = h.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		out = nil
		rows, err := q.QueryContext(ctx, Queries.Get("Counts"))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var c count
			if err := rows.Scan(&c.endpoint, &c.state, &c.n); err != nil {
				return err
			}
			if h.endpoints()[c.endpoint] != nil { // of others the names are not bounded
				out = append(out, c)
			}
		}
		return rows.Err()
	})
	return out, err
}
