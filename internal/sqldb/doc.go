// Package sqldb is the one door to SQL: one handle over SQLite or PostgreSQL,
// one way to read, one way to write, one set of errors.
//
// # What it guarantees
//
// Write runs a function in a transaction and returns nil only when that
// transaction is durable. Writes behave as if they ran one after the other, on
// both engines: SQLite has one writer, PostgreSQL runs them SERIALIZABLE and
// repeats the losers of a conflict. A function may therefore read, decide and
// write without thinking of others, and may run more than once; what it does
// outside the transaction belongs into Tx.OnCommit.
//
// On SQLite many callers share one commit and so one fsync ("group commit").
// Each runs in its own savepoint: a caller whose function fails, panics or
// takes too long undoes its own work and nobody else's. A caller that gives up
// while it waits leaves the line; once its function runs, only WriteTimeout ends
// it, because SQLite answers an interrupted statement by undoing the whole
// transaction, which would be the neighbours' too.
//
// WriteAll takes statements instead of a function, each of which must touch one
// row: new rows by their keys, a compare-and-set. Its callers share transactions
// on PostgreSQL too: one message carries the statements of all who wait, one
// commit makes them durable. Inserts of one row that several callers run are sent
// as one, and where nobody's statements are anything but inserts that succeed or
// fail, the commit goes in the same message. On SQLite they have no savepoint of their own. Either
// way a caller that fails takes nothing from the others: what it has spoilt is
// undone and run again, on SQLite each in a savepoint, on PostgreSQL without it.
// A caller that waits for a lock longer than a moment (25 ms), or in whose
// transaction nobody can be told guilty, goes on in one of its own. Use Write for
// what reads, decides, or touches many rows.
//
// Every error is one that a caller can act on (ErrNotFound, ErrConflict,
// ErrBusy, ErrUnavailable, ErrUncertain, ErrText) or an internal fault.
// The line of waiting writers is bounded; when it is full, Write says ErrBusy
// at once.
//
// Within one transaction the first statement that fails ends it on both
// engines, as PostgreSQL has it: use ON CONFLICT instead of trying.
//
// # What it does not
//
// It does not build or translate SQL. Statements are written once, for both
// engines, in the common subset: types key_text, TEXT, BIGINT, BOOLEAN, BYTEA;
// times as BIGINT milliseconds (Millis); text keys as key_text, which compares
// byte by byte; NULLS FIRST or LAST whenever NULLs are ordered; lists through
// In; case folded in Go. It does not retry a Read, does not run on a replica,
// and does not order the OnCommit hooks of different callers.
package sqldb
