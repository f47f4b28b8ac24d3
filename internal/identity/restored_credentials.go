package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"landline/internal/module"
	"landline/internal/sqldb"
)

// carryUnlinked takes away again the ways to sign in that were unlinked. Whose
// last one that is gets those that they had in the replaced database: they were
// sealed with the same data key, since the account had one when the backup was made.
func carryUnlinked(ctx context.Context, r module.Restored, c *module.Carried) error {
	now := time.Now()
	users := map[string]bool{}
	err := carry(ctx, r, c, "IdentitiesUnlinked", func(w *writer, e ended) {
		w.also("IdentityUnlinked", e.id, millisOr(e.why, now))
		w.wrote = false // counted are sessions and users
		if w.err != nil {
			return
		}
		var user string
		switch err := w.tx.QueryRowContext(w.ctx, RestoreQueries.Get("IdentityUnlinkAgain"), e.id).Scan(&user); {
		case err == nil:
			users[user] = true
		case !errors.Is(err, sql.ErrNoRows) && !errors.Is(err, sqldb.ErrNotFound):
			w.err = err
		}
	})
	for user := range users {
		if err != nil || c.Fault != nil {
			break
		}
		err = carryWaysIn(ctx, r, c, user)
	}
	return err
}

func carryWaysIn(ctx context.Context, r module.Restored, c *module.Carried, user string) error {
	had, err := NewSQLStore(r.Replaced, r.Audit).IdentitiesOf(ctx, user, maxIdentities)
	if err != nil {
		c.Fault = err
		return nil
	}
	err = r.DB.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		var left int
		if err := tx.QueryRowContext(ctx, Queries.Get("IdentityCount"), user).Scan(&left); err != nil || left > 0 {
			return err
		}
		w := &writer{ctx: ctx, tx: tx}
		for _, i := range had {
			w.also("IdentityInsert", i.columns()...)
		}
		return w.err
	})
	if err != nil {
		return fmt.Errorf("carry over the ways to sign in that are left: %w", err)
	}
	return nil
}

// carryPasswords makes those void that were replaced by a later one, which is
// lost like all that is newer than the backup: a code by e-mail sets another.
func carryPasswords(ctx context.Context, r module.Restored, c *module.Carried) error {
	now := time.Now()
	return carry(ctx, r, c, "PasswordsSet", func(w *writer, e ended) {
		at := millisOr(e.why, now)
		w.any("PasswordVoid", at, e.id, at)
		w.wrote = false // counted are sessions and users
	})
}
