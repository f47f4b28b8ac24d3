package idem

import (
	"context"
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"landline/internal/clock"
	"landline/internal/sqldb"
)

var errCrash = errors.New("crash")

// inTx runs an attempt in one transaction, and fails at the end when asked to.
func inTx(t *testing.T, s *Store, q Request, fail error) (res Result, err error) {
	t.Helper()
	err = s.db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		var err error
		if res, err = s.BeginTx(ctx, tx, q); err != nil || res.Outcome != Execute {
			return err
		}
		if err := s.FinishTx(ctx, tx, res.Lease, created); err != nil {
			return err
		}
		return fail
	})
	return res, err
}

func TestBeginAndFinishInOneTransaction(t *testing.T) {
	each(t, func(t *testing.T, s *Store, clk *clock.Fake) {
		q := request("k", "a")
		for range 3 { // a rollback leaves the key free
			if res, err := inTx(t, s, q, errCrash); !errors.Is(err, errCrash) || res.Outcome != Execute {
				t.Fatalf("%d %v", res.Outcome, err)
			}
		}
		if res, err := inTx(t, s, q, nil); err != nil || res.Outcome != Execute {
			t.Fatalf("%d %v", res.Outcome, err)
		}
		res, err := inTx(t, s, q, nil)
		if err != nil || res.Outcome != Replay || cmp.Diff(*res.Answer, created) != "" {
			t.Fatalf("%d %v %+v", res.Outcome, err, res.Answer)
		}
		begin(t, s, q, Replay) // both ways know each other's keys
		if res, err := inTx(t, s, request("k", "b"), nil); err != nil || res.Outcome != Reused {
			t.Errorf("%d %v", res.Outcome, err)
		}
		clk.Advance(25 * time.Hour)
		if res, err := inTx(t, s, request("k", "b"), nil); err != nil || res.Outcome != Execute {
			t.Errorf("after its time: %d %v", res.Outcome, err)
		}
	})
}

// A lease of Begin may be finished in a transaction, but not once another has taken the key over.
func TestFinishTxIsFenced(t *testing.T) {
	each(t, func(t *testing.T, s *Store, clk *clock.Fake) {
		q := request("k", "a")
		q.Forward = true
		first := begin(t, s, q, Execute)
		if res, err := inTx(t, s, q, nil); err != nil || res.Outcome != InFlight {
			t.Errorf("%d %v", res.Outcome, err)
		}
		clk.Advance(2 * time.Minute)
		second := begin(t, s, q, Execute)
		finish := func(l Lease) error {
			return s.db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return s.FinishTx(ctx, tx, l, created) })
		}
		if err := finish(first.Lease); !errors.Is(err, ErrLost) {
			t.Errorf("the first attempt finished: %v", err)
		}
		must(t, finish(second.Lease))
		begin(t, s, q, Replay)
		if _, err := s.BeginTx(t.Context(), nil, Request{Keep: time.Second, Lease: time.Minute}); err == nil {
			t.Error("a lease longer than the key is kept")
		}
	})
}

// Nodes of different versions share a table, and a restarted server has the one
// of the version before: a key's row must be found under the same name.
func TestKeysKeepTheirName(t *testing.T) {
	id := idOf("app\nuser usr_1\nPOST\nPOST /v1/trips", "k")
	if got := hex.EncodeToString(id[:]); got != "3efd782c52b956ce1aa407ce2be4e0095f55ef5393e6672ee4fb83e6161c8229" {
		t.Errorf("the row of the key is %s", got)
	}
}
