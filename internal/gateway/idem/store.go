package idem

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"landline/internal/clock"
	"landline/internal/sqldb"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

//go:embed queries.sql
var queriesSQL string

// Migrations make the table.
var Migrations = sqldb.Embedded("idempotency", migrationFiles)

// Queries are the package's statements.
var Queries = sqldb.MustParse(queriesSQL)

// statements are looked up once.
var (
	insertSQL   = Queries.Get("Insert")
	getSQL      = Queries.Get("Get")
	knownSQL    = Queries.Get("Known")
	takeOverSQL = Queries.Get("TakeOver")
	finishSQL   = Queries.Get("Finish")
	releaseSQL  = Queries.Get("Release")
	sweepSQL    = Queries.Get("Sweep")
	eraseSQL    = Queries.Get("Erase")
)

// ErrLost is returned by Finish, Lost and Release when the attempt no longer
// holds its key: the lease ran out and another attempt took the key over, or
// the key expired.
var ErrLost = errors.New("idem: another attempt has taken the key over, or the key has expired")

// errContended cannot happen unless rows of one key come and go faster than
// they can be read.
var errContended = errors.New("idem: the key changed hands too often while it was read")

// State of a key, as stored.
const (
	inFlight = 0
	done     = 1
	unknown  = 2
)

// process begins the name of every holder of this process. An embedded database
// has one server at a time, so that there a lease of another one is void: after
// a crash retries need not wait for it.
var process = rand.Text()[:16] + "."

// attempts counts those of this process, so that each has a name of its own.
var attempts atomic.Uint64

// Store keeps the keys. It is safe for concurrent use.
type Store struct {
	db   *sqldb.DB
	sole bool // no other process executes on this database
	clk  clock.Clock
	log  *slog.Logger
}

// New returns a Store on db, whose Migrations must have run.
func New(db *sqldb.DB, clk clock.Clock, log *slog.Logger) *Store {
	return &Store{db: db, sole: db.Engine() == sqldb.SQLite, clk: clk, log: log}
}

// Request is an attempt that wants to execute.
type Request struct {
	Scope       string            // app, caller, method and route; the same for every attempt
	Former      []string          // scopes of users who became part of the caller: a key that is known under one of them is meant
	Key         string            // as the client chose it
	Subject     string            // user that the answer is about, "" if none; see Erase
	Fingerprint [sha256.Size]byte // of everything that makes two requests the same
	Keep        time.Duration     // how long the key is remembered from now
	Lease       time.Duration     // how long the attempt may take; at most Keep
	Forward     bool              // an unknown outcome does not stop the attempt
}

// Outcome is what Begin says.
type Outcome int

// What an attempt is told.
const (
	Execute  Outcome = iota + 1 // go on, then Finish, Lost or Release
	Replay                      // it is done: Answer has the answer
	InFlight                    // another attempt is executing
	Reused                      // the key came with another fingerprint before
	Unknown                     // an earlier attempt may have taken effect
)

// Lease is the right to finish a key.
type Lease struct {
	id     [sha256.Size]byte
	holder string
	fence  int64
	Until  time.Time // when others may take the key over
}

// Result is what Begin returns.
type Result struct {
	Outcome Outcome
	Lease   Lease   // with Execute
	Answer  *Answer // with Replay
}

// Begin asks whether the attempt may execute. With Execute the key is durably
// held until Lease.Until; a part of Request.Lease may have passed in waiting for
// the storage.
func (s *Store) Begin(ctx context.Context, q Request) (Result, error) {
	a, err := s.attempt(q)
	if err != nil {
		return Result{}, err
	}
	if err := s.begin(ctx, a); err != nil {
		return Result{}, fmt.Errorf("begin under an idempotency key: %w", err)
	}
	return a.res, nil
}

// begin takes the key. Most are new, and a statement that shares its transaction
// with others takes them; what became of one that is known is found out apart.
func (s *Store) begin(ctx context.Context, a *attempt) error {
	if len(a.Former) == 0 {
		now := s.clk.Now()
		unmet, err := s.db.WriteAll(ctx, []sqldb.Statement{{Text: insertSQL, Args: a.row(now)}})
		if err != nil {
			return err
		}
		if unmet == sqldb.Met {
			a.res = Result{Outcome: Execute, Lease: a.lease(now)}
			return nil
		}
	}
	return s.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return a.decide(ctx, tx, s.clk.Now()) })
}

// attempt is a Request with what its row needs.
type attempt struct {
	Request
	sole   bool
	id     [sha256.Size]byte
	holder string
	res    Result // of run
}

// attempt checks a Request.
func (s *Store) attempt(q Request) (*attempt, error) {
	if q.Lease <= 0 || q.Keep < q.Lease {
		return nil, fmt.Errorf("idem: a lease of %s does not fit into %s", q.Lease, q.Keep)
	}
	return &attempt{Request: q, sole: s.sole, holder: process + strconv.FormatUint(attempts.Add(1), 36), id: idOf(q.Scope, q.Key)}, nil
}

// row is what insertSQL needs for a key that nobody holds.
func (a *attempt) row(now time.Time) []any {
	return []any{a.id[:], a.Subject, a.Fingerprint[:], inFlight, a.holder, 1, sqldb.Millis(now.Add(a.Lease)), sqldb.Millis(now.Add(a.Keep)), 0, false}
}

// decide looks for a former user's key, and begins.
func (a *attempt) decide(ctx context.Context, tx *sqldb.Tx, now time.Time) error {
	if err := a.former(ctx, tx, now); err != nil {
		return fmt.Errorf("look for a key of a former user: %w", err)
	}
	return a.run(ctx, tx, now)
}

// lease is what the attempt gets of a key that nobody holds.
func (a *attempt) lease(now time.Time) Lease {
	return Lease{id: a.id, holder: a.holder, fence: 1, Until: now.Add(a.Lease)}
}

// run begins and leaves the result in res.
func (a *attempt) run(ctx context.Context, tx *sqldb.Tx, now time.Time) error {
	for range 8 {
		res, ok, err := a.begin(ctx, tx, now)
		if err != nil {
			return err
		}
		if ok {
			a.res = res
			return nil
		}
	}
	return errContended
}

// former makes the attempt go on under the scope of a former user where the key
// is known there: the retry of a write that was first sent before the users merged.
// It is asked in the transaction that takes the key, and may be asked again.
func (a *attempt) former(ctx context.Context, q sqldb.Querier, now time.Time) error {
	a.id = idOf(a.Scope, a.Key)
	for _, scope := range a.Former {
		id := idOf(scope, a.Key)
		var expires int64
		err := q.QueryRowContext(ctx, knownSQL, id[:]).Scan(&expires)
		switch {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return err
		case expires > sqldb.Millis(now):
			a.id = id
			return nil
		}
	}
	return nil
}

// row is what the table knows of a key.
type row struct {
	fingerprint []byte
	state       int64
	holder      string
	fence       int64
	leaseUntil  int64
	expiresAt   int64
	answer      Answer
	header      []byte
}

// begin tries once; ok is false when the row changed hands meanwhile.
func (a *attempt) begin(ctx context.Context, tx *sqldb.Tx, now time.Time) (res Result, ok bool, err error) {
	lease := a.lease(now)
	until, expires := sqldb.Millis(lease.Until), sqldb.Millis(now.Add(a.Keep))
	made, err := affected(tx.ExecBrief(ctx, insertSQL, a.row(now)...))
	if err != nil || made {
		return Result{Outcome: Execute, Lease: lease}, made, err
	}
	var r row
	err = tx.QueryRowContext(ctx, getSQL, a.id[:]).Scan(&r.fingerprint, &r.state, &r.holder, &r.fence, &r.leaseUntil, &r.expiresAt,
		&r.answer.Status, &r.answer.Kept, &r.header, &r.answer.Body)
	if errors.Is(err, sql.ErrNoRows) {
		return Result{}, false, nil // freed between the two statements: try again
	}
	if err != nil {
		return Result{}, false, err
	}
	if r.holder == a.holder { // taken by an earlier statement of this very attempt
		lease.fence, lease.Until = r.fence, sqldb.Time(r.leaseUntil)
		return Result{Outcome: Execute, Lease: lease}, true, nil
	}
	if outcome := a.judge(&r, sqldb.Millis(now)); outcome != Execute {
		res = Result{Outcome: outcome}
		if outcome == Replay {
			r.answer.Header = decodeHeader(r.header)
			res.Answer = &r.answer
		}
		return res, true, nil
	}
	lease.fence = r.fence + 1
	taken, err := affected(tx.ExecBrief(ctx, takeOverSQL, a.Subject, a.Fingerprint[:], a.holder, lease.fence, until, expires, a.id[:], r.holder, r.fence))
	return Result{Outcome: Execute, Lease: lease}, taken, err
}

// judge decides about a key that is there.
func (a *attempt) judge(r *row, now int64) Outcome {
	running := r.state == inFlight && now < r.leaseUntil
	if a.sole && !strings.HasPrefix(r.holder, process) {
		running = false // the process that held it is gone
	}
	switch {
	case r.expiresAt <= now && !running:
		return Execute
	case !bytes.Equal(r.fingerprint, a.Fingerprint[:]):
		return Reused
	case r.state == done:
		return Replay
	case running:
		return InFlight
	case a.Forward:
		return Execute
	}
	return Unknown
}

// Finish stores the answer of an execution. Retries are answered with it from now on.
func (s *Store) Finish(ctx context.Context, l Lease, a Answer) error {
	return s.end(ctx, "finish", finishSQL, finishing(l, a))
}

// Lost records that the execution may have taken effect and that nobody knows.
func (s *Store) Lost(ctx context.Context, l Lease) error {
	return s.end(ctx, "mark the outcome of", finishSQL, []any{unknown, 0, false, []byte(nil), []byte(nil), l.id[:], l.holder, l.fence})
}

// Release frees the key: the execution did not take place, and the next attempt
// may execute. A key that is held no more is no error.
func (s *Store) Release(ctx context.Context, l Lease) error {
	err := s.end(ctx, "release", releaseSQL, []any{l.id[:], l.holder, l.fence})
	if errors.Is(err, ErrLost) {
		return nil // freed by an earlier try, or not ours any more
	}
	return err
}

// end gives a key up by a statement that names the lease.
func (s *Store) end(ctx context.Context, what, text string, args []any) error {
	unmet, err := s.db.WriteAll(ctx, []sqldb.Statement{{Text: text, Args: args}})
	switch {
	case err != nil:
		return fmt.Errorf("%s an idempotency key: %w", what, err)
	case unmet != sqldb.Met:
		s.log.WarnContext(ctx, "an attempt under an idempotency key ended after it had lost the key", "operation", what)
		return ErrLost
	}
	return nil
}

// Sweep deletes up to limit expired keys and returns how many it deleted;
// fewer than limit means that none is left. Expired keys are ignored anyway:
// Sweep is for the size of the table.
func (s *Store) Sweep(ctx context.Context, limit int) (int, error) {
	var n int64
	err := s.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		now := sqldb.Millis(s.clk.Now())
		res, err := tx.ExecContext(ctx, sweepSQL, now, now, limit)
		if err != nil {
			return err
		}
		n, err = res.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("sweep expired idempotency keys: %w", err)
	}
	return int(n), nil
}

// Erase deletes what is kept about a user, in the caller's transaction. A key
// in flight stays until its attempt has ended: without it a retry would execute twice.
func (s *Store) Erase(ctx context.Context, tx *sqldb.Tx, subject string) error {
	if subject == "" {
		return errors.New("idem: erase needs a subject")
	}
	if _, err := tx.ExecContext(ctx, eraseSQL, subject, sqldb.Millis(s.clk.Now())); err != nil {
		return fmt.Errorf("erase idempotency keys: %w", err)
	}
	return nil
}

func affected(res sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}
