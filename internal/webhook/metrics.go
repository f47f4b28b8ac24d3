package webhook

import (
	"context"
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
	observe.Counted(reg, observe.Metric{Name: "landline_webhook_deliveries", Labels: []string{"endpoint", "state"},
		Help: "Deliveries of the whole cluster by endpoint and state (pending, sending, dead), counted at most every 15 s."}, depthEvery, h.depth,
		func(err error) { h.log.Warn("the deliveries of webhooks could not be counted", "error", err) })
	observe.Collect(reg, observe.Metric{Name: stateName, Type: "gauge", Help: stateHelp, Labels: stateLabels}, states{h})
	return m
}

const (
	stateName = "landline_webhook_gate_state"
	stateHelp = "Whether this node holds back deliveries because the endpoint is down or asked for a pause: 0 no, 1 yes."
)

var (
	stateLabels = []string{"endpoint"}
	stateDesc   = prometheus.NewDesc(stateName, stateHelp, stateLabels, nil)
)

const depthEvery = 15 * time.Second

// depth counts deliveries by endpoint and state.
func (h *Hub) depth(ctx context.Context) ([]observe.Sample, error) {
	counts, err := h.counts(ctx)
	if err != nil {
		return nil, err
	}
	found := make([]observe.Sample, 0, len(counts))
	for _, c := range counts {
		found = append(found, observe.Sample{Value: float64(c.n), Labels: []string{c.endpoint, string(c.state)}})
	}
	return found, nil
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
