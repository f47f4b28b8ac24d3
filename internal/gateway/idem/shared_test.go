package idem

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"landline/internal/clock"
	"landline/internal/sqldb"
)

// together runs all at once. On SQLite they share one transaction: the commit loop
// is held until all of them are in line.
func together(t *testing.T, s *Store, all ...func(ctx context.Context) error) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	holding, release, over := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	if s.sole {
		go func() {
			over <- s.db.Write(ctx, func(context.Context, *sqldb.Tx) error {
				close(holding)
				<-release
				return errors.ErrUnsupported
			})
		}()
		<-holding
	}
	errs := make([]error, len(all))
	var wg, begun sync.WaitGroup
	begun.Add(len(all))
	for i, fn := range all {
		wg.Go(func() {
			begun.Done()
			errs[i] = fn(ctx)
		})
	}
	begun.Wait()
	if s.sole {
		for s.db.Stats().Waiting < len(all) { // every one of them joins the line
			runtime.Gosched()
		}
		close(release)
		if err := <-over; !errors.Is(err, errors.ErrUnsupported) {
			t.Error(err)
		}
	}
	wg.Wait()
	must(t, errors.Join(errs...))
}

// What shares a transaction is told what it would be told alone, whatever the
// number of operations and whichever of them meet a key that is held.
func TestOperationsOfOneTransaction(t *testing.T) {
	for _, fresh := range []int{1, 2, 3, 16, 37} {
		t.Run(fmt.Sprint(fresh), func(t *testing.T) {
			each(t, func(t *testing.T, s *Store, _ *clock.Fake) { manyOperations(t, s, fresh) })
		})
	}
}

func manyOperations(t *testing.T, s *Store, fresh int) {
	held := begin(t, s, request("held", "a"), Execute).Lease
	must(t, s.Finish(t.Context(), begin(t, s, request("done", "a"), Execute).Lease, created))
	freed := begin(t, s, request("freed", "a"), Execute).Lease

	type start struct {
		key, payload string
		want         Outcome
	}
	starts := []start{{"held", "a", InFlight}, {"held", "b", Reused}, {"done", "a", Replay}}
	for i := range fresh {
		starts = append(starts, start{fmt.Sprint(i), "a", Execute})
	}
	got := make([]Result, len(starts))
	all := make([]func(context.Context) error, len(starts))
	for i, one := range starts {
		all[i] = func(ctx context.Context) (err error) {
			got[i], err = s.Begin(ctx, request(one.key, one.payload))
			return err
		}
	}
	together(t, s, all...)
	for i, one := range starts {
		if got[i].Outcome != one.want {
			t.Errorf("%+v: outcome %d", one, got[i].Outcome)
		}
	}

	stranger := held
	stranger.holder, stranger.fence = "somebody else", 2
	finish := func(l Lease, body string, want error) func(context.Context) error {
		return func(ctx context.Context) error {
			if err := s.Finish(ctx, l, Answer{Status: 201, Kept: true, Body: []byte(body)}); !errors.Is(err, want) {
				return fmt.Errorf("%s: %w", body, err)
			}
			return nil
		}
	}
	all = []func(context.Context) error{
		finish(held, "held", nil), finish(held, "held", nil), finish(stranger, "not held", ErrLost),
		func(ctx context.Context) error { return s.Release(ctx, freed) },
	}
	for i := range fresh {
		all = append(all, finish(got[3+i].Lease, fmt.Sprint("answer ", i), nil))
	}
	together(t, s, all...)
	begin(t, s, request("freed", "a"), Execute)
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
		a, err := s.attempt(request("k", "a"))
		must(t, err)
		must(t, s.begin(t.Context(), a))
		first := a.res
		must(t, s.begin(t.Context(), a))
		if a.res.Outcome != Execute || a.res.Lease.fence != first.Lease.fence || !a.res.Lease.Until.Equal(first.Lease.Until) {
			t.Errorf("%+v, want %+v", a.res, first)
		}
		begin(t, s, request("k", "a"), InFlight)
		must(t, s.Finish(t.Context(), a.res.Lease, created))
		begin(t, s, request("k", "a"), Replay)
	})
}
