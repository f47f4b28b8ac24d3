package idem

import (
	"context"
	"fmt"
	"testing"

	"landline/internal/clock"
	"landline/internal/sqldb"
)

// together carries ops out in one transaction.
func together(t *testing.T, s *Store, ops ...*operation) {
	t.Helper()
	must(t, s.db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return s.carryOut(ctx, tx, ops) }))
}

func beginning(s *Store, key, payload string) *operation {
	q := request(key, payload)
	return newOperation(&attempt{Request: q, holder: process + "test " + key + payload, sole: s.sole, id: idOf(q.Scope, q.Key)}, nil)
}

func storing(l Lease, body string) *operation {
	return newOperation(nil, &ending{text: finishSQL, args: finishing(l, Answer{Status: 201, Kept: true, Body: []byte(body)})})
}

// What shares a transaction is told what it would be told alone, whatever the
// number of operations and whichever of them meet a key that is held.
func TestOperationsOfOneTransaction(t *testing.T) {
	for _, fresh := range []int{0, 1, 2, 3, 7, 16, 37} {
		t.Run(fmt.Sprint(fresh), func(t *testing.T) {
			each(t, func(t *testing.T, s *Store, _ *clock.Fake) { manyOperations(t, s, fresh) })
		})
	}
}

func manyOperations(t *testing.T, s *Store, fresh int) {
	held := begin(t, s, request("held", "a"), Execute).Lease
	must(t, s.Finish(t.Context(), begin(t, s, request("done", "a"), Execute).Lease, created))
	freed := begin(t, s, request("freed", "a"), Execute).Lease

	var ops []*operation
	for i := range fresh {
		ops = append(ops, beginning(s, fmt.Sprint(i), "a"))
	}
	want := make([]Outcome, fresh, fresh+4)
	for i := range want {
		want[i] = Execute
	}
	if fresh > 1 { // every other run meets keys that are held
		ops = append(ops, beginning(s, "held", "a"), beginning(s, "held", "b"), beginning(s, "done", "a"), beginning(s, "0", "b"))
		want = append(want, InFlight, Reused, Replay, Reused)
	}
	together(t, s, ops...)
	for i, op := range ops {
		if op.begin.res.Outcome != want[i] {
			t.Errorf("operation %d of %d: outcome %d, want %d", i, len(ops), op.begin.res.Outcome, want[i])
		}
	}

	stranger := held
	stranger.holder, stranger.fence = "somebody else", 2
	ends := []*operation{storing(held, "held"), storing(held, "held"), storing(stranger, "not held")}
	for i := range fresh {
		ends = append(ends, storing(ops[i].begin.res.Lease, fmt.Sprint("answer ", i)))
	}
	ends = append(ends, newOperation(nil, &ending{text: releaseSQL, args: []any{freed.id[:], freed.holder, freed.fence}}), beginning(s, "last", "a"))
	together(t, s, ends...)
	for i, op := range ends {
		if op.end != nil && op.end.held != (i != 2) {
			t.Errorf("ending %d of %d: held is %v", i, len(ends), op.end.held)
		}
	}
	begin(t, s, request("freed", "a"), Execute)
	begin(t, s, request("last", "a"), InFlight)
	if got := begin(t, s, request("held", "a"), Replay); string(got.Answer.Body) != "held" {
		t.Errorf("the answer is %q", got.Answer.Body)
	}
	for i := range fresh {
		if got := begin(t, s, request(fmt.Sprint(i), "a"), Replay); string(got.Answer.Body) != fmt.Sprint("answer ", i) {
			t.Errorf("the answer of %d is %q", i, got.Answer.Body)
		}
	}
}

// The statements of a transaction that is run again, because its commit came to
// nobody knows what, may find what they have done themselves.
func TestAnAttemptFindsItsOwnRow(t *testing.T) {
	each(t, func(t *testing.T, s *Store, _ *clock.Fake) {
		op := beginning(s, "k", "a")
		together(t, s, op)
		first := op.begin.res
		together(t, s, op)
		if op.begin.res.Outcome != Execute || op.begin.res.Lease.fence != first.Lease.fence {
			t.Errorf("%+v, want %+v", op.begin.res, first)
		}
		begin(t, s, request("k", "a"), InFlight)
		must(t, s.Finish(t.Context(), op.begin.res.Lease, created))
		begin(t, s, request("k", "a"), Replay)
	})
}
