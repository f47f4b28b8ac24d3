package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/sqldb"
	"landline/internal/testkit"
)

func TestCancelStopsWaitingAndRunningJobs(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, Options{})
		begun := make(chan int64, 1)
		Register(q, func(ctx context.Context, j *Job[note]) error {
			begun <- j.ID
			<-ctx.Done()
			return ctx.Err()
		})
		start(t, q)
		cancel := func(id int64) error {
			return db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return q.Cancel(ctx, tx, id) })
		}
		waiting := enqueue(t, db, q, note{}, At(time.Now().Add(time.Hour)))
		if err := cancel(waiting); err != nil {
			t.Fatal(err)
		}
		await(t, q, waiting, Cancelled)
		running := enqueue(t, db, q, note{})
		receive(t, begun, "the job to begin")
		if err := cancel(running); err != nil {
			t.Fatal(err)
		}
		await(t, q, running, Cancelled)
		if err := cancel(running); !errors.Is(err, sqldb.ErrConflict) {
			t.Errorf("cancel of a cancelled job: %v", err)
		}
		if err := cancel(running + 1000); !errors.Is(err, sqldb.ErrNotFound) {
			t.Errorf("cancel of an unknown job: %v", err)
		}
	})
}

// cutOff leaves a job as a process that was killed during it leaves it.
func cutOff(t *testing.T, db *sqldb.DB, id int64, attempt int) {
	t.Helper()
	sql := `UPDATE river_job SET state = 'running', attempt = $1, attempted_at = now() - interval '1 day' WHERE id = $2`
	if db.Engine() == sqldb.SQLite {
		sql = `UPDATE river_job SET state = 'running', attempt = $1, attempted_at = datetime('now', '-1 day', 'subsec') WHERE id = $2`
	}
	write(t, db, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, sql, attempt, id)
		return err
	})
}

func TestJobOfACrashedNodeIsWorkedAgain(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, Options{})
		attempts := make(chan int, 4)
		Register(q, func(_ context.Context, j *Job[note]) error { attempts <- j.Attempt; return nil })
		again, last := enqueue(t, db, q, note{}), enqueue(t, db, q, note{}, MaxAttempts(2))
		cutOff(t, db, again, 1)
		cutOff(t, db, last, 2)
		start(t, q)
		row := await(t, q, last, Dead)
		if len(row.Failures) != 1 || row.Failures[0].Attempt != 2 || row.Failures[0].Error == "" || row.Failures[0].At.IsZero() {
			t.Errorf("a job that used its last attempt on the crash: %+v", row)
		}
		if n := receive(t, attempts, "the job of the crashed node"); n != 2 {
			t.Errorf("attempt %d, want 2", n)
		}
		if row := await(t, q, again, Completed); len(row.Failures) != 1 {
			t.Errorf("the crash left no trace: %+v", row)
		}
	})
}

func TestStopWaitsForRunningJobs(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, Options{})
		begun, finish := make(chan struct{}), make(chan struct{})
		var finished atomic.Bool
		Register(q, func(ctx context.Context, j *Job[note]) error {
			close(begun)
			select {
			case <-finish:
				finished.Store(true)
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		start(t, q)
		id := enqueue(t, db, q, note{})
		receive(t, begun, "the job to begin")
		stopped := make(chan struct{})
		go func() { defer close(stopped); stop(t, q) }()
		poll(t, func() (bool, string) { // Stop holds the lock once it has begun
			free := q.mu.TryLock()
			if free {
				q.mu.Unlock()
			}
			return !free, "Stop did not begin, or did not wait"
		})
		close(finish)
		receive(t, stopped, "Stop")
		if !finished.Load() {
			t.Error("Stop did not wait for the job")
		}
		await(t, q, id, Completed)
		late := enqueue(t, db, q, note{}) // stays for the next start
		await(t, q, late, Available)
	})
}

func TestStopGivesUnfinishedJobsBack(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, Options{})
		begun := make(chan struct{}, 1)
		Register(q, func(ctx context.Context, j *Job[note]) error {
			begun <- struct{}{}
			<-ctx.Done()
			return fmt.Errorf("interrupted: %w", ctx.Err())
		}, Attempts(1))
		start(t, q)
		id := enqueue(t, db, q, note{})
		receive(t, begun, "the job to begin")
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if err := q.Stop(over); err != nil {
			t.Fatal(err)
		}
		if row := await(t, q, id, Available); row.Attempt != 0 || len(row.Failures) != 0 {
			t.Errorf("Stop counted an attempt: %+v", row)
		}
		start(t, q)
		receive(t, begun, "the job to begin after a restart")
		write(t, db, func(ctx context.Context, tx *sqldb.Tx) error { return q.Cancel(ctx, tx, id) })
		await(t, q, id, Cancelled)
	})
}

func TestTwoNodesShareTheWorkWithoutRepeatingIt(t *testing.T) {
	url := testkit.PostgresURL(t)
	const jobs = 400
	var (
		mu    sync.Mutex
		ran   = map[int]int{}
		nodes [2]atomic.Int64
		total atomic.Int64
		done  = make(chan struct{})
		qs    []*Queue
		dbs   []*sqldb.DB
	)
	for i := range 2 {
		db := testkit.Open(t, sqldb.Options{URL: url, MaxConns: 8})
		q := newQueue(t, db, Options{Lanes: map[string]int{DefaultLane: 8}})
		dbs, qs = append(dbs, db), append(qs, q)
		Register(q, func(_ context.Context, j *Job[note]) error {
			mu.Lock()
			ran[j.Args.N]++
			mu.Unlock()
			nodes[i].Add(1)
			if total.Add(1) == jobs {
				close(done)
			}
			return nil
		})
	}
	var migrate sync.WaitGroup // nodes of a cluster start together
	for _, q := range qs {
		migrate.Go(func() {
			if err := q.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	migrate.Wait()
	for _, q := range qs {
		start(t, q)
	}
	for n := range jobs { // all enqueued on one node: the other hears of them by NOTIFY or poll
		enqueue(t, dbs[0], qs[0], note{N: n})
	}
	receive(t, done, "all jobs")
	mu.Lock()
	defer mu.Unlock()
	for n := range jobs {
		if ran[n] != 1 {
			t.Errorf("job %d ran %d times", n, ran[n])
		}
	}
	t.Logf("%d and %d jobs", nodes[0].Load(), nodes[1].Load())
}

// TestLostConnections ends every connection of the database during the work.
func TestLostConnections(t *testing.T) {
	db := testkit.Postgres(t)
	q := newQueue(t, db, Options{RescueAfter: 2 * time.Second})
	if err := q.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	ran := make(chan int, 1000)
	Register(q, func(_ context.Context, j *Job[note]) error { ran <- j.Args.N; return nil })
	start(t, q)
	enqueue(t, db, q, note{N: 0})
	receive(t, ran, "the first job")
	for n := 1; n <= 3; n++ {
		var killed int
		err := db.Read(t.Context(), func(ctx context.Context, db sqldb.Querier) error {
			return db.QueryRowContext(ctx, `SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity
				WHERE datname = current_database() AND pid <> pg_backend_pid()`).Scan(&killed)
		})
		if err != nil || killed == 0 {
			t.Fatalf("%d connections ended, %v", killed, err)
		}
		poll(t, func() (bool, string) { // the first try may meet a dead connection of the pool
			err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				_, err := q.Enqueue(ctx, tx, note{N: n}, Unique(0, true))
				return err
			})
			return err == nil, fmt.Sprint(err)
		})
		for receive(t, ran, "a job after the connections were lost") != n {
		}
	}
}

func TestPeriodicRunsOncePerPeriodInTheCluster(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		var runs atomic.Int64
		second := make(chan time.Time, 16)
		var qs []*Queue
		for range 2 {
			q := newQueue(t, db, Options{})
			Register(q, func(_ context.Context, j *Job[note]) error {
				if j.Args.N == 24 {
					runs.Add(1)
				} else {
					second <- j.CreatedAt
				}
				return nil
			})
			q.Periodic("daily", 24*time.Hour, func() Args { return note{N: 24} })
			q.Periodic("often", time.Second, func() Args { return note{N: 1} })
			qs = append(qs, q)
		}
		began := time.Now().UTC()
		day := began.YearDay()
		start(t, qs[0])
		if db.Engine() == sqldb.Postgres {
			start(t, qs[1])
		}
		for n := int64(1); n <= 4; n++ { // doubled, the fourth would come after a second
			at := receive(t, second, "a period")
			if periods := at.Unix() - began.Unix() + 1; n > periods {
				t.Errorf("%d jobs in %d periods", n, periods)
			}
		}
		stop(t, qs[0])
		stop(t, qs[1])
		start(t, qs[0]) // a restart is no new period
		receive(t, second, "a period after the restart")
		if n := runs.Load(); n != 1 && day == time.Now().UTC().YearDay() {
			t.Errorf("the daily job ran %d times", n)
		}
	})
}

func TestListPages(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, Options{Lanes: map[string]int{"mail": 1}})
		Register(q, func(context.Context, *Job[note]) error { return nil })
		var want []int64
		write(t, db, func(ctx context.Context, tx *sqldb.Tx) error {
			want = nil
			for n := range 7 {
				id, err := q.Enqueue(ctx, tx, note{N: n}, Lane("mail"))
				if err != nil {
					return err
				}
				want = append([]int64{id}, want...)
			}
			return nil
		})
		var got []int64
		f := Filter{Lane: "mail", State: Available, Limit: 3}
		for pages := 1; ; pages++ {
			rows, next, err := q.List(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rows {
				got = append(got, r.ID)
			}
			if f.Cursor = next; next == "" {
				if pages != 3 {
					t.Errorf("%d pages, want 3", pages)
				}
				break
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
		for _, f := range []Filter{{Cursor: "!"}, {Cursor: "-1"}, {State: "discarded"}, {Limit: 201}, {Limit: -1}} {
			if _, _, err := q.List(t.Context(), f); err == nil {
				t.Errorf("filter %+v was taken", f)
			}
		}
		for _, f := range []Filter{{Kind: "other"}, {Lane: DefaultLane}, {State: Dead}} {
			if rows, _, err := q.List(t.Context(), f); err != nil || len(rows) != 0 {
				t.Errorf("filter %+v: %d rows, %v", f, len(rows), err)
			}
		}
		if _, err := q.Get(t.Context(), want[0]+1000); !errors.Is(err, sqldb.ErrNotFound) {
			t.Errorf("an unknown job: %v", err)
		}
		text, err := json.Marshal(must(q.Get(t.Context(), want[6])))
		if err != nil || !strings.Contains(string(text), `"args":{"n":0}`) && !strings.Contains(string(text), `"args":{"n": 0}`) || !strings.Contains(string(text), `"failures":[]`) {
			t.Errorf("row %s, %v", text, err)
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestUnknownKindEndsDead is a job of a capability that was taken out.
func TestUnknownKindEndsDead(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		old := newQueue(t, db, Options{})
		Register(old, func(context.Context, *Job[stranger]) error { return nil })
		id := enqueue(t, db, old, stranger{}, MaxAttempts(1))
		q := newQueue(t, db, Options{})
		Register(q, func(context.Context, *Job[note]) error { return nil })
		start(t, q)
		row := await(t, q, id, Dead)
		if len(row.Failures) != 1 || !strings.Contains(row.Failures[0].Error, "stranger") {
			t.Errorf("row %+v", row)
		}
	})
}

func TestStartReportsFaults(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, Options{})
		if err := q.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "no kind") {
			t.Errorf("nothing registered: %v", err)
		}
		nothing := func(context.Context, *Job[note]) error { return nil }
		Register(q, nothing)
		Register(q, nothing)
		Register(q, func(context.Context, *Job[stranger]) error { return nil }, InLane("nowhere"))
		q.Periodic("p", time.Millisecond, func() Args { return note{} })
		err := q.Start(t.Context())
		for _, want := range []string{`"note"`, `lane "nowhere"`, "whole seconds"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q in it", err, want)
			}
		}
		if err := q.Stop(t.Context()); err != nil {
			t.Errorf("stop of what never started: %v", err)
		}
	})
}

func TestMetrics(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		reg := prometheus.NewPedanticRegistry()
		q := newQueue(t, db, Options{Metrics: reg})
		Register(q, func(_ context.Context, j *Job[note]) error {
			if j.Args.N > 0 {
				return errors.New("no")
			}
			return nil
		}, Attempts(1))
		start(t, q)
		await(t, q, enqueue(t, db, q, note{N: 0}), Completed)
		await(t, q, enqueue(t, db, q, note{N: 1}), Dead)
		found, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprint(found)
		for _, want := range []string{"landline_queue_enqueued_total", "landline_queue_pickup_seconds", "landline_queue_work_duration_seconds",
			"landline_queue_jobs", `value:"completed"`, `value:"dead"`} {
			if !strings.Contains(text, want) {
				t.Errorf("%s is missing in %s", want, text)
			}
		}
	})
}

func TestQueriesPrepareOnBothEngines(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, Options{})
		for _, queries := range []sqldb.Queries{Queries, q.sql} {
			if err := sqldb.PrepareAll(t.Context(), db, queries); err != nil {
				t.Error(err)
			}
		}
		if err := q.Migrate(t.Context()); err != nil {
			t.Errorf("a second migration: %v", err)
		}
	})
}
