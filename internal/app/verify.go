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

	"landline/internal/audit"
	"landline/internal/clock"
	"landline/internal/sqldb"
)

// Verified is what VerifyDatabase found of a sound database.
type Verified struct {
	Pending int   // migrations that the next start applies
	Entries int64 // of the audit log; every one matches its hash
}

// VerifyDatabase reads all of the configured database, or of the backup in file
// when that is not "": whether its pages and keys are sound, whether this binary
// knows its migrations, and whether the audit log is as it was written. It
// changes nothing and may be used beside a running Landline.
func VerifyDatabase(ctx context.Context, o Options, file string) (v Verified, err error) {
	if file != "" {
		log := slog.New(slog.NewTextHandler(o.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
		db, err := openBackup(ctx, file, log)
		if err != nil {
			return v, err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		return verify(ctx, db)
	}
	if err := there(o); err != nil {
		return v, err
	}
	err = withDatabase(ctx, o, func(_ *Settings, db *sqldb.DB, _ *slog.Logger) error {
		v, err = verify(ctx, db)
		return err
	})
	return v, err
}

// there refuses an embedded database that has not been made yet: opening would make one.
func there(o Options) error {
	s, _, _, err := load(o)
	if err != nil || s.Database.URL.Reveal() != "" {
		return err
	}
	if _, err := os.Stat(filepath.Join(s.DataDir, sqldb.DefaultFile)); errors.Is(err, fs.ErrNotExist) {
		return Usage(fmt.Errorf("there is no database in %s: name the directory with --data, or a backup as an argument", s.DataDir))
	}
	return nil
}

func verify(ctx context.Context, db *sqldb.DB) (v Verified, err error) {
	if err := db.Check(ctx); err != nil {
		return v, err
	}
	all := migrations(capabilities())
	migrated, err := db.Migrated(ctx, all...)
	if err != nil {
		return v, withExit(ExitConfig, err)
	}
	if !migrated {
		return v, withExit(ExitUsage, errors.New("this is no database of Landline, or an empty one"))
	}
	if v.Pending, err = db.Pending(ctx, all...); err != nil {
		return v, withExit(ExitConfig, err)
	}
	if v.Entries, err = audit.New(db, clock.System).VerifySealed(ctx); errors.Is(err, audit.ErrTampered) {
		err = withExit(ExitCorrupt, err)
	}
	return v, err
}

// openBackup opens the file of a backup and leaves it as it is.
func openBackup(ctx context.Context, file string, log *slog.Logger) (*sqldb.DB, error) {
	info, err := os.Stat(file)
	switch {
	case strings.HasSuffix(file, sqldb.PartSuffix):
		return nil, withExit(ExitCorrupt, fmt.Errorf("%s is a backup that was not finished; a finished one has no %s in its name", file, sqldb.PartSuffix))
	case errors.Is(err, fs.ErrNotExist):
		return nil, Usage(fmt.Errorf("there is no file %s", file))
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, Usage(fmt.Errorf("%s is not a regular file", file))
	case info.Size() == 0:
		return nil, withExit(ExitCorrupt, fmt.Errorf("%s is empty", file))
	}
	if log, err := os.Stat(file + "-wal"); err == nil && log.Size() > 0 {
		return nil, Usage(fmt.Errorf("beside %s there is %s-wal with writes that are not in the file: it is a database in use, or was copied by hand; take a backup with `landline db backup`", file, file))
	}
	db, err := sqldb.Open(ctx, sqldb.Options{Dir: filepath.Dir(file), File: filepath.Base(file), ReadOnly: true, Log: log})
	if err != nil {
		return nil, withExit(ExitUnavailable, err)
	}
	return db, nil
}

// wayOut adds to the error of a damaged embedded database what to do about it.
func wayOut(s *Settings, err error) error {
	if !errors.Is(err, sqldb.ErrCorrupt) || s.Database.URL.Reveal() != "" {
		return err
	}
	return fmt.Errorf("%w: starting again does not help; stop Landline and put a backup in its place with `landline db restore FILE`; "+
		"backups that Landline made by itself are in %s, and `landline db verify FILE` says whether one is sound", err, filepath.Join(s.DataDir, "backups"))
}
