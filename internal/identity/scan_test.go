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

// arguments is how many a statement has.
func arguments(text string) (n int) {
	for strings.Contains(text, "$"+strconv.Itoa(n+1)) {
		n++
	}
	return n
}
