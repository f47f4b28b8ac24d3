// Package queue is Landline's durable background work: jobs that are enqueued
// in the transaction of the change that causes them and worked at least once.
package queue

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/sqldb"
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
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Lanes   map[string]int // workers of this node per lane; "default" always exists
}

// Queue enqueues and works jobs. It is safe for concurrent use.
type Queue struct {
	db *sqldb.DB
	o  Options
}

var errNotReady = errors.New("queue: not started")

// New returns a queue on db; nothing is touched until Migrate and Start.
func New(db *sqldb.DB, o Options) (*Queue, error) { return &Queue{db: db, o: o}, nil }

// Migrate brings the queue's tables up to date.
func (q *Queue) Migrate(ctx context.Context) error { return nil }

// KindOption changes how one kind of job is worked.
type KindOption func(*kindOptions)

type kindOptions struct {
	timeout     time.Duration
	maxAttempts int
}

// Register says how jobs of A's kind are worked. All kinds are registered before Start.
func Register[A Args](q *Queue, work func(ctx context.Context, job *Job[A]) error, opts ...KindOption) {
}

// InsertOption changes one enqueued job.
type InsertOption func(*insertOptions)

type insertOptions struct {
	at          time.Time
	lane        string
	maxAttempts int
	priority    int
	unique      bool
	window      time.Duration
	byArgs      bool
}

// At delays the job until t.
func At(t time.Time) InsertOption { return func(o *insertOptions) { o.at = t } }

// Lane puts the job in the named lane.
func Lane(name string) InsertOption { return func(o *insertOptions) { o.lane = name } }

// MaxAttempts bounds how often the job is tried.
func MaxAttempts(n int) InsertOption { return func(o *insertOptions) { o.maxAttempts = n } }

// Priority is 1 (first) to 4 (last) within a lane.
func Priority(n int) InsertOption { return func(o *insertOptions) { o.priority = n } }

// Unique drops the job when another of its kind was enqueued within the window.
func Unique(window time.Duration, byArgs bool) InsertOption {
	return func(o *insertOptions) { o.unique, o.window, o.byArgs = true, window, byArgs }
}

// Enqueue adds a job within the caller's transaction.
func (q *Queue) Enqueue(ctx context.Context, tx *sqldb.Tx, args Args, opts ...InsertOption) (id int64, err error) {
	return 0, errNotReady
}

// Periodic enqueues a job every so often, on one node of the cluster.
func (q *Queue) Periodic(id string, every time.Duration, args func() Args, opts ...InsertOption) {}

// Start begins to work jobs; it returns once running.
func (q *Queue) Start(ctx context.Context) error { return errNotReady }

// Stop ends the work; running jobs get until ctx ends.
func (q *Queue) Stop(ctx context.Context) error { return nil }

// Cancel wraps err so that the job is not tried again.
func Cancel(err error) error { return err }

// RetryAfter wraps err so that the next attempt is made after d.
func RetryAfter(d time.Duration, err error) error { return err }

// Snooze puts the job off by d without counting an attempt.
func Snooze(d time.Duration) error { return nil }

// State is where a job stands.
type State string

// The states of a job.
const (
	Available State = "available" // waits for a worker
	Scheduled State = "scheduled" // waits for its time
	Running   State = "running"
	Retryable State = "retryable" // failed, waits for its next attempt
	Completed State = "completed"
	Cancelled State = "cancelled"
	Dead      State = "dead" // out of attempts; kept so that an operator can retry it
)

// Filter selects jobs; zero members select all.
type Filter struct {
	State  State
	Kind   string
	Lane   string
	Limit  int    // 1…200; 0 = 50
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
	ID          int64      `json:"id"`
	Kind        string     `json:"kind"`
	Lane        string     `json:"lane"`
	State       State      `json:"state"`
	Priority    int        `json:"priority"`
	Attempt     int        `json:"attempt"`
	MaxAttempts int        `json:"max_attempts"`
	Args        string     `json:"args"` // JSON text
	Failures    []Failure  `json:"failures"`
	CreatedAt   time.Time  `json:"created_at"`
	ScheduledAt time.Time  `json:"scheduled_at"`
	AttemptedAt *time.Time `json:"attempted_at,omitempty"`
	FinishedAt  *time.Time `json:"finished_at,omitempty"`
}

// List returns jobs, newest first, and the cursor of the next page.
func (q *Queue) List(ctx context.Context, f Filter) (rows []Row, next string, err error) {
	return nil, "", errNotReady
}

// Get returns one job or sqldb.ErrNotFound.
func (q *Queue) Get(ctx context.Context, id int64) (Row, error) { return Row{}, errNotReady }

// Retry makes a finished job available again.
func (q *Queue) Retry(ctx context.Context, tx *sqldb.Tx, id int64) error { return errNotReady }

// Cancel stops a job that has not finished.
func (q *Queue) Cancel(ctx context.Context, tx *sqldb.Tx, id int64) error { return errNotReady }
