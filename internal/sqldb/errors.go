package sqldb

import (
	"errors"
	"time"

	"landline/internal/problem"
)

// Errors a caller may act on. Every other error of this package is internal:
// a fault in a statement or in its caller.
var (
	// ErrNotFound says that the row a statement had to find is not there.
	ErrNotFound = errors.New("not found")

	// ErrConflict says that a unique, foreign-key, check or not-null constraint
	// refused the row. Reading again and deciding anew is the way out.
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
