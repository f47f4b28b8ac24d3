package sqldb_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"landline/internal/problem"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// limited runs fn on both engines with a short line and one writer.
func limited(t *testing.T, fn func(t *testing.T, db *sqldb.DB)) {
	o := sqldb.Options{Queue: 3, WriteTimeout: 300 * time.Millisecond, MaxConns: 1}
	t.Run(sqldb.SQLite, func(t *testing.T) {
		o := o
		o.Dir = t.TempDir()
		fn(t, testkit.Open(t, o, things))
	})
	t.Run(sqldb.Postgres, func(t *testing.T) {
		o := o
		o.URL = testkit.PostgresURL(t)
		fn(t, testkit.Open(t, o, things))
	})
}

// blocked occupies the one writer until its transaction times out or release is called.
func blocked(t *testing.T, db *sqldb.DB) (over <-chan error, release func()) {
	t.Helper()
	running, letGo, result := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		result <- db.Write(context.WithoutCancel(t.Context()), func(ctx context.Context, tx *sqldb.Tx) error {
			close(running)
			select {
			case <-letGo:
				return insert("holder")(ctx, tx)
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	<-running
	return result, func() { close(letGo) }
}

func TestAFullLineRefusesAtOnce(t *testing.T) {
	limited(t, func(t *testing.T, db *sqldb.DB) {
		holder, release := blocked(t, db)
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error, 3)
		for range 3 {
			go func() { left <- db.Write(ctx, insert("never")) }()
		}
		waitFor(t, "three callers in line", func() bool { return db.Stats().Waiting == 3 })

		err := db.Write(t.Context(), insert("refused"))
		wantErr(t, err, sqldb.ErrBusy)
		if p := problem.From(err); p.Code != problem.StorageUnavailable || p.RetryAfter != time.Second {
			t.Errorf("a client sees %s after %v", p.Code, p.RetryAfter)
		}

		leave()
		for range 3 {
			wantErr(t, <-left, context.Canceled)
		}
		waitFor(t, "the line to be empty", func() bool { return db.Stats().Waiting == 0 })
		joined := make(chan error, 1)
		go func() { joined <- db.Write(t.Context(), insert("joined")) }()
		waitFor(t, "a caller in line again", func() bool { return db.Stats().Waiting == 1 })
		release()
		if err := errors.Join(<-holder, <-joined); err != nil {
			t.Error(err)
		}
		wantIDs(t, db, "holder", "joined")
	})
}

func TestAWriteThatTakesTooLong(t *testing.T) {
	limited(t, func(t *testing.T, db *sqldb.DB) {
		start := time.Now()
		holder, _ := blocked(t, db)
		err := <-holder
		wantErr(t, err, sqldb.ErrUnavailable)
		if errors.Is(err, sqldb.ErrUncertain) {
			t.Error("nothing was committed, so nothing is uncertain")
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		if err := db.Write(t.Context(), insert("next")); err != nil {
			t.Error(err)
		}
		wantIDs(t, db, "next")
	})
}

// A function that comes back after its time must find its transaction closed.
func TestALateFunctionWritesNothing(t *testing.T) {
	limited(t, func(t *testing.T, db *sqldb.DB) {
		err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			<-ctx.Done()
			waitFor(t, "the transaction to be over", func() bool {
				_, err := tx.SQL().ExecContext(context.WithoutCancel(ctx), `INSERT INTO thing (id) VALUES ('late')`)
				return err != nil
			})
			return nil
		})
		wantErr(t, err, sqldb.ErrUnavailable)
		wantIDs(t, db)
	})
}

// A brief statement is not watched while it runs, and obeys the same rules.
func TestBriefStatements(t *testing.T) {
	const insertion = `INSERT INTO thing (id) VALUES ($1)`
	brief := func(id string) func(context.Context, *sqldb.Tx) error {
		return func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecBrief(ctx, insertion, id)
			return err
		}
	}
	limited(t, func(t *testing.T, db *sqldb.DB) {
		if err := db.Write(t.Context(), brief("kept")); err != nil {
			t.Fatal(err)
		}
		wantErr(t, db.Write(t.Context(), brief("kept")), sqldb.ErrConflict)
		wantErr(t, db.Write(t.Context(), brief("a \x00 byte")), sqldb.ErrText)
		wantErr(t, db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			if brief("kept")(ctx, tx) == nil || brief("behind a failure")(ctx, tx) == nil {
				t.Error("a statement behind a failed one was run")
			}
			return nil
		}), sqldb.ErrConflict)
		wantErr(t, db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			<-ctx.Done()
			if brief("late")(ctx, tx) == nil {
				t.Error("a statement was run after the time of its transaction")
			}
			return nil
		}), sqldb.ErrUnavailable)
		wantIDs(t, db, "kept")
	})
}

func TestADeadlineThatPassesInLineIsSafeToRetry(t *testing.T) {
	limited(t, func(t *testing.T, db *sqldb.DB) {
		holder, release := blocked(t, db)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		err := db.Write(ctx, insert("too late"))
		wantErr(t, err, sqldb.ErrBusy)
		wantErr(t, err, context.DeadlineExceeded)
		release()
		if err := <-holder; err != nil {
			t.Error(err)
		}
		wantIDs(t, db, "holder")
	})
}

// Once its function runs, a caller that goes away changes nothing.
func TestARunningWriteOutlivesItsCaller(t *testing.T) {
	limited(t, func(t *testing.T, db *sqldb.DB) {
		caller, goAway := context.WithCancel(t.Context())
		err := db.Write(caller, func(ctx context.Context, tx *sqldb.Tx) error {
			goAway()
			if ctx.Err() != nil {
				t.Error("the function's context ended with the caller's")
			}
			if err := insert("by the function's context")(ctx, tx); err != nil {
				return err
			}
			return insert("by the caller's context")(caller, tx)
		})
		if err != nil {
			t.Error(err)
		}
		wantIDs(t, db, "by the caller's context", "by the function's context")
		wantErr(t, db.Write(caller, insert("after")), context.Canceled)
	})
}

func TestCloseWaitsForWritesThatHaveBegun(t *testing.T) {
	for engine, o := range map[string]func(t *testing.T) sqldb.Options{
		sqldb.SQLite:   func(t *testing.T) sqldb.Options { return sqldb.Options{Dir: t.TempDir()} },
		sqldb.Postgres: func(t *testing.T) sqldb.Options { return sqldb.Options{URL: testkit.PostgresURL(t)} },
	} {
		t.Run(engine, func(t *testing.T) {
			options := o(t)
			options.Log = testkit.Logger(t)
			db, err := sqldb.Open(t.Context(), options)
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Migrate(t.Context(), things); err != nil {
				t.Fatal(err)
			}
			holder, release := blocked(t, db)
			closed := make(chan error, 1)
			go func() { closed <- db.Close() }()
			waitFor(t, "new writes to be refused", func() bool {
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				defer cancel()
				none := func(context.Context, *sqldb.Tx) error { return errors.New("still open") }
				return errors.Is(db.Write(ctx, none), sqldb.ErrUnavailable)
			})
			release()
			if err := errors.Join(<-holder, <-closed); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(options.Dir, sqldb.DefaultFile+"-wal")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("Close left a write-ahead log: %v", err)
			}
			wantIDs(t, testkit.Open(t, options), "holder")
		})
	}
}
