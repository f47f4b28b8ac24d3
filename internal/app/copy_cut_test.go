package app

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"testing"

	"landline/internal/audit"
	"landline/internal/clock"
	"landline/internal/observe"
	"landline/internal/sqldb"
	"landline/internal/sqldb/faultfs"
	"landline/internal/testkit"
)

// unsettled adds audit entries that are not sealed yet, so that a copy has
// something to write on the source before it begins.
func (a *attic) unsettled() {
	a.t.Helper()
	err := withDatabase(a.t.Context(), a.options(a.from), func(_ *Settings, db *sqldb.DB, log *slog.Logger) error {
		k := &kernel{db: db, log: log, registry: observe.NewRegistry()}
		if err := k.migrate(a.t.Context(), capabilities()); err != nil {
			return err
		}
		return db.Write(a.t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			return audit.New(db, clock.System).Record(ctx, tx, audit.Entry{Action: "test.late", Target: "attic", Reason: "late"})
		})
	})
	if err != nil {
		a.t.Fatal(err)
	}
}

// copyOnDisk copies a directory like the attic's to url, on a disk whose power
// goes before its k-th change, 0 = never, and returns what is found afterwards.
func (a *attic) copyOnDisk(url string, k int) (image string, changes int, err error) {
	a.t.Helper()
	dir := a.copied()
	disk, err := faultfs.Mount(dir)
	if err != nil {
		a.t.Fatal(err)
	}
	defer disk.Unmount()
	if k > 0 {
		disk.CutAfter(k)
	}
	_, err = CopyDatabase(a.t.Context(), a.options(dir), url)
	changes = disk.Changes()
	disk.Cut()
	image = a.t.TempDir()
	if err := disk.Image(rand.New(rand.NewPCG(uint64(k), 5)), image); err != nil {
		a.t.Fatal(err)
	}
	return image, changes, err
}

// entries counts the attic's in the audit log of either engine, sealed or not.
func (a *attic) entries(o sqldb.Options) (n int) {
	a.t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	db, err := sqldb.Open(a.t.Context(), o)
	if err != nil {
		a.t.Fatal(err)
	}
	err = db.Read(a.t.Context(), func(ctx context.Context, q sqldb.Querier) error {
		return q.QueryRowContext(ctx, `SELECT (SELECT COUNT(*) FROM audit_entry WHERE target = 'attic') +
			(SELECT COUNT(*) FROM audit_staged WHERE target = 'attic')`).Scan(&n)
	})
	if err := errors.Join(err, db.Check(a.t.Context()), db.Close()); err != nil {
		a.t.Error(err)
	}
	return n
}

// The power of the source goes before changes that landline db copy makes there,
// such as sealing the audit log. What is left is a whole source, and the repeat
// completes the copy, or is refused because the copy is there in full.
func TestAPowerCutOfTheSourceOfACopy(t *testing.T) {
	a := newAttic(t)
	a.unsettled()
	want := a.entries(sqldb.Options{Dir: a.copied()})
	_, n, err := a.copyOnDisk(testkit.PostgresURL(t), 0)
	if err != nil || n < 5 || want != 3 {
		t.Fatalf("a copy changes the source's disk %d times, %d entries: %v", n, want, err)
	}
	const stride = 7 // each cut takes a new database on PostgreSQL; with 1 every change is cut
	cuts, told := 0, 0
	for k := 1; k <= n; k += stride {
		url := testkit.PostgresURL(t)
		image, _, err := a.copyOnDisk(url, k)
		if cuts++; err != nil {
			told++
		}
		if got := a.entries(sqldb.Options{Dir: image}); got != want {
			t.Errorf("cut %d of %d: the source has %d entries of %d", k, n, got, want)
		}
		_, again := CopyDatabase(t.Context(), a.options(image), url)
		if again != nil && !errors.Is(again, sqldb.ErrNotEmpty) || err == nil && again == nil {
			t.Errorf("cut %d of %d: the copy said %v, and its repeat %v", k, n, err, again)
		}
		if got := a.entries(sqldb.Options{URL: url}); got != want {
			t.Errorf("cut %d of %d: the target has %d entries of %d", k, n, got, want)
		}
	}
	t.Logf("%d cuts, %d of them told", cuts, told)
	if told < cuts/2 {
		t.Errorf("only %d of %d cuts were told", told, cuts)
	}
}
