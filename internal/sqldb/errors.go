package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"landline/internal/problem"
)

// Errors a caller may act on. Every other error of this package is internal:
// a fault in a statement or in its caller.
var (
	// ErrNotFound says that the row a statement had to find is not there.
	ErrNotFound = errors.New("not found")

	// ErrConflict says that a unique, foreign-key, check or not-null constraint
	// or a trigger refused the row. Reading again and deciding anew is the way out.
	ErrConflict = errors.New("conflict")

	// ErrBusy says that the write never began: too many callers were waiting, or
	// the caller's turn did not come in time. Trying again a second later is safe.
	ErrBusy error = &refusal{
		text:   "sqldb: too many writes are waiting",
		detail: "the database is busy; nothing was changed",
		after:  time.Second,
	}

	// ErrUnavailable says that the database cannot serve: it is down or
	// unreachable, its disk is full, or it is read-only. Nothing was changed,
	// unless the error is also ErrUncertain.
	ErrUnavailable error = &refusal{
		text:   "sqldb: the database is unavailable",
		detail: "the database is unavailable",
		after:  5 * time.Second,
	}

	// ErrCorrupt says that the database's file is damaged, or is none. Trying again
	// does not help: a backup has to take its place. It wraps ErrUnavailable.
	ErrCorrupt error = &refusal{
		text:   "sqldb: the database is damaged",
		detail: "the database is unavailable",
		after:  time.Minute,
		kind:   ErrUnavailable,
	}

	// ErrUncertain says that the database was lost while it committed: the change
	// is there in full or not at all, and only a later look can tell which. It
	// wraps ErrUnavailable.
	ErrUncertain error = &refusal{
		text:   "sqldb: the outcome of the commit is unknown",
		detail: "the database was lost while it stored the change; look whether it is there before trying again",
		after:  5 * time.Second,
		kind:   ErrUnavailable,
	}
)

// ErrText says that a text argument holds a NUL byte or is not UTF-8. No
// statement was run. Text of clients is better checked where the field's name is known.
var ErrText error = textError{}

type textError struct{}

func (textError) Error() string { return "sqldb: text that cannot be stored" }

// Problem makes ErrText a problem.Coder.
func (textError) Problem() *problem.Error {
	return problem.New(problem.InvalidRequest, "a text holds a NUL byte or is not valid UTF-8")
}

var errClosed = fmt.Errorf("%w: it is closed", ErrUnavailable)

// refusal is a sentinel error that knows how it looks to a client.
type refusal struct {
	text   string        // for the log
	detail string        // for the client
	after  time.Duration // how long a client should wait
	kind   error         // the wider error it is a case of, or nil
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.kind }

// Problem makes refusal a problem.Coder.
func (r *refusal) Problem() *problem.Error {
	return problem.New(problem.StorageUnavailable, r.detail).After(r.after)
}

// faults is what an engine knows about its errors.
type faults struct {
	classify  func(error) error // the sentinel that err is a case of, or nil
	uncertain func(error) bool  // whether a commit that failed so may yet be durable
}

// sentinels, the more special before the wider, with their label in the metrics.
var sentinels = []struct {
	err   error
	class string
}{
	{ErrNotFound, "not_found"},
	{ErrConflict, "conflict"},
	{ErrBusy, "busy"},
	{ErrCorrupt, "corrupt"},
	{ErrUncertain, "uncertain"},
	{ErrUnavailable, "unavailable"},
	{ErrText, "text"},
}

// translate puts what the engine said into the terms of this package. Errors of
// the callers themselves pass unchanged.
func (db *DB) translate(err error) error {
	if err == nil {
		return nil
	}
	if db.classOf(err) == "" {
		switch c := db.faults.classify(err); {
		case errors.Is(err, sql.ErrNoRows):
			err = as(ErrNotFound, err)
		case c != nil:
			err = as(c, err)
		}
	}
	db.metrics.failed(db.classOf(err), err)
	return err
}

func as(kind, err error) error {
	if err == sql.ErrNoRows { // says no more than kind
		return kind
	}
	return fmt.Errorf("%w: %w", kind, err)
}

func (db *DB) classOf(err error) string {
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return s.class
		}
	}
	return ""
}

func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
