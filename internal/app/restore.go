package app

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	p := &restore{o: r, settings: s, capabilities: all, log: log, dir: s.DataDir}
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
	if err := errors.Join(p.clean(), copyPrivate(p.o.File, p.path(incoming))); err != nil {
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

// swap keeps the old files aside and puts the backup in place. While the marker
// is there nothing starts: between the steps the directory has no database, or
// one with the log of another.
func (p *restore) swap() (replaced string, err error) {
	if err := writePrivate(strings.NewReader("a restore is under way\n"), p.path(restoring)); err != nil {
		return "", err
	}
	for _, name := range []string{sqldb.DefaultFile, sqldb.DefaultFile + "-wal", sqldb.DefaultFile + "-shm"} {
		if _, err := os.Stat(p.path(name)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if replaced == "" {
			replaced = filepath.Join(p.path(replacedDir), time.Now().UTC().Format("20060102T150405.000000Z"))
			if err := os.MkdirAll(replaced, 0o700); err != nil {
				return "", err
			}
		}
		if err := os.Rename(p.path(name), filepath.Join(replaced, name)); err != nil {
			return replaced, err
		}
	}
	if replaced != "" {
		if err := errors.Join(syncDir(replaced), syncDir(filepath.Dir(replaced))); err != nil {
			return replaced, err
		}
	}
	return replaced, errors.Join(
		os.Rename(p.path(incoming), p.path(sqldb.DefaultFile)), syncDir(p.dir),
		os.Remove(p.path(restoring)), syncDir(p.dir))
}

// clean removes what a restore that did not come about has left.
func (p *restore) clean() error {
	var errs []error
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(p.path(incoming + suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// copyPrivate copies a file so that its owner alone reads it, durably.
func copyPrivate(from, to string) error {
	in, err := os.Open(from) // #nosec G304 -- the operator names the file
	if err != nil {
		return err
	}
	defer in.Close()
	return writePrivate(in, to)
}

func writePrivate(in io.Reader, to string) error {
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) // #nosec G304 -- below the configured data directory
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close(), syncDir(filepath.Dir(to)))
}

func syncDir(dir string) error {
	d, err := os.Open(dir) // #nosec G304 -- below the configured data directory
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
