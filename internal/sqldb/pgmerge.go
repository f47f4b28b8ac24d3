package sqldb

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// mostRows is how many rows one statement inserts at most. Sizes are powers of
// two, so that there are few texts for the server to prepare. A message has at
// most 65,535 arguments.
const (
	mostRows    = 64
	mostColumns = 65535 / mostRows
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
}

// calls lists what is sent for ps. With merge, rows of callers who insert the
// same forms of rows go together: one statement of 32 rows costs the server a
// tenth of 32 statements. Those of one caller stay in their order.
func calls(ps []*pending, merge bool) (all []call) {
	if merge {
		var alike [][]*pending
		if alike, ps = byForm(ps); len(alike) > 0 {
			for _, same := range alike {
				all = append(all, merged(same)...)
			}
		}
	}
	for _, p := range ps {
		for i, s := range p.all {
			all = append(all, call{s.Text, s.Args, []*pending{p}, i})
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
		if r := rowOf(s.Text); r == nil || r.columns > mostColumns || r.columns != len(s.Args) || s.Into != nil {
			return false
		}
	}
	return len(all) > 0
}

// merged are the calls of callers with the same texts, in pieces of a power of two.
func merged(same []*pending) (all []call) {
	for len(same) > 0 {
		n := mostRows
		for n > len(same) {
			n /= 2
		}
		piece := same[:n]
		same = same[n:]
		for i, s := range piece[0].all {
			r := rowOf(s.Text)
			args := make([]any, 0, n*r.columns)
			for _, p := range piece {
				args = append(args, p.all[i].Args...)
			}
			all = append(all, call{r.rows(n), args, piece, i})
		}
	}
	return all
}

// row is an INSERT of one row, each column of which is an argument.
type row struct {
	head, tail string
	columns    int

	mu    sync.Mutex
	texts map[int]string // by number of rows
}

var (
	rowForm = regexp.MustCompile(`^(INSERT INTO \w+ \([\w, ]+\)\s+VALUES )\((\$1(?:, \$\d+)*)\)(\s+ON CONFLICT DO NOTHING)?;?$`)
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
	return &row{head: m[1], tail: m[3], columns: len(places), texts: map[int]string{}}
}

// rows is the text that inserts n rows.
func (r *row) rows(n int) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if text, made := r.texts[n]; made {
		return text
	}
	var b strings.Builder
	b.WriteString(r.head)
	for i := range n * r.columns {
		switch {
		case i == 0:
			b.WriteString("(")
		case i%r.columns == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		b.WriteString("$" + strconv.Itoa(i+1))
	}
	b.WriteString(")" + r.tail)
	r.texts[n] = b.String()
	return r.texts[n]
}
