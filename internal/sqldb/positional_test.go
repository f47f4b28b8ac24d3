package sqldb

import "testing"

func TestPositional(t *testing.T) {
	for text, want := range map[string]string{
		`SELECT 1`:                             `SELECT 1`,
		`INSERT INTO t (a, b) VALUES ($1, $2)`: `INSERT INTO t (a, b) VALUES (?, ?)`,
		`SELECT $1 /* $2 */ -- $3` + "\n" + `, '$4', "$5", $2`: `SELECT ? /* $2 */ -- $3` + "\n" + `, '$4', "$5", ?`,
		`SELECT $1, $2, $1`:           `SELECT $1, $2, $1`,
		`SELECT $2, $1`:               `SELECT $2, $1`,
		`SELECT $1, ?`:                `SELECT $1, ?`,
		`SELECT a$1, $1`:              `SELECT a$1, ?`,
		`SELECT $1a`:                  `SELECT $1a`,
		`SELECT $`:                    `SELECT $`,
		`SELECT :a, $1`:               `SELECT :a, $1`,
		`SELECT 'it''s $1', $1`:       `SELECT 'it''s $1', ?`,
		`SELECT '$1`:                  `SELECT '$1`,
		`SELECT $1,$2,$3,$4,$5`:       `SELECT ?,?,?,?,?`,
		`SELECT $9223372036854775808`: `SELECT $9223372036854775808`,
	} {
		if got := positional(text); got != want {
			t.Errorf("%s\nbecomes %s\nwant    %s", text, got, want)
		}
	}
}
