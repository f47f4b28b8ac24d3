// Package sqldb is the one door to SQL: one handle over SQLite or PostgreSQL,
// one way to read, one way to write, one set of errors.
package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Querier is what module SQL is written against: a transaction or a read handle.
type Querier interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

// Engine names, as DB.Engine returns them.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// Tx is the transaction of one Write.
type Tx struct {
	Querier
	tx       *sql.Tx
	onCommit []func()
}

// SQL is the transaction of database/sql, for the queue's driver alone.
func (t *Tx) SQL() *sql.Tx { return t.tx }

// OnCommit has fn called once the transaction is durable, before Write returns.
// fn must not block and must not write.
func (t *Tx) OnCommit(fn func()) { t.onCommit = append(t.onCommit, fn) }

// DB is an open database.
type DB struct {
	name     string
	url      string
	classify func(error) error
	group    int
	reader   *sql.DB
	writer   *sql.DB
	jobs     chan job
	stopped  chan struct{}
}

type job struct {
	ctx  context.Context
	fn   func(context.Context, *Tx) error
	done chan error
}

func newDB(name string, group int, classify func(error) error, writer, reader *sql.DB) *DB {
	db := &DB{name: name, classify: classify, group: group, writer: writer, reader: reader, jobs: make(chan job), stopped: make(chan struct{})}
	if group > 1 {
		go db.commitLoop()
	} else {
		close(db.stopped)
	}
	return db
}

// Engine is SQLite or Postgres.
func (db *DB) Engine() string { return db.name }

// Read runs fn against committed data; fn must not write.
func (db *DB) Read(ctx context.Context, fn func(context.Context, Querier) error) error {
	return db.translate(fn(ctx, db.reader))
}

// Write runs fn in a transaction and returns once that transaction is durable.
func (db *DB) Write(ctx context.Context, fn func(context.Context, *Tx) error) error {
	if db.group <= 1 {
		tx := &Tx{}
		err := db.translate(db.inTx(ctx, tx, fn))
		if err == nil {
			tx.committed()
		}
		return err
	}
	j := job{ctx, fn, make(chan error, 1)}
	select {
	case db.jobs <- j:
		return db.translate(<-j.done)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *Tx) committed() {
	for _, f := range t.onCommit {
		f()
	}
}

func (db *DB) inTx(ctx context.Context, t *Tx, fn func(context.Context, *Tx) error) error {
	ctx = context.WithoutCancel(ctx)
	tx, err := db.writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback()
	t.Querier, t.tx = tx, tx
	if err := fn(ctx, t); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

func (db *DB) commitLoop() {
	defer close(db.stopped)
	for j := range db.jobs {
		tx := &Tx{}
		err := db.inTx(j.ctx, tx, j.fn)
		if err == nil {
			tx.committed()
		}
		j.done <- err
	}
}

func (db *DB) translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	}
	if c := db.classify(err); c != nil {
		return fmt.Errorf("%w: %w", c, err)
	}
	return err
}

// Close waits for the last commit. No Write may be in flight.
func (db *DB) Close() error {
	close(db.jobs)
	<-db.stopped
	err := db.writer.Close()
	if db.reader != db.writer {
		err = errors.Join(err, db.reader.Close())
	}
	return err
}

// Millis is how every time is stored: UTC milliseconds in a BIGINT.
func Millis(t time.Time) int64 { return t.UnixMilli() }

// Time is the inverse of Millis.
func Time(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// NullMillis is Millis of an instant that may be unset: the zero time is NULL.
func NullMillis(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: t.UnixMilli(), Valid: !t.IsZero()}
}
