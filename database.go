package landline

import (
	"context"
	"database/sql"

	"landline/internal/app"
)

// Querier runs SQL: a transaction, or a handle that reads. Placeholders are
// $1…$n in ascending order, which both SQLite and PostgreSQL take. Times are
// stored as BIGINT milliseconds; a time.Time is refused, and so is text that is
// not UTF-8.
type Querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Tx is a transaction. A statement that fails makes the whole transaction fail.
type Tx struct {
	Querier
	tx    *app.Tx
	house *app.House
}

// OnCommit has fn called once the transaction is durable; not when it is undone.
// fn must be brief, and may be lost with the process: what must happen is a job.
func (tx *Tx) OnCommit(fn func()) { tx.tx.OnCommit(fn) }

// Database is the one that Landline itself uses: SQLite, or PostgreSQL.
type Database struct{ house *app.House }

// DatabaseFrom returns the database for a handler's or job's context.
func DatabaseFrom(ctx context.Context) *Database { return &Database{app.HouseFrom(ctx)} }

// Read runs fn on committed data; fn must not write.
func (d *Database) Read(ctx context.Context, fn func(ctx context.Context, q Querier) error) error {
	if d.house == nil {
		return errOutside
	}
	return d.house.Read(ctx, func(ctx context.Context, q app.Querier) error { return fn(ctx, q) })
}

// Write runs fn in a transaction and returns nil once it is durable. An error of
// fn undoes it. fn may be called more than once, of which one call counts.
func (d *Database) Write(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	if d.house == nil {
		return errOutside
	}
	return d.house.Write(ctx, func(ctx context.Context, tx *app.Tx) error {
		return fn(ctx, &Tx{Querier: tx, tx: tx, house: d.house})
	})
}

// Errors of Read and Write that a program may act on, with errors.Is.
var (
	ErrNotFound = app.ErrNotFound // what sql.ErrNoRows becomes when fn returns it
	ErrConflict = app.ErrConflict // a constraint refused the row
)
