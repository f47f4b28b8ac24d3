package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"landline/internal/sqldb"
	"landline/internal/sqldb/faultfs"
	"landline/internal/testkit"
)

const backedUp = 300 // rows in the database that is backed up

// filled is a directory with a database of backedUp rows.
func filled(t *testing.T) (dir string, ids []string) {
	t.Helper()
	dir = t.TempDir()
	db := testkit.Open(t, sqldb.Options{Dir: dir}, things)
	for i := range backedUp {
		ids = append(ids, fmt.Sprint("row-", i))
	}
	err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		for _, id := range ids {
			if err := insert(id)(ctx, tx); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO part (id, thing) VALUES ($1, $2)`, id, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return dir, ids
}

// failing opens a copy of the database in from on a disk that fails.
func failing(t *testing.T, from string) (*sqldb.DB, *faultfs.Disk, string) {
	t.Helper()
	dir := t.TempDir()
	if err := (sqldb.Files{}).Copy(filepath.Join(from, "main.db"), filepath.Join(dir, "main.db")); err != nil {
		t.Fatal(err)
	}
	disk, err := faultfs.Mount(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(disk.Unmount)
	db, err := sqldb.Open(t.Context(), sqldb.Options{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	db.FilesBefore(func(step sqldb.Step, path, to string) error { return disk.Beside(string(step), path, to) })
	return db, disk, dir
}

// changesOfABackup is how many operations of the disk one backup needs.
func changesOfABackup(t *testing.T, from string) int {
	t.Helper()
	db, disk, dir := failing(t, from)
	before := disk.Changes()
	if err := db.Backup(t.Context(), filepath.Join(dir, "backup.db")); err != nil {
		t.Fatal(err)
	}
	n := disk.Changes() - before
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if n < 8 { // make, write some pages, sync, rename, sync the directory
		t.Fatalf("a backup takes %d changes only: the disk does not see it", n)
	}
	return n
}

// sound reports whether landline would take the file for a backup: it is whole
// as SQLite sees it, and has been migrated. rows is then what it holds.
func sound(t *testing.T, dir, name string) (rows int, ok bool) {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return 0, false
	}
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqldb.Open(t.Context(), sqldb.Options{Dir: dir, File: name, ReadOnly: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return 0, false
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := db.Check(t.Context()); err != nil {
		return 0, false
	}
	if migrated, err := db.Migrated(t.Context(), things); err != nil || !migrated {
		return 0, false
	}
	err = db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
		return q.QueryRowContext(ctx, `SELECT COUNT(*) FROM thing t JOIN part p ON p.id = t.id`).Scan(&rows)
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows, true
}

// The power goes before every single operation of a backup. The database is as
// it was; a file that has a backup's name is a whole one; and one that says it
// is unfinished is never taken for a whole one that it is not.
func TestAPowerCutDuringABackup(t *testing.T) {
	from, ids := filled(t)
	n := changesOfABackup(t, from)
	named, unfinished := 0, 0
	for k := 1; k <= n+1; k++ {
		db, disk, dir := failing(t, from)
		disk.CutAfter(k)
		err := db.Backup(t.Context(), filepath.Join(dir, "backup.db"))
		if (err == nil) != (k > n) {
			t.Fatalf("cut %d of %d: the backup says %v", k, n, err)
		}
		disk.Cut()
		db.Close() // fails, of course: the disk is gone
		disk.Unmount()
		rng := rand.New(rand.NewPCG(uint64(k), 7))
		for range 6 {
			image := t.TempDir()
			if err := disk.Image(rng, image); err != nil {
				t.Fatal(err)
			}
			if lost, corrupt := recovered(t, image, ids); lost > 0 || corrupt != "" {
				t.Errorf("cut %d: %d rows of the database are lost; %s", k, lost, corrupt)
			}
			_, there := os.Stat(filepath.Join(image, "backup.db"))
			if err == nil && there != nil {
				t.Errorf("cut %d: a backup that was made is gone: %v", k, there)
			}
			if there == nil {
				named++
				if rows, ok := sound(t, image, "backup.db"); !ok || rows != backedUp {
					t.Errorf("cut %d: what has a backup's name is none: %d rows, sound %v", k, rows, ok)
				}
			}
			if _, err := os.Stat(filepath.Join(image, "backup.db"+sqldb.PartSuffix)); err == nil {
				unfinished++
				if rows, ok := sound(t, image, "backup.db"+sqldb.PartSuffix); ok && rows != backedUp {
					t.Errorf("cut %d: an unfinished backup of %d rows passes for a whole one", k, rows)
				}
			}
		}
	}
	t.Logf("%d cuts, 6 images each: %d with a backup, %d with an unfinished one", n+1, named, unfinished)
	if named == 0 || unfinished == 0 {
		t.Error("the cuts have missed the backup")
	}
}

// Every operation of a backup fails once, in every way. The caller is told the
// truth, the database goes on, and the backup can be made again.
func TestAFailedOperationDuringABackup(t *testing.T) {
	from, _ := filled(t)
	n := changesOfABackup(t, from)
	for _, kind := range faultfs.Kinds {
		for k := 1; k <= n; k++ {
			db, disk, dir := failing(t, from)
			disk.Fail(faultfs.Fault{Ops: faultfs.Changes, At: k, Kind: kind})
			path := filepath.Join(dir, "backup.db")
			err := db.Backup(t.Context(), path)
			if disk.Hit() != 1 {
				t.Fatalf("%v %d: struck %d times", kind, k, disk.Hit())
			}
			disk.Fail(faultfs.Fault{})
			if rows, ok := sound(t, dir, "backup.db"); err == nil && (!ok || rows != backedUp) {
				t.Errorf("%v %d: made a backup of %d rows, sound %v", kind, k, rows, ok)
			}
			if err := db.Write(t.Context(), insert("afterwards")); err != nil {
				t.Errorf("%v %d: the database does not take writes: %v", kind, k, err)
			}
			if err != nil {
				if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
				if err := db.Backup(t.Context(), path); err != nil {
					t.Errorf("%v %d: it cannot be made again: %v", kind, k, err)
				}
			}
			if err := db.Close(); err != nil {
				t.Errorf("%v %d: close: %v", kind, k, err)
			}
			disk.Unmount()
		}
	}
}
