package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// held blocks the commit loop with one write until release is called, so that
// the callers which join meanwhile share the next commit.
func held(t *testing.T, db *sqldb.DB) (release func()) {
	t.Helper()
	holding, letGo, over := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		over <- db.Write(context.WithoutCancel(t.Context()), func(context.Context, *sqldb.Tx) error {
			close(holding)
			<-letGo
			return errors.New("held")
		})
	}()
	<-holding
	return sync.OnceFunc(func() {
		close(letGo)
		if err := <-over; err == nil || !strings.Contains(err.Error(), "held") {
			t.Errorf("the holding write returned %v", err)
		}
	})
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// inOneGroup runs fns as callers of one group, in order, and returns their errors.
func inOneGroup(t *testing.T, db *sqldb.DB, fns ...func(context.Context, *sqldb.Tx) error) []error {
	t.Helper()
	release := held(t, db)
	defer release()
	errs := make([]error, len(fns))
	var wg sync.WaitGroup
	for i, fn := range fns {
		wg.Go(func() { errs[i] = db.Write(context.WithoutCancel(t.Context()), fn) })
		waitFor(t, "the caller to be in line", func() bool { return db.Stats().Waiting == i+1 })
	}
	release()
	wg.Wait()
	return errs
}

func TestManyCallersShareFewCommits(t *testing.T) {
	db := testkit.SQLite(t, things)
	const callers, turns = 64, 10
	before := db.Stats()
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range turns {
				if err := db.Write(t.Context(), insert(fmt.Sprintf("%02d-%d", c, i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s := db.Stats()
	commits, writes := s.Commits-before.Commits, s.Writes-before.Writes
	if writes != callers*turns || len(ids(t, db)) != callers*turns {
		t.Errorf("%d writes, %d rows, want %d", writes, len(ids(t, db)), callers*turns)
	}
	if commits > writes/4 {
		t.Errorf("%d commits for %d writes: the callers did not share", commits, writes)
	}
	if s.MaxGroup < 8 || s.MaxGroup > 64 {
		t.Errorf("the largest group was %d", s.MaxGroup)
	}
	t.Logf("%d writes in %d commits, at most %d in one", writes, commits, s.MaxGroup)
}

// One caller of a group does its worst; the callers before and after it must not notice.
func TestAPoisonedCallerHarmsOnlyItself(t *testing.T) {
	fault := errors.New("caller's own")
	then := func(fn func(ctx context.Context, tx *sqldb.Tx) error) func(context.Context, *sqldb.Tx) error {
		return func(ctx context.Context, tx *sqldb.Tx) error {
			if err := insert("poison")(ctx, tx); err != nil {
				return err
			}
			return fn(ctx, tx)
		}
	}
	for name, c := range map[string]struct {
		fn   func(context.Context, *sqldb.Tx) error
		want error // nil: any error
	}{
		"returns an error": {then(func(context.Context, *sqldb.Tx) error { return fault }), fault},
		"conflicts":        {then(insert("before")), sqldb.ErrConflict},
		"panics":           {then(func(context.Context, *sqldb.Tx) error { panic("boom") }), nil},
		"blocks for ever": {then(func(ctx context.Context, _ *sqldb.Tx) error {
			<-ctx.Done()
			return ctx.Err()
		}), sqldb.ErrUnavailable},
		"runs a statement without end": {then(func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n`)
			return err
		}), sqldb.ErrUnavailable},
		"passes a cancelled context": {then(func(ctx context.Context, tx *sqldb.Tx) error {
			cancelled, cancel := context.WithCancel(ctx)
			cancel()
			return errors.Join(insert("poison-2")(cancelled, tx), fault)
		}), fault},
		"ends the transaction behind the package's back": {then(func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.SQL().ExecContext(ctx, `ROLLBACK`)
			return err
		}), nil},
		"releases the savepoint behind the package's back": {then(func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.SQL().ExecContext(ctx, `ROLLBACK`)
			return errors.Join(err, fault)
		}), fault},
		"breaks a deferred foreign key": {then(func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO part (id, thing) VALUES ('p', 'nobody')`)
			return err
		}), sqldb.ErrConflict},
		"fills the disk": {then(func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE thing SET blob = $1 WHERE id = 'poison'`, make([]byte, 1<<20))
			return err
		}), sqldb.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			db := testkit.Open(t, sqldb.Options{Dir: t.TempDir(), WriteTimeout: time.Second}, things)
			if _, err := db.Writer().Exec(`PRAGMA max_page_count = 64`); err != nil {
				t.Fatal(err)
			}
			hooks := 0
			hooked := func(ctx context.Context, tx *sqldb.Tx) error {
				tx.OnCommit(func() { hooks++ })
				return insert("after")(ctx, tx)
			}
			errs := inOneGroup(t, db, insert("before"), c.fn, hooked)
			if errs[0] != nil || errs[2] != nil {
				t.Errorf("the neighbours got %v and %v", errs[0], errs[2])
			}
			if errs[1] == nil {
				t.Error("the poisoned caller got no error")
			} else if c.want != nil {
				wantErr(t, errs[1], c.want)
			}
			wantIDs(t, db, "after", "before")
			if hooks != 1 {
				t.Errorf("the neighbour's hook ran %d times", hooks)
			}
			if err := db.Write(t.Context(), insert("later")); err != nil {
				t.Errorf("the next write: %v", err)
			}
		})
	}
}

func TestGoexitInAGroupHarmsOnlyItself(t *testing.T) {
	db := testkit.SQLite(t, things)
	release := held(t, db)
	done := make(chan error, 3)
	for i, fn := range []func(context.Context, *sqldb.Tx) error{insert("a"), func(ctx context.Context, tx *sqldb.Tx) error {
		defer func() { done <- nil }()
		if err := insert("gone")(ctx, tx); err != nil {
			return err
		}
		runtime.Goexit()
		return nil
	}, insert("b")} {
		go func() { done <- db.Write(context.WithoutCancel(t.Context()), fn) }()
		waitFor(t, "the caller to be in line", func() bool { return db.Stats().Waiting == i+1 })
	}
	release()
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	wantIDs(t, db, "a", "b")
}

func TestADiskThatIsFull(t *testing.T) {
	db := testkit.SQLite(t, things)
	if _, err := db.Writer().Exec(`PRAGMA max_page_count = 12`); err != nil {
		t.Fatal(err)
	}
	big := func(id string) func(context.Context, *sqldb.Tx) error {
		return func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO thing (id, blob) VALUES ($1, $2)`, id, make([]byte, 100_000))
			return err
		}
	}
	for i, err := range inOneGroup(t, db, big("a"), big("b"), big("c")) {
		wantErr(t, err, sqldb.ErrUnavailable)
		if errors.Is(err, sqldb.ErrUncertain) {
			t.Errorf("caller %d: a full disk is no uncertain outcome", i)
		}
	}
	if _, err := db.Writer().Exec(`PRAGMA max_page_count = 10000`); err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), big("d")); err != nil {
		t.Errorf("with room again: %v", err)
	}
	wantIDs(t, db, "d")
}

// The queue's driver and the commit loop have one connection between them.
func TestTheLoopSharesItsConnection(t *testing.T) {
	db := testkit.Open(t, sqldb.Options{Dir: t.TempDir(), WriteTimeout: 100 * time.Millisecond}, things)
	tx, err := db.Writer().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, db.Write(t.Context(), insert("too late")), sqldb.ErrBusy)
	if _, err := tx.Exec(`INSERT INTO thing (id) VALUES ('by the driver')`); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), insert("by the loop")); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, db, "by the driver", "by the loop")
}

func TestAnotherProcessHoldsTheFile(t *testing.T) {
	dir := t.TempDir()
	db := testkit.Open(t, sqldb.Options{Dir: dir}, things)
	other := testkit.Open(t, sqldb.Options{Dir: dir})
	if _, err := db.Writer().Exec(`PRAGMA busy_timeout = 10`); err != nil {
		t.Fatal(err)
	}
	tx, err := other.Writer().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, db.Write(t.Context(), insert("a")), sqldb.ErrBusy)
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), insert("a")); err != nil {
		t.Error(err)
	}
}
