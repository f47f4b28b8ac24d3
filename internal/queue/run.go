package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivertype"

	"landline/internal/sqldb"
)

// pollInterval is how long a job can go unnoticed when nothing tells of it: one
// that comes due, or one that another node enqueued while LISTEN was down.
const pollInterval = 500 * time.Millisecond

// cancelGrace is what cancelled jobs get to return after Stop's context has ended.
const cancelGrace = 5 * time.Second

// running is what Start made and Stop takes down.
type running struct {
	client client
	close  func()
	end    context.CancelFunc // ends the periodic jobs
	ended  chan struct{}
}

// client is the part of river.Client that does not depend on the driver.
type client interface {
	Start(context.Context) error
	Stop(context.Context) error
	StopAndCancel(context.Context) error
}

// Start begins to work jobs; it returns once running. Ending ctx does not stop
// the queue: Stop does.
func (q *Queue) Start(ctx context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := errors.Join(q.faults...); err != nil {
		return err
	}
	if q.running != nil {
		return errors.New("queue: started already")
	}
	if len(q.kinds) == 0 {
		return errors.New("queue: no kind is registered: there is nothing to work")
	}
	q.cancelling.Store(false)
	r := &running{close: func() {}, ended: make(chan struct{})}
	var err error
	if q.db.Engine() == sqldb.Postgres {
		err = q.openPostgres(ctx, r)
	} else {
		err = q.openSQLite(ctx, r)
	}
	if err == nil {
		err = r.client.Start(context.WithoutCancel(ctx))
	}
	if err != nil {
		r.close()
		return fmt.Errorf("queue: start: %w", err)
	}
	var periodic context.Context
	periodic, r.end = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(r.ended)
		q.runPeriodic(periodic)
	}()
	q.running = r
	return nil
}

func (q *Queue) openSQLite(ctx context.Context, r *running) (err error) {
	if err := q.reclaim(ctx); err != nil {
		return err
	}
	r.client, err = river.NewClient(&sqliteDriver{riversqlite.New(q.db.Writer()), q.wake}, q.config())
	return err
}

func (q *Queue) openPostgres(ctx context.Context, r *running) error {
	pool, err := q.pool(ctx)
	if err != nil {
		return err
	}
	r.close = pool.Close
	r.client, err = river.NewClient(&postgresDriver{riverpgxv5.New(pool), q.wake}, q.config())
	return err
}

// pool is for River alone: one connection listens, the others fetch, complete and maintain.
func (q *Queue) pool(ctx context.Context) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(q.db.PostgresURL())
	if err != nil {
		return nil, errors.New("the database URL is not valid") // the cause would quote the password
	}
	cfg.MaxConns = int32(min(4+len(q.o.Lanes), 12))
	return pgxpool.NewWithConfig(ctx, cfg)
}

func (q *Queue) config() *river.Config {
	lanes := make(map[string]river.QueueConfig, len(q.o.Lanes))
	for name, n := range q.o.Lanes {
		lanes[name] = river.QueueConfig{MaxWorkers: n}
	}
	return &river.Config{
		Logger: q.log, Queues: lanes, Workers: q.workers, RetryPolicy: backoff{q},
		Middleware:    []rivertype.Middleware{&around{q: q}},
		MaxAttempts:   defaultAttempts,
		JobTimeout:    min(DefaultTimeout, q.o.RescueAfter/2), // every kind has its own, see Register
		FetchCooldown: wakeAtMostEvery, FetchPollInterval: pollInterval,
		RescueStuckJobsAfter:        q.o.RescueAfter,
		CompletedJobRetentionPeriod: FinishedKept, CancelledJobRetentionPeriod: FinishedKept, DiscardedJobRetentionPeriod: DeadKept,
	}
}

// reclaim makes the jobs of a crashed process available again. Only SQLite: no
// other process works the file, so whatever is running there is nobody's.
func (q *Queue) reclaim(ctx context.Context) error {
	return q.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		res, err := tx.ExecContext(ctx, q.sql.Get("JobReclaim"), "the process ended while the job ran")
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if n > 0 {
			tx.OnCommit(func() { q.log.Warn("took up jobs that a crash had cut off", "jobs", n) })
		}
		return err
	})
}

// Stop ends the work: nothing more is fetched, running jobs get until ctx ends,
// then their contexts end and what returns an error is available again at once,
// without an attempt counted. A job that still runs cancelGrace later makes
// Stop return an error and is rescued by another node or the next start.
func (q *Queue) Stop(ctx context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.running
	if r == nil {
		return nil
	}
	r.end()
	<-r.ended
	err := r.client.Stop(ctx)
	if err != nil && ctx.Err() != nil {
		q.cancelling.Store(true)
		hard, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelGrace)
		defer cancel()
		if err = r.client.StopAndCancel(hard); err != nil {
			return fmt.Errorf("queue: stop: a job does not heed its context, it will be worked again: %w", err)
		}
	}
	if err != nil {
		return fmt.Errorf("queue: stop: %w", err)
	}
	r.close()
	q.running = nil
	return nil
}
