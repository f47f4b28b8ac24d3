package idem

import (
	"context"
	"crypto/sha256"
	"fmt"

	"landline/internal/sqldb"
)

// BeginTx is Begin within the caller's transaction, for an execution whose
// writes are in that transaction as well. With Execute the caller goes on, ends
// with FinishTx and commits: the writes, the key and the answer become durable
// in one step. A rollback, or a crash at any moment before the commit, leaves
// the key as it was: it is free, and nothing was written. So there is no lease
// to wait for and no outcome that nobody knows.
//
// Of two attempts with one key at once, the second waits in the database until
// the first has ended, and is told Replay, or Execute when that was rolled back.
// It is told InFlight or Unknown only of an attempt that began with Begin.
//
// With another outcome than Execute the transaction has written nothing.
func (s *Store) BeginTx(ctx context.Context, tx *sqldb.Tx, q Request) (Result, error) {
	a, err := s.attempt(q)
	if err != nil {
		return Result{}, err
	}
	if err := a.decide(ctx, tx, s.clk.Now()); err != nil {
		return Result{}, fmt.Errorf("begin under an idempotency key: %w", err)
	}
	return a.res, nil
}

// FinishTx is Finish within the caller's transaction: the answer is stored
// exactly when the transaction's other writes are. With ErrLost the caller must
// roll back: another attempt holds the key, and its writes are the ones that count.
// The lease may come from BeginTx, or from an earlier Begin.
func (s *Store) FinishTx(ctx context.Context, tx *sqldb.Tx, l Lease, a Answer) error {
	held, err := affected(tx.ExecBrief(ctx, finishSQL, finishing(l, a)...))
	switch {
	case err != nil:
		return fmt.Errorf("finish an idempotency key: %w", err)
	case !held:
		return ErrLost
	}
	return nil
}

// finishing is what finishSQL needs.
func finishing(l Lease, a Answer) []any {
	header, body := a.encode()
	return []any{done, a.Status, a.Kept, header, body, l.id[:], l.holder, l.fence}
}

// encode is what is stored of an answer.
func (a Answer) encode() (header, body []byte) {
	if !a.Kept {
		return nil, nil
	}
	if body = a.Body; body == nil {
		body = []byte{}
	}
	return encodeHeader(a.Header), body
}

// idOf is the row of a key in its scope.
func idOf(scope, key string) [sha256.Size]byte {
	var room [512]byte // what most scopes and keys need
	text := append(room[:0], scope...)
	text = append(text, 0)
	return sha256.Sum256(append(text, key...))
}
