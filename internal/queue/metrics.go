package queue

import (
	"context"
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
	observe.Counted(reg, observe.Metric{Name: "landline_queue_jobs", Labels: []string{"lane", "state"},
		Help: "Jobs of the whole cluster by lane and state, counted at most every 15 s; finished jobs are not counted."}, depthEvery, q.depth,
		func(err error) { q.log.Warn("the queue's depth could not be counted", "error", err) })
	return m
}

func (m *metrics) done(kind, outcome string, took time.Duration) {
	m.worked.WithLabelValues(kind, outcome).Inc()
	m.duration.WithLabelValues(kind).Observe(took.Seconds())
}

const depthEvery = 15 * time.Second

// depth counts the jobs that are not finished.
func (q *Queue) depth(ctx context.Context) (found []observe.Sample, err error) {
	err = q.db.Read(ctx, func(ctx context.Context, db sqldb.Querier) error {
		found = nil
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
			found = append(found, observe.Sample{Value: n, Labels: []string{lane, string(stateOf(state))}})
		}
		return rows.Err()
	})
	return found, err
}
