package identity_test

import (
	"strconv"
	"strings"
	"testing"

	"landline/internal/identity"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// TestNoStatementReadsAWholeTable asks SQLite how it runs every statement: one
// that reads a table from end to end costs more with every user there is.
func TestNoStatementReadsAWholeTable(t *testing.T) {
	small := map[string]bool{"EraseCredentialUses": true} // of the last minutes alone, and erasures are rare
	db := testkit.SQLite(t, identity.Migrations)
	for name, text := range identity.Queries {
		for _, detail := range sqlitePlan(t, db, text) {
			if strings.HasPrefix(detail, "SCAN") && !strings.Contains(detail, "USING") && !small[name] {
				t.Errorf("%s: %s", name, detail)
			}
		}
	}
}

// TestListsAreReadInTheOrderOfAnIndex asks PostgreSQL whether a list that can be
// long is read by an index, without a sort: a small table it would read whole.
func TestListsAreReadInTheOrderOfAnIndex(t *testing.T) {
	db := testkit.Postgres(t, identity.Migrations)
	for name, want := range map[string]struct {
		index string
		args  []string
	}{
		"UsersIdle":                 {"app_user_pkey", []string{"$1", "0", "$2", "0", "$3", "0", "$4", "''", "$5", "500"}},
		"IdentitiesVerifiedByEmail": {"identity_email_verified", []string{"$1", "'e'", "$2", "20"}},
	} {
		plan := postgresPlan(t, db, strings.NewReplacer(want.args...).Replace(identity.Queries.Get(name)))
		if !strings.Contains(plan, want.index) || strings.Contains(plan, "Seq Scan") || strings.Contains(plan, "Sort") {
			t.Errorf("%s:\n%s", name, plan)
		}
	}
}

// TestVerifiedAddressesHaveAnIndex asks SQLite: those of an address that nobody
// has shown must cost nothing.
func TestVerifiedAddressesHaveAnIndex(t *testing.T) {
	plan := sqlitePlan(t, testkit.SQLite(t, identity.Migrations), identity.Queries.Get("IdentitiesVerifiedByEmail"))
	if len(plan) != 1 || !strings.Contains(plan[0], "USING INDEX identity_email_verified") {
		t.Errorf("%q", plan)
	}
}

func sqlitePlan(t *testing.T, db *sqldb.DB, text string) (plan []string) {
	t.Helper()
	rows, err := db.Writer().QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+text, make([]any, arguments(text))...)
	if err != nil {
		t.Fatal(text, err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		plan = append(plan, detail)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(text, err)
	}
	return plan
}

func postgresPlan(t *testing.T, db *sqldb.DB, text string) (plan string) {
	t.Helper()
	tx, err := db.Writer().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback() //nolint:errcheck // it has only read
	if _, err := tx.ExecContext(t.Context(), "SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off"); err != nil {
		t.Fatal(err)
	}
	rows, err := tx.QueryContext(t.Context(), "EXPLAIN "+text)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
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
	return plan
}

// arguments is how many a statement has.
func arguments(text string) (n int) {
	for strings.Contains(text, "$"+strconv.Itoa(n+1)) {
		n++
	}
	return n
}
