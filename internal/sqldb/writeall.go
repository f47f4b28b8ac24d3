package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"time"
)

// Met is what WriteAll returns when every condition has held.
const Met = -1

// WriteAll runs statements in their order in a transaction, and returns Met once
// that is durable. Each that is not Any must touch exactly one row; when one does
// not, nothing of any stays, and WriteAll returns the index of the first such as
// soon as whoever was faster can be read. After an error the outcome is as after
// one of Write.
//
// What the statements do is known beforehand, so that callers share a
// transaction and its commit on PostgreSQL too, where Write gives each its own.
// It is for small writes by keys: new rows, a compare-and-set. On either engine a
// caller whose statements fail takes nothing from those it shares with.
//
// Texts and arguments must not be changed before WriteAll returns, and the
// statements may run more than once; Into holds what the last run has returned.
func (db *DB) WriteAll(ctx context.Context, all []Statement) (unmet int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	for i := range all {
		if err := checkArgs(all[i].Args); err != nil {
			return 0, db.translate(err)
		}
	}
	unmet, err = db.writes.writeAll(ctx, all)
	return unmet, db.translate(err)
}

// errUnmet undoes the statements of WriteAll a condition of which does not hold.
var errUnmet = errors.New("sqldb: a statement has not touched one row")

// firstUnmet is the index of the first condition that does not hold, or Met.
func firstUnmet(all []Statement, touched []int64) int {
	for i, n := range touched {
		if n != 1 && !all[i].Any {
			return i
		}
	}
	return Met
}

// bound is a Statement as the SQLite driver takes it.
type bound struct {
	text string
	args []driver.NamedValue
	into []any
	any  bool
}

// bind converts the arguments, in the caller's goroutine rather than the commit loop's.
func bind(all []Statement) ([]bound, error) {
	out := make([]bound, len(all))
	total := 0
	for i := range all {
		total += len(all[i].Args)
	}
	values := make([]driver.NamedValue, total)
	for i, s := range all {
		args := values[:len(s.Args):len(s.Args)]
		values = values[len(s.Args):]
		for j, a := range s.Args {
			v, err := driverValue(a)
			if err != nil {
				return nil, fmt.Errorf("sqldb: argument $%d: %w", j+1, err)
			}
			args[j] = driver.NamedValue{Ordinal: j + 1, Value: v}
		}
		out[i] = bound{s.Text, args, s.Into, s.Any}
	}
	return out, nil
}

func driverValue(a any) (driver.Value, error) {
	switch v := a.(type) {
	case nil, int64, string, bool, []byte, float64:
		return v, nil
	case int:
		return int64(v), nil
	case sql.NullString:
		if !v.Valid {
			return nil, nil
		}
		return v.String, nil
	}
	return driver.DefaultParameterConverter.ConvertValue(a)
}

// touch runs b and returns how many rows it has touched.
func (c *preparedConn) touch(b *bound) (int64, error) {
	ctx := context.Background() // nobody interrupts it: it is brief, and the transaction is not its own
	if b.into == nil {
		r, err := c.ExecContext(ctx, b.text, b.args)
		if err != nil {
			return 0, err
		}
		return r.RowsAffected()
	}
	rows, err := c.QueryContext(ctx, b.text, b.args)
	if err != nil {
		return 0, err
	}
	n, err := readInto(rows, b.into)
	return n, errors.Join(err, rows.Close())
}

// readInto scans the first row, reads the rest, and returns how many there were.
func readInto(rows driver.Rows, into []any) (n int64, err error) {
	values := make([]driver.Value, len(rows.Columns()))
	if len(values) != len(into) {
		return 0, fmt.Errorf("sqldb: %d columns are returned for %d places in Into", len(values), len(into))
	}
	for ; ; n++ {
		if err := rows.Next(values); err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
		if n > 0 {
			continue
		}
		for i, v := range values {
			if err := assign(into[i], v); err != nil {
				return n, fmt.Errorf("sqldb: column %s: %w", rows.Columns()[i], err)
			}
		}
	}
}

// assign is what database/sql's Scan does, for what the SQLite driver returns
// and the few types that WriteAll is used with.
func assign(to any, v driver.Value) error {
	switch to := to.(type) {
	case sql.Scanner:
		return to.Scan(v)
	case *string:
		if s, ok := v.(string); ok {
			*to = s
			return nil
		}
	case *int64:
		if n, ok := v.(int64); ok {
			*to = n
			return nil
		}
	case *int:
		if n, ok := v.(int64); ok && int64(int(n)) == n {
			*to = int(n)
			return nil
		}
	}
	return fmt.Errorf("%T does not go into %T", v, to)
}

// writeAll has the commit loop run the statements itself: nobody need be woken for a turn.
func (g *groupCommit) writeAll(ctx context.Context, all []Statement) (unmet int, err error) {
	p := newPendingAll(ctx, all)
	if p.bound, err = bind(all); err != nil {
		return 0, err
	}
	if err := g.line.join(p); err != nil {
		return 0, err
	}
	err = g.line.await(p, patienceFor(g.timeout))
	return p.unmet, err
}

// await returns p's verdict, or why it has left the line before its turn.
func (l *line) await(p *pending, longest time.Duration) error {
	patience := time.NewTimer(longest)
	defer patience.Stop()
	gone, late := p.ctx.Done(), patience.C
	for {
		select {
		case err := <-p.verdict:
			return err
		case <-gone:
			if l.quit(p) {
				return leftLine(p.ctx.Err())
			}
			gone = nil
		case <-late:
			if l.quit(p) {
				return fmt.Errorf("%w: no turn within %v", ErrBusy, longest)
			}
			late = nil
		}
	}
}

// statements runs p's statements in t. Savepoints cost more than the statements
// do, so that p has one only when it has spoilt a transaction before: then all
// of that group run once more, each in its own.
func (g *groupCommit) statements(t *shared, p *pending, neighbours bool) turn {
	savepoint := neighbours && p.careful
	if savepoint {
		if err := t.exec("SAVEPOINT caller"); err != nil {
			return deadWith
		}
	}
	unmet, wrote, err := t.runAll(p)
	switch p.unmet = unmet; {
	case err == nil && (unmet == Met || !wrote): // who has lost, and written nothing, waits for those who won
		if savepoint && t.exec("RELEASE caller") != nil {
			return deadWith
		}
		return kept
	case neighbours && !savepoint:
		return spoilt
	}
	return g.refuse(t, p, err, savepoint)
}

// runAll runs p's statements up to the first whose condition does not hold.
func (t *shared) runAll(p *pending) (unmet int, wrote bool, err error) {
	unmet = Met
	err = t.conn.Raw(func(raw any) error {
		c, ok := raw.(*preparedConn)
		if !ok {
			return fmt.Errorf("sqldb: %T is no connection to SQLite", raw)
		}
		for i := range p.bound {
			n, err := c.touch(&p.bound[i])
			if err != nil {
				return err
			}
			wrote = wrote || n > 0
			if n != 1 && !p.bound[i].any {
				unmet = i
				return nil
			}
		}
		return nil
	})
	return unmet, wrote, err
}
