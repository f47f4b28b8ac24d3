package identity_test

import (
	"strconv"
	"strings"
	"testing"

	"landline/internal/identity"
	"landline/internal/testkit"
)

// TestNoStatementReadsAWholeTable asks SQLite how it runs every statement: one
// that reads a table from end to end costs more with every user there is.
func TestNoStatementReadsAWholeTable(t *testing.T) {
	small := map[string]bool{"EraseCredentialUses": true} // of the last minutes alone, and erasures are rare
	db := testkit.SQLite(t, identity.Migrations)
	for name, text := range identity.Queries {
		rows, err := db.Writer().QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+text, make([]any, arguments(text))...)
		if err != nil {
			t.Fatal(name, err)
		}
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(detail, "SCAN") && !strings.Contains(detail, "USING") && !small[name] {
				t.Errorf("%s: %s", name, detail)
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(name, err)
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUsersAreWalkedByTheirKey asks PostgreSQL whether a page of all users can be
// read by the primary key, without a sort: a small table it would read whole.
func TestUsersAreWalkedByTheirKey(t *testing.T) {
	db := testkit.Postgres(t, identity.Migrations)
	tx, err := db.Writer().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback() //nolint:errcheck // it has only read
	if _, err := tx.ExecContext(t.Context(), "SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off"); err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("$1", "0", "$2", "0", "$3", "0", "$4", "''", "$5", "500").Replace(identity.Queries.Get("UsersIdle"))
	rows, err := tx.QueryContext(t.Context(), "EXPLAIN "+text)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	plan := ""
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		plan += line + "\n"
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(plan, "app_user_pkey") || strings.Contains(plan, "Seq Scan") || strings.Contains(plan, "Sort") {
		t.Error(plan)
	}
}

// arguments is how many a statement has.
func arguments(text string) (n int) {
	for strings.Contains(text, "$"+strconv.Itoa(n+1)) {
		n++
	}
	return n
}
