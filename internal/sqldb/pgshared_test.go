package sqldb_test

import (
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// sure adds a thing or fails; a group of such is sent with its commit.
func sure(id string) []sqldb.Statement {
	return []sqldb.Statement{{Text: `INSERT INTO thing (id, n) VALUES ($1, $2)`, Args: []any{id, 1}}}
}

func surePart(id, thing string) []sqldb.Statement {
	return []sqldb.Statement{{Text: `INSERT INTO part (id, thing) VALUES ($1, $2)`, Args: []any{id, thing}}}
}

func TestALineCutAtRowsWithTheirCommit(t *testing.T) {
	p, proxied := newProxy(t, testkit.PostgresURL(t))
	db := testkit.Open(t, sqldb.Options{URL: proxied, MaxConns: 2}, things)
	if _, err := db.WriteAll(t.Context(), sure("begin")); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"before commit", "after commit"} {
		p.cutAt("the row "+when, when)
		_, err := db.WriteAll(t.Context(), sure("the row "+when))
		wantErr(t, err, sqldb.ErrUncertain)
		wantErr(t, err, sqldb.ErrUnavailable)
		p.cutAt("", "")
	}
	for i := range 3 { // all that is open is cut, which nobody has noticed
		if _, err := db.WriteAll(t.Context(), sure(fmt.Sprint("unnoticed ", i))); err != nil {
			t.Errorf("with the line back: %v", err)
		}
		p.drop()
	}
	wantIDs(t, db, "begin", "the row after commit", "unnoticed 0", "unnoticed 1", "unnoticed 2")
}

// Of rows that go with their commit one breaks a constraint, at once or at the
// commit; the others must not notice.
func TestWhoFailsAmongRowsFailsAlone(t *testing.T) {
	for name, poison := range map[string][]sqldb.Statement{
		"a constraint":                   sure("before"),
		"a constraint of the first":      sure("first"),
		"a deferred constraint":          surePart("p", "nobody"),
		"another form, a constraint":     {{Text: `INSERT INTO thing (id) VALUES ($1)`, Args: []any{"before"}}},
		"one that cannot be sent":        {{Text: `INSERT INTO thing (id, n) VALUES ($1, $2)`, Args: []any{"poison"}}},
		"one that the server cannot use": {{Text: `INSERT INTO nowhere (id) VALUES ($1)`, Args: []any{"poison"}}},
	} {
		t.Run(name, func(t *testing.T) {
			sharing(t, func(t *testing.T, db *sqldb.DB) {
				got := together(t, db, sure("before"), poison, sure("after"), append(sure("with"), surePart("its", "with")...))
				for i, v := range got {
					if i == 1 && v.err == nil || i != 1 && v != (verdict{sqldb.Met, nil}) {
						t.Errorf("caller %d got %d, %v", i, v.unmet, v.err)
					}
				}
				wantIDs(t, db, "after", "before", "first", "with")
			})
		})
	}
}

// Values of every type, and NULLs of every type, arrive in one statement as they
// would alone.
func TestRowsOfManyCallersKeepTheirValues(t *testing.T) {
	db := testkit.Open(t, sqldb.Options{URL: testkit.PostgresURL(t), MaxConns: 1}, things)
	n := int64(7)
	for round, rows := range [][][]any{
		{{"text", 1 << 40, true, []byte{0, 255}}, {"", int64(-1), false, []byte{}}, {`{"a","b"},NULL\ 'ł'`, int32(5), true, []byte("{x}")}},
		{{sql.NullString{}, sql.NullInt64{Int64: 2, Valid: true}, sql.NullBool{Valid: true}, nil}, {sql.NullString{String: "s", Valid: true}, 3, sql.NullBool{Bool: true, Valid: true}, []byte(nil)}},
		{{nil, 1, true, nil}, {nil, 2, false, nil}},                                // columns whose type nobody knows
		{{"a", &n, true, nil}, {"b", 2, false, nil}},                               // one that no array is made of
		{{"a", 1, "true", nil}, {"b", 2, false, nil}, {"c", 3, true, []byte("c")}}, // columns of more than one type
	} {
		for _, tail := range []string{"", " ON CONFLICT DO NOTHING"} {
			t.Run(fmt.Sprint(round, tail), func(t *testing.T) {
				if _, err := db.Writer().ExecContext(t.Context(), `DELETE FROM thing`); err != nil {
					t.Fatal(err)
				}
				var all [][]sqldb.Statement
				for i, values := range rows {
					all = append(all, []sqldb.Statement{{
						Text: `INSERT INTO thing (id, name, n, flag, blob) VALUES ($1, $2, $3, $4, $5)` + tail,
						Args: append([]any{fmt.Sprint(i)}, values...),
					}})
				}
				before := db.Stats().Commits
				for i, v := range together(t, db, all...) {
					if v != (verdict{sqldb.Met, nil}) {
						t.Errorf("row %d: %v", i, v)
					}
				}
				if n := db.Stats().Commits - before; n > 2 && round < 3 {
					t.Errorf("%d commits", n)
				}
				for i, values := range rows {
					same, err := scalar[bool](t, db, fmt.Sprintf(`SELECT EXISTS (SELECT 1 FROM thing WHERE id = '%d' AND %s)`, i, equals(values)))
					if err != nil || !same {
						t.Errorf("row %d is not %v: %v", i, values, err)
					}
				}
			})
		}
	}
}

// equals is a condition that holds for a thing of these values.
func equals(values []any) string {
	out := "TRUE"
	for i, name := range []string{"name", "n", "flag", "blob"} {
		literal := "NULL"
		switch v := values[i].(type) {
		case string:
			literal = "$x$" + v + "$x$"
		case []byte:
			if v != nil {
				literal = fmt.Sprintf(`'\x%x'`, v)
			}
		case sql.NullString:
			if v.Valid {
				literal = "$x$" + v.String + "$x$"
			}
		case sql.NullInt64:
			literal = fmt.Sprint(v.Int64)
		case sql.NullBool:
			literal = fmt.Sprint(v.Bool)
		case *int64:
			literal = fmt.Sprint(*v)
		case nil:
		default:
			literal = fmt.Sprint(v)
		}
		out += fmt.Sprintf(" AND %s IS NOT DISTINCT FROM %s", name, literal)
	}
	return out
}

// What is second in a group of rows can read what was first.
func TestTheSecondOfARowReadsTheFirst(t *testing.T) {
	db := testkit.Open(t, sqldb.Options{URL: testkit.PostgresURL(t), MaxConns: 1}, things)
	var lost int
	for _, v := range together(t, db, sure("a"), sure("b"), sure("a"), sure("c"), sure("a")) {
		switch {
		case errors.Is(v.err, sqldb.ErrConflict):
			lost++
		case v != (verdict{sqldb.Met, nil}):
			t.Error(v)
		}
	}
	if lost != 2 {
		t.Errorf("%d have lost", lost)
	}
	wantIDs(t, db, "a", "b", "c", "first")
}
