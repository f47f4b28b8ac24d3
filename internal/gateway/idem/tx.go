package idem

import (
	"context"
	"crypto/rand"
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
	if q.Lease <= 0 || q.Keep < q.Lease {
		return Result{}, fmt.Errorf("idem: a lease of %s does not fit into %s", q.Lease, q.Keep)
	}
	a := attempt{Request: q, holder: process + rand.Text(), sole: s.sole, id: idOf(q.Scope, q.Key)}
	now := s.clk.Now()
	if err := a.former(ctx, tx, now); err != nil {
		return Result{}, fmt.Errorf("look for a key of a former user: %w", err)
	}
	if err := a.run(ctx, tx, now); err != nil {
		return Result{}, fmt.Errorf("begin under an idempotency key: %w", err)
	}
	return a.res, nil
}

// FinishTx is Finish within the caller's transaction: the answer is stored
// exactly when the transaction's other writes are. With ErrLost the caller must
// roll back: another attempt holds the key, and its writes are the ones that count.
// The lease may come from BeginTx, or from an earlier Begin.
func (s *Store) FinishTx(ctx context.Context, tx *sqldb.Tx, l Lease, a Answer) error {
	header, body := a.encode()
	held, err := affected(tx.ExecBrief(ctx, finishSQL, done, a.Status, a.Kept, header, body, l.id[:], l.holder, l.fence))
	switch {
	case err != nil:
		return fmt.Errorf("finish an idempotency key: %w", err)
	case !held:
		return ErrLost
	}
	return nil
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
func idOf(scope, key string) (id [sha256.Size]byte) {
	h := sha256.New()
	h.Write([]byte(scope))
	h.Write([]byte{0})
	h.Write([]byte(key))
	h.Sum(id[:0])
	return id
}
