package idem

import (
	"context"
	"fmt"
	"strings"
	"time"

	"landline/internal/sqldb"
)

// mostRows is how many rows one statement changes at most. Statements exist for
// 2, 4, 8 and 16 rows, so that every connection prepares few of them, and n
// operations take the largest that fit.
//
// They are for PostgreSQL, where a statement is a round trip. On SQLite a row
// costs the same in a list as alone: there is nothing to save.
const mostRows = 16

// texts are a statement for each number of rows.
type texts map[int]string

// many makes the statements of more than one row. part is what one row, counted
// from 1, adds, with so many arguments.
func many(before, between string, after func(rows int) string, arguments int, part func(row int, args []any) string) texts {
	all := texts{}
	for n := 2; n <= mostRows; n *= 2 {
		parts, arg := make([]string, n), 0
		for row := range parts {
			args := make([]any, arguments)
			for i := range args {
				arg++
				args[i] = arg
			}
			parts[row] = part(row+1, args)
		}
		all[n] = before + strings.Join(parts, between) + after(n)
	}
	return all
}

// insertMany is Insert for several rows.
var insertMany = many(
	"INSERT INTO idempotency (id, subject, fingerprint, state, holder, fence, lease_until, expires_at, status, kept) VALUES ",
	", ", func(int) string { return " ON CONFLICT (id) DO NOTHING" }, 6,
	func(_ int, args []any) string {
		return fmt.Sprintf("($%d, $%d, $%d, 0, $%d, 1, $%d, $%d, 0, FALSE)", args...)
	})

// finishMany is Finish for several rows; it returns how many it has found. Each
// row is looked for by its key, as in Finish: a join with a list may be planned
// as a scan of the table, and a serializable transaction that has scanned it
// loses against all others.
var finishMany = many("WITH ", ", ", counted, 8, func(row int, args []any) string {
	return fmt.Sprintf("u%d AS (UPDATE idempotency SET state = $%d, status = $%d, kept = $%d, header = $%d, body = $%d WHERE id = $%d AND holder = $%d AND fence = $%d RETURNING 1)",
		append([]any{row}, args...)...)
})

// counted ends finishMany.
func counted(rows int) string {
	terms := make([]string, rows)
	for i := range terms {
		terms[i] = fmt.Sprintf("(SELECT COUNT(*) FROM u%d)", i+1)
	}
	return " SELECT " + strings.Join(terms, " + ")
}

// chunks calls all with as many of n items at once as there are statements for,
// and one with those that are left over, by their indices.
func (s *Store) chunks(n int, all func(from, to int) error, one func(i int) error) error {
	from := 0
	for size := mostRows; size > 1 && s.many; size /= 2 {
		for ; n-from >= size; from += size {
			if err := all(from, from+size); err != nil {
				return err
			}
		}
	}
	for ; from < n; from++ {
		if err := one(from); err != nil {
			return err
		}
	}
	return nil
}

// carryOut does what ops ask for. Those that begin and those that finish are
// done together as far as possible; which of them comes first is open, because
// none of their callers has heard of another's.
func (s *Store) carryOut(ctx context.Context, tx *sqldb.Tx, ops []*operation) error {
	begins, ends := make([]*attempt, 0, len(ops)), make([]*ending, 0, len(ops))
	for _, op := range ops {
		switch {
		case op.begin != nil:
			begins = append(begins, op.begin)
		case !op.end.release:
			ends = append(ends, op.end)
		default:
			if err := op.end.run(ctx, tx); err != nil {
				return err
			}
		}
	}
	if err := s.chunks(len(ends),
		func(from, to int) error { return s.endAll(ctx, tx, ends[from:to]) },
		func(i int) error { return ends[i].run(ctx, tx) },
	); err != nil {
		return err
	}
	now := s.clk.Now() // after the wait for the transaction, so that the leases are whole
	for _, a := range begins {
		if len(a.Former) == 0 {
			continue
		}
		if err := a.former(ctx, tx, now); err != nil {
			return fmt.Errorf("look for a key of a former user: %w", err)
		}
	}
	return s.chunks(len(begins),
		func(from, to int) error { return s.beginAll(ctx, tx, begins[from:to], now) },
		func(i int) error { return begins[i].run(ctx, tx, now) })
}

// beginAll takes keys that nobody holds, which most are, in one statement. If
// one of them is held each is looked at.
func (s *Store) beginAll(ctx context.Context, tx *sqldb.Tx, list []*attempt, now time.Time) error {
	args := make([]any, 0, 6*len(list))
	for _, a := range list {
		lease := a.lease(now)
		a.res = Result{Outcome: Execute, Lease: lease}
		args = append(args, a.id[:], a.Subject, a.Fingerprint[:], a.holder, sqldb.Millis(lease.Until), sqldb.Millis(now.Add(a.Keep)))
	}
	n, err := count(tx.ExecContext(ctx, insertMany[len(list)], args...))
	if err != nil || n == len(list) {
		return err
	}
	for _, a := range list {
		if err := a.run(ctx, tx, now); err != nil {
			return err
		}
	}
	return nil
}

// endAll is ending.run for several.
func (s *Store) endAll(ctx context.Context, tx *sqldb.Tx, list []*ending) error {
	args := make([]any, 0, 8*len(list))
	for _, e := range list {
		e.held = true
		args = append(args, e.args...)
	}
	var n int
	err := tx.QueryRowContext(ctx, finishMany[len(list)], args...).Scan(&n)
	if err != nil || n == len(list) {
		return err
	}
	for _, e := range list { // whose was it? To finish twice with one lease is to finish
		if err := e.run(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}
