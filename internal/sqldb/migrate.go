package sqldb

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// migrationLock is the key of the advisory lock under which nodes migrate one after the other ("landline" in ASCII).
const migrationLock int64 = 0x6c616e646c696e65

// keepBackups is how many backups that Migrate made stay; older ones are deleted.
const keepBackups = 10

// Migrations are one module's schema changes: goose files NNNN_name.sql in the
// root of FS, beginning with "-- +goose Up"; NNNN_name.postgres.sql replaces the
// general file on PostgreSQL. There is no way down: undoing is restoring a backup.
// The zero value is a module that stores nothing.
type Migrations struct {
	Module string // lower-case name; the version table is migration_<module>
	FS     fs.FS
}

// NewerError says that the database has been migrated by a newer Landline.
type NewerError struct {
	Module           string
	Database, Binary int64 // newest migration of each
	Backups          string
}

// Error names the way out.
func (e *NewerError) Error() string {
	way := "install the version of landline that migrated it, or a later one, or restore a backup from before"
	if e.Backups != "" {
		way += " (in " + e.Backups + ")"
	}
	return fmt.Sprintf("sqldb: the database is newer than this landline: module %s is at migration %d, this binary knows up to %d; %s",
		e.Module, e.Database, e.Binary, way)
}

var moduleName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,40}$`)

// module is one module's migrations as this database sees them.
type module struct {
	name    string
	goose   *goose.Provider
	known   []int64 // versions the binary has, ascending
	applied []int64 // versions the database has
}

func (m *module) pending() (n int) {
	for _, v := range m.known {
		if !slices.Contains(m.applied, v) {
			n++
		}
	}
	return n
}

// Embedded are the migrations of a package that embeds its folder "migrations".
func Embedded(module string, files embed.FS) Migrations {
	sub, err := fs.Sub(files, "migrations")
	if err != nil {
		panic("sqldb: " + err.Error()) // only a path that is not valid
	}
	return Migrations{Module: module, FS: sub}
}

// Migrate brings the schema of every module up to date, in the given order. It
// refuses a database that is newer than the binary (NewerError) before it
// changes anything. On SQLite it first copies a database that has content to
// Dir/backups. Processes that start together wait for one another.
func (db *DB) Migrate(ctx context.Context, all ...Migrations) error {
	unlock, err := db.lockMigrations(ctx)
	if err != nil {
		return db.translate(err)
	}
	return errors.Join(db.migrate(ctx, all), unlock())
}

func (db *DB) migrate(ctx context.Context, all []Migrations) error {
	modules, pending, err := db.modules(ctx, all)
	if err != nil || pending == 0 {
		return err
	}
	if err := db.prepareEngine(ctx); err != nil {
		return err
	}
	if err := db.temporary(ctx, "FILE"); err != nil {
		return err
	}
	return errors.Join(db.migrateModules(ctx, modules), db.temporary(context.WithoutCancel(ctx), "MEMORY"))
}

// temporary says where SQLite's writer keeps what is temporary: an index of a
// large table is sorted in a file, all else is small and stays in memory.
func (db *DB) temporary(ctx context.Context, where string) error {
	if db.name != SQLite {
		return nil
	}
	_, err := db.writer.ExecContext(ctx, "PRAGMA temp_store="+where)
	return db.translate(err)
}

func (db *DB) migrateModules(ctx context.Context, modules []*module) error {
	for _, m := range modules {
		results, err := m.goose.Up(ctx)
		for _, r := range results {
			db.log.Info("migrated", "module", m.name, "file", r.Source.Path, "duration", r.Duration)
		}
		if err != nil {
			return fmt.Errorf("sqldb: migrate module %s: %w", m.name, db.translate(err))
		}
	}
	return nil
}

// prepareEngine makes what migrations rely on: the type key_text, which SQLite
// reads as TEXT by its name; and the backup.
func (db *DB) prepareEngine(ctx context.Context) error {
	if db.name == SQLite {
		return db.backupBeforeMigrating(ctx)
	}
	_, err := db.writer.ExecContext(ctx, `DO $$ BEGIN CREATE DOMAIN key_text AS TEXT COLLATE "C"; EXCEPTION WHEN duplicate_object THEN NULL; END $$`)
	return db.translate(err)
}

// Pending counts the migrations that Migrate would apply. It changes nothing.
func (db *DB) Pending(ctx context.Context, all ...Migrations) (int, error) {
	_, n, err := db.modules(ctx, all)
	return n, err
}

// Migrated reports whether any of the modules has ever been migrated here: a
// database of another program, or a new one, has not.
func (db *DB) Migrated(ctx context.Context, all ...Migrations) (bool, error) {
	modules, _, err := db.modules(ctx, all)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(modules, func(m *module) bool { return len(m.applied) > 0 }), nil
}

func (db *DB) modules(ctx context.Context, all []Migrations) (modules []*module, pending int, err error) {
	for _, m := range all {
		if m.Module == "" && m.FS == nil { // a module that stores nothing
			continue
		}
		mod, err := db.module(ctx, m)
		if err != nil {
			return nil, 0, fmt.Errorf("sqldb: migrations of module %q: %w", m.Module, err)
		}
		if n := slices.Max(append(mod.applied, 0)); n > mod.known[len(mod.known)-1] {
			newer := &NewerError{Module: mod.name, Database: n, Binary: mod.known[len(mod.known)-1]}
			if db.name == SQLite {
				newer.Backups = db.backups()
			}
			return nil, 0, newer
		}
		modules = append(modules, mod)
		pending += mod.pending()
	}
	return modules, pending, nil
}

func (db *DB) module(ctx context.Context, m Migrations) (*module, error) {
	if !moduleName.MatchString(m.Module) {
		return nil, errors.New("the name must be lower-case letters, digits and _")
	}
	files, err := newOverlay(m.FS, db.name)
	if err != nil {
		return nil, err
	}
	dialect := database.DialectSQLite3
	if db.name == Postgres {
		dialect = database.DialectPostgres
	}
	store, err := database.NewStore(dialect, "migration_"+m.Module)
	if err != nil {
		return nil, err
	}
	p, err := goose.NewProvider("", db.writer, files, goose.WithStore(store), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return nil, err
	}
	mod := &module{name: m.Module, goose: p}
	for _, s := range p.ListSources() {
		mod.known = append(mod.known, s.Version)
	}
	mod.applied, err = db.applied(ctx, store.Tablename())
	return mod, err
}

// applied reads a version table, which need not be there yet.
func (db *DB) applied(ctx context.Context, table string) ([]int64, error) {
	find := `SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = $1`
	if db.name == Postgres {
		find = `SELECT COUNT(*) FROM pg_catalog.pg_class WHERE oid = to_regclass($1)`
	}
	var n int
	if err := db.writer.QueryRowContext(ctx, find, table).Scan(&n); err != nil || n == 0 {
		return nil, db.translate(err)
	}
	rows, err := db.writer.QueryContext(ctx, `SELECT version_id FROM `+table+` WHERE version_id > 0 ORDER BY version_id`) // #nosec G202 -- the table is named after a module of this binary
	if err != nil {
		return nil, db.translate(err)
	}
	defer rows.Close()
	var versions []int64
	for rows.Next() {
		var v int64
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		versions = append(versions, v)
	}
	return versions, db.translate(rows.Err())
}

// LockMigrations is the lock under which Migrate works, for schema changes that
// are made in other ways. It is not to be held during Migrate.
func (db *DB) LockMigrations(ctx context.Context) (unlock func() error, err error) {
	return db.lockMigrations(ctx)
}

// lockMigrations lets one process at a time migrate. On PostgreSQL it is a lock
// of the server on a connection of its own, so that a pool of one connection can
// still migrate. Both locks end with the process that holds them.
func (db *DB) lockMigrations(ctx context.Context) (unlock func() error, err error) {
	if db.name == SQLite {
		return lockDir(ctx, db.dir)
	}
	pool := sql.OpenDB(db.connector)
	pool.SetMaxOpenConns(1)
	if _, err := pool.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, migrationLock); err != nil {
		return nil, errors.Join(fmt.Errorf("wait for other nodes to migrate: %w", err), pool.Close())
	}
	return pool.Close, nil // the end of the connection is the end of the lock
}

// lockEvery is how often a lock that another process holds is asked for.
const lockEvery = 20 * time.Millisecond

// lockDir waits for the lock of a directory, flock(2), which needs no file.
func lockDir(ctx context.Context, dir string) (unlock func() error, err error) {
	d, err := os.Open(dir) // #nosec G304 -- the data directory
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(lockEvery)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return d.Close, nil // the end of the descriptor is the end of the lock
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), d.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("wait for another process to migrate: %w", ctx.Err()), d.Close())
		case <-tick.C:
		}
	}
}

func (db *DB) backups() string { return filepath.Join(db.dir, "backups") }

// backupBeforeMigrating copies a database that has any table.
func (db *DB) backupBeforeMigrating(ctx context.Context) error {
	var tables int
	if err := db.writer.QueryRowContext(ctx, `SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'`).Scan(&tables); err != nil {
		return db.translate(err)
	}
	if tables == 0 {
		return nil
	}
	stem := strings.TrimSuffix(filepath.Base(db.path), filepath.Ext(db.path)) + "-before-migration-"
	path := filepath.Join(db.backups(), stem+time.Now().UTC().Format("20060102T150405.000000Z")+".db")
	if err := db.Backup(ctx, path); err != nil {
		return fmt.Errorf("sqldb: nothing was migrated, because the backup before it failed: %w", err)
	}
	db.log.Info("backed up before migrating", "file", path)
	return pruneBackups(db.backups(), stem)
}

// pruneBackups deletes all but the newest backups whose names begin with stem.
func pruneBackups(dir, stem string) error {
	old, err := filepath.Glob(filepath.Join(dir, stem+"*.db"))
	if err != nil {
		return err
	}
	slices.Sort(old) // by time, which follows the stem
	for _, path := range old[:max(0, len(old)-keepBackups)] {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}
