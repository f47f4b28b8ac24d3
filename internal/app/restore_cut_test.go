package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"landline/internal/audit"
	"landline/internal/clock"
	"landline/internal/observe"
	"landline/internal/sqldb"
)

const restoreConfig = `
profile: development
app: {id: com.example.app, public_url: "https://api.example.com"}
`

// attic is an installation with a backup, and a database that has gone on since.
type attic struct {
	t      *testing.T
	from   string // data directory
	backup string
}

func newAttic(t *testing.T) *attic {
	a := &attic{t: t, from: t.TempDir(), backup: filepath.Join(t.TempDir(), "backup.db")}
	a.note(a.from, "before")
	if err := BackupDatabase(t.Context(), a.options(a.from), a.backup); err != nil {
		t.Fatal(err)
	}
	a.note(a.from, "after")
	return a
}

func (a *attic) options(dir string) Options {
	return Options{ConfigData: []byte(restoreConfig), Data: dir, Stdout: io.Discard, Stderr: io.Discard}
}

// note leaves a trace in the audit log.
func (a *attic) note(dir, what string) {
	a.t.Helper()
	err := withDatabase(a.t.Context(), a.options(dir), func(_ *Settings, db *sqldb.DB, log *slog.Logger) error {
		k := &kernel{db: db, log: log, registry: observe.NewRegistry()}
		if err := k.migrate(a.t.Context(), capabilities()); err != nil {
			return err
		}
		entries := audit.New(db, clock.System)
		if err := db.Write(a.t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			return entries.Record(ctx, tx, audit.Entry{Action: "test." + what, Target: "attic", Reason: what})
		}); err != nil {
			return err
		}
		return entries.Settle(a.t.Context())
	})
	if err != nil {
		a.t.Fatal(err)
	}
}

// noted is which traces a database has, "" if there is none.
func (a *attic) noted(dir, file string) (traces string) {
	a.t.Helper()
	if _, err := os.Stat(filepath.Join(dir, file)); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	db, err := sqldb.Open(a.t.Context(), sqldb.Options{Dir: dir, File: file, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			a.t.Error(err)
		}
	}()
	if err := db.Check(a.t.Context()); err != nil {
		a.t.Errorf("%s: %v", filepath.Join(dir, file), err)
	}
	err = db.Read(a.t.Context(), func(ctx context.Context, q sqldb.Querier) error {
		for _, action := range []string{"test.before", "test.after", "database.restore"} {
			n := 0
			if err := q.QueryRowContext(ctx, `SELECT COUNT(*) FROM audit_entry WHERE action = $1`, action).Scan(&n); err != nil {
				return err
			}
			if n > 0 {
				traces += action + " "
			}
		}
		return nil
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return traces
}

const (
	asBefore = "test.before test.after "
	restored = "test.before database.restore "
)

// copied is a data directory like the attic's own, as a killed process leaves
// it: with a write-ahead log.
func (a *attic) copied() string {
	a.t.Helper()
	dir := a.t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(a.from)); err != nil {
		a.t.Fatal(err)
	}
	return dir
}

var errGone = errors.New("the power is gone")

// trail follows the names that a restore changes and takes back what was not durable.
type trail struct {
	t     *testing.T
	stash string
	steps int
	fail  func(step int) error
	moves []trailed
}

type trailed struct {
	step     sqldb.Step
	path, to string
	kept     string // what was removed or replaced
	dirty    map[string]bool
}

func (r *trail) before(step sqldb.Step, path, to string) error {
	if r.steps++; r.fail != nil {
		if err := r.fail(r.steps); err != nil {
			return err
		}
	}
	m := trailed{step: step, path: path, to: to, dirty: map[string]bool{filepath.Dir(path): true}}
	gone := path
	switch step {
	case sqldb.SyncDir:
		r.synced(path)
		return nil
	case sqldb.SyncFile:
		return nil
	case sqldb.Rename:
		m.dirty[filepath.Dir(to)] = true
		gone = to
	case sqldb.MakeFile, sqldb.Remove:
	}
	kept := filepath.Join(r.stash, fmt.Sprint(r.steps, "-", filepath.Base(gone)))
	if err := os.Link(gone, kept); err == nil {
		m.kept = kept
	} else if !errors.Is(err, fs.ErrNotExist) {
		r.t.Error(err)
	}
	r.moves = append(r.moves, m)
	return nil
}

func (r *trail) synced(dir string) {
	left := r.moves[:0]
	for _, m := range r.moves {
		if delete(m.dirty, dir); len(m.dirty) > 0 {
			left = append(left, m)
		}
	}
	r.moves = left
}

// takeBack undoes any of the changes of names that were not durable, the last first.
func (r *trail) takeBack(rng *rand.Rand) {
	for i := len(r.moves) - 1; i >= 0; i-- {
		m := r.moves[i]
		if rng.IntN(2) == 0 {
			continue
		}
		var err error
		switch m.step {
		case sqldb.MakeFile:
			err = os.Remove(m.path)
		case sqldb.Rename:
			err = os.Rename(m.to, m.path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.t.Error(err)
		}
		if m.kept == "" {
			continue
		}
		back := m.path
		if m.step == sqldb.Rename {
			back = m.to
		}
		if err := os.Link(m.kept, back); err != nil && !errors.Is(err, fs.ErrExist) {
			r.t.Error(err)
		}
	}
	r.moves = nil
}

// judge looks at what an attempt has left, and then restores again.
func (a *attic) judge(k int, dir string, done bool) (marked bool) {
	a.t.Helper()
	if marked = interrupted(dir) != nil; marked {
		if err := withDatabase(a.t.Context(), a.options(dir), func(*Settings, *sqldb.DB, *slog.Logger) error { return nil }); err == nil {
			a.t.Errorf("step %d: a half restored directory is used", k)
		}
	} else if got := a.noted(dir, sqldb.DefaultFile); got != asBefore && got != restored || done && got != restored {
		a.t.Errorf("step %d, done %v: the database has %q", k, done, got)
	}
	again, err := RestoreDatabase(a.t.Context(), a.options(dir), RestoreOptions{File: a.backup, Reason: "again"})
	if err != nil {
		a.t.Errorf("step %d: it cannot be repeated: %v", k, err)
		return marked
	}
	if again.Unread != nil {
		a.t.Errorf("step %d: the repeated restore does not see what it replaces: %v", k, again.Unread)
	}
	if got := a.noted(dir, sqldb.DefaultFile); got != restored {
		a.t.Errorf("step %d: after the repeated restore the database has %q", k, got)
	}
	kept, err := filepath.Glob(filepath.Join(dir, replacedDir, "*", sqldb.DefaultFile))
	if err != nil {
		a.t.Fatal(err)
	}
	for _, file := range kept {
		if a.noted(filepath.Dir(file), sqldb.DefaultFile) == asBefore {
			return marked
		}
	}
	a.t.Errorf("step %d: the database that was there is lost", k)
	return marked
}

// attempt restores into a copy, with steps that may fail.
func (a *attic) attempt(fail func(step int) error) (dir string, r *trail, err error) {
	dir = a.copied()
	r = &trail{t: a.t, stash: filepath.Join(dir, ".stash"), fail: fail}
	if err := os.Mkdir(r.stash, 0o700); err != nil {
		a.t.Fatal(err)
	}
	_, err = RestoreDatabase(a.t.Context(), a.options(dir), RestoreOptions{File: a.backup, Reason: "a test", files: sqldb.Files{Before: r.before}})
	return dir, r, err
}

// The power goes before every step of a restore. Whatever is left is the
// database as it was, the backup in its place, or a directory that nothing
// starts in; and the restore can be repeated and loses nothing.
func TestAPowerCutDuringARestore(t *testing.T) {
	a := newAttic(t)
	_, r, err := a.attempt(nil)
	if err != nil {
		t.Fatal(err)
	}
	n, marked, whole := r.steps, 0, 0
	for k := 1; k <= n+1; k++ {
		for seed := range uint64(3) {
			dir, r, err := a.attempt(func(step int) error {
				if step >= k {
					return errGone
				}
				return nil
			})
			if (err == nil) != (k > n) {
				t.Fatalf("cut %d of %d: the restore says %v", k, n, err)
			}
			if seed > 0 {
				r.takeBack(rand.New(rand.NewPCG(uint64(k), seed)))
			}
			if a.judge(k, dir, err == nil) {
				marked++
			} else {
				whole++
			}
		}
	}
	t.Logf("%d steps: %d left a directory in which nothing starts, %d a whole database", n, marked, whole)
	if marked == 0 || whole == 0 {
		t.Error("the cuts have missed the swap")
	}
}

// Every step of a restore fails once. It then says so and has changed nothing,
// or nothing starts before it is repeated.
func TestAFailedStepOfARestore(t *testing.T) {
	a := newAttic(t)
	_, r, err := a.attempt(nil)
	if err != nil {
		t.Fatal(err)
	}
	for k := 1; k <= r.steps; k++ {
		dir, _, err := a.attempt(func(step int) error {
			if step == k {
				return fs.ErrInvalid
			}
			return nil
		})
		if err == nil {
			t.Fatalf("step %d of %d failed, and the restore says it is done", k, r.steps)
		}
		a.judge(k, dir, false)
	}
}

// A file that says it is an unfinished backup is none, whatever it holds.
func TestAnUnfinishedBackupIsRefused(t *testing.T) {
	a := newAttic(t)
	part := a.backup + sqldb.PartSuffix
	if err := (sqldb.Files{}).Copy(a.backup, part); err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyDatabase(t.Context(), a.options(a.from), a.backup); err != nil {
		t.Errorf("a finished one: %v", err)
	}
	if _, err := VerifyDatabase(t.Context(), a.options(a.from), part); err == nil || ExitCode(err) != ExitCorrupt {
		t.Errorf("verify: %v", err)
	}
	if _, err := RestoreDatabase(t.Context(), a.options(a.from), RestoreOptions{File: part, Reason: "a test"}); err == nil || ExitCode(err) != ExitCorrupt {
		t.Errorf("restore: %v", err)
	}
	if got := a.noted(a.from, sqldb.DefaultFile); got != asBefore {
		t.Errorf("the database has %q", got)
	}
}
