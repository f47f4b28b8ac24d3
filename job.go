package landline

import (
	"context"
	"time"

	"landline/internal/app"
)

// Args are the arguments of one kind of job: a struct that survives JSON. Kind
// names it, such as "trips.confirm", and must not depend on the value.
type Args interface{ Kind() string }

// Job is one attempt at a job.
type Job[A Args] struct {
	ID          int64
	Args        A
	Attempt     int // 1 on the first
	MaxAttempts int
	CreatedAt   time.Time
}

// Worker is how jobs of one kind are worked; see Work.
type Worker struct{ register func(*app.House) }

// Work says how jobs of A's kind are worked. A job is tried again after an
// error, at growing intervals, up to MaxAttempts; it may run more than once, so
// make its effect safe to repeat. DatabaseFrom(ctx) is the database. timeout
// bounds one attempt; 0 = a minute.
func Work[A Args](timeout time.Duration, do func(ctx context.Context, job Job[A]) error) Worker {
	return Worker{func(h *app.House) {
		app.RegisterJob(h, timeout, func(ctx context.Context, id int64, args A, attempt, attempts int, created time.Time) error {
			return do(ctx, Job[A]{ID: id, Args: args, Attempt: attempt, MaxAttempts: attempts, CreatedAt: created})
		})
	}}
}

// CancelJob wraps the error of a job that trying again cannot help.
func CancelJob(err error) error { return app.CancelJob(err) }

// JobOption changes one enqueued job.
type JobOption func(*jobOptions)

type jobOptions struct{ app app.ProgramJob }

// At delays the job until t.
func At(t time.Time) JobOption { return func(o *jobOptions) { o.app.At = t } }

// Attempts bounds how often the job is tried.
func Attempts(n int) JobOption { return func(o *jobOptions) { o.app.Attempts = n } }

// Once drops the job when there is one of its kind with the same arguments that
// was enqueued in the same window, or, with window 0, that has not finished.
func Once(window time.Duration) JobOption {
	return func(o *jobOptions) { o.app.Once, o.app.Window = true, window }
}

// Enqueue adds a job within tx: it exists exactly when the transaction's other
// writes do.
func Enqueue(ctx context.Context, tx *Tx, args Args, options ...JobOption) (id int64, err error) {
	if tx.house == nil {
		return 0, errOutside
	}
	var o jobOptions
	for _, option := range options {
		option(&o)
	}
	return tx.house.Enqueue(ctx, tx.tx, args, o.app)
}
