package sqldb

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/observe"
)

// metrics are of one database; the label "database" is the SQLite file's name or "postgres".
type metrics struct {
	group      prometheus.Observer
	commit     prometheus.Observer
	wait       prometheus.Observer
	queue      prometheus.Gauge
	walBytes   prometheus.Gauge
	walPages   prometheus.Gauge
	checkpoint prometheus.Gauge
	errors     *prometheus.CounterVec
	database   string
}

func newMetrics(reg prometheus.Registerer, database string) *metrics {
	times := []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	return &metrics{
		group: observe.Histogram(reg, "landline_sqldb_commit_group_writes", "Callers whose writes one commit made durable.",
			[]float64{1, 2, 4, 8, 16, 32, 64}, "database").WithLabelValues(database),
		commit: observe.Histogram(reg, "landline_sqldb_commit_duration_seconds", "Time that a successful commit took, on SQLite the fsync of the write-ahead log.",
			times, "database").WithLabelValues(database),
		wait: observe.Histogram(reg, "landline_sqldb_write_wait_seconds", "Time that a write waited for its turn.",
			times, "database").WithLabelValues(database),
		queue: observe.Gauge(reg, "landline_sqldb_queue_writes", "Writes that were waiting when it was last looked at.",
			"database").WithLabelValues(database),
		walBytes: observe.Gauge(reg, "landline_sqldb_wal_size_bytes", "Size of SQLite's write-ahead log file.",
			"database").WithLabelValues(database),
		walPages: observe.Gauge(reg, "landline_sqldb_wal_pending_pages", "Pages of SQLite's write-ahead log that are not in the database file yet.",
			"database").WithLabelValues(database),
		checkpoint: observe.Gauge(reg, "landline_sqldb_checkpoint_timestamp_seconds", "Unix time when SQLite's write-ahead log was last seen to be in the database file in full. Its age grows when a reader never ends.",
			"database").WithLabelValues(database),
		errors: observe.Counter(reg, "landline_sqldb_errors_total", "Reads and writes that failed, by class: conflict, busy, unavailable, corrupt, uncertain, text, cancelled, other. A row that was not found is no failure.",
			"database", "class"),
		database: database,
	}
}

func (m *metrics) waited(d time.Duration) { m.wait.Observe(d.Seconds()) }

func (m *metrics) logged(bytes int64, pages, waiting int) {
	m.walBytes.Set(float64(bytes))
	m.walPages.Set(float64(pages))
	m.queue.Set(float64(waiting))
}

func (m *metrics) checkpointed(at time.Time) { m.checkpoint.Set(float64(at.Unix())) }

func (m *metrics) failed(class string, err error) {
	switch {
	case class == "not_found":
		return
	case class == "" && errors.Is(err, context.Canceled):
		class = "cancelled"
	case class == "":
		class = "other"
	}
	m.errors.WithLabelValues(m.database, class).Inc()
}

// Stats are counts since Open.
type Stats struct {
	Commits  int64 // transactions made durable
	Writes   int64 // callers whose write is in one of them
	MaxGroup int64 // most callers that ever shared one
	Waiting  int   // callers in line to write now
	WALBytes int64 // size of the write-ahead log file; 0 on PostgreSQL
}

type counts struct{ commits, writes, maxGroup atomic.Int64 }

// Stats returns the counts so far.
func (db *DB) Stats() Stats {
	return Stats{
		Commits:  db.counts.commits.Load(),
		Writes:   db.counts.writes.Load(),
		MaxGroup: db.counts.maxGroup.Load(),
		Waiting:  db.writes.waiting(),
		WALBytes: db.walBytes(),
	}
}

// committed counts one commit of n callers.
func (db *DB) committed(n int, took time.Duration) {
	db.counts.commits.Add(1)
	db.counts.writes.Add(int64(n))
	for most := db.counts.maxGroup.Load(); int64(n) > most && !db.counts.maxGroup.CompareAndSwap(most, int64(n)); {
		most = db.counts.maxGroup.Load()
	}
	db.metrics.group.Observe(float64(n))
	db.metrics.commit.Observe(took.Seconds())
	db.metrics.queue.Set(float64(db.writes.waiting()))
}
