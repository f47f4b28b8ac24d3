package sqldb_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"landline/internal/problem"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// These are the places where the two engines differ by themselves. Each test
// shows that through sqldb they do not.

func TestTextKeysAreInByteOrder(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		db := open(t, things)
		want := []string{"10", "9", "Z", "a", "aB", "a_b", "b", "é"}
		for _, i := range []int{6, 3, 2, 7, 5, 4, 0, 1} {
			if err := db.Write(t.Context(), insert(want[i])); err != nil {
				t.Fatal(err)
			}
		}
		wantIDs(t, db, want...)
		err := db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
			var n int
			err := q.QueryRowContext(ctx, `SELECT COUNT(*) FROM thing WHERE id > $1 AND id < $2`, "Z", "b").Scan(&n)
			if n != 3 { // a, aB, a_b: what a page after a cursor relies on
				t.Errorf("%d keys between Z and b, want 3", n)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		t.Run("and the test would notice: plain TEXT is not on PostgreSQL", func(t *testing.T) {
			if db.Engine() != sqldb.Postgres {
				return
			}
			var less bool
			if err := db.Writer().QueryRowContext(t.Context(), `SELECT CAST('a' AS TEXT) < CAST('Z' AS TEXT)`).Scan(&less); err != nil || !less {
				t.Errorf("the test database has no linguistic collation: %v %v", less, err)
			}
		})
	})
}

func TestKeyTextIsText(t *testing.T) {
	db := testkit.SQLite(t, things)
	var kind string
	row := db.Writer().QueryRowContext(t.Context(), `INSERT INTO thing (id) VALUES (12) RETURNING typeof(id)`)
	if err := row.Scan(&kind); err != nil || kind != "text" {
		t.Errorf("key_text stores a number as %q, %v: its name must give it TEXT affinity", kind, err)
	}
}

func TestArgumentsAreBoundByNumber(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		err := open(t).Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
			var a, b, again string
			err := q.QueryRowContext(ctx, `SELECT CAST($2 AS TEXT), CAST($1 AS TEXT), CAST($2 AS TEXT)`, "one", "two").Scan(&a, &b, &again)
			if a != "two" || b != "one" || again != "two" {
				t.Errorf("got %q %q %q", a, b, again)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// A statement that looks like a script is compiled anew every time it is run.
func TestMustParseLeavesTheNextStatementsCommentsOut(t *testing.T) {
	q := sqldb.MustParse("-- of A\n\n-- name: A\n-- why\nSELECT 1; -- one\n-- of B; and more\n\n-- of B too\n\n-- name: B\nSELECT 2;\n\n  -- the end\n")
	for name, want := range map[string]string{"A": "-- why\nSELECT 1; -- one", "B": "SELECT 2"} {
		if got := q.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestMustParseWantsArgumentsInOrder(t *testing.T) {
	for text, good := range map[string]bool{
		"SELECT $1, $2, $1":                      true,
		"SELECT '$9', \"$9\" /* $9 */, $1 -- $9": true,
		"SELECT 'it''s $9', $1":                  true,
		"SELECT $2, $1":                          false,
		"SELECT $1, $3":                          false,
		"SELECT $0":                              false,
		"SELECT $":                               false,
		"SELECT ?":                               false,
		"SELECT $99999999999999999999":           false,
	} {
		func() {
			defer func() {
				if r := recover(); (r == nil) != good {
					t.Errorf("%s: %v", text, r)
				}
			}()
			sqldb.MustParse("-- name: X\n" + text + ";\n")
		}()
	}
}

func TestTextThatOneEngineRefuses(t *testing.T) {
	type name string
	bad, worse := "a\x00b", "a\xffb"
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		db := open(t, things)
		for kind, arg := range map[string]any{
			"NUL": bad, "UTF-8": worse, "pointer": &bad, "named type": name(worse), "NullString": sql.NullString{String: bad, Valid: true},
			"generic null": sql.Null[string]{V: worse, Valid: true}, "pointer to a valuer": &sql.NullString{String: bad, Valid: true},
		} {
			t.Run(kind, func(t *testing.T) {
				exec := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
					_, err := tx.ExecContext(ctx, `INSERT INTO thing (id, name) VALUES ('x', $1)`, arg)
					return err
				})
				query := db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
					rows, err := q.QueryContext(ctx, `SELECT id FROM thing WHERE name = $1`, arg)
					if err == nil {
						err = errors.Join(errors.New("accepted"), rows.Close())
					}
					return err
				})
				row := db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
					return q.QueryRowContext(ctx, `SELECT id FROM thing WHERE name = $1`, arg).Scan(new(string))
				})
				for _, err := range []error{exec, query, row} {
					wantErr(t, err, sqldb.ErrText)
					if code := problem.From(err).Code; code != problem.InvalidRequest {
						t.Errorf("a client sees %s", code)
					}
				}
			})
		}
		wantIDs(t, db)
		t.Run("bytes may hold anything", func(t *testing.T) {
			err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				var back []byte
				err := tx.QueryRowContext(ctx, `INSERT INTO thing (id, blob) VALUES ('x', $1) RETURNING blob`, []byte(bad+worse)).Scan(&back)
				if string(back) != bad+worse {
					t.Errorf("got %q", back)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	})
}

func TestValuesThatTheEnginesStoreDifferently(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		db := open(t, things)
		now := time.Now()
		for kind, arg := range map[string]any{
			"time": now, "pointer to a time": &now, "NullTime": sql.NullTime{Time: now, Valid: true}, "2^63": uint64(1) << 63,
		} {
			err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				_, err := tx.ExecContext(ctx, `INSERT INTO thing (id, n) VALUES ('x', $1)`, arg)
				return err
			})
			if err == nil {
				t.Errorf("%s was taken as a BIGINT", kind)
			}
		}
		wantIDs(t, db)
	})
}

func TestTimesBooleansAndNulls(t *testing.T) {
	at := time.Date(2026, 11, 23, 1, 2, 3, 456_000_000, time.FixedZone("", 7200))
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		db := open(t, things)
		err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			for _, r := range []struct {
				id   string
				name any
				n    int64
				flag bool
			}{{"a", nil, sqldb.Millis(at), true}, {"b", "named", 0, false}} {
				if _, err := tx.ExecContext(ctx, `INSERT INTO thing (id, name, n, flag) VALUES ($1, $2, $3, $4)`, r.id, r.name, r.n, r.flag); err != nil {
					return err
				}
			}
			var ms int64
			var flag bool
			if err := tx.QueryRowContext(ctx, `SELECT n, flag FROM thing WHERE flag = $1`, true).Scan(&ms, &flag); err != nil {
				return err
			}
			if got := sqldb.Time(ms); !got.Equal(at) || got.Location() != time.UTC || !flag {
				t.Errorf("got %v %v", got, flag)
			}
			var last string
			err := tx.QueryRowContext(ctx, `SELECT id FROM thing ORDER BY name NULLS FIRST LIMIT 1`).Scan(&last)
			if last != "a" {
				t.Errorf("NULLS FIRST gave %q", last)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	if v := sqldb.NullMillis(time.Time{}); v.Valid {
		t.Error("the zero time is not NULL")
	}
	if v := sqldb.NullMillis(at); !v.Valid || v.Int64 != at.UnixMilli() {
		t.Errorf("got %+v", v)
	}
}

func TestIn(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		db := open(t, things)
		for _, id := range []string{"a", "b", `quo"te`, "é", "1"} {
			if err := db.Write(t.Context(), insert(id)); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range [][2][]string{
			{{"a", "é", "none"}, {"a", "é"}}, {{`quo"te`, "1"}, {"1", `quo"te`}}, {{}, nil}, {nil, nil}, {{"A"}, nil},
		} {
			var got []string
			err := db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
				rows, err := q.QueryContext(ctx, `SELECT id FROM thing WHERE n = $1 AND `+db.In("id", 2)+` ORDER BY id`, 0, sqldb.InArg(c[0]))
				if err != nil {
					return err
				}
				defer rows.Close()
				for rows.Next() {
					var id string
					if err := rows.Scan(&id); err != nil {
						return err
					}
					got = append(got, id)
				}
				return rows.Err()
			})
			if err != nil || !slices.Equal(got, c[1]) {
				t.Errorf("in %q: %q, %v; want %q", c[0], got, err, c[1])
			}
		}
		for _, bad := range []string{"a\x00b", "a\xffb"} {
			err := db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
				return q.QueryRowContext(ctx, `SELECT id FROM thing WHERE `+db.In("id", 1), sqldb.InArg([]string{"a", bad})).Scan(new(string))
			})
			wantErr(t, err, sqldb.ErrText)
		}
	})
}

func TestPrepareAllFindsWhatAnEngineRefuses(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		db := open(t, things)
		good := sqldb.MustParse("-- name: Get\nSELECT n FROM thing WHERE id = $1;\n-- name: Put\nINSERT INTO thing (id, n) VALUES ($1, $2)\n  ON CONFLICT (id) DO UPDATE SET n = excluded.n;\n")
		if err := sqldb.PrepareAll(t.Context(), db, good); err != nil {
			t.Error(err)
		}
		bad := sqldb.MustParse("-- name: Misspelt\nSELECT nn FROM thing;\n-- name: NoTable\nSELECT 1 FROM things;\n")
		err := sqldb.PrepareAll(t.Context(), db, bad)
		if err == nil || !strings.Contains(err.Error(), "Misspelt") || !strings.Contains(err.Error(), "NoTable") {
			t.Errorf("got %v", err)
		}
	})
}

func TestReadSnapshotSeesOneState(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		db := open(t, things)
		count := func(ctx context.Context, q sqldb.Querier) (n int) {
			if err := q.QueryRowContext(ctx, `SELECT COUNT(*) FROM thing`).Scan(&n); err != nil {
				t.Error(err)
			}
			return n
		}
		err := db.ReadSnapshot(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
			before := count(ctx, q)
			if err := db.Write(ctx, insert("meanwhile")); err != nil {
				return err
			}
			if after := count(ctx, q); before != 0 || after != 0 {
				t.Errorf("the snapshot saw %d, then %d", before, after)
			}
			_, err := q.ExecContext(ctx, `DELETE FROM thing`)
			if err == nil {
				t.Error("a snapshot could write")
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		wantIDs(t, db, "meanwhile")
	})
}

func TestReadersOfSQLiteCannotWrite(t *testing.T) {
	db := testkit.SQLite(t, things)
	err := db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
		_, err := q.ExecContext(ctx, `INSERT INTO thing (id) VALUES ('x')`)
		return err
	})
	wantErr(t, err, sqldb.ErrUnavailable)
	wantIDs(t, db)
}

func TestPragmasHoldOnEveryConnection(t *testing.T) {
	t.Run("durable", func(t *testing.T) { checkPragmas(t, sqldb.Options{}, "2") })
	t.Run("relaxed", func(t *testing.T) { checkPragmas(t, sqldb.Options{Relaxed: true}, "1") })
}

func checkPragmas(t *testing.T, o sqldb.Options, synchronous string) {
	o.Dir = t.TempDir()
	db := testkit.Open(t, o)
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": synchronous, "foreign_keys": "1", "busy_timeout": "5000"} {
		var got string
		if err := db.Writer().QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("writer: %s = %q, %v, want %q", pragma, got, err, want)
		}
		err := db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
			return q.QueryRowContext(ctx, "PRAGMA "+pragma).Scan(&got)
		})
		if err != nil || got != want {
			t.Errorf("reader: %s = %q, %v, want %q", pragma, got, err, want)
		}
	}
}

// A trigger that refuses a change is a constraint to both engines.
func TestATriggerThatRefuses(t *testing.T) {
	refusing := versions(map[string]string{
		"0001_log": `CREATE TABLE log (id key_text NOT NULL PRIMARY KEY);
-- +goose StatementBegin
CREATE TRIGGER log_stays BEFORE DELETE ON log BEGIN SELECT RAISE(ABORT, 'append only'); END;
-- +goose StatementEnd
`,
		"0001_log.postgres": `CREATE TABLE log (id key_text NOT NULL PRIMARY KEY);
-- +goose StatementBegin
CREATE FUNCTION log_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'append only'; END $$;
-- +goose StatementEnd
CREATE TRIGGER log_stays BEFORE DELETE ON log FOR EACH ROW EXECUTE FUNCTION log_refuse();
`})
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		db := open(t, refusing)
		err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO log (id) VALUES ('a')`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		err = db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, `DELETE FROM log`)
			return err
		})
		wantErr(t, err, sqldb.ErrConflict)
	})
}
