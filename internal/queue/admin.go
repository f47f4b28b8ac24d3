package queue

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/riverqueue/river/rivertype"

	"landline/internal/problem"
	"landline/internal/sqldb"
)

// State is where a job stands.
type State string

// The states of a job. A job whose next attempt is only seconds away can be
// available already, with ScheduledAt in the future.
const (
	Available State = "available" // waits for a worker
	Scheduled State = "scheduled" // waits for its time
	Running   State = "running"
	Retryable State = "retryable" // failed, waits for its next attempt
	Completed State = "completed"
	Cancelled State = "cancelled"
	Dead      State = "dead" // out of attempts; kept for DeadKept so that an operator can retry it
)

const discarded = string(rivertype.JobStateDiscarded) // River's word for dead

func stateOf(river string) State {
	if river == discarded {
		return Dead
	}
	return State(river)
}

// Filter selects jobs; zero members select all.
type Filter struct {
	State  State
	Kind   string
	Lane   string
	Limit  int    // 1 to 200; 0 = 50
	Cursor string // "next" of the page before
}

// Failure is one failed attempt.
type Failure struct {
	Attempt int       `json:"attempt"`
	At      time.Time `json:"at"`
	Error   string    `json:"error"`
}

// Row is a job as operators see it.
type Row struct {
	ID          int64           `json:"id"`
	Kind        string          `json:"kind"`
	Lane        string          `json:"lane"`
	State       State           `json:"state"`
	Priority    int             `json:"priority"`
	Attempt     int             `json:"attempt"` // attempts begun
	MaxAttempts int             `json:"max_attempts"`
	Args        json.RawMessage `json:"args"`
	Failures    []Failure       `json:"failures"` // oldest first
	CreatedAt   time.Time       `json:"created_at"`
	ScheduledAt time.Time       `json:"scheduled_at"` // when it is or was due
	AttemptedAt *time.Time      `json:"attempted_at,omitempty"`
	FinishedAt  *time.Time      `json:"finished_at,omitempty"` // completed, cancelled or dead
}

// List returns jobs, newest first, and the cursor of the next page ("" = none).
// A bad filter is a problem that says how to write it.
func (q *Queue) List(ctx context.Context, f Filter) (rows []Row, next string, err error) {
	below := int64(math.MaxInt64)
	if f.Cursor != "" {
		if below, err = strconv.ParseInt(f.Cursor, 36, 64); err != nil || below < 1 {
			return nil, "", problem.New(problem.InvalidRequest, "cursor is not one that was handed out; start again without it")
		}
	}
	switch f.State {
	case "", Available, Scheduled, Running, Retryable, Completed, Cancelled, Dead:
	default:
		return nil, "", problem.New(problem.InvalidRequest, "state is not one of available, scheduled, running, retryable, completed, cancelled, dead")
	}
	if f.Limit == 0 {
		f.Limit = 50
	}
	if f.Limit < 1 || f.Limit > 200 {
		return nil, "", problem.New(problem.InvalidRequest, "limit must be 1 to 200")
	}
	state := string(f.State)
	if f.State == Dead {
		state = discarded
	}
	rows = []Row{}
	err = q.db.Read(ctx, func(ctx context.Context, db sqldb.Querier) error {
		rows = rows[:0]
		res, err := db.QueryContext(ctx, q.sql.Get("JobList"), state, f.Kind, f.Lane, below, f.Limit+1)
		if err != nil {
			return err
		}
		defer res.Close()
		for res.Next() {
			row, err := scanRow(res)
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
		return res.Err()
	})
	if err != nil {
		return nil, "", fmt.Errorf("queue: list jobs: %w", err)
	}
	if len(rows) > f.Limit {
		rows = rows[:f.Limit]
		next = strconv.FormatInt(rows[f.Limit-1].ID, 36)
	}
	return rows, next, nil
}

// Get returns one job, or an error that is sqldb.ErrNotFound.
func (q *Queue) Get(ctx context.Context, id int64) (Row, error) {
	var row Row
	err := q.db.Read(ctx, func(ctx context.Context, db sqldb.Querier) (err error) {
		row, err = scanRow(db.QueryRowContext(ctx, q.sql.Get("JobGet"), id))
		return err
	})
	if err != nil {
		return Row{}, fmt.Errorf("queue: job %d: %w", id, err)
	}
	return row, nil
}

func scanRow(s interface{ Scan(...any) error }) (Row, error) {
	var (
		r                    Row
		state, args, errs    string
		attempted, finalized sql.NullTime
	)
	err := s.Scan(&r.ID, &r.Kind, &r.Lane, &state, &r.Priority, &r.Attempt, &r.MaxAttempts, &args, &errs,
		&r.CreatedAt, &r.ScheduledAt, &attempted, &finalized)
	if err != nil {
		return r, err
	}
	var failures []rivertype.AttemptError
	if err := json.Unmarshal([]byte(errs), &failures); err != nil {
		return r, fmt.Errorf("errors of job %d: %w", r.ID, err)
	}
	r.State, r.Args, r.Failures = stateOf(state), json.RawMessage(args), []Failure{}
	for _, f := range failures {
		r.Failures = append(r.Failures, Failure{Attempt: f.Attempt, At: f.At.UTC(), Error: f.Error})
	}
	r.CreatedAt, r.ScheduledAt = r.CreatedAt.UTC(), r.ScheduledAt.UTC()
	r.AttemptedAt, r.FinishedAt = utc(attempted), utc(finalized)
	return r, nil
}

func utc(t sql.NullTime) *time.Time {
	if !t.Valid {
		return nil
	}
	u := t.Time.UTC()
	return &u
}

// Retry has a dead, cancelled, retryable or scheduled job worked at once, in
// the caller's transaction; a dead one gets one more attempt. Other states are
// sqldb.ErrConflict, an unknown id sqldb.ErrNotFound.
func (q *Queue) Retry(ctx context.Context, tx *sqldb.Tx, id int64) error {
	before, err := q.insert.JobGetTx(ctx, tx.SQL(), id)
	if err != nil {
		return jobError("retry", id, err)
	}
	switch before.State {
	case rivertype.JobStateDiscarded, rivertype.JobStateCancelled, rivertype.JobStateRetryable, rivertype.JobStateScheduled:
	default:
		return fmt.Errorf("queue: retry job %d: it is %s: %w", id, stateOf(string(before.State)), sqldb.ErrConflict)
	}
	if _, err := q.insert.JobRetryTx(ctx, tx.SQL(), id); err != nil {
		return jobError("retry", id, err)
	}
	tx.OnCommit(func() { q.wake.lane(before.Queue) })
	return nil
}

// Cancel ends a job that has not finished, in the caller's transaction. A
// running one has its context ended; it is cancelled when its worker returns an
// error, and completed when the worker succeeds all the same. Finished jobs are
// sqldb.ErrConflict, an unknown id sqldb.ErrNotFound.
func (q *Queue) Cancel(ctx context.Context, tx *sqldb.Tx, id int64) error {
	before, err := q.insert.JobGetTx(ctx, tx.SQL(), id)
	if err != nil {
		return jobError("cancel", id, err)
	}
	if before.FinalizedAt != nil {
		return fmt.Errorf("queue: cancel job %d: it is %s: %w", id, stateOf(string(before.State)), sqldb.ErrConflict)
	}
	if _, err := q.insert.JobCancelTx(ctx, tx.SQL(), id); err != nil {
		return jobError("cancel", id, err)
	}
	if before.State == rivertype.JobStateRunning {
		tx.OnCommit(func() { q.wake.cancel(before.Queue, id) })
	}
	return nil
}

func jobError(what string, id int64, err error) error {
	if errors.Is(err, rivertype.ErrNotFound) {
		err = sqldb.ErrNotFound
	}
	return fmt.Errorf("queue: %s job %d: %w", what, id, err)
}
