package sqldb_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"landline/internal/sqldb"
)

const benchCallers = 64

// BenchmarkCommit compares, in the same run and on the same disk, callers that
// share commits with callers that each commit alone on a raw connection of the
// same pool (synchronous=FULL both). It reports both rates and their ratio:
//
//	go test -run '^$' -bench Commit -benchtime 20000x ./internal/sqldb
//
// The figure that carries over to another machine is the ratio.
func BenchmarkCommit(b *testing.B) {
	for _, callers := range []int{1, benchCallers} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			db := benchDB(b)
			rounds := 0
			var alone, grouped time.Duration
			for b.Loop() {
				// Short rounds, taken in turns, so that a neighbour's load meets both alike.
				alone += benchRound(b, callers, rounds, db.rawInsert)
				grouped += benchRound(b, callers, rounds, db.insert)
				rounds++
			}
			n := float64(rounds * callers * benchTurns)
			s := db.Stats()
			b.ReportMetric(n/alone.Seconds(), "alone-commits/s")
			b.ReportMetric(n/grouped.Seconds(), "grouped-writes/s")
			b.ReportMetric(alone.Seconds()/grouped.Seconds(), "ratio")
			b.ReportMetric(float64(s.Writes)/float64(s.Commits), "writes/commit")
		})
	}
}

// benchTurns is how many writes each caller makes in a round.
const benchTurns = 20

// benchRound has callers write benchTurns rows each and returns the time it took them all.
func benchRound(b *testing.B, callers, round int, write func(id string) error) time.Duration {
	var wg sync.WaitGroup
	start := time.Now()
	for c := range callers {
		wg.Go(func() {
			for i := range benchTurns {
				if err := write(fmt.Sprintf("%d-%d-%d", round, c, i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}

type benchedDB struct{ *sqldb.DB }

const benchBody = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"

func (db benchedDB) insert(id string) error {
	return db.Write(context.Background(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO grouped (id, body) VALUES ($1, $2)`, id, benchBody)
		return err
	})
}

func (db benchedDB) rawInsert(id string) error {
	_, err := db.Writer().ExecContext(context.Background(), `INSERT INTO alone (id, body) VALUES ($1, $2)`, id, benchBody)
	return err
}

func benchDB(b *testing.B) benchedDB {
	b.Helper()
	db, err := sqldb.Open(b.Context(), sqldb.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	for _, table := range []string{"alone", "grouped"} {
		if _, err := db.Writer().Exec(`CREATE TABLE ` + table + ` (id key_text NOT NULL PRIMARY KEY, body TEXT NOT NULL)`); err != nil {
			b.Fatal(err)
		}
	}
	return benchedDB{db}
}

// BenchmarkSync is what the disk allows: a write of one page and an fsync.
func BenchmarkSync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "page"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 4120)
	for b.Loop() {
		if _, err := f.Write(page); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHotRow is the worst case of SERIALIZABLE: every caller wants the same row.
func BenchmarkHotRow(b *testing.B) {
	server := os.Getenv("TEST_POSTGRES_URL")
	if server == "" {
		b.Fatal("TEST_POSTGRES_URL is not set: scripts/testdb start")
	}
	db, err := sqldb.Open(b.Context(), sqldb.Options{URL: server})
	if err != nil {
		b.Fatal(err)
	}
	table := fmt.Sprintf("bench_%d", time.Now().UnixNano())
	exec := func(text string) {
		if _, err := db.Writer().ExecContext(context.Background(), text); err != nil {
			b.Fatal(err)
		}
	}
	exec(`CREATE TABLE ` + table + ` (id TEXT PRIMARY KEY, n BIGINT NOT NULL)`)
	exec(`INSERT INTO ` + table + ` VALUES ('sum', 0)`)
	b.Cleanup(func() {
		exec(`DROP TABLE ` + table)
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	add := `UPDATE ` + table + ` SET n = n + 1 WHERE id = 'sum' RETURNING n`
	var n int64
	ctx := context.Background()
	ways := map[string]func() error{
		"serializable": func() error {
			return db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
				return tx.QueryRowContext(ctx, add).Scan(new(int64))
			})
		},
		"read-committed": func() error {
			tx, err := db.Writer().BeginTx(ctx, &sql.TxOptions{})
			if err != nil {
				return err
			}
			defer tx.Rollback()
			if err := tx.QueryRowContext(ctx, add).Scan(new(int64)); err != nil {
				return err
			}
			return tx.Commit()
		},
	}
	for name, way := range ways {
		for _, callers := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%s/callers=%d", name, callers), func(b *testing.B) {
				var failed atomic.Int64
				var took time.Duration
				for b.Loop() {
					took += benchRound(b, callers, 0, func(string) error {
						if err := way(); err != nil {
							failed.Add(1)
						}
						return nil
					})
					n += int64(callers * benchTurns)
				}
				b.ReportMetric(float64(b.N*callers*benchTurns)/took.Seconds(), "writes/s")
				b.ReportMetric(float64(failed.Load()), "failed")
			})
		}
	}
}
