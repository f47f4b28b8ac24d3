package queue

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/observe"
	"landline/internal/sqldb"
)

// Buckets in seconds: from a job that only writes a row to one at its timeout.
var (
	workBuckets   = []float64{.001, .005, .02, .1, .5, 2, 10, 60, 600}
	pickupBuckets = []float64{.002, .005, .01, .02, .05, .1, .25, .5, 1, 5, 30, 300}
)

// metrics are labelled by kind and lane, which code fixes, so they are bounded.
type metrics struct {
	enqueued *prometheus.CounterVec
	worked   *prometheus.CounterVec
	duration *prometheus.HistogramVec
	pickup   *prometheus.HistogramVec
}

func newMetrics(q *Queue, reg prometheus.Registerer) *metrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	m := &metrics{
		enqueued: observe.Counter(reg, "landline_queue_enqueued_total", "Jobs enqueued and committed by this node.", "kind", "lane"),
		worked: observe.Counter(reg, "landline_queue_worked_total",
			"Attempts finished on this node; outcome is completed, failed, dead, cancelled, snoozed, interrupted (by Stop) or panic.", "kind", "outcome"),
		duration: observe.Histogram(reg, "landline_queue_work_duration_seconds", "Time one attempt took.", workBuckets, "kind"),
		pickup:   observe.Histogram(reg, "landline_queue_pickup_seconds", "Time from when a job was due to its first attempt.", pickupBuckets, "lane"),
	}
	observe.Collect(reg, observe.Metric{Name: depthName, Type: "gauge", Help: depthHelp, Labels: depthLabels}, &depth{q: q})
	return m
}

func (m *metrics) done(kind, outcome string, took time.Duration) {
	m.worked.WithLabelValues(kind, outcome).Inc()
	m.duration.WithLabelValues(kind).Observe(took.Seconds())
}

const (
	depthName = "landline_queue_jobs"
	depthHelp = "Jobs of the whole cluster by lane and state, counted at most every 15 s; finished jobs are not counted."
)

var (
	depthLabels = []string{"lane", "state"}
	depthDesc   = prometheus.NewDesc(depthName, depthHelp, depthLabels, nil)
)

const depthEvery = 15 * time.Second

// depth counts rows when metrics are collected, so that nothing is counted when
// nobody looks, and not oftener than depthEvery.
type depth struct {
	q    *Queue
	mu   sync.Mutex
	at   time.Time
	last []prometheus.Metric
}

func (d *depth) Describe(ch chan<- *prometheus.Desc) { ch <- depthDesc }

func (d *depth) Collect(ch chan<- prometheus.Metric) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.at) >= depthEvery {
		d.at = time.Now()
		if err := d.count(); err != nil {
			d.last = nil // no figure rather than an old one
			d.q.log.Warn("the queue's depth could not be counted", "error", err)
		}
	}
	for _, m := range d.last {
		ch <- m
	}
}

func (d *depth) count() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var found []prometheus.Metric
	err := d.q.db.Read(ctx, func(ctx context.Context, db sqldb.Querier) error {
		found = found[:0]
		rows, err := db.QueryContext(ctx, Queries.Get("JobsOpen"))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var lane, state string
			var n float64
			if err := rows.Scan(&lane, &state, &n); err != nil {
				return err
			}
			found = append(found, prometheus.MustNewConstMetric(depthDesc, prometheus.GaugeValue, n, lane, string(stateOf(state))))
		}
		return rows.Err()
	})
	d.last = found
	return err
}
