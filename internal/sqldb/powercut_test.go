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
	"sync"
	"testing"

	"landline/internal/sqldb"
	"landline/internal/sqldb/faultfs"
	"landline/internal/testkit"
)

// cutRun writes from many goroutines until the power is cut and returns what was
// acknowledged and the directory as it is found afterwards.
func cutRun(t *testing.T, seed uint64, relaxed, lie bool) (acknowledged []string, image string) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	disk, err := faultfs.Mount(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Unmount()
	if lie {
		disk.Lie()
	}
	quiet := slog.New(slog.DiscardHandler)
	within := 120
	if relaxed {
		within = 400 // the writes of a commit are not joined
	}
	disk.CutAfter(1 + rng.IntN(within)) // from the first breath on: creation and migration are cut too
	db, err := sqldb.Open(t.Context(), sqldb.Options{Dir: dir, Relaxed: relaxed, Log: quiet})
	if err == nil {
		if err = db.Migrate(t.Context(), things); err == nil {
			acknowledged = writeUntilDead(t, db, disk, seed)
		}
		db.Close() // fails, of course: the disk is gone
	}
	select {
	case <-disk.Dead():
	default:
		t.Fatalf("the power was never cut: %v", err)
	}
	image = t.TempDir()
	if err := disk.Image(rng, image); err != nil {
		t.Fatal(err)
	}
	return acknowledged, image
}

func writeUntilDead(t *testing.T, db *sqldb.DB, disk *faultfs.Disk, seed uint64) (acknowledged []string) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", seed, c, i)
				err := addPair(context.Background(), db, id, (c+i)%2 == 0)
				select {
				case <-disk.Dead():
					if err == nil { // it was answered: an acknowledgement, whenever the power went
						mu.Lock()
						acknowledged = append(acknowledged, id)
						mu.Unlock()
					}
					return
				default:
				}
				if err != nil {
					t.Errorf("a write failed before the cut: %v", err)
					return
				}
				mu.Lock()
				acknowledged = append(acknowledged, id)
				mu.Unlock()
				if c == 0 && i%16 == 15 {
					if err := db.Checkpoint(context.Background()); err != nil && !errors.Is(err, sqldb.ErrUnavailable) && !errors.Is(err, sqldb.ErrBusy) {
						t.Errorf("checkpoint: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	return acknowledged
}

// recovered opens what a power cut has left. corrupt is what SQLite says of it, or "".
func recovered(t *testing.T, image string, acknowledged []string) (lost int, corrupt string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(image, "main.db")); errors.Is(err, fs.ErrNotExist) {
		return len(acknowledged), ""
	}
	db, err := sqldb.Open(t.Context(), sqldb.Options{Dir: image, Log: testkit.Logger(t)})
	if err != nil {
		return 0, err.Error()
	}
	defer db.Close()
	var said string
	if err := db.Writer().QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&said); err != nil || said != "ok" {
		return 0, fmt.Sprint(said, err)
	}
	if err := db.Migrate(t.Context(), things); err != nil {
		return 0, err.Error()
	}
	there := map[string]bool{}
	err = db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
		rows, err := q.QueryContext(ctx, `SELECT t.id FROM thing t JOIN part p ON p.id = t.id`)
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
		return 0, err.Error()
	}
	for _, id := range acknowledged {
		if !there[id] {
			lost++
		}
	}
	if err := db.Write(t.Context(), insert("afterwards")); err != nil {
		t.Errorf("a recovered database does not take writes: %v", err)
	}
	return lost, ""
}

// What Write has acknowledged survives a power cut at any operation, from the
// creation of the file on; half a transaction never does anything.
func TestPowerCutsTakeNothingBack(t *testing.T) {
	sum := 0
	for seed := range uint64(24) {
		acknowledged, image := cutRun(t, seed, false, false)
		sum += len(acknowledged)
		if lost, corrupt := recovered(t, image, acknowledged); lost > 0 || corrupt != "" {
			t.Errorf("seed %d: %d of %d acknowledged writes are lost; %s", seed, lost, len(acknowledged), corrupt)
		}
	}
	t.Logf("%d writes were acknowledged before 24 cuts", sum)
	if sum < 100 {
		t.Errorf("only %d writes were acknowledged: the cuts came too early to prove anything", sum)
	}
}

// The same test finds what it looks for where it must be there: a relaxed
// database gives acknowledged writes back and stays sound, and on a disk that
// only pretends to sync databases break.
func TestPowerCutsShowARelaxedDatabaseAndALyingDisk(t *testing.T) {
	lost, corrupt := 0, 0
	for seed := range uint64(12) {
		acknowledged, image := cutRun(t, seed, true, false)
		n, fault := recovered(t, image, acknowledged)
		lost += n
		if fault != "" {
			t.Errorf("seed %d: relaxed must not mean corrupt: %s", seed, fault)
		}
		acknowledged, image = cutRun(t, seed, false, true)
		n, fault = recovered(t, image, acknowledged)
		if fault != "" || n > 0 {
			corrupt++
		}
	}
	t.Logf("relaxed: %d acknowledged writes lost; lying disk: %d of 12 databases ruined", lost, corrupt)
	if lost == 0 || corrupt == 0 {
		t.Errorf("relaxed databases lost %d writes, a lying disk ruined %d databases; both must show", lost, corrupt)
	}
}
