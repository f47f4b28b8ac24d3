package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"landline/internal/sqldb"
)

// Bounds on settling.
const (
	settleBatch = 200         // entries per transaction
	settleEvery = time.Second // how long an entry may stay staged while Run runs
)

// Run settles every second until ctx ends. Each node may run it: they take
// turns, and a look that finds nothing is one read. A failure is logged when it
// begins and tried again.
func (l *Log) Run(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := l.Settle(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			log.WarnContext(ctx, "audit entries cannot be sealed for the moment; they are kept and tried again", "error", err)
		}
		failing = err != nil
	}
}

// Settle gives every entry whose transaction has been committed its place in the log.
func (l *Log) Settle(ctx context.Context) error {
	select {
	case l.settling <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-l.settling }()
	for {
		n, err := l.settleSome(ctx)
		if err != nil {
			return fmt.Errorf("audit: settle: %w", err)
		}
		if n < settleBatch {
			return nil
		}
	}
}

// settleSome moves one batch and returns how many entries it had. Staged ids
// follow the order in which Record was called, and a batch holds all that is
// visible of it, so that of two changes one after the other the first is first.
// Nodes that settle at once collide on the counter; the loser runs again and
// finds the entries moved.
func (l *Log) settleSome(ctx context.Context) (n int, err error) {
	found := false
	err = l.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		var id int64
		err := q.QueryRowContext(ctx, Queries.Get("AnyStaged")).Scan(&id)
		if found = err == nil; errors.Is(err, sql.ErrNoRows) || errors.Is(err, sqldb.ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil || !found {
		return 0, err
	}
	err = l.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		staged, err := readStaged(ctx, tx)
		n = len(staged)
		for _, s := range staged {
			if err == nil {
				err = seal(ctx, tx, s)
			}
		}
		return err
	})
	return n, err
}

type stagedRow struct {
	id int64
	Row
}

func readStaged(ctx context.Context, tx *sqldb.Tx) (out []stagedRow, err error) {
	rows, err := tx.QueryContext(ctx, Queries.Get("Staged"), settleBatch)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var s stagedRow
		var at int64
		var before, after sql.Null[[]byte]
		if err := rows.Scan(&s.id, &at, &s.Actor.Type, &s.Actor.ID, &s.Actor.IP, &s.Action, &s.Target, &s.Reason,
			&s.RequestID, &s.Salt, &before, &after); err != nil {
			return nil, err
		}
		s.At, s.Before, s.After = sqldb.Time(at), before.V, after.V
		out = append(out, s)
	}
	return out, rows.Err()
}

// seal appends one staged entry to the log.
func seal(ctx context.Context, tx *sqldb.Tx, s stagedRow) error {
	r := s.Row
	if err := tx.QueryRowContext(ctx, Queries.Get("NextSeq")).Scan(&r.Seq); err != nil {
		return err
	}
	r.LeafHash = leafHash(r.Canonical())
	_, err := tx.ExecContext(ctx, Queries.Get("Insert"), r.Seq, s.id, sqldb.Millis(r.At), r.Actor.Type, r.Actor.ID, r.Actor.IP,
		r.Action, r.Target, r.Reason, r.RequestID, r.Salt, orNull(r.Before), orNull(r.After), r.LeafHash)
	if err == nil {
		_, err = tx.ExecContext(ctx, Queries.Get("Unstage"), s.id)
	}
	return err
}
