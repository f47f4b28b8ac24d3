package sqldb_test

import (
	"context"
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/sqldb"
	"landline/internal/testkit"
)

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	db := testkit.Open(t, sqldb.Options{Dir: t.TempDir(), Metrics: reg}, things)
	testkit.Open(t, sqldb.Options{Dir: t.TempDir(), File: "telemetry.db", Metrics: reg}) // a second database on one registry
	for _, id := range []string{"a", "a"} {
		if err := db.Write(t.Context(), insert(id)); err != nil && !errors.Is(err, sqldb.ErrConflict) {
			t.Fatal(err)
		}
	}
	if err := db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
		return q.QueryRowContext(ctx, `SELECT id FROM thing WHERE id = 'none'`).Scan(new(string))
	}); !errors.Is(err, sqldb.ErrNotFound) {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			labels := ""
			for _, l := range m.Label {
				labels += "," + l.GetValue()
			}
			got[f.GetName()+labels] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	if n, ok := got["landline_sqldb_errors_total,not_found,main.db"]; ok {
		t.Errorf("a row that was not found counted %v times as an error", n)
	}
	for name, want := range map[string]float64{
		"landline_sqldb_commit_group_writes,main.db":      1,
		"landline_sqldb_commit_duration_seconds,main.db":  1,
		"landline_sqldb_write_wait_seconds,main.db":       2,
		"landline_sqldb_queue_writes,main.db":             0,
		"landline_sqldb_commit_group_writes,telemetry.db": 0,
		"landline_sqldb_errors_total,conflict,main.db":    1,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s = %v, %v, want %v", name, v, ok, want)
		}
	}
}

func TestTheLogIsLookedAfter(t *testing.T) {
	reg := prometheus.NewRegistry()
	db := testkit.Open(t, sqldb.Options{Dir: t.TempDir(), Metrics: reg}, things)
	var most int64
	for i := range 60 { // 60 × 100 pages, one commit each
		err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO thing (id, n, blob) VALUES (CAST($1 AS TEXT), $1, $2)`, i, make([]byte, 400_000))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, db.Stats().WALBytes)
	}
	if most > 24<<20 || most < 15<<20 {
		t.Errorf("the log grew to %d bytes; it is to be moved into the file from about 16 MiB on", most)
	}
	if err := db.Checkpoint(t.Context()); err != nil {
		t.Error(err)
	}
	if n := db.Stats().WALBytes; n != 0 {
		t.Errorf("after Checkpoint the log has %d bytes", n)
	}
}
