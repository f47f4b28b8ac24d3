package sqldb

import (
	"fmt"
	"strings"
	"testing"
)

func TestRowsAreToldFromOtherStatements(t *testing.T) {
	for text, want := range map[string]string{
		"INSERT INTO t (a, b) VALUES ($1, $2)":                             "INSERT INTO t (a, b) SELECT ($1::TEXT[])[i], ($2::BIGINT[])[i] FROM generate_subscripts($1::TEXT[], 1) i",
		"INSERT INTO t (a)\nVALUES ($1)\nON CONFLICT DO NOTHING;":          "INSERT INTO t (a)\nSELECT ($1::TEXT[])[i] FROM generate_subscripts($1::TEXT[], 1) i\nON CONFLICT DO NOTHING",
		"INSERT INTO t (a, b) VALUES ($2, $1)":                             "",
		"INSERT INTO t (a, b) VALUES ($1, $1)":                             "",
		"INSERT INTO t (a, b) VALUES ($1, 'x')":                            "",
		"INSERT INTO t (a, b) VALUES ($1, $2) RETURNING a":                 "",
		"INSERT INTO t (a) VALUES ($1) ON CONFLICT (a) DO UPDATE SET a=$1": "",
		"INSERT INTO t (a) SELECT $1":                                      "",
		"UPDATE t SET a = $1":                                              "",
		"":                                                                 "",
	} {
		got := ""
		if r := rowOf(text); r != nil {
			got = r.rows("tn"[:r.columns])
			if r.certain() != !strings.Contains(text, "CONFLICT") {
				t.Errorf("%q: certain is %t", text, r.certain())
			}
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got, want := rowOf("INSERT INTO t (a, b) VALUES ($1, $2)").rows("0y"), "INSERT INTO t (a, b) SELECT NULL, ($1::BYTEA[])[i] FROM generate_subscripts($1::BYTEA[], 1) i"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Every statement of every caller is sent once, those of one caller in their
// order, and each argument stands where its place is.
func TestCallsLoseNothing(t *testing.T) {
	const a, b = "INSERT INTO a (x, y) VALUES ($1, $2)", "INSERT INTO b (x) VALUES ($1)"
	caller := func(texts ...string) *pending {
		p := &pending{}
		for i, text := range texts {
			args := []any{fmt.Sprintf("%p-%d", p, i)}
			if text == a {
				args = append(args, "second")
			}
			p.all = append(p.all, Statement{Text: text, Args: args})
		}
		return p
	}
	for _, n := range []int{0, 1, 2, 3, 7, 64, 65, 200} {
		ps := []*pending{caller("UPDATE t SET x = $1"), caller()}
		for range n {
			ps = append(ps, caller(a, b))
		}
		ps = append(ps, caller(b, a), caller(b), caller("DELETE FROM t WHERE x = $1", a))
		for _, merge := range []bool{false, true} {
			all := calls(ps, merge)
			next := map[*pending]int{}
			for _, c := range all {
				if !strings.Contains(c.text, fmt.Sprint("$", len(c.args))) || strings.Contains(c.text, fmt.Sprint("$", len(c.args)+1)) {
					t.Fatalf("%d arguments for %s", len(c.args), c.text)
				}
				for i, p := range c.of {
					first := c.args[0]
					if a, merged := first.(array); merged {
						first = a.Index(i)
					}
					if next[p] != c.index || first != p.all[c.index].Args[0] {
						t.Fatalf("statement %d of a caller comes as number %d, with %v", c.index, next[p], first)
					}
					next[p]++
				}
			}
			for _, p := range ps {
				if next[p] != len(p.all) {
					t.Errorf("%d of %d statements are sent", next[p], len(p.all))
				}
			}
			if merge && n == 64 && len(all) != 1+2+2+1+2 {
				t.Errorf("%d calls for %d callers", len(all), len(ps))
			}
		}
	}
}
