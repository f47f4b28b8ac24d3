package audit_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"landline/internal/audit"
	"landline/internal/clock"
	"landline/internal/sqldb"
)

// BenchmarkRecord measures transactions that do nothing but record, with settling in the
// background: what auditing costs. On PostgreSQL set TEST_POSTGRES_URL; it uses the
// database named there, and leaves its tables.
func BenchmarkRecord(b *testing.B) {
	for _, engine := range []string{sqldb.SQLite, sqldb.Postgres} {
		o := sqldb.Options{Dir: b.TempDir()}
		if engine == sqldb.Postgres {
			if o.URL = os.Getenv("TEST_POSTGRES_URL"); o.URL == "" {
				b.Fatal("TEST_POSTGRES_URL is not set: scripts/testdb start")
			}
		}
		db, err := sqldb.Open(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		if err := db.Migrate(b.Context(), audit.Migrations); err != nil {
			b.Fatal(err)
		}
		log := audit.New(db, clock.System)
		ctx, stop := context.WithCancel(b.Context())
		done := make(chan struct{})
		go func() { defer close(done); log.Run(ctx, slog.New(slog.DiscardHandler)) }()
		for _, callers := range []int{1, 8, 32, 64} {
			b.Run(fmt.Sprintf("%s/callers=%d", engine, callers), func(b *testing.B) {
				var failed, longest, left atomic.Int64
				left.Store(int64(b.N))
				start := time.Now()
				var wg sync.WaitGroup
				for range callers {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							began := time.Now()
							err := db.Write(b.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
								return log.Record(ctx, tx, audit.Entry{Action: "bench.run", Target: "x", After: 1})
							})
							if err != nil {
								failed.Add(1)
							}
							if took := int64(time.Since(began)); took > longest.Load() {
								longest.Store(took)
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "entries/s")
				b.ReportMetric(float64(longest.Load())/1e6, "longest-ms")
				b.ReportMetric(float64(failed.Load()), "failed")
			})
		}
		stop()
		<-done
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
