package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"landline/internal/sqldb"
	"landline/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of these tests; none of them measures time.
const patience = 20 * time.Second

type note struct {
	N    int    `json:"n"`
	Text string `json:"text,omitempty"`
}

func (note) Kind() string { return "note" }

// engines runs fn with a migrated, empty database of each engine.
func engines(t *testing.T, fn func(t *testing.T, db *sqldb.DB)) {
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		db := open(t)
		q, err := New(db, Options{Log: testkit.Logger(t)})
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		fn(t, db)
	})
}

func newQueue(t *testing.T, db *sqldb.DB, o Options) *Queue {
	t.Helper()
	o.Log = testkit.Logger(t)
	q, err := New(db, o)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func start(t *testing.T, q *Queue) {
	t.Helper()
	if err := q.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, q) })
}

func stop(t *testing.T, q *Queue) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	if err := q.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func enqueue(t *testing.T, db *sqldb.DB, q *Queue, a Args, opts ...InsertOption) (id int64) {
	t.Helper()
	err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) (err error) {
		id, err = q.Enqueue(ctx, tx, a, opts...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func write(t *testing.T, db *sqldb.DB, fn func(ctx context.Context, tx *sqldb.Tx) error) {
	t.Helper()
	if err := db.Write(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func receive[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("waited %v for %s", patience, what)
		panic("unreachable")
	}
}

// await polls until the job is in the state.
func await(t *testing.T, q *Queue, id int64, want State) Row {
	t.Helper()
	var row Row
	poll(t, func() (bool, string) {
		var err error
		if row, err = q.Get(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		return row.State == want, fmt.Sprintf("job %d is %s, want %s: %+v", id, row.State, want, row)
	})
	return row
}

func poll(t *testing.T, ok func() (bool, string)) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		done, why := ok()
		if done {
			return
		}
		select {
		case <-deadline:
			t.Fatal(why)
		case <-tick.C:
		}
	}
}

func TestJobExistsExactlyWhenItsTransactionCommits(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, Options{})
		ran := make(chan int, 10)
		Register(q, func(ctx context.Context, j *Job[note]) error { ran <- j.Args.N; return nil })
		start(t, q)
		refused := errors.New("refused")
		err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			if _, err := q.Enqueue(ctx, tx, note{N: 1}); err != nil {
				return err
			}
			return refused
		})
		if !errors.Is(err, refused) {
			t.Fatalf("got %v", err)
		}
		id := enqueue(t, db, q, note{N: 2, Text: "zażółć"})
		if n := receive(t, ran, "the committed job"); n != 2 {
			t.Fatalf("job %d ran, want 2", n)
		}
		row := await(t, q, id, Completed)
		if row.Kind != "note" || row.Lane != DefaultLane || row.Attempt != 1 || row.MaxAttempts != 12 || row.FinishedAt == nil ||
			!strings.Contains(string(row.Args), "zażółć") || len(row.Failures) != 0 {
			t.Errorf("row %+v", row)
		}
		rows, next, err := q.List(t.Context(), Filter{})
		if err != nil || next != "" || len(rows) != 1 {
			t.Errorf("got %d rows, next %q, %v; want the committed one", len(rows), next, err)
		}
	})
}

func TestEnqueueRefusesWhatCannotBeWorked(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, Options{})
		Register(q, func(context.Context, *Job[note]) error { return nil })
		for _, c := range []struct {
			name string
			args Args
			opt  InsertOption
			want string
		}{
			{"unknown kind", stranger{}, Priority(1), "no worker is registered"},
			{"unknown lane", note{}, Lane("nowhere"), `lane "nowhere"`},
			{"attempts", note{}, MaxAttempts(0), "MaxAttempts is 0"},
			{"priority", note{}, Priority(5), "Priority is 5"},
			{"window", note{}, Unique(48*time.Hour, true), "window of Unique"},
			{"size", note{Text: strings.Repeat("x", MaxArgs)}, Priority(1), "at most"},
		} {
			err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				_, err := q.Enqueue(ctx, tx, c.args, c.opt)
				return err
			})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v, want %q", c.name, err, c.want)
			}
		}
	})
}

func TestEnqueueMany(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, Options{})
		ran := make(chan int, MaxMany)
		Register(q, func(_ context.Context, j *Job[note]) error { ran <- j.Args.N; return nil })
		start(t, q)
		all := make([]Args, 300)
		for n := range all {
			all[n] = note{N: n}
		}
		var ids []int64
		write(t, db, func(ctx context.Context, tx *sqldb.Tx) (err error) {
			ids, err = q.EnqueueMany(ctx, tx, all)
			return err
		})
		seen := map[int]bool{}
		for range all {
			seen[receive(t, ran, "all jobs")] = true
		}
		if len(ids) != len(all) || len(seen) != len(all) {
			t.Errorf("%d ids and %d different jobs, want %d", len(ids), len(seen), len(all))
		}
		if row := await(t, q, ids[7], Completed); !strings.Contains(string(row.Args), "7") {
			t.Errorf("the ids are not in order: %+v", row)
		}
		for _, refused := range [][]Args{make([]Args, MaxMany+1), {note{}, stranger{}}} {
			if err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				_, err := q.EnqueueMany(ctx, tx, refused)
				return err
			}); err == nil {
				t.Errorf("%d jobs were taken", len(refused))
			}
		}
	})
}

type stranger struct{}

func (stranger) Kind() string { return "stranger" }

func TestFailingJobIsRetriedThenDeadThenRetriedByHand(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, Options{})
		var healed atomic.Bool
		attempts := make(chan int, 10)
		Register(q, func(ctx context.Context, j *Job[note]) error {
			attempts <- j.Attempt
			if healed.Load() {
				return nil
			}
			return RetryAfter(0, fmt.Errorf("provider is down %s", strings.Repeat("x", 2*maxFailure)))
		}, Attempts(3))
		start(t, q)
		id := enqueue(t, db, q, note{})
		for want := 1; want <= 3; want++ {
			if got := receive(t, attempts, "an attempt"); got != want {
				t.Fatalf("attempt %d, want %d", got, want)
			}
		}
		row := await(t, q, id, Dead)
		if len(row.Failures) != 3 || !strings.HasPrefix(row.Failures[0].Error, "provider is down") || row.FinishedAt == nil {
			t.Errorf("row %+v", row)
		}
		if n := len(row.Failures[0].Error); n > maxFailure+8 {
			t.Errorf("an error of %d bytes was kept", n)
		}
		dead, _, err := q.List(t.Context(), Filter{State: Dead, Kind: "note", Lane: DefaultLane})
		if err != nil || len(dead) != 1 || dead[0].ID != id {
			t.Errorf("dead jobs: %+v, %v", dead, err)
		}
		healed.Store(true)
		write(t, db, func(ctx context.Context, tx *sqldb.Tx) error { return q.Retry(ctx, tx, id) })
		if got := receive(t, attempts, "the attempt by hand"); got != 4 {
			t.Errorf("attempt %d, want 4", got)
		}
		await(t, q, id, Completed)
		err = db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return q.Retry(ctx, tx, id) })
		if !errors.Is(err, sqldb.ErrConflict) {
			t.Errorf("retry of a completed job: %v", err)
		}
		err = db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return q.Retry(ctx, tx, id+1000) })
		if !errors.Is(err, sqldb.ErrNotFound) {
			t.Errorf("retry of an unknown job: %v", err)
		}
	})
}

func TestBackoffGrowsAndIsBounded(t *testing.T) {
	for attempt, want := range map[int]time.Duration{1: time.Second, 2: 3 * time.Second, 5: 81 * time.Second, 11: maxBackoff, 1 << 30: maxBackoff} {
		if lo, hi := delay(attempt, 0), delay(attempt, 0.999999); lo != want*8/10 || hi > want*12/10 || hi < want*119/100 {
			t.Errorf("attempt %d: %v to %v, want %v ± 20%%", attempt, lo, hi, want)
		}
	}
}

func TestFailureWaitsForItsBackoff(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, Options{})
		Register(q, func(context.Context, *Job[note]) error { return RetryAfter(time.Hour, errors.New("later")) })
		start(t, q)
		row := await(t, q, enqueue(t, db, q, note{}), Retryable)
		if until := time.Until(row.ScheduledAt); until < 59*time.Minute || until > 61*time.Minute {
			t.Errorf("next attempt in %v, want in about an hour", until)
		}
	})
}

func TestPanicIsAFailedAttempt(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, Options{})
		Register(q, func(context.Context, *Job[note]) error { panic("boom") }, Attempts(1))
		start(t, q)
		row := await(t, q, enqueue(t, db, q, note{}), Dead)
		if len(row.Failures) != 1 || !strings.Contains(row.Failures[0].Error, "boom") {
			t.Errorf("row %+v", row)
		}
	})
}

func TestTimeoutEndsTheAttempt(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, Options{})
		Register(q, func(ctx context.Context, _ *Job[note]) error { <-ctx.Done(); return ctx.Err() }, Attempts(1), Timeout(20*time.Millisecond))
		start(t, q)
		row := await(t, q, enqueue(t, db, q, note{}), Dead)
		if len(row.Failures) != 1 || !strings.Contains(row.Failures[0].Error, context.DeadlineExceeded.Error()) {
			t.Errorf("row %+v", row)
		}
	})
}

func TestCancelErrorAndSnooze(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, Options{})
		var snoozed sync.Map
		Register(q, func(_ context.Context, j *Job[note]) error {
			if j.Args.N == 0 {
				return Cancel(errors.New("address is gone"))
			}
			if _, again := snoozed.LoadOrStore(j.ID, true); !again {
				return Snooze(time.Duration(j.Args.N-1) * time.Hour)
			}
			return nil
		})
		start(t, q)
		row := await(t, q, enqueue(t, db, q, note{N: 0}), Cancelled)
		if len(row.Failures) != 1 || !strings.Contains(row.Failures[0].Error, "address is gone") {
			t.Errorf("row %+v", row)
		}
		if row := await(t, q, enqueue(t, db, q, note{N: 1}), Completed); row.Attempt != 1 {
			t.Errorf("snoozing counted: attempt %d", row.Attempt)
		}
		row = await(t, q, enqueue(t, db, q, note{N: 3}), Scheduled)
		if until := time.Until(row.ScheduledAt); until < 119*time.Minute || until > 121*time.Minute || row.Attempt != 0 {
			t.Errorf("due in %v after attempt %d, want in two hours after none", until, row.Attempt)
		}
	})
}

func TestScheduledJobWaitsAndCanBeRunNow(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, Options{})
		ran := make(chan int, 4)
		Register(q, func(_ context.Context, j *Job[note]) error { ran <- j.Args.N; return nil })
		start(t, q)
		id := enqueue(t, db, q, note{N: 1}, At(time.Now().Add(time.Hour)))
		soon := enqueue(t, db, q, note{N: 2}, At(time.Now().Add(300*time.Millisecond)))
		if n := receive(t, ran, "the job that is due soon"); n != 2 {
			t.Fatalf("job %d ran", n)
		}
		await(t, q, soon, Completed)
		await(t, q, id, Scheduled)
		write(t, db, func(ctx context.Context, tx *sqldb.Tx) error { return q.Retry(ctx, tx, id) })
		receive(t, ran, "the job that was run now")
		await(t, q, id, Completed)
	})
}

func TestUnique(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, Options{})
		Register(q, func(context.Context, *Job[note]) error { return nil })
		later := At(time.Now().Add(time.Hour))
		a := enqueue(t, db, q, note{N: 1}, later, Unique(0, true))
		if b := enqueue(t, db, q, note{N: 1}, later, Unique(0, true)); b != a {
			t.Errorf("the same arguments made job %d beside %d", b, a)
		}
		if c := enqueue(t, db, q, note{N: 2}, later, Unique(0, true)); c == a {
			t.Error("other arguments were dropped")
		}
		write(t, db, func(ctx context.Context, tx *sqldb.Tx) error { return q.Cancel(ctx, tx, a) })
		if d := enqueue(t, db, q, note{N: 1}, later, Unique(0, true)); d == a {
			t.Error("a cancelled job kept another out")
		}
		// A job that has completed counts within its window only.
		day := MaxUniqueWindow
		start(t, q)
		before := time.Now().UTC()
		e := enqueue(t, db, q, note{N: 7}, Unique(day, true))
		await(t, q, e, Completed)
		if f := enqueue(t, db, q, note{N: 7}, Unique(day, true)); f != e && before.YearDay() == time.Now().UTC().YearDay() {
			t.Errorf("a completed job of the same window did not count: %d, %d", e, f)
		}
		g := enqueue(t, db, q, note{N: 8}, Unique(0, true))
		await(t, q, g, Completed)
		if h := enqueue(t, db, q, note{N: 8}, Unique(0, true)); h == g {
			t.Error("without a window a completed job kept another out")
		}
	})
}
