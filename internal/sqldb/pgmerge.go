package sqldb

import (
	"database/sql"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgtype"
)

// errMerged says that of several callers' rows in one statement not all were
// inserted: nobody knows whose, so that each needs a statement of its own.
var errMerged = errors.New("sqldb: not every row of several callers was inserted")

// call is one statement as it is sent: of one caller, or of several who insert a
// row each into the same table.
type call struct {
	text  string
	args  []any
	of    []*pending
	index int // of the statement among those of each caller

	certain bool // it inserts its rows or fails: no trigger takes one back
}

// calls lists what is sent for ps. With merge, rows of callers who insert the
// same forms of rows go together: one statement of 32 rows costs the server a
// tenth of 32 statements. Those of one caller stay in their order.
func calls(ps []*pending, merge bool) (all []call) {
	if merge {
		var alike [][]*pending
		if alike, ps = byForm(ps); len(alike) > 0 {
			for _, same := range alike {
				if one, ok := merged(same); ok {
					all = append(all, one...)
				} else {
					ps = append(ps, same...)
				}
			}
		}
	}
	for _, p := range ps {
		for i, s := range p.all {
			r := rowOf(s.Text)
			all = append(all, call{s.Text, s.Args, []*pending{p}, i, r != nil && r.certain() && s.Into == nil})
		}
	}
	return all
}

// byForm finds callers who do nothing but insert rows, by the texts of their
// statements; rest are the others, and those who are alone, in their order.
func byForm(ps []*pending) (alike [][]*pending, rest []*pending) {
	const most = 4                // forms that are told apart; the others stay as they are
	forms := make([]int, len(ps)) // index in alike, -1 = none
	for at, p := range ps {
		i := slices.IndexFunc(alike, func(same []*pending) bool { return sameTexts(same[0].all, p.all) })
		switch {
		case i >= 0:
			alike[i] = append(alike[i], p)
		case len(alike) < most && onlyRows(p.all):
			i = len(alike)
			alike = append(alike, []*pending{p})
		}
		forms[at] = i
	}
	for at, p := range ps {
		if i := forms[at]; i < 0 || len(alike[i]) == 1 {
			rest = append(rest, p)
		}
	}
	return slices.DeleteFunc(alike, func(same []*pending) bool { return len(same) == 1 }), rest
}

func sameTexts(a, b []Statement) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Text != b[i].Text || b[i].Into != nil || len(a[i].Args) != len(b[i].Args) {
			return false
		}
	}
	return true
}

func onlyRows(all []Statement) bool {
	for _, s := range all {
		if r := rowOf(s.Text); r == nil || r.columns != len(s.Args) || s.Into != nil {
			return false
		}
	}
	return len(all) > 0
}

// merged are the calls of callers with the same texts: one for each statement,
// whose arguments are the columns. It is not ok when one has a column that no
// array can be told to be of.
func merged(same []*pending) (all []call, ok bool) {
	all = make([]call, 0, len(same[0].all))
	for i, s := range same[0].all {
		r := rowOf(s.Text)
		kinds := make([]byte, r.columns)
		args := make([]any, 0, r.columns)
		for place := range kinds {
			a := array{same, i, place}
			if kinds[place], ok = a.kind(); !ok {
				return nil, false
			}
			if kinds[place] != kindNull {
				args = append(args, a)
			}
		}
		if len(args) == 0 {
			return nil, false
		}
		all = append(all, call{r.rows(string(kinds)), args, same, i, r.certain()})
	}
	return all, true
}

// array is one argument of a statement of each of several callers, as pgx sends
// it (pgtype.ArrayGetter).
type array struct {
	of        []*pending
	statement int
	place     int
}

func (a array) Dimensions() []pgtype.ArrayDimension {
	return []pgtype.ArrayDimension{{Length: int32(len(a.of)), LowerBound: 1}} // #nosec G115 -- at most maxGroup
}

func (a array) Index(i int) any { return a.of[i].all[a.statement].Args[a.place] }

// IndexType is any of the values that are there.
func (a array) IndexType() any {
	for i := range a.of {
		if v := a.Index(i); kindOf(v) != kindNull {
			return v
		}
	}
	return nil
}

// The kinds of columns, a letter each: the types of the common subset.
const (
	kindText    = 't'
	kindNumber  = 'n'
	kindBool    = 'b'
	kindBytes   = 'y'
	kindNull    = '0' // nothing but NULL, whose type nobody knows
	kindUnknown = '?'
)

var arrayOf = map[byte]string{kindText: "TEXT[]", kindNumber: "BIGINT[]", kindBool: "BOOLEAN[]", kindBytes: "BYTEA[]"}

func kindOf(v any) byte {
	switch v.(type) {
	case nil:
		return kindNull
	case string, sql.NullString:
		return kindText
	case int64, int, int32, sql.NullInt64:
		return kindNumber
	case bool, sql.NullBool:
		return kindBool
	case []byte:
		return kindBytes
	}
	return kindUnknown
}

// kind is that of all the values; not ok = they have no one kind.
func (a array) kind() (kind byte, ok bool) {
	kind = kindNull
	for i := range a.of {
		switch k := kindOf(a.Index(i)); {
		case k == kindUnknown, kind != kindNull && k != kindNull && k != kind:
			return 0, false
		case k != kindNull:
			kind = k
		}
	}
	return kind, true
}

// row is an INSERT of one row, each column of which is an argument.
type row struct {
	head, tail string
	columns    int

	mu    sync.Mutex
	texts map[string]string // by kinds of the columns
}

// certain reports whether the statement inserts its row or fails.
func (r *row) certain() bool { return r.tail == "" }

var (
	rowForm = regexp.MustCompile(`^(INSERT INTO \w+ \([\w, ]+\)\s+)VALUES \((\$1(?:, \$\d+)*)\)(\s+ON CONFLICT DO NOTHING)?;?$`)
	rowsMu  sync.RWMutex
	rowsOf  = map[string]*row{} // by text; nil = it is none
)

// maxForms bounds the texts that are remembered: those of a program are few, and
// one that makes texts as it goes must not fill the memory.
const maxForms = 1000

// rowOf is nil for a text that is not the insertion of one row.
func rowOf(text string) *row {
	rowsMu.RLock()
	r, known := rowsOf[text]
	rowsMu.RUnlock()
	if known {
		return r
	}
	r = parseRow(text)
	rowsMu.Lock()
	defer rowsMu.Unlock()
	if other, known := rowsOf[text]; known {
		return other
	}
	if len(rowsOf) < maxForms {
		rowsOf[text] = r
	}
	return r
}

func parseRow(text string) *row {
	m := rowForm.FindStringSubmatch(text)
	if m == nil {
		return nil
	}
	places := strings.Split(m[2], ", ")
	for i, place := range places {
		if place != "$"+strconv.Itoa(i+1) {
			return nil
		}
	}
	return &row{head: m[1], tail: m[3], columns: len(places), texts: map[string]string{}}
}

// rows is the text that inserts as many rows as its arrays are long. Whatever
// that is, the text is the same, so that it is prepared once on a connection.
// What unnest returns the planner estimates by the arguments, and makes a new plan
// every time for that; of generate_subscripts it does not.
func (r *row) rows(kinds string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if text, made := r.texts[kinds]; made {
		return text
	}
	var b strings.Builder
	b.WriteString(r.head + "SELECT ")
	first, places := "", 0
	for i := range len(kinds) {
		if i > 0 {
			b.WriteString(", ")
		}
		if kinds[i] == kindNull {
			b.WriteString("NULL")
			continue
		}
		places++
		place := "$" + strconv.Itoa(places) + "::" + arrayOf[kinds[i]]
		if first == "" {
			first = place
		}
		b.WriteString("(" + place + ")[i]")
	}
	b.WriteString(" FROM generate_subscripts(" + first + ", 1) i" + r.tail)
	r.texts[kinds] = b.String()
	return r.texts[kinds]
}
