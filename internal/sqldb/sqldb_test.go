package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/fstest"

	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// things is the schema that these tests write to.
var things = sqldb.Migrations{Module: "thing", FS: fstest.MapFS{"0001_thing.sql": &fstest.MapFile{Data: []byte(`-- +goose Up
CREATE TABLE thing (
  id    key_text NOT NULL PRIMARY KEY,
  name  TEXT,
  n     BIGINT NOT NULL DEFAULT 0,
  flag  BOOLEAN NOT NULL DEFAULT FALSE,
  blob  BYTEA
);
CREATE TABLE part (
  id    key_text NOT NULL PRIMARY KEY,
  thing key_text NOT NULL REFERENCES thing (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
);
`)}}}

func insert(id string) func(context.Context, *sqldb.Tx) error {
	return func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO thing (id) VALUES ($1)`, id)
		return err
	}
}

func ids(t *testing.T, db *sqldb.DB) (out []string) {
	t.Helper()
	err := db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
		rows, err := q.QueryContext(ctx, `SELECT id FROM thing ORDER BY id`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			out = append(out, id)
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("error = %v, want %v", got, want)
	}
}

func wantIDs(t *testing.T, db *sqldb.DB, want ...string) {
	t.Helper()
	if got := ids(t, db); !slices.Equal(got, want) {
		t.Errorf("things = %q, want %q", got, want)
	}
}

func TestWrite(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		db := open(t, things)
		ctx := t.Context()
		fault := errors.New("caller's own")

		t.Run("is there when it returns", func(t *testing.T) {
			if err := db.Write(ctx, insert("a")); err != nil {
				t.Fatal(err)
			}
			wantIDs(t, db, "a")
		})
		t.Run("an error undoes everything", func(t *testing.T) {
			err := db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
				return errors.Join(insert("b")(ctx, tx), fault)
			})
			wantErr(t, err, fault)
			wantIDs(t, db, "a")
		})
		t.Run("a panic is an error and the next write works", func(t *testing.T) {
			err := db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
				if err := insert("c")(ctx, tx); err != nil {
					return err
				}
				panic("boom")
			})
			if err == nil {
				t.Error("a panic was no error")
			}
			wantIDs(t, db, "a")
		})
		t.Run("Goexit undoes and the next write works", func(t *testing.T) {
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				err := db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
					if err := insert("d")(ctx, tx); err != nil {
						return err
					}
					runtime.Goexit()
					return nil
				})
				t.Errorf("returned %v after Goexit", err)
			}()
			<-gone
			if err := db.Write(ctx, insert("e")); err != nil {
				t.Fatal(err)
			}
			wantIDs(t, db, "a", "e")
		})
		t.Run("hooks run once, after a commit only", func(t *testing.T) {
			var hooks []string
			hook := func(name string, err error) func(context.Context, *sqldb.Tx) error {
				return func(ctx context.Context, tx *sqldb.Tx) error {
					tx.OnCommit(func() { hooks = append(hooks, name); wantIDs(t, db, "a", "e", name) })
					return errors.Join(insert(name)(ctx, tx), err)
				}
			}
			wantErr(t, db.Write(ctx, hook("f", fault)), fault)
			if err := db.Write(ctx, hook("g", nil)); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(hooks, []string{"g"}) {
				t.Errorf("hooks = %q", hooks)
			}
		})
		t.Run("a hook that panics does not make it fail", func(t *testing.T) {
			err := db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
				tx.OnCommit(func() { panic("hook") })
				return insert("h")(ctx, tx)
			})
			if err != nil {
				t.Error(err)
			}
		})
	})
}

func TestErrorsAreTheSameOnBothEngines(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		db := open(t, things)
		if err := db.Write(t.Context(), insert("a")); err != nil {
			t.Fatal(err)
		}
		exec := func(text string, args ...any) func(context.Context, *sqldb.Tx) error {
			return func(ctx context.Context, tx *sqldb.Tx) error {
				_, err := tx.ExecContext(ctx, text, args...)
				return err
			}
		}
		for name, c := range map[string]struct {
			fn   func(context.Context, *sqldb.Tx) error
			want error
		}{
			"primary key": {insert("a"), sqldb.ErrConflict},
			"not null":    {exec(`INSERT INTO thing (id, n) VALUES ($1, $2)`, "x", nil), sqldb.ErrConflict},
			"foreign key": {exec(`INSERT INTO part (id, thing) VALUES ($1, $2)`, "p", "nobody"), sqldb.ErrConflict},
			"no row": {func(ctx context.Context, tx *sqldb.Tx) error {
				var id string
				return tx.QueryRowContext(ctx, `SELECT id FROM thing WHERE id = $1`, "none").Scan(&id)
			}, sqldb.ErrNotFound},
			"no row, wrapped": {func(ctx context.Context, tx *sqldb.Tx) error {
				var id string
				return fmt.Errorf("look: %w", tx.QueryRowContext(ctx, `SELECT id FROM thing WHERE id = $1`, "none").Scan(&id))
			}, sqldb.ErrNotFound},
		} {
			t.Run(name, func(t *testing.T) { wantErr(t, db.Write(t.Context(), c.fn), c.want) })
		}
		wantIDs(t, db, "a")
	})
}

// PostgreSQL ends a transaction with its first failed statement; SQLite must too.
func TestAFailedStatementEndsTheTransaction(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		db := open(t, things)
		if err := db.Write(t.Context(), insert("a")); err != nil {
			t.Fatal(err)
		}
		t.Run("for the statements after it", func(t *testing.T) {
			err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				if insert("a")(ctx, tx) == nil {
					t.Error("a second a was taken")
				}
				return insert("b")(ctx, tx)
			})
			wantErr(t, err, sqldb.ErrConflict)
		})
		t.Run("even when the function drops the error", func(t *testing.T) {
			err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				if err := insert("c")(ctx, tx); err != nil {
					return err
				}
				var id string
				if tx.QueryRowContext(ctx, `INSERT INTO thing (id) VALUES ('a') RETURNING id`).Scan(&id) == nil {
					t.Error("a second a was taken")
				}
				return nil
			})
			wantErr(t, err, sqldb.ErrConflict)
		})
		wantIDs(t, db, "a")
	})
}

func TestWritesBehaveAsIfOneAfterTheOther(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		db := open(t, things)
		if err := db.Write(t.Context(), insert("sum")); err != nil {
			t.Fatal(err)
		}
		const workers, turns = 16, 6
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for i := range turns {
					// Reads, decides and writes without locking: an update would be lost
					// (sum), and two rows with one number written (write skew), if others came between.
					err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
						var n, rows int64
						if err := tx.QueryRowContext(ctx, `SELECT n FROM thing WHERE id = 'sum'`).Scan(&n); err != nil {
							return err
						}
						if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM part`).Scan(&rows); err != nil {
							return err
						}
						if _, err := tx.ExecContext(ctx, `UPDATE thing SET n = $1 WHERE id = 'sum'`, n+1); err != nil {
							return err
						}
						_, err := tx.ExecContext(ctx, `INSERT INTO part (id, thing) VALUES ($1, 'sum')`, fmt.Sprintf("%06d-%d-%d", rows, w, i))
						return err
					})
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		err := db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
			var n, numbers int64
			if err := q.QueryRowContext(ctx, `SELECT n, (SELECT COUNT(DISTINCT substr(id, 1, 6)) FROM part) FROM thing WHERE id = 'sum'`).Scan(&n, &numbers); err != nil {
				return err
			}
			if n != workers*turns || numbers != workers*turns {
				t.Errorf("sum = %d, different numbers = %d, want %d of both", n, numbers, workers*turns)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}
