package audit

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"landline/internal/clock"
	"landline/internal/observe"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

//go:embed queries.sql
var queriesSQL string

// Migrations make the tables audit_head and audit_entry and their triggers.
var Migrations = sqldb.Embedded("audit", migrations)

// Queries are every statement of this package.
var Queries = sqldb.MustParse(queriesSQL)

// Log is the audit log of one database. It is safe for concurrent use.
type Log struct {
	db       *sqldb.DB
	clock    clock.Clock
	settling chan struct{} // held by the one Settle of this node
}

// New returns the log kept in db; Migrations must have run.
func New(db *sqldb.DB, clk clock.Clock) *Log {
	return &Log{db: db, clock: clk, settling: make(chan struct{}, 1)}
}

// Record adds e in tx, so that it is kept exactly when the change is. An error means that the
// entry is malformed, which only a change of the program can mend, or that the
// database failed; return it from the transaction.
func (l *Log) Record(ctx context.Context, tx *sqldb.Tx, e Entry) error {
	s, err := l.Statement(ctx, e)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, s.Text, s.Args...); err != nil {
		return fmt.Errorf("audit: insert: %w", err)
	}
	return nil
}

// Statement is what Record runs, for sqldb.WriteAll. It fails as Record does on
// an entry that is malformed.
func (l *Log) Statement(ctx context.Context, e Entry) (s sqldb.Statement, err error) {
	if e.Actor == (Actor{}) {
		e.Actor = ActorFrom(ctx)
	}
	if e.RequestID == "" {
		e.RequestID = observe.TraceID(ctx)
	}
	if err := e.check(); err != nil {
		return s, err
	}
	r := Row{
		At:        time.UnixMilli(l.clock.Now().UnixMilli()).UTC(),
		Actor:     Actor{e.Actor.Type, text(e.Actor.ID, maxText), text(e.Actor.IP, maxText)},
		Action:    e.Action,
		Target:    text(e.Target, maxText),
		Reason:    text(e.Reason, maxReason),
		RequestID: text(e.RequestID, maxText),
		Salt:      make([]byte, 16),
	}
	rand.Read(r.Salt)
	if r.Before, err = document(e.Before); err != nil {
		return s, fmt.Errorf("audit: %s: Before %w", e.Action, err)
	}
	if r.After, err = document(e.After); err != nil {
		return s, fmt.Errorf("audit: %s: After %w", e.Action, err)
	}
	return sqldb.Statement{Text: Queries.Get("Stage"), Args: []any{sqldb.Millis(r.At), r.Actor.Type, r.Actor.ID, r.Actor.IP,
		r.Action, r.Target, r.Reason, r.RequestID, r.Salt, orNull(r.Before), orNull(r.After)}}, nil
}

func orNull(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}

// List settles, then returns rows newest first, and the cursor of the next page or "".
func (l *Log) List(ctx context.Context, f Filter) ([]Row, string, error) {
	before := int64(math.MaxInt64)
	if f.Cursor != "" {
		n, err := strconv.ParseInt(f.Cursor, 10, 64)
		if err != nil || n <= 0 {
			return nil, "", problem.New(problem.InvalidRequest, "cursor: give the value of page.next, unchanged")
		}
		before = n
	}
	limit := f.Limit
	if limit == 0 {
		limit = 50
	}
	limit = min(max(limit, 1), 200)
	from, until := int64(0), int64(math.MaxInt64)
	if !f.From.IsZero() {
		from = sqldb.Millis(f.From)
	}
	if !f.Until.IsZero() {
		until = sqldb.Millis(f.Until)
	}
	name, args := "List", []any{before, from, until, text(f.Action, maxText), text(f.Action, maxText) + "\U0010FFFF"}
	switch {
	case f.ActorID != "" && f.Target != "":
		name, args = "ListByActorAndTarget", append(args, text(f.Target, maxText), text(f.ActorID, maxText))
	case f.ActorID != "":
		name, args = "ListByActor", append(args, text(f.ActorID, maxText))
	case f.Target != "":
		name, args = "ListByTarget", append(args, text(f.Target, maxText))
	}
	if err := l.Settle(ctx); err != nil {
		return nil, "", err
	}
	rows, err := l.query(ctx, name, append(args, limit+1)...)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > limit {
		rows = rows[:limit]
		next = strconv.FormatInt(rows[limit-1].Seq, 10)
	}
	return rows, next, nil
}

func (l *Log) query(ctx context.Context, name string, args ...any) (out []Row, err error) {
	err = l.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		out, err = scan(ctx, q, name, args...)
		return err
	})
	return out, err
}

func scan(ctx context.Context, q sqldb.Querier, name string, args ...any) (out []Row, err error) {
	rows, err := q.QueryContext(ctx, Queries.Get(name), args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var r Row
		var at int64
		var before, after sql.Null[[]byte]
		if err := rows.Scan(&r.Seq, &at, &r.Actor.Type, &r.Actor.ID, &r.Actor.IP, &r.Action, &r.Target, &r.Reason,
			&r.RequestID, &r.Salt, &before, &after, &r.LeafHash); err != nil {
			return nil, err
		}
		r.At = sqldb.Time(at)
		r.Before, r.After = before.V, after.V
		out = append(out, r)
	}
	return out, rows.Err()
}

// ErrTampered is wrapped by what Verify returns when the log is not as it was written.
var ErrTampered = errors.New("the audit log has been changed from outside")

// Verify settles, then reads the whole log in one snapshot and checks that seq has no gap,
// that the counter agrees with the last entry and that every leaf hash matches.
// It returns the number of entries.
func (l *Log) Verify(ctx context.Context) (int64, error) {
	if err := l.Settle(ctx); err != nil {
		return 0, err
	}
	return l.VerifySealed(ctx)
}

// VerifySealed is Verify without settling: it writes nothing, and leaves out the
// entries of the last second or so.
func (l *Log) VerifySealed(ctx context.Context) (int64, error) {
	var size, last int64
	err := l.db.ReadSnapshot(ctx, func(ctx context.Context, q sqldb.Querier) error {
		last = 0
		if err := q.QueryRowContext(ctx, Queries.Get("Size")).Scan(&size); err != nil {
			return err
		}
		for {
			rows, err := scan(ctx, q, "Walk", last, 500)
			if err != nil {
				return err
			}
			for _, r := range rows {
				if r.Seq != last+1 {
					return fmt.Errorf("%w: entry %d is missing", ErrTampered, last+1)
				}
				if !bytes.Equal(leafHash(r.Canonical()), r.LeafHash) {
					return fmt.Errorf("%w: entry %d does not match its hash", ErrTampered, r.Seq)
				}
				last = r.Seq
			}
			if len(rows) == 0 {
				break
			}
		}
		if last != size {
			return fmt.Errorf("%w: the counter says %d entries, the last one is %d", ErrTampered, size, last)
		}
		return nil
	})
	return last, err
}
