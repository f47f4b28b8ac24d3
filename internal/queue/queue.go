package queue

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"

	"landline/internal/sqldb"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

//go:embed queries.sql
var queriesSQL string

//go:embed jobs.sqlite.sql
var sqliteSQL string

//go:embed jobs.postgres.sql
var postgresSQL string

// Migrations make the package's own table. Migrate runs them, and River's.
var Migrations = sqldb.Embedded("queue", migrationFiles)

// Queries are the statements that both engines run; they need Migrate first.
var Queries = sqldb.MustParse(queriesSQL)

// Limits and defaults.
const (
	DefaultLane     = "default"
	defaultAttempts = 12             // attempts of a job that says nothing
	DefaultTimeout  = time.Minute    // of one attempt
	MaxArgs         = 256 << 10      // bytes of a job's arguments as JSON
	FinishedKept    = 24 * time.Hour // completed and cancelled jobs
	DeadKept        = 14 * 24 * time.Hour
	MaxUniqueWindow = FinishedKept // uniqueness is kept by the rows
	rescueAfter     = 5 * time.Minute
	defaultWorkers  = 50
)

// Args are the arguments of one kind of job: a struct that survives JSON.
// Kind must not depend on the value.
type Args interface{ Kind() string }

// Job is one attempt at a job, as its worker sees it.
type Job[A Args] struct {
	ID          int64
	Args        A
	Attempt     int // 1 on the first
	MaxAttempts int
	CreatedAt   time.Time
}

// Options say how a node works its jobs.
type Options struct {
	Log         *slog.Logger          // nil = slog.Default()
	Metrics     prometheus.Registerer // nil = none
	Lanes       map[string]int        // workers of this node per lane; 0 for "default" = 50. Every node should know every lane
	RescueAfter time.Duration         // PostgreSQL: how long a job may run before its node is taken for dead, unless the kind's Timeout is longer; 0 = 5m
}

// Queue enqueues and works jobs. It is safe for concurrent use.
type Queue struct {
	db      *sqldb.DB
	o       Options
	log     *slog.Logger
	metrics *metrics
	sql     sqldb.Queries // of this engine
	wake    *wake

	kinds    map[string]*kind
	workers  *river.Workers
	insert   *river.Client[*sql.Tx]
	periodic []periodicJob
	faults   []error // of Register and Periodic, told by Start

	mu         sync.Mutex
	running    *running    // nil unless started
	cancelling atomic.Bool // the grace of Stop is over
	retryAfter sync.Map    // job id → time.Duration, from RetryAfter to the retry policy
}

// kind is what Register was told.
type kind struct {
	name     string
	timeout  time.Duration
	attempts int
	lane     string
}

// New returns a queue on db; nothing is touched until Migrate and Start.
func New(db *sqldb.DB, o Options) (*Queue, error) {
	q := &Queue{db: db, o: o, log: o.Log, kinds: map[string]*kind{}, workers: river.NewWorkers()}
	if q.log == nil {
		q.log = slog.Default()
	}
	q.o.Lanes = maps.Clone(o.Lanes)
	if q.o.Lanes == nil {
		q.o.Lanes = map[string]int{}
	}
	if q.o.Lanes[DefaultLane] == 0 {
		q.o.Lanes[DefaultLane] = defaultWorkers
	}
	for lane, n := range q.o.Lanes {
		if n < 1 || n > river.QueueNumWorkersMax {
			return nil, fmt.Errorf("queue: lane %q has %d workers, want 1 to %d", lane, n, river.QueueNumWorkersMax)
		}
	}
	q.wake = newWake(len(q.o.Lanes))
	if q.o.RescueAfter == 0 {
		q.o.RescueAfter = rescueAfter
	}
	cfg := &river.Config{Logger: q.log, Workers: q.workers, FetchCooldown: notifyAtMostEvery, FetchPollInterval: time.Second, MaxAttempts: defaultAttempts}
	var err error
	if db.Engine() == sqldb.Postgres {
		q.sql = sqldb.MustParse(postgresSQL)
		q.insert, err = river.NewClient(riverdatabasesql.New(db.Writer()), cfg)
	} else {
		q.sql = sqldb.MustParse(sqliteSQL)
		q.insert, err = river.NewClient(riversqlite.New(db.Writer()), cfg)
	}
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	q.metrics = newMetrics(q, o.Metrics)
	return q, nil
}

// Migrate brings River's tables and ours up to date.
func (q *Queue) Migrate(ctx context.Context) error {
	if err := q.db.Migrate(ctx, Migrations); err != nil {
		return err
	}
	var err error
	if q.db.Engine() == sqldb.Postgres {
		err = q.migratePostgres(ctx)
	} else {
		err = q.migrateSQLite(ctx)
	}
	if err != nil {
		return fmt.Errorf("queue: migrate: %w", err)
	}
	return nil
}

// migrateLock is the advisory lock of River's migrations: nodes that start together take turns.
const migrateLock = 0x6c616e646c696e65

func (q *Queue) migratePostgres(ctx context.Context) (err error) {
	pool, err := q.pool(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(migrateLock)); err != nil {
		return err
	}
	defer func() {
		_, unlock := conn.Exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, int64(migrateLock))
		err = errors.Join(err, unlock)
	}()
	m, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: q.log})
	if err != nil {
		return err
	}
	_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

// Migrated reports whether River's tables are up to date. It changes nothing.
func (q *Queue) Migrated(ctx context.Context) (bool, error) {
	if q.db.Engine() == sqldb.SQLite {
		return validated(rivermigrate.New(riversqlite.New(q.db.Writer()), &rivermigrate.Config{Logger: q.log}))(ctx)
	}
	return validated(rivermigrate.New(riverdatabasesql.New(q.db.Writer()), &rivermigrate.Config{Logger: q.log}))(ctx)
}

func validated[T any](m *rivermigrate.Migrator[T], err error) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		if err != nil {
			return false, fmt.Errorf("queue: look at the migrations: %w", err)
		}
		v, err := m.Validate(ctx)
		if err != nil {
			return false, fmt.Errorf("queue: look at the migrations: %w", err)
		}
		return v.OK, nil
	}
}

func (q *Queue) migrateSQLite(ctx context.Context) (err error) {
	unlock, err := q.db.LockMigrations(ctx) // another process may be at it
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	m, err := rivermigrate.New(riversqlite.New(q.db.Writer()), &rivermigrate.Config{Logger: q.log})
	if err != nil {
		return err
	}
	_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}
