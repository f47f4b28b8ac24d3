package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"

	"landline/internal/sqldb"
	"landline/internal/sqldb/faultfs"
	"landline/internal/testkit"
)

// faultyGroup has 12 callers write at once, three times each, while the k-th
// operation of a kind fails, and returns each write's verdict.
func faultyGroup(t *testing.T, f faultfs.Fault) (verdicts map[string]error, struck bool, image string) {
	t.Helper()
	dir := t.TempDir()
	disk, err := faultfs.Mount(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Unmount()
	db, err := sqldb.Open(t.Context(), sqldb.Options{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		err = db.Migrate(t.Context(), things)
	}
	if err != nil {
		t.Fatal(err)
	}
	disk.Fail(f)
	verdicts = map[string]error{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for c := range 12 {
		wg.Go(func() {
			for i := range 3 {
				id := fmt.Sprintf("%d-%d", c, i)
				err := addPair(context.Background(), db, id, (c+i)%2 == 0)
				mu.Lock()
				verdicts[id] = err
				mu.Unlock()
			}
			if c == 0 {
				if err := db.Checkpoint(context.Background()); err != nil && !errors.Is(err, sqldb.ErrUnavailable) && !errors.Is(err, sqldb.ErrBusy) {
					t.Errorf("checkpoint: %v", err)
				}
			}
		})
	}
	wg.Wait()
	struck = disk.Hit() > 0
	disk.Fail(faultfs.Fault{})
	verdicts["afterwards"] = db.Write(t.Context(), insert("afterwards"))
	disk.Cut()
	db.Close() // whatever it says: the disk is gone
	image = t.TempDir()
	if err := disk.Image(rand.New(rand.NewPCG(uint64(f.At), 1)), image); err != nil {
		t.Fatal(err)
	}
	return verdicts, struck, image
}

// Whatever operation fails under a group, each of its callers is told the truth:
// nil means there, ErrUncertain there or not, every other error not there.
func TestAFailedOperationTellsEachCallerTheTruth(t *testing.T) {
	for name, f := range map[string]faultfs.Fault{
		"write EIO": {Ops: faultfs.Write}, "write torn": {Ops: faultfs.Write, Kind: faultfs.Torn}, "write ENOSPC": {Ops: faultfs.Write, Kind: faultfs.Space},
		"sync": {Ops: faultfs.Sync}, "truncate": {Ops: faultfs.Truncate}, "read": {Ops: faultfs.Read},
	} {
		struck, told := 0, 0
		for k := 1; k < 400; k += 1 + k/12 {
			f.At = k
			verdicts, hit, image := faultyGroup(t, f)
			if !hit {
				break
			}
			struck++
			db := testkit.Open(t, sqldb.Options{Dir: image}, things)
			if err := db.Check(t.Context()); err != nil {
				t.Errorf("%s at %d: %v", name, k, err)
			}
			there := idsOf(t, db)
			for id, err := range verdicts {
				switch {
				case err == nil && !there[id]:
					t.Errorf("%s at %d: write %s was acknowledged and is lost", name, k, id)
				case err != nil && !errors.Is(err, sqldb.ErrUncertain) && there[id]:
					t.Errorf("%s at %d: write %s failed and is there: %v", name, k, id, err)
				}
				if err != nil {
					told++
				}
				if err != nil && !errors.Is(err, sqldb.ErrUnavailable) {
					t.Errorf("%s at %d: write %s: %v", name, k, id, err)
				}
			}
			if err := verdicts["afterwards"]; err != nil {
				t.Errorf("%s at %d: the database does not work afterwards: %v", name, k, err)
			}
		}
		t.Logf("%s: struck at %d points, %d writes were told of it", name, struck, told)
		if struck == 0 {
			t.Errorf("%s: never struck", name)
		}
	}
}

func idsOf(t *testing.T, db *sqldb.DB) map[string]bool {
	t.Helper()
	there := map[string]bool{}
	err := db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
		rows, err := q.QueryContext(ctx, `SELECT id FROM thing`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			there[id] = true
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return there
}
