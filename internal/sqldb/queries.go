package sqldb

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Queries are the named statements of one queries.sql file. A statement begins
// after a line "-- name: Xxx" and runs to the next such line.
type Queries map[string]string

// MustParse reads a queries.sql file; it panics on a name given twice, which only an edit of the file can cause.
func MustParse(file string) Queries {
	q := Queries{}
	name := ""
	for line := range strings.Lines(file) {
		if n, ok := strings.CutPrefix(line, "-- name: "); ok {
			name = strings.TrimSpace(n)
			if _, twice := q[name]; twice {
				panic("sqldb: two statements are named " + name)
			}
			q[name] = ""
		} else if name != "" {
			q[name] += line
		}
	}
	for n, s := range q {
		q[n] = strings.TrimSuffix(strings.TrimSpace(s), ";")
	}
	return q
}

// Get returns the statement; it panics when there is none of that name.
func (q Queries) Get(name string) string {
	s, ok := q[name]
	if !ok {
		panic("sqldb: no statement is named " + name)
	}
	return s
}

// PrepareAll has the engine prepare every statement, and reports those it
// refuses. A test of every module calls it on both engines: it finds misspelt
// columns and statements that one engine does not read.
func PrepareAll(ctx context.Context, db *DB, q Queries) error {
	var errs []error
	for name, text := range q {
		s, err := db.writer.PrepareContext(ctx, text)
		if err == nil {
			err = s.Close()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
