package sqldb

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"modernc.org/sqlite"
)

func openConn(t *testing.T) *preparedConn {
	t.Helper()
	path := t.TempDir() + "/t.db"
	c, err := preparing{driver: &sqlite.Driver{}, dsn: sqliteDSN(path, false, true), begin: "BEGIN IMMEDIATE"}.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c.(*preparedConn)
}

func TestStatementsAreKeptWithinABound(t *testing.T) {
	c := openConn(t)
	for i := range 2 * maxPrepared {
		if _, err := c.ExecContext(t.Context(), fmt.Sprintf("SELECT %d", i), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := c.ExecContext(t.Context(), "SELECT 'hot'", nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.byText) != maxPrepared || c.recent.Len() != maxPrepared {
		t.Errorf("%d statements are kept, want %d", len(c.byText), maxPrepared)
	}
	if c.byText["SELECT 'hot'"] == nil || c.byText["SELECT 0"] != nil {
		t.Error("it is not the least recently used that goes")
	}
	for _, text := range []string{"CREATE TABLE a (b TEXT)", "PRAGMA user_version = 2", "SELECT 1; SELECT 2", "DROP TABLE a"} {
		if _, err := c.ExecContext(t.Context(), text, nil); err != nil {
			t.Fatal(err)
		}
		if c.byText[text] != nil {
			t.Errorf("%q is kept", text)
		}
	}
}

// A statement whose rows are still being read must not be started again underneath them.
func TestAStatementInsideItself(t *testing.T) {
	db, err := Open(t.Context(), Options{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := db.writer.Exec(`CREATE TABLE n (i BIGINT NOT NULL); INSERT INTO n VALUES (1), (2), (3)`); err != nil {
		t.Fatal(err)
	}
	sum := 0
	err = db.Write(t.Context(), func(ctx context.Context, tx *Tx) error {
		return each(ctx, tx, func(a int) error {
			return each(ctx, tx, func(b int) error { sum += 10*a + b; return nil })
		})
	})
	if err != nil || sum != 10*3*(1+2+3)+3*(1+2+3) {
		t.Errorf("sum = %d, %v", sum, err)
	}

	// And a change of the schema reaches the statements that are kept.
	if _, err := db.writer.Exec(`DROP TABLE n; CREATE TABLE n (pad TEXT, i BIGINT NOT NULL); INSERT INTO n VALUES ('x', 7)`); err != nil {
		t.Fatal(err)
	}
	sum = 0
	err = db.Read(t.Context(), func(ctx context.Context, q Querier) error {
		return each(ctx, q, func(a int) error { sum += a; return nil })
	})
	if err != nil || sum != 7 {
		t.Errorf("after the change: sum = %d, %v", sum, err)
	}
}

func each(ctx context.Context, q Querier, fn func(int) error) error {
	rows, err := q.QueryContext(ctx, `SELECT i FROM n ORDER BY i`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var i int
		if err := rows.Scan(&i); err != nil {
			return err
		}
		if err := fn(i); err != nil {
			return err
		}
	}
	return rows.Err()
}
