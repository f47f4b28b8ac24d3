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
	"strings"
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
var process = rand.Text()[:10]

// Store keeps the keys. It is safe for concurrent use.
type Store struct {
	db   *sqldb.DB
	all  *combiner
	many bool // a statement of several rows is cheaper than several statements
	sole bool // no other process executes on this database
	clk  clock.Clock
	log  *slog.Logger
}

// New returns a Store on db, whose Migrations must have run.
func New(db *sqldb.DB, clk clock.Clock, log *slog.Logger) *Store {
	embedded := db.Engine() == sqldb.SQLite
	s := &Store{db: db, many: !embedded, sole: embedded, clk: clk, log: log}
	s.all = newCombiner(db, s.carryOut)
	return s
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
// held until Lease.Until.
func (s *Store) Begin(ctx context.Context, q Request) (Result, error) {
	if q.Lease <= 0 || q.Keep < q.Lease {
		return Result{}, fmt.Errorf("idem: a lease of %s does not fit into %s", q.Lease, q.Keep)
	}
	a := &attempt{Request: q, holder: process + rand.Text(), sole: s.sole, id: idOf(q.Scope, q.Key)}
	if err := s.all.write(ctx, newOperation(a, nil)); err != nil {
		return Result{}, fmt.Errorf("begin under an idempotency key: %w", err)
	}
	return a.res, nil
}

// attempt is a Request with what its row needs.
type attempt struct {
	Request
	sole   bool
	id     [sha256.Size]byte
	holder string
	res    Result // of run
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
	made, err := affected(tx.ExecBrief(ctx, insertSQL, a.id[:], a.Subject, a.Fingerprint[:], a.holder, until, expires))
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
	header, body := a.encode()
	return s.end(ctx, "finish", &ending{args: []any{done, a.Status, a.Kept, header, body, l.id[:], l.holder, l.fence}})
}

// Lost records that the execution may have taken effect and that nobody knows.
func (s *Store) Lost(ctx context.Context, l Lease) error {
	return s.end(ctx, "mark the outcome of", &ending{args: []any{unknown, 0, false, []byte(nil), []byte(nil), l.id[:], l.holder, l.fence}})
}

// Release frees the key: the execution did not take place, and the next attempt
// may execute. A key that is held no more is no error.
func (s *Store) Release(ctx context.Context, l Lease) error {
	err := s.end(ctx, "release", &ending{release: true, args: []any{l.id[:], l.holder, l.fence}})
	if errors.Is(err, ErrLost) {
		return nil // freed by an earlier try, or not ours any more
	}
	return err
}

// ending is how an attempt gives its key up.
type ending struct {
	release bool  // rather than finish
	args    []any // of the statement
	held    bool  // whether the attempt held the key; of run
}

func (e *ending) run(ctx context.Context, tx *sqldb.Tx) error {
	text := finishSQL
	if e.release {
		text = releaseSQL
	}
	n, err := count(tx.ExecBrief(ctx, text, e.args...))
	e.held = n > 0
	return err
}

func (s *Store) end(ctx context.Context, what string, e *ending) error {
	err := s.all.write(ctx, newOperation(nil, e))
	switch {
	case err != nil:
		return fmt.Errorf("%s an idempotency key: %w", what, err)
	case !e.held:
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
	n, err := count(res, err)
	return n > 0, err
}

// count is how many rows a statement has changed.
func count(res sql.Result, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	return int(n), err
}
