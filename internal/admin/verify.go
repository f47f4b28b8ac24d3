package admin

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"slices"

	"landline/internal/secret"
	"landline/internal/sqldb"
)

// errBadToken says that a token is nobody's.
var errBadToken = errors.New("the token is no operator's")

// Verify returns whose token it is, or an error: errBadToken when it is
// nobody's, another when that could not be found out.
//
// The row is found by its MAC, of which nothing can be learned by timing
// without the key; the comparison itself is constant-time all the same.
func (o *Operators) Verify(ctx context.Context, token string) (Operator, error) {
	if !wellFormed(token) {
		return Operator{}, errBadToken
	}
	for _, version := range o.versions() {
		mac, err := o.ring.MACWith(tokenPurpose, version, []byte(token))
		if err != nil {
			return Operator{}, err
		}
		var r operatorRow
		err = o.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) (err error) {
			r, err = scanOperator(q.QueryRowContext(ctx, Queries.Get("OperatorByMAC"), mac))
			return err
		})
		if errors.Is(err, sqldb.ErrNotFound) || errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return Operator{}, err
		}
		if r.version != version || !o.ring.VerifyMAC(tokenPurpose, version, []byte(token), r.mac) {
			continue
		}
		return r.Operator, nil
	}
	return Operator{}, errBadToken
}

// versions are those of the token key that may have made a stored MAC, the current one first.
func (o *Operators) versions() []int {
	var out []int
	for _, k := range o.ring.Keys() {
		if k.Purpose != tokenPurpose {
			continue
		}
		if k.State == secret.Current {
			out = slices.Insert(out, 0, k.Version)
		} else {
			out = append(out, k.Version)
		}
	}
	return out
}

// Used notes that op has come in with token, and stores the token's MAC under
// the current key: after a rotation tokens move to the new key as they are used.
// It writes at most once in usedEvery.
func (o *Operators) Used(ctx context.Context, op Operator, token string) error {
	now := o.now()
	if now.Sub(op.LastUsedAt) < usedEvery {
		return nil
	}
	version, mac, err := o.ring.MAC(tokenPurpose, []byte(token))
	if err != nil {
		return err
	}
	return o.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		r, err := scanOperator(tx.QueryRowContext(ctx, Queries.Get("OperatorByID"), op.ID))
		if err != nil {
			return err
		}
		if !o.ring.VerifyMAC(tokenPurpose, r.version, []byte(token), r.mac) {
			return nil // rotated meanwhile: the new token's MAC must stay
		}
		if r.version == version {
			mac = bytes.Clone(r.mac)
		}
		_, err = tx.ExecContext(ctx, Queries.Get("OperatorUsed"), sqldb.Millis(now), mac, version, op.ID, r.mac)
		return err
	})
}
