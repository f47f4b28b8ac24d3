package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Ping reports whether the database can be read.
func (db *DB) Ping(ctx context.Context) error {
	var one int
	return db.translate(db.reader.QueryRowContext(ctx, "SELECT 1").Scan(&one))
}

// PostgresURL is the address the database was opened with, for the queue's own
// pool; empty on SQLite. It holds the password.
func (db *DB) PostgresURL() string { return db.url }

// Writer is the pool that writes, for the queue's driver alone: on SQLite it
// has one connection, which the commit loop shares.
func (db *DB) Writer() *sql.DB { return db.writer }

// Checkpoint moves the whole write-ahead log into the database file and
// empties it; ErrBusy when a reader holds on to it. No effect on PostgreSQL.
func (db *DB) Checkpoint(ctx context.Context) error {
	if db.name == Postgres {
		return nil
	}
	_, _, err := db.checkpoint(ctx, "TRUNCATE")
	return db.translate(err)
}

// PartSuffix ends the name of a backup that is not finished.
const PartSuffix = ".part"

// Backup writes a complete, consistent copy of the SQLite database to path,
// which must not exist, readable by its owner only. Writers are not held up
// while it runs. The copy appears under its name only once it is durable.
func (db *DB) Backup(ctx context.Context, path string) error {
	if db.name == Postgres {
		return errors.New("sqldb: a PostgreSQL database is backed up with pg_dump or by its host, not by Landline")
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("sqldb: %s exists: name another file or remove it", path)
	}
	part := path + PartSuffix
	if err := db.files.Remove(part); err != nil {
		return err
	}
	if err := db.files.before(MakeFile, part, ""); err != nil {
		return err
	}
	if err := createPrivate(part); err != nil {
		return err
	}
	if err := db.copyTo(ctx, part, path); err != nil {
		return errors.Join(err, db.files.Remove(part))
	}
	return nil
}

func (db *DB) copyTo(ctx context.Context, part, path string) error {
	// A connection of its own: readers may not write, not even elsewhere, and the writer has other work.
	pool := sql.OpenDB(preparing{driver: db.reader.Driver(), dsn: sqliteDSN(db.path, true, true)})
	_, err := pool.ExecContext(ctx, "VACUUM INTO $1", part)
	if err = errors.Join(db.translate(err), pool.Close()); err != nil {
		return fmt.Errorf("copy the database to %s: %w", part, err)
	}
	if err := db.files.Sync(part); err != nil {
		return err
	}
	if err := db.files.Rename(part, path); err != nil {
		return err
	}
	return db.files.SyncDir(filepath.Dir(path))
}

func syncPath(path string) error {
	f, err := os.Open(path) // #nosec G304 -- a path of this package
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
