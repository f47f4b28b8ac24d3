package queue

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"landline/internal/sqldb"
	"landline/internal/testkit"
)

type copiedArgs struct {
	N    int64  `json:"n"`
	Text string `json:"text"`
}

func (copiedArgs) Kind() string { return "test.copied" }

// migrated is a queue on a fresh database with everything it needs.
func migrated(t *testing.T, db *sqldb.DB) *Queue {
	t.Helper()
	q, err := New(db, Options{Log: testkit.Logger(t), RescueAfter: time.Minute})
	if err == nil {
		err = q.Migrate(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func copyAll(t *testing.T, from, to *sqldb.DB) (n int64, err error) {
	t.Helper()
	src, err := from.Writer().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	dst, err := to.Writer().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err = CopyJobs(t.Context(), src, dst); err != nil {
		return n, errors.Join(err, src.Rollback(), dst.Rollback())
	}
	return n, errors.Join(dst.Commit(), src.Rollback())
}

// Jobs of every state move with their schedule, attempts and uniqueness, and are
// worked on PostgreSQL as they would have been.
func TestJobsMoveToPostgres(t *testing.T) {
	from, to := testkit.SQLite(t), testkit.Postgres(t)
	there := migrated(t, from)
	work := func(context.Context, *Job[copiedArgs]) error { return nil }
	Register(there, work)
	later := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	enqueue := func(q *Queue, db *sqldb.DB, args copiedArgs, opts ...InsertOption) (id int64) {
		t.Helper()
		err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) (err error) {
			id, err = q.Enqueue(ctx, tx, args, opts...)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	states := map[int64]string{}
	big := copiedArgs{1<<60 + 1, `quotes " and \ and żółć`}
	states[enqueue(there, from, big)] = "available"
	states[enqueue(there, from, copiedArgs{N: 2}, At(later))] = "scheduled"
	unique := enqueue(there, from, copiedArgs{N: 3}, Unique(time.Hour, true))
	states[unique] = "available"
	for _, state := range []string{"running", "retryable", "completed", "cancelled", "discarded"} {
		id := enqueue(there, from, copiedArgs{Text: state})
		states[id] = state
		_, err := from.Writer().ExecContext(t.Context(), `UPDATE river_job SET state = $1, attempt = 2, attempted_by = '["node"]', attempted_at = $2,
			finalized_at = CASE WHEN $1 IN ('completed', 'cancelled', 'discarded') THEN '2026-11-27 10:00:00.5' END,
			errors = '[{"at":"2026-11-27T10:00:00Z","attempt":1,"error":"a \"fault\"","trace":""}]' WHERE id = $3`, state, later, id)
		if err != nil {
			t.Fatal(err)
		}
		if state == "running" {
			states[id] = "available"
		}
	}

	here := migrated(t, to)
	n, err := copyAll(t, from, to)
	if err != nil || n != int64(len(states)) {
		t.Fatalf("%d jobs, %v", n, err)
	}
	for id, state := range states {
		var got, args string
		var scheduled time.Time
		var failures int
		err := to.Writer().QueryRowContext(t.Context(), `SELECT CAST(state AS TEXT), CAST(args AS TEXT), scheduled_at, COALESCE(array_length(errors, 1), 0) FROM river_job WHERE id = $1`, id).
			Scan(&got, &args, &scheduled, &failures)
		if err != nil || got != state {
			t.Errorf("job %d is %q, want %q, %v", id, got, state, err)
		}
		if state == "scheduled" && !scheduled.Equal(later) {
			t.Errorf("the scheduled job comes at %v, want %v", scheduled, later)
		}
		if state == "retryable" && failures != 1 {
			t.Errorf("a job that had failed has %d failures", failures)
		}
	}

	worked := make(chan copiedArgs, len(states))
	Register(here, func(_ context.Context, j *Job[copiedArgs]) error {
		worked <- j.Args
		return nil
	})
	if id := enqueue(here, to, copiedArgs{N: 3}, Unique(time.Hour, true)); id != unique {
		t.Errorf("a unique job that is there came again as %d, it was %d", id, unique)
	}
	if id := enqueue(here, to, copiedArgs{N: 99}); states[id] != "" {
		t.Errorf("the id %d was given out twice", id)
	}
	if err := here.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := here.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	want := map[copiedArgs]bool{big: true, {N: 3}: true, {N: 99}: true, {Text: "running"}: true}
	for len(want) > 0 {
		got := <-worked
		if got.Text == "retryable" { // its time may have come as well
			continue
		}
		if !want[got] {
			t.Fatalf("worked %+v, still to come %v", got, want)
		}
		delete(want, got)
	}
	if _, err := copyAll(t, from, to); !errors.Is(err, sqldb.ErrNotEmpty) {
		t.Errorf("a second copy: %v", err)
	}
}

func TestTimesOfJobs(t *testing.T) {
	want := time.Date(2026, 11, 27, 12, 44, 42, 25e6, time.UTC)
	for _, text := range []string{"2026-11-27 12:44:42.025", "2026-11-27 12:44:42.025 +0000 UTC", "2026-11-27T12:44:42.025Z"} {
		if got, err := parseTime(sql.NullString{String: text, Valid: true}); err != nil || !got.Time.Equal(want) {
			t.Errorf("%s: %v, %v", text, got.Time, err)
		}
	}
	if got, err := parseTime(sql.NullString{}); err != nil || got.Valid {
		t.Errorf("no time: %v, %v", got, err)
	}
	if _, err := parseTime(sql.NullString{String: "soon", Valid: true}); err == nil || !strings.Contains(err.Error(), "soon") {
		t.Errorf("no time at all: %v", err)
	}
}
