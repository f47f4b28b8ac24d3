package sqldb

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Queries are the named statements of one queries.sql file. A statement begins
// after a line "-- name: Xxx" and runs to the next such line.
type Queries map[string]string

// MustParse reads a queries.sql file. It panics on what only an edit of the
// file can cause: a name given twice, or arguments whose first uses are not
// $1, $2, $3… in this order, which some SQLite drivers would bind to the wrong values.
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
		s = strings.TrimSuffix(withoutTrailingComments(s), ";")
		if err := checkArguments(s); err != nil {
			panic("sqldb: statement " + n + ": " + err.Error())
		}
		q[n] = s
	}
	return q
}

// withoutTrailingComments drops the comment lines behind a statement, which are
// about the next one. With them, and the semicolon before them, the statement
// would look like a script, which is compiled anew every time it is run.
func withoutTrailingComments(s string) string {
	for {
		s = strings.TrimSpace(s)
		line := strings.LastIndexByte(s, '\n') + 1
		if line == 0 || !strings.HasPrefix(strings.TrimSpace(s[line:]), "--") {
			return s
		}
		s = s[:line]
	}
}

// Get returns the statement; it panics when there is none of that name.
func (q Queries) Get(name string) string {
	s, ok := q[name]
	if !ok {
		panic("sqldb: no statement is named " + name)
	}
	return s
}

// checkArguments wants the first uses of $1…$n in ascending order, without gaps.
func checkArguments(statement string) error {
	seen := 0
	for rest := statement; rest != ""; {
		switch {
		case strings.HasPrefix(rest, "--"):
			rest = after(rest, 2, "\n")
		case strings.HasPrefix(rest, "/*"):
			rest = after(rest, 2, "*/")
		case rest[0] == '\'', rest[0] == '"': // a doubled quote inside reads as two literals, which is as good here
			rest = after(rest, 1, rest[:1])
		case rest[0] == '$':
			digits := len(rest) - len(strings.TrimLeft(rest[1:], "0123456789")) - 1
			n, err := strconv.Atoi(rest[1 : 1+digits])
			if err != nil || n < 1 {
				return fmt.Errorf("$ without a number")
			}
			if n > seen+1 {
				return fmt.Errorf("$%d is used before $%d: number the arguments in the order of their first use", n, seen+1)
			}
			seen = max(seen, n)
			rest = rest[1+digits:]
		case rest[0] == '?':
			return errors.New("arguments are written $1, $2…, not ?")
		default:
			rest = rest[1:]
		}
	}
	return nil
}

// positional writes the arguments of a statement as ?, where each is used once
// and in ascending order; another statement it returns as it is. To SQLite $1 is
// a name, which the driver asks for anew whenever it binds the argument.
func positional(statement string) string {
	var out strings.Builder
	seen, from := 0, 0
	for i := 0; i < len(statement); {
		rest := statement[i:]
		switch {
		case strings.HasPrefix(rest, "--"):
			i = len(statement) - len(after(rest, 2, "\n"))
		case strings.HasPrefix(rest, "/*"):
			i = len(statement) - len(after(rest, 2, "*/"))
		case rest[0] == '\'', rest[0] == '"':
			i = len(statement) - len(after(rest, 1, rest[:1]))
		case rest[0] == '?', rest[0] == '[', rest[0] == '`', rest[0] == '@', rest[0] == ':', rest[0] == '#':
			return statement // nothing that we write
		case rest[0] == '$':
			digits := len(rest) - len(strings.TrimLeft(rest[1:], "0123456789")) - 1
			n, err := strconv.Atoi(rest[1 : 1+digits])
			if seen++; err != nil || n != seen || len(rest) > 1+digits && isName(rest[1+digits]) {
				return statement
			}
			out.WriteString(statement[from:i])
			out.WriteByte('?')
			i += 1 + digits
			from = i
		case isName(rest[0]): // a $ may be part of a name
			for i < len(statement) && (isName(statement[i]) || statement[i] == '$') {
				i++
			}
		default:
			i++
		}
	}
	if seen == 0 {
		return statement
	}
	out.WriteString(statement[from:])
	return out.String()
}

func isName(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// after cuts s behind the first end that follows position from.
func after(s string, from int, end string) string {
	_, rest, _ := strings.Cut(s[from:], end)
	return rest
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
