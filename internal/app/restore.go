package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"landline/internal/audit"
	"landline/internal/clock"
	"landline/internal/module"
	"landline/internal/observe"
	"landline/internal/secret"
	"landline/internal/sqldb"
)

// Names in the data directory that a restore uses.
const (
	restoring   = "restoring"  // there while the database is being replaced
	incoming    = "restore.db" // the backup, before it is in place
	replacedDir = "replaced"   // holds the databases that were replaced
)

// interrupted refuses a data directory in which a restore was cut off.
func interrupted(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, restoring)); err == nil {
		return withExit(ExitCorrupt, fmt.Errorf("a restore into %s was interrupted: run landline db restore again with the same backup; the replaced database is in %s", dir, filepath.Join(dir, replacedDir)))
	}
	return nil
}

// RestoreOptions say how a backup takes the place of the database.
type RestoreOptions struct {
	File      string        // the backup
	Window    time.Duration // how long refresh tokens that are newer than the backup are believed; 0 = not at all
	Unchecked bool          // open the window also when what ended after the backup cannot be read
	Reason    string        // for the audit log

	files sqldb.Files // tests cut the power at its steps
}

// RestoredDatabase says what a restore did.
type RestoredDatabase struct {
	Replaced string // directory of the database that was there; "" when there was none
	Carried  module.Carried
	Unread   error // why the replaced database could not tell what ended after the backup
}

// RestoreDatabase puts a backup in the place of the embedded database. Everything
// is prepared and checked on a copy before the old database is touched; that one
// is kept. A restore that is cut off can be repeated, and nothing starts before.
func RestoreDatabase(ctx context.Context, o Options, r RestoreOptions) (out RestoredDatabase, err error) {
	s, _, all, err := load(o)
	if err != nil {
		return out, err
	}
	if s.Database.URL.Reveal() != "" {
		return out, Usage(errors.New("database.url names PostgreSQL: restore it with pg_restore or your provider's snapshots, then open the window with POST /admin/v1/identity/restore-window"))
	}
	log := slog.New(slog.NewTextHandler(o.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if err := os.MkdirAll(s.DataDir, 0o700); err != nil {
		return out, withExit(ExitConfig, fmt.Errorf("data_dir: %w", err))
	}
	lock, err := lockDataDir(s.DataDir)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	p := &restore{o: r, settings: s, capabilities: all, log: log, dir: s.DataDir, files: r.files}
	if err := p.undoInterrupted(); err != nil {
		return out, withExit(ExitUnavailable, fmt.Errorf("put back what an interrupted restore had moved: %w", err))
	}
	if err := p.prepare(ctx); err != nil {
		return out, errors.Join(err, p.clean())
	}
	if out.Carried, out.Unread, err = p.carry(ctx); err != nil {
		return out, errors.Join(err, p.clean())
	}
	out.Replaced, err = p.swap()
	return out, err
}

type restore struct {
	o            RestoreOptions
	settings     *Settings
	capabilities []module.Capability
	log          *slog.Logger
	dir          string
	files        sqldb.Files
}

func (p *restore) path(name string) string { return filepath.Join(p.dir, name) }

// prepare copies the backup into the directory, proves it sound, proves that
// this installation's master key opens it, and brings its schema up to date.
func (p *restore) prepare(ctx context.Context) error {
	backup, err := openBackup(ctx, p.o.File, p.log)
	if err != nil {
		return err
	}
	_, err = verify(ctx, backup)
	if err = errors.Join(err, backup.Close()); err != nil {
		return fmt.Errorf("%s: %w", p.o.File, err)
	}
	if err := errors.Join(p.clean(), p.files.Copy(p.o.File, p.path(incoming))); err != nil {
		return err
	}
	k := &kernel{log: p.log, registry: observe.NewRegistry()}
	if k.db, err = sqldb.Open(ctx, sqldb.Options{Dir: p.dir, File: incoming, Log: p.log}); err != nil {
		return err
	}
	defer func() {
		if closing := k.db.Close(); closing != nil {
			p.log.Warn("close the restored database", "error", closing)
		}
	}()
	if err := k.db.Check(ctx); err != nil { // of the copy: the disk may be the culprit
		return err
	}
	if err := k.migrate(ctx, p.capabilities); err != nil {
		return err
	}
	_, err = secret.Open(ctx, k.db, secret.Options{Dir: p.dir, MasterKey: p.settings.Secrets.MasterKey.Reveal(), Production: p.settings.Profile == Production, Clock: clock.System, Log: p.log})
	return withExit(ExitConfig, err)
}

// carry takes over from the database that goes what ended after the backup.
func (p *restore) carry(ctx context.Context) (sum module.Carried, unread, err error) {
	db, err := sqldb.Open(ctx, sqldb.Options{Dir: p.dir, File: incoming, Log: p.log})
	if err != nil {
		return sum, nil, err
	}
	defer func() { err = errors.Join(err, db.Checkpoint(ctx), db.Close()) }()
	replaced, unread := p.replaced(ctx)
	if replaced != nil {
		defer func() {
			if closing := replaced.Close(); closing != nil {
				p.log.Warn("close the replaced database", "error", closing)
			}
		}()
	}
	log := audit.New(db, clock.System)
	for _, c := range p.capabilities {
		if c.Restored == nil {
			continue
		}
		hand := module.Restored{DB: db, Audit: log, Replaced: replaced, Window: p.o.Window, Reason: p.o.Reason}
		if unread != nil && !p.o.Unchecked {
			hand.Window = 0
		}
		got, err := c.Restored(ctx, hand)
		if err == nil && got.Fault != nil {
			unread = fmt.Errorf("%s: %w", c.Name, got.Fault)
			if p.o.Unchecked {
				hand.Replaced = nil
				ended := got.Ended
				got, err = c.Restored(ctx, hand)
				got.Ended = ended
			}
		}
		if err != nil {
			return sum, unread, fmt.Errorf("%s: %w", c.Name, err)
		}
		sum.Ended += got.Ended
		if got.Until.After(sum.Until) {
			sum.Until = got.Until
		}
	}
	err = db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return log.Record(ctx, tx, audit.Entry{Action: "database.restore", Target: filepath.Base(p.o.File), Reason: p.o.Reason, After: map[string]any{"ended": sum.Ended}})
	})
	if err != nil {
		return sum, unread, err
	}
	return sum, unread, log.Settle(ctx)
}

// replaced opens the database that goes. That it is not there, or is damaged, is
// no fault of the restore; nil then, and why.
func (p *restore) replaced(ctx context.Context) (*sqldb.DB, error) {
	if _, err := os.Stat(p.path(sqldb.DefaultFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("there is no database in " + p.dir)
	}
	db, err := sqldb.Open(ctx, sqldb.Options{Dir: p.dir, Log: p.log})
	if err != nil {
		return nil, err
	}
	return db, nil
}

// live are the files of the database in use; the log belongs to the file.
var live = []string{sqldb.DefaultFile, sqldb.DefaultFile + "-wal", sqldb.DefaultFile + "-shm"}

// asideFormat names directories below replacedDir, by time.
const asideFormat = "20060102T150405.000000Z"

// swap keeps the old files aside and puts the backup in place. While the marker
// is there nothing starts: between the steps the directory has no database, or
// one with the log of another. The marker names the directory of the old files,
// so that a restore that is repeated puts them back first. A step that fails is
// undone at once.
func (p *restore) swap() (replaced string, err error) {
	name := time.Now().UTC().Format(asideFormat)
	aside := filepath.Join(p.path(replacedDir), name)
	if err := p.files.Write(strings.NewReader(name+"\n"), p.path(restoring)); err != nil {
		return "", errors.Join(err, p.files.Remove(p.path(restoring)))
	}
	moved, err := p.moveAside(aside)
	if err == nil {
		err = p.files.Rename(p.path(incoming), p.path(sqldb.DefaultFile))
	}
	if err == nil {
		err = p.files.SyncDir(p.dir)
	}
	if err != nil {
		return "", errors.Join(err, p.undo(aside))
	}
	// From here on the backup is in place; the marker alone may come back.
	if err := p.unmark(); err != nil {
		return "", err
	}
	if moved {
		replaced = aside
	}
	return replaced, nil
}

// moveAside moves what there is of a database; it is durable on return.
func (p *restore) moveAside(aside string) (moved bool, err error) {
	for _, name := range live {
		if _, err := os.Stat(p.path(name)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if !moved {
			moved = true
			if err := p.files.MakeDirs(aside); err != nil {
				return true, err
			}
		}
		if err := p.files.Rename(p.path(name), filepath.Join(aside, name)); err != nil {
			return true, err
		}
	}
	if !moved {
		return false, nil
	}
	if err := p.files.SyncDir(aside); err != nil {
		return true, err
	}
	return true, p.files.SyncDir(p.dir)
}

// undoInterrupted puts back what a restore that was cut off had moved, so that a
// repeated one finds the database that is to be replaced: it alone knows what
// ended after the backup.
func (p *restore) undoInterrupted() error {
	text, err := os.ReadFile(p.path(restoring))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	name := strings.TrimSpace(string(text))
	if _, err := time.Parse(asideFormat, name); err != nil {
		return nil // it was cut off before it moved anything, or is an earlier version's, which moved and did not say where
	}
	return p.undo(filepath.Join(p.path(replacedDir), name))
}

// undo moves the old files back, over those of the backup, and removes the marker.
func (p *restore) undo(aside string) error {
	moved := false
	for _, name := range live {
		if _, err := os.Stat(filepath.Join(aside, name)); errors.Is(err, fs.ErrNotExist) { // #nosec G703 -- a name of ours, in a directory that is named by a time
			continue
		}
		moved = true
		if err := p.files.Rename(filepath.Join(aside, name), p.path(name)); err != nil {
			return err
		}
	}
	if moved {
		if err := p.files.SyncDir(aside); err != nil {
			return err
		}
	}
	if err := p.files.SyncDir(p.dir); err != nil {
		return err
	}
	return p.unmark()
}

func (p *restore) unmark() error {
	if err := p.files.Remove(p.path(restoring)); err != nil {
		return err
	}
	return p.files.SyncDir(p.dir)
}

// clean removes what a restore that did not come about has left.
func (p *restore) clean() error {
	var errs []error
	for _, suffix := range []string{"", "-wal", "-shm"} {
		errs = append(errs, p.files.Remove(p.path(incoming+suffix)))
	}
	return errors.Join(errs...)
}
