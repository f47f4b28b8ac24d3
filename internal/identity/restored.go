package identity

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"time"

	"landline/internal/audit"
	"landline/internal/module"
	"landline/internal/sqldb"
)

//go:embed queries_restore.sql
var restoreSQL string

// RestoreQueries are the statements that carry endings over to a restored database.
var RestoreQueries = sqldb.MustParse(restoreSQL)

// carryPage is how many rows of the replaced database are carried over at once.
const carryPage = 200

// restored ends again what ended after the backup was made: sessions, so that no
// revoked refresh or access token comes back to life, users that were locked or
// deleted, ways to sign in that were unlinked, and passwords that were changed. Then it opens the window of rule R6, in which apps come back with
// refresh tokens that are newer than the backup. When the replaced database
// cannot tell all of that, the window stays shut.
func restored(ctx context.Context, r module.Restored) (c module.Carried, err error) {
	store := NewSQLStore(r.DB, r.Audit)
	if r.Replaced != nil {
		for _, carry := range []func(context.Context, module.Restored, *module.Carried) error{carrySessions, carryRevocations, carryUsers, carryErasures, carryUnlinked, carryPasswords} {
			if err := carry(ctx, r, &c); err != nil || c.Fault != nil {
				return c, err
			}
		}
	}
	if r.Window <= 0 {
		return c, nil
	}
	now := time.UnixMilli(time.Now().UnixMilli()).UTC()
	c.Until = now.Add(r.Window)
	_, err = store.Apply(ctx, Change{Restore: &Window{From: now, Until: c.Until},
		Audit: []audit.Entry{{Action: "identity.declare_restore", Reason: r.Reason, After: map[string]any{"until": c.Until, "ended": c.Ended}}}})
	return c, err
}

// ended is a row of the replaced database: its id, its state and why it has it.
type ended struct{ id, state, why string }

// carry reads what ended page by page and hands each page to write, in one
// transaction. A page that cannot be read is the replaced database's fault.
func carry(ctx context.Context, r module.Restored, c *module.Carried, query string, write func(w *writer, e ended)) error {
	for after := ""; ; {
		var page []ended
		err := r.Replaced.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
			page = page[:0]
			rows, err := q.QueryContext(ctx, RestoreQueries.Get(query), after, carryPage)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var e ended
				if err := rows.Scan(&e.id, &e.state, &e.why); err != nil {
					return err
				}
				page = append(page, e)
			}
			return rows.Err()
		})
		if err != nil {
			c.Fault = err
			return nil
		}
		count := 0
		err = r.DB.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			w := &writer{ctx: ctx, tx: tx}
			count = 0
			for _, e := range page {
				w.wrote = false
				write(w, e)
				if w.wrote {
					count++
				}
			}
			return w.err
		})
		if err != nil {
			return fmt.Errorf("carry over what ended after the backup: %w", err)
		}
		c.Ended += count
		if len(page) < carryPage {
			return nil
		}
		after = page[len(page)-1].id
	}
}

// any runs a statement that may touch no row.
func (w *writer) any(query string, args ...any) {
	if w.err != nil {
		return
	}
	result, err := w.tx.ExecContext(w.ctx, RestoreQueries.Get(query), args...)
	if err == nil {
		var n int64
		n, err = result.RowsAffected()
		w.wrote = w.wrote || n > 0
	}
	w.err = err
}

func carrySessions(ctx context.Context, r module.Restored, c *module.Carried) error {
	now := time.Now()
	return carry(ctx, r, c, "SessionsEnded", func(w *writer, e ended) {
		w.any("SessionEndAgain", e.state, e.why, e.id)
		if w.wrote && e.state == string(SessionRevoked) { // its access tokens may still be out
			w.revocation(Ending{SessionID: e.id, Reason: Reason(e.why), At: now})
		}
	})
}

// carryRevocations brings those whose session the backup does not know: their
// access tokens must not be accepted either.
func carryRevocations(ctx context.Context, r module.Restored, c *module.Carried) error {
	now := time.Now()
	return carry(ctx, r, c, "RevocationsAll", func(w *writer, e ended) {
		w.any("RevocationAgain", e.id, e.why, sqldb.Millis(now))
		w.wrote = false // counted with its session
	})
}

func carryUsers(ctx context.Context, r module.Restored, c *module.Carried) error {
	return carry(ctx, r, c, "UsersGone", func(w *writer, e ended) { w.any("UserEndAgain", e.state, millisOr(e.why, time.Now()), e.id) })
}

// millisOr reads Unix milliseconds; what is none, and 0, is at.
func millisOr(text string, at time.Time) int64 {
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil && ms > 0 {
		return ms
	}
	return sqldb.Millis(at)
}

// carryErasures brings those that had begun, as far as the backup knows their
// users: those that were done run again, and cannot be undone. The journal of the
// node, or else clean, finishes them.
func carryErasures(ctx context.Context, r module.Restored, c *module.Carried) error {
	now := time.Now()
	return carry(ctx, r, c, "ErasuresBegun", func(w *writer, e ended) {
		w.any("ErasureBeginAgain", e.state, sqldb.Millis(now), millisOr(e.why, now), e.id)
		w.wrote = false // counted with its user
	})
}
