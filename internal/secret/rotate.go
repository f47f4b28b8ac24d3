package secret

import (
	"context"
	"fmt"

	"landline/internal/sqldb"
)

// Rotation says what a rotation did, by key id; for the audit log.
type Rotation struct {
	Purpose  string `json:"purpose"`
	Previous string `json:"previous"`
	Current  string `json:"current"`
	Next     string `json:"next"`
}

// Rotate makes the next key current, the current one previous, and a new next
// one, then reloads. Previous keys that no longer verify are deleted.
//
// The next key has been in the JWKS since it was made. Verifiers that cache the
// JWKS and do not look again at an unknown key id need it to have been there
// for as long as they cache; KeyInfo.CreatedAt tells.
func (r *Ring) Rotate(ctx context.Context, purpose string) error {
	err := r.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := r.RotateTx(ctx, tx, purpose)
		return err
	})
	if err != nil {
		return err
	}
	return r.Reload(ctx)
}

// RotateTx is Rotate within the caller's transaction, so that it can be audited
// in it. The caller calls Reload once it is committed.
func (r *Ring) RotateTx(ctx context.Context, tx *sqldb.Tx, purpose string) (Rotation, error) {
	rot := Rotation{Purpose: purpose}
	current, next, alg, err := keysOf(ctx, tx, purpose)
	if err != nil {
		return rot, fmt.Errorf("secret: rotate %q: %w", purpose, err)
	}
	if current.ID == "" || next.ID == "" {
		return rot, fmt.Errorf("secret: rotate %q: %w: Ensure makes it", purpose, ErrNoPurpose)
	}
	now := r.clk.Now()
	for _, step := range []struct{ query, id string }{{"KeyRetire", current.ID}, {"KeyPromote", next.ID}} {
		if err := execOne(ctx, tx, step.query, sqldb.Millis(now), step.id); err != nil {
			return rot, fmt.Errorf("secret: rotate %q: %w", purpose, err)
		}
	}
	row, err := r.wrapNew(KeyInfo{ID: newKeyID(), Purpose: purpose, Alg: alg, Version: next.Version + 1, State: Next, CreatedAt: now})
	if err != nil {
		return rot, fmt.Errorf("secret: rotate %q: %w", purpose, err)
	}
	inserted, err := row.exec(ctx, tx)
	if err == nil && !inserted {
		err = fmt.Errorf("another node is rotating it: %w", sqldb.ErrConflict)
	}
	if err == nil {
		err = r.purge(ctx, tx, purpose, alg)
	}
	if err != nil {
		return rot, fmt.Errorf("secret: rotate %q: %w", purpose, err)
	}
	rot.Previous, rot.Current, rot.Next = current.ID, next.ID, row.info.ID
	return rot, nil
}

// purge deletes previous keys past their time. The first version of an HMAC
// purpose stays: blind indexes are made with it.
func (r *Ring) purge(ctx context.Context, tx *sqldb.Tx, purpose string, alg Alg) error {
	keep := r.keepFor(purpose, alg)
	if keep <= 0 {
		return nil
	}
	above := 0
	if alg == HMAC {
		above = 1
	}
	_, err := tx.ExecContext(ctx, Queries.Get("KeyPurge"), purpose, sqldb.Millis(r.clk.Now().Add(-keep)), above)
	return err
}

// Drop deletes a previous key at once, for one that leaked: everything it
// signed stops verifying after Reload on each node. Rotate first when it is the
// current one. The first version of an HMAC purpose cannot be dropped while
// blind indexes are made with it.
func (r *Ring) Drop(ctx context.Context, tx *sqldb.Tx, keyID string) error {
	k := r.snap.Load().keys[keyID]
	switch {
	case k == nil:
		return fmt.Errorf("secret: drop key %s: %w", keyID, sqldb.ErrNotFound)
	case k.State != Previous:
		return fmt.Errorf("secret: drop key %s: it is the %s one, only a previous key can be dropped: rotate %q first: %w", keyID, k.State, k.Purpose, sqldb.ErrConflict)
	case k.Alg == HMAC && k.Version == 1:
		return fmt.Errorf("secret: drop key %s: blind indexes of %q are made with it: %w", keyID, k.Purpose, sqldb.ErrConflict)
	}
	if err := execOne(ctx, tx, "KeyDrop", keyID); err != nil {
		return fmt.Errorf("secret: drop key %s: %w", keyID, err)
	}
	return nil
}

func keysOf(ctx context.Context, tx *sqldb.Tx, purpose string) (current, next KeyInfo, alg Alg, err error) {
	rows, err := tx.QueryContext(ctx, Queries.Get("KeysOf"), purpose)
	if err != nil {
		return current, next, "", err
	}
	defer rows.Close()
	for rows.Next() {
		var k KeyInfo
		if err := rows.Scan(&k.ID, &k.Version, &k.Alg, &k.State); err != nil {
			return current, next, "", err
		}
		switch k.State {
		case Current:
			current = k
		case Next:
			next = k
		}
		alg = k.Alg
	}
	return current, next, alg, rows.Err()
}

// execOne runs a statement that must change one row: with none, another node was faster.
func execOne(ctx context.Context, tx *sqldb.Tx, query string, args ...any) error {
	res, err := tx.ExecContext(ctx, Queries.Get(query), args...)
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n != 1 {
		err = fmt.Errorf("another node changed it just now, reload and look again: %w", sqldb.ErrConflict)
	}
	return err
}
