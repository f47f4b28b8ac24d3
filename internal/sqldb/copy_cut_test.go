package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"landline/internal/sqldb"
	"landline/internal/sqldb/faultfs"
	"landline/internal/testkit"
)

const fewBooks = 30

// bookcase is a small source in a directory of its own, closed.
func bookcase(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	db := testkit.Open(t, sqldb.Options{Dir: dir}, shelves)
	err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		for i := range fewBooks {
			if _, err := tx.ExecContext(ctx, `INSERT INTO shelf (id) VALUES ($1)`, fmt.Sprint(i)); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO book (id, shelf, cover) VALUES ($1, $1, $2)`, fmt.Sprint(i), make([]byte, 8<<10)); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `UPDATE head SET size = size + 1`)
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// shelfRows counts what a database holds: all of a bookcase is 2*fewBooks and a head of 1.
func shelfRows(t *testing.T, db *sqldb.DB) (rows, head int) {
	t.Helper()
	err := db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
		return q.QueryRowContext(ctx, `SELECT (SELECT COUNT(*) FROM shelf) + (SELECT COUNT(*) FROM book), (SELECT size FROM head)`).Scan(&rows, &head)
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows, head
}

// copyThrough copies to a PostgreSQL that goes away for good at a piece.
func copyThrough(t *testing.T, from *sqldb.DB, direct string, at int) (pieces int, err error) {
	t.Helper()
	u, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	s := newSevered(t, u.Host, at)
	defer s.close()
	u.Host = s.listener.Addr().String()
	to, err := sqldb.Open(t.Context(), sqldb.Options{URL: u.String(), MaxConns: 2, Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		o := shelfOptions
		o.Patience = time.Nanosecond
		_, err = sqldb.Copy(t.Context(), from, to, o)
		err = errors.Join(err, to.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pieces, err
}

// clearShelves makes a target that was copied to as it was when it was migrated.
func clearShelves(t *testing.T, db *sqldb.DB) {
	t.Helper()
	statement(t, db, `TRUNCATE shelf, book, slip; UPDATE head SET size = 0`)
}

// The target goes away before every message of a copy, and stays away. The source
// is as it was, byte by byte; the target has all or nothing, the caller was told
// which unless it was told that nobody knows, and the repeat does the rest.
func TestACopyThatLosesPostgreSQL(t *testing.T) {
	dir := bookcase(t)
	before, err := os.ReadFile(filepath.Join(dir, sqldb.DefaultFile))
	if err != nil {
		t.Fatal(err)
	}
	from := testkit.Open(t, sqldb.Options{Dir: dir})
	url := testkit.PostgresURL(t)
	to := testkit.Open(t, sqldb.Options{URL: url, MaxConns: 2}, shelves)
	k, failed, uncertain := 1, 0, 0
	for ; ; k++ {
		clearShelves(t, to)
		pieces, err := copyThrough(t, from, url, k)
		if pieces < k {
			if err != nil {
				t.Errorf("without a cut: %v", err)
			}
			break
		}
		if err != nil {
			failed++
		}
		if errors.Is(err, sqldb.ErrUncertain) {
			uncertain++
		}
		_, again := sqldb.Copy(t.Context(), from, to, shelfOptions) // waits for what the one before may still hold
		switch {
		case err == nil && !errors.Is(again, sqldb.ErrNotEmpty):
			t.Errorf("cut %d: the copy succeeded, and is not there: %v", k, again)
		case errors.Is(again, sqldb.ErrNotEmpty) && err != nil && !errors.Is(err, sqldb.ErrUncertain):
			t.Errorf("cut %d: the copy failed, and is there: %v", k, err)
		case again != nil && !errors.Is(again, sqldb.ErrNotEmpty):
			t.Errorf("cut %d: the repeat: %v", k, again)
		}
		if rows, head := shelfRows(t, to); rows != 2*fewBooks || head != 1 {
			t.Errorf("cut %d: %d rows and a head of %d after the repeat", k, rows, head)
		}
	}
	t.Logf("%d cuts, %d of them told, %d not certain", k-1, failed, uncertain)
	if k < 20 || failed < k/2 {
		t.Errorf("of %d cuts %d were noticed: the proxy does not see the copy", k-1, failed)
	}
	if err := from.Close(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(filepath.Join(dir, sqldb.DefaultFile)); err != nil || string(after) != string(before) {
		t.Errorf("the source has changed, %v", err)
	}
}

// A connection that is lost at the commit leaves nobody in doubt when the server
// can be asked.
func TestACopyWhoseCommitIsLostAsksWhatBecameOfIt(t *testing.T) {
	from := testkit.Open(t, sqldb.Options{Dir: bookcase(t)})
	p, proxied := newProxy(t, testkit.PostgresURL(t))
	to := testkit.Open(t, sqldb.Options{URL: proxied, MaxConns: 2}, shelves)
	p.cut.Store("before commit")
	_, err := sqldb.Copy(t.Context(), from, to, shelfOptions)
	if wantErr(t, err, sqldb.ErrUnavailable); errors.Is(err, sqldb.ErrUncertain) {
		t.Errorf("it never came, and is uncertain: %v", err)
	}
	if rows, head := shelfRows(t, to); rows != 0 || head != 0 {
		t.Errorf("%d rows and a head of %d", rows, head)
	}
	p.cut.Store("after commit")
	done, err := sqldb.Copy(t.Context(), from, to, shelfOptions)
	if err != nil || done.Rows != 2*fewBooks+1 {
		t.Errorf("it has come: %+v, %v", done, err)
	}
	if rows, head := shelfRows(t, to); rows != 2*fewBooks || head != 1 {
		t.Errorf("%d rows and a head of %d", rows, head)
	}
}

// Every read of the source fails once, then its power goes. The copy makes no
// change to the source's disk, at which the power could do harm; the target has
// nothing, the error says that it is the disk, and the repeat copies everything.
func TestACopyWhoseSourceFails(t *testing.T) {
	from := bookcase(t)
	to := testkit.Postgres(t, shelves)
	struck := 0
	for k := 1; ; k++ {
		db, disk, _ := failing(t, from)
		changes := disk.Changes()
		disk.Fail(faultfs.Fault{Ops: faultfs.Read, At: k})
		_, err := sqldb.Copy(t.Context(), db, to, shelfOptions)
		hit, changed := disk.Hit(), disk.Changes()-changes
		disk.Fail(faultfs.Fault{})
		if changed != 0 {
			t.Errorf("read %d: the copy has changed the source's disk %d times", k, changed)
		}
		if hit == 0 {
			if err := errors.Join(err, db.Close()); err != nil {
				t.Errorf("without a fault: %v", err)
			}
			break
		}
		struck++
		var theirs *pgconn.PgError
		if wantErr(t, err, sqldb.ErrUnavailable); errors.As(err, &theirs) {
			t.Errorf("read %d: the target is blamed: %v", k, err)
		}
		if rows, head := shelfRows(t, to); rows != 0 || head != 0 {
			t.Fatalf("read %d: %d rows and a head of %d after %v", k, rows, head, err)
		}
		disk.Cut()
		db.Close() // fails, of course: the disk is gone
		disk.Unmount()
		image := t.TempDir()
		if err := disk.Image(rand.New(rand.NewPCG(uint64(k), 11)), image); err != nil {
			t.Fatal(err)
		}
		source := testkit.Open(t, sqldb.Options{Dir: image})
		if err := source.Check(t.Context()); err != nil {
			t.Errorf("read %d: the source: %v", k, err)
		}
		if rows, head := shelfRows(t, source); rows != 2*fewBooks || head != 1 {
			t.Errorf("read %d: the source has %d rows and a head of %d", k, rows, head)
		}
	}
	t.Logf("%d reads failed", struck)
	if rows, head := shelfRows(t, to); rows != 2*fewBooks || head != 1 || struck < fewBooks {
		t.Errorf("%d reads failed; then %d rows and a head of %d arrived", struck, rows, head)
	}
}
