package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Engine names, as DB.Engine returns them.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// Defaults of Options.
const (
	DefaultFile         = "main.db"
	DefaultQueue        = 1024
	DefaultWriteTimeout = 10 * time.Second
	DefaultMaxConns     = 16
)

// Options say which database to open.
type Options struct {
	URL     string                // "" = SQLite in Dir; postgres://… otherwise
	Dir     string                // directory of the SQLite file, its backups in Dir/backups; created 0700 (SQLite)
	File    string                // name of the SQLite file; "" = main.db
	Log     *slog.Logger          // nil = slog.Default()
	Metrics prometheus.Registerer // nil = none

	// Relaxed lets a power cut (not a crash of the process) take back the last
	// commits, for a file of its own that holds what may be lost, such as
	// telemetry (SQLite: synchronous=NORMAL; no effect on PostgreSQL).
	Relaxed bool

	// ReadOnly opens a file that is there and that nobody writes, such as a backup,
	// and leaves it as it is; every Write fails (SQLite).
	ReadOnly bool

	Queue        int           // most callers that may wait to write before ErrBusy; 0 = 1024
	WriteTimeout time.Duration // longest that one caller's transaction may take; it waits for its turn at most twice as long; 0 = 10s
	MaxConns     int           // connections open at most; 0 = 16 (PostgreSQL)
}

func (o Options) withDefaults() Options {
	if o.File == "" {
		o.File = DefaultFile
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Queue <= 0 {
		o.Queue = DefaultQueue
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = DefaultWriteTimeout
	}
	if o.MaxConns <= 0 {
		o.MaxConns = DefaultMaxConns
	}
	return o
}

// Querier is what module SQL is written against: a transaction or a read
// handle. Text arguments must be valid UTF-8 without NUL bytes (ErrText), and a
// time.Time is refused: times are stored as Millis.
type Querier interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

// DB is an open database. It is safe for concurrent use.
type DB struct {
	name      string
	url       string // PostgreSQL
	dir       string // SQLite: directory of the file
	path      string // SQLite: the file
	log       *slog.Logger
	connector driver.Connector // PostgreSQL
	reader    *sql.DB
	writer    *sql.DB // SQLite: one connection; PostgreSQL: the same pool as reader
	refuser   *sql.DB // makes the *sql.Row of a refused statement
	writes    writes
	faults    faults
	counts    counts
	metrics   *metrics
	files     Files // of backups
}

// writes is how an engine runs Write and WriteAll.
type writes interface {
	write(ctx context.Context, fn func(context.Context, *Tx) error) error
	writeAll(ctx context.Context, all []Statement) (unmet int, err error)
	waiting() int
	close() // refuses new writes and waits for those that have begun
}

// Open opens, and on SQLite creates, the database. It does not migrate it.
func Open(ctx context.Context, o Options) (*DB, error) {
	o = o.withDefaults()
	db := &DB{log: o.Log, refuser: sql.OpenDB(refusing{})}
	var err error
	switch {
	case strings.HasPrefix(o.URL, "postgres://"), strings.HasPrefix(o.URL, "postgresql://"):
		err = db.openPostgres(ctx, o)
	case o.URL == "":
		err = db.openSQLite(ctx, o)
	default:
		err = errors.New(`sqldb: the database URL must be empty (SQLite) or start with postgres://`)
	}
	if err != nil {
		return nil, errors.Join(err, db.refuser.Close())
	}
	return db, nil
}

// Engine is SQLite or Postgres.
func (db *DB) Engine() string { return db.name }

// Read runs fn against committed data; fn must not write, and on SQLite cannot.
// Two statements of fn may see different states; see ReadSnapshot.
func (db *DB) Read(ctx context.Context, fn func(context.Context, Querier) error) error {
	return db.translate(fn(ctx, &handle{db: db, q: db.reader}))
}

// ReadSnapshot is Read against one consistent state of the database, that of
// its first statement.
func (db *DB) ReadSnapshot(ctx context.Context, fn func(context.Context, Querier) error) error {
	tx, err := db.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return db.translate(err)
	}
	defer db.rollback(tx)
	return db.translate(fn(ctx, &handle{db: db, q: tx}))
}

// Write runs fn in a transaction and returns nil once that transaction is
// durable. fn may run more than once (see the package documentation) and must
// use the context it is given. An error of fn undoes its work and is returned,
// in the terms of this package where the database caused it.
func (db *DB) Write(ctx context.Context, fn func(context.Context, *Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return db.translate(db.writes.write(ctx, fn))
}

// Close refuses new writes, waits for those that have begun, and closes the database.
func (db *DB) Close() error {
	db.writes.close()
	var err error
	if db.reader != db.writer {
		err = db.reader.Close() // first: the last connection moves SQLite's log into the file, and readers may not
	}
	return errors.Join(err, db.writer.Close(), db.refuser.Close())
}

// rollback ends a transaction whose outcome no longer matters. That it has
// ended already is no news; that it cannot be ended is worth a line.
func (db *DB) rollback(tx *sql.Tx) {
	if err := tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
		db.log.Debug("a rollback failed; the connection is dropped", "error", err)
	}
}

// Millis is how every time is stored: UTC milliseconds in a BIGINT.
func Millis(t time.Time) int64 { return t.UnixMilli() }

// Time is the inverse of Millis.
func Time(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// NullMillis is Millis of an instant that may be unset: the zero time is NULL.
func NullMillis(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: t.UnixMilli(), Valid: !t.IsZero()}
}
