package sqldb_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"landline/internal/sqldb"
	"landline/internal/sqldb/faultfs"
	"landline/internal/testkit"
)

// afterAFailedSync is a database whose process has died after a sync of the log
// had failed, opened by the next one.
func afterAFailedSync(t *testing.T, relaxed bool) (*sqldb.DB, *faultfs.Disk) {
	t.Helper()
	dir := t.TempDir()
	disk, err := faultfs.Mount(dir)
	if err != nil {
		t.Fatal(err)
	}
	options := sqldb.Options{Dir: dir, Relaxed: relaxed, Log: slog.New(slog.DiscardHandler)}
	db, err := sqldb.Open(t.Context(), options)
	if err == nil {
		err = errors.Join(db.Migrate(t.Context(), things), db.Checkpoint(t.Context()), db.Write(t.Context(), insert("before")))
	}
	if err != nil {
		t.Fatal(err)
	}
	disk.Fail(faultfs.Fault{Ops: faultfs.Sync, Times: -1})
	err = db.Write(t.Context(), insert("failed"))
	for i := 0; relaxed && err == nil && i < 16; i++ { // pages of the table and its index are split
		err = db.Write(t.Context(), insert(fmt.Sprintf("%d %0900d", i, i)))
	}
	if relaxed && err == nil { // it syncs with a checkpoint only
		err = db.Checkpoint(t.Context())
	}
	if !errors.Is(err, sqldb.ErrUnavailable) {
		t.Fatalf("the failed sync gave %v", err)
	}
	disk.Cut()
	t.Log(db.Close()) // whatever it says: the disk is gone
	if disk, err = disk.Remount(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(disk.Unmount)
	if db, err = sqldb.Open(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	return db, disk
}

// A sync of the log fails, the process dies, the next one reads what was written
// and goes on behind it, then the power goes: what the next one has acknowledged
// is there, although the failed sync had left a hole before it.
func TestCommitsBehindAFailedSyncSurviveAPowerCut(t *testing.T) {
	db, disk := afterAFailedSync(t, false)
	if err := db.Write(t.Context(), insert("after")); err != nil {
		t.Fatal(err)
	}
	disk.Cut()
	t.Log(db.Close())
	for seed := range uint64(8) {
		found := imageOf(t, disk, seed)
		if there := idsOf(t, found); !there["before"] || !there["after"] {
			t.Errorf("seed %d: %v is left", seed, there)
		}
	}
}

// Where commits are not synced, a checkpoint would move what stands behind the
// hole into the file, and a power cut in its middle leave half of it.
func TestACheckpointBehindAFailedSyncSurvivesAPowerCut(t *testing.T) {
	for k := 1; ; k++ {
		db, disk := afterAFailedSync(t, true)
		disk.CutAfter(k)
		err := db.Checkpoint(t.Context())
		disk.Cut()
		t.Log(db.Close())
		for seed := range uint64(8) {
			imageOf(t, disk, seed)
		}
		if err == nil {
			if k < 5 {
				t.Errorf("a checkpoint changed the disk only %d times", k-1)
			}
			return
		}
	}
}

// imageOf opens what a power cut has left; it must be sound.
func imageOf(t *testing.T, disk *faultfs.Disk, seed uint64) *sqldb.DB {
	t.Helper()
	image := t.TempDir()
	if err := disk.Image(rand.New(rand.NewPCG(seed, 1)), image); err != nil {
		t.Fatal(err)
	}
	db := testkit.Open(t, sqldb.Options{Dir: image}, things)
	if err := db.Check(t.Context()); err != nil {
		t.Errorf("seed %d: %v", seed, err)
	}
	return db
}

// A log that cannot be written again is not believed: the start is refused, and
// the next one, on a disk that works, finds everything.
func TestAStartIsRefusedWhileTheLogCannotBeRenewed(t *testing.T) {
	for _, op := range []faultfs.Op{faultfs.Write, faultfs.Sync} {
		dir := t.TempDir()
		disk, err := faultfs.Mount(dir)
		if err != nil {
			t.Fatal(err)
		}
		options := sqldb.Options{Dir: dir, Log: slog.New(slog.DiscardHandler)}
		db, err := sqldb.Open(t.Context(), options)
		if err == nil {
			err = errors.Join(db.Migrate(t.Context(), things), db.Write(t.Context(), insert("before")))
		}
		if err != nil {
			t.Fatal(err)
		}
		disk.Cut()
		t.Log(db.Close())
		if disk, err = disk.Remount(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(disk.Unmount)
		disk.Fail(faultfs.Fault{Ops: op, Times: -1})
		if _, err = sqldb.Open(t.Context(), options); !errors.Is(err, sqldb.ErrUnavailable) || !strings.Contains(err.Error(), "write-ahead log") {
			t.Fatalf("opened with %v", err)
		}
		disk.Fail(faultfs.Fault{})
		if db, err = sqldb.Open(t.Context(), options); err != nil {
			t.Fatal(err)
		}
		if there := idsOf(t, db); !there["before"] {
			t.Errorf("%v is left", there)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}
