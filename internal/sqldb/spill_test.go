package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"

	"landline/internal/sqldb"
	"landline/internal/sqldb/faultfs"
	"landline/internal/testkit"
)

// A commit is one write of the log and one sync, however many pages it has. Where
// commits are not synced, each page is written as SQLite does it.
func TestACommitIsOneWriteAndOneSync(t *testing.T) {
	for _, relaxed := range []bool{false, true} {
		dir := t.TempDir()
		disk, err := faultfs.Mount(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer disk.Unmount()
		db := testkit.Open(t, sqldb.Options{Dir: dir, Relaxed: relaxed}, things)
		var synchronous int
		if err := db.Writer().QueryRowContext(t.Context(), `PRAGMA synchronous`).Scan(&synchronous); err != nil || synchronous < 2 != relaxed {
			t.Fatalf("relaxed %t: synchronous is %d, %v; joined writes need 2, FULL", relaxed, synchronous, err)
		}
		before := disk.Changes()
		if err := db.Write(t.Context(), insertBlob("blob", 60_000)); err != nil {
			t.Fatal(err)
		}
		changes := disk.Changes() - before
		if !relaxed && changes != 2 || relaxed && changes < 2*15 {
			t.Errorf("relaxed %t: a commit of 15 pages and more changed the disk %d times", relaxed, changes)
		}
	}
}

func insertBlob(id string, n int) func(context.Context, *sqldb.Tx) error {
	return func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO thing (id, blob) VALUES ($1, $2)`, id, make([]byte, n))
		return err
	}
}

// spilling makes transactions outgrow the page cache: SQLite writes their pages
// to the log before they end.
func spilling(t *testing.T, db *sqldb.DB) {
	t.Helper()
	if _, err := db.Writer().ExecContext(t.Context(), `PRAGMA cache_size = 10`); err != nil {
		t.Fatal(err)
	}
}

// What a transaction had written when it was undone must not reach the log any
// more: another connection, of another process say, has written there since.
func TestFramesOfAnUndoneTransactionOverwriteNobodys(t *testing.T) {
	dir := t.TempDir()
	ours, theirs := testkit.Open(t, sqldb.Options{Dir: dir}, things), testkit.Open(t, sqldb.Options{Dir: dir}, things)
	spilling(t, ours)
	undone := errors.New("undone")
	for i := range 6 {
		if err := ours.Checkpoint(t.Context()); err != nil { // so that undoing does not read the log, which would write what is held back
			t.Fatal(err)
		}
		err := ours.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			for j := range 5 + 7*i {
				if err := insertBlob(fmt.Sprintf("undone %d", j), 9000)(ctx, tx); err != nil {
					return err
				}
			}
			return undone
		})
		if !errors.Is(err, undone) {
			t.Fatal(err)
		}
		if err := theirs.Write(t.Context(), insertBlob(fmt.Sprintf("theirs %d", i), 600_000)); err != nil {
			t.Fatal(err)
		}
		if err := ours.Write(t.Context(), insertBlob(fmt.Sprintf("ours %d", i), 10)); err != nil {
			t.Fatal(err)
		}
	}
	for _, db := range []*sqldb.DB{ours, theirs} {
		if err := db.Check(t.Context()); err != nil {
			t.Error(err)
		}
		if there := idsOf(t, db); len(there) != 12 {
			t.Errorf("%v is there", there)
		}
	}
}

// A write that fails under a transaction that outgrows the cache makes all of it
// fail, or nothing: SQLite was told of earlier pages that they are written.
func TestAFailedWriteUnderALargeTransaction(t *testing.T) {
	for _, kind := range faultfs.Kinds {
		struck := 0
		for k := 1; ; k++ {
			db, hit, err := largeTransaction(t, faultfs.Fault{Ops: faultfs.Write, At: k, Kind: kind})
			there := idsOf(t, db)
			if !hit {
				if err != nil {
					t.Errorf("%v: %v without a fault", kind, err)
				}
				break
			}
			struck++
			large := 0
			for id := range there {
				if id != "before" && id != "afterwards" {
					large++
				}
			}
			switch {
			case err == nil && large != largeRows, large != 0 && large != largeRows, err != nil && !errors.Is(err, sqldb.ErrUncertain) && large != 0:
				t.Errorf("%v at %d: %d of %d rows are there after %v", kind, k, large, largeRows, err)
			case !there["before"] || !there["afterwards"]:
				t.Errorf("%v at %d: %v", kind, k, there)
			}
		}
		if struck < 5 {
			t.Errorf("%v: struck at %d points", kind, struck)
		}
	}
}

const largeRows = 60

// largeTransaction writes largeRows rows in one while f is armed, then one more row,
// and opens what a power cut leaves.
func largeTransaction(t *testing.T, f faultfs.Fault) (left *sqldb.DB, hit bool, verdict error) {
	t.Helper()
	dir := t.TempDir()
	disk, err := faultfs.Mount(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Unmount()
	db, err := sqldb.Open(t.Context(), sqldb.Options{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		err = errors.Join(db.Migrate(t.Context(), things), db.Write(t.Context(), insert("before")))
	}
	if err != nil {
		t.Fatal(err)
	}
	spilling(t, db)
	disk.Fail(f)
	verdict = db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		for i := range largeRows {
			if err := insertBlob(fmt.Sprintf("%d", i), 9000)(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
	hit = disk.Hit() > 0
	disk.Fail(faultfs.Fault{})
	if err := db.Write(t.Context(), insert("afterwards")); err != nil {
		t.Errorf("%v at %d: the database does not work afterwards: %v", f.Kind, f.At, err)
	}
	disk.Cut()
	t.Log(db.Close()) // whatever it says: the disk is gone
	image := t.TempDir()
	if err := disk.Image(rand.New(rand.NewPCG(uint64(f.At), 1)), image); err != nil {
		t.Fatal(err)
	}
	left = testkit.Open(t, sqldb.Options{Dir: image}, things)
	if err := left.Check(t.Context()); err != nil {
		t.Errorf("%v at %d: %v", f.Kind, f.At, err)
	}
	return left, hit, verdict
}
