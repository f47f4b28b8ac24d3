package sqldb_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"testing"
	"time"

	"landline/internal/sqldb"
	"landline/internal/testkit"
)

func TestPipeline(t *testing.T) {
	db := testkit.Open(t, sqldb.Options{URL: testkit.PostgresURL(t)}, things)
	add := func(id string) sqldb.Statement {
		return sqldb.Statement{Text: `INSERT INTO thing (id, name, n) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
			Args: []any{id, sql.NullString{}, int64(7)}}
	}
	run := func(all ...sqldb.Statement) (touched []int64, err error) {
		return touched, db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			touched, err = tx.Pipeline(ctx, all)
			return err
		})
	}
	count := func(want int) {
		t.Helper()
		if n, err := scalar[int](t, db, `SELECT COUNT(*) FROM thing`); err != nil || n != want {
			t.Errorf("%d rows, %v, want %d", n, err, want)
		}
	}
	if touched, err := run(add("a"), add("b"), sqldb.Statement{Text: `UPDATE thing SET n = 8`}); err != nil || !slices.Equal(touched, []int64{1, 1, 2}) {
		t.Errorf("touched %v, %v", touched, err)
	}
	count(2)
	if touched, err := run(add("a"), add("c")); err != nil || touched[0] != 0 {
		t.Errorf("a row that is there: touched %v, %v", touched, err)
	}
	before, err := scalar[int](t, db, `SELECT COUNT(*) FROM thing`)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]sqldb.Statement{
		"a constraint": {Text: `INSERT INTO thing (id, n) VALUES ('a', 1)`},
		"a text":       {Text: `INSERT INTO thing (id, n) VALUES ($1, 1)`, Args: []any{"a\x00"}},
		"a column":     {Text: `UPDATE thing SET nn = 1`},
	} {
		if _, err := run(add("d"), bad, add("e")); err == nil {
			t.Errorf("%s: no error", name)
		}
		count(before)
	}
	if _, err := run(add("d"), sqldb.Statement{Text: `INSERT INTO thing (id, n) VALUES ('a', 1)`}); !errors.Is(err, sqldb.ErrConflict) {
		t.Errorf("error %v, want ErrConflict", err)
	}
}

// TestPipelineAfterItsTime: statements that pass by database/sql must not run
// outside the transaction that database/sql has undone.
func TestPipelineAfterItsTime(t *testing.T) {
	db := testkit.Open(t, sqldb.Options{URL: testkit.PostgresURL(t), WriteTimeout: 50 * time.Millisecond}, things)
	var inside error
	err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		<-ctx.Done()
		_, inside = tx.Pipeline(ctx, []sqldb.Statement{{Text: `INSERT INTO thing (id, n) VALUES ('late', 1)`}})
		return inside
	})
	if err == nil || inside == nil {
		t.Errorf("errors %v, %v, want both", err, inside)
	}
	if n, err := scalar[int](t, db, `SELECT COUNT(*) FROM thing`); err != nil || n != 0 {
		t.Errorf("%d rows, %v", n, err)
	}
}
