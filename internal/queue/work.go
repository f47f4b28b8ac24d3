package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
)

// Register says how jobs of A's kind are worked. All kinds are registered
// before Start, which reports a kind registered twice. work's error is kept
// with the job and shown to operators: it must hold no secret.
func Register[A Args](q *Queue, work func(ctx context.Context, job *Job[A]) error, opts ...KindOption) {
	var zero A
	k := &kind{name: zero.Kind(), timeout: DefaultTimeout, attempts: defaultAttempts, lane: DefaultLane}
	for _, opt := range opts {
		opt(k)
	}
	fail := func(format string, args ...any) {
		q.faults = append(q.faults, fmt.Errorf("queue: register %q: %s", k.name, fmt.Sprintf(format, args...)))
	}
	if k.timeout <= 0 {
		fail("Timeout is %v, want more than 0", k.timeout)
		return
	}
	if q.o.Lanes[k.lane] == 0 {
		fail("no worker of this node serves lane %q: add it to Options.Lanes", k.lane)
		return
	}
	if err := river.AddWorkerSafely(q.workers, &worker[A]{work: work, timeout: k.timeout}); err != nil {
		fail("%v", err)
		return
	}
	q.kinds[k.name] = k
}

// worker is a registered function as River calls it.
type worker[A Args] struct {
	river.WorkerDefaults[A]
	work    func(context.Context, *Job[A]) error
	timeout time.Duration
}

func (w *worker[A]) Timeout(*river.Job[A]) time.Duration { return w.timeout }

func (w *worker[A]) Work(ctx context.Context, j *river.Job[A]) error {
	return w.work(ctx, &Job[A]{ID: j.ID, Args: j.Args, Attempt: j.Attempt, MaxAttempts: j.MaxAttempts, CreatedAt: j.CreatedAt})
}

// cancelError, retryAfterError and snoozeError are what the functions below return.
type (
	cancelError     struct{ err error }
	retryAfterError struct {
		after time.Duration
		err   error
	}
	snoozeError struct{ d time.Duration }
)

// Cancel wraps err so that the job is not tried again: it ends as cancelled, with err.
func Cancel(err error) error { return &cancelError{cmp.Or(err, errNoReason)} }

// RetryAfter wraps err so that the next attempt, if one is left, is made after d.
func RetryAfter(d time.Duration, err error) error {
	return &retryAfterError{d, cmp.Or(err, errNoReason)}
}

// Snooze puts the job off by d without counting an attempt.
func Snooze(d time.Duration) error { return &snoozeError{d} }

func (e *cancelError) Error() string     { return "cancelled: " + e.err.Error() }
func (e *cancelError) Unwrap() error     { return e.err }
func (e *retryAfterError) Error() string { return e.err.Error() }
func (e *retryAfterError) Unwrap() error { return e.err }
func (e *snoozeError) Error() string     { return "snoozed for " + e.d.String() }

var errNoReason = errors.New("no reason given")

const maxFailure = 4 << 10 // bytes of an error kept with its job

// shortError keeps the database from an error of any length.
type shortError struct {
	text string
	err  error
}

func (e *shortError) Error() string { return e.text }
func (e *shortError) Unwrap() error { return e.err }

func shorten(err error) error {
	if s := err.Error(); len(s) > maxFailure {
		return &shortError{s[:maxFailure] + "…", err}
	}
	return err
}

// around is called for every attempt of every kind: it measures, and turns the
// worker's verdict into River's.
type around struct {
	river.MiddlewareDefaults
	q *Queue
}

func (a *around) Work(ctx context.Context, job *rivertype.JobRow, work func(context.Context) error) (err error) {
	start := time.Now()
	if job.Attempt == 1 && job.AttemptedAt != nil {
		a.q.metrics.pickup.WithLabelValues(job.Queue).Observe(max(0, start.Sub(job.ScheduledAt).Seconds()))
	}
	outcome := "panic" // unless work returns
	defer func() { a.q.metrics.done(job.Kind, outcome, time.Since(start)) }()
	err = work(ctx)
	outcome, err = a.q.verdict(ctx, job, err)
	return err
}

func (q *Queue) verdict(ctx context.Context, job *rivertype.JobRow, err error) (outcome string, _ error) {
	var (
		cancel *cancelError
		retry  *retryAfterError
		snooze *snoozeError
	)
	switch {
	case err == nil:
		return "completed", nil
	case errors.Is(context.Cause(ctx), rivertype.ErrJobCancelledRemotely):
		return "cancelled", err // River marks it so by the context's cause
	case errors.As(err, &cancel):
		return "cancelled", river.JobCancel(shorten(cancel.err))
	case errors.As(err, &snooze):
		return "snoozed", river.JobSnooze(max(0, snooze.d))
	case q.cancelling.Load() && ctx.Err() != nil:
		return "interrupted", river.JobSnooze(0) // not its fault: no attempt counted
	case job.Attempt >= job.MaxAttempts:
		return "dead", shorten(err)
	case errors.As(err, &retry):
		q.retryAfter.Store(job.ID, max(0, retry.after))
	}
	return "failed", shorten(err)
}

// backoff is River's retry policy; see the package documentation for the schedule.
type backoff struct{ q *Queue }

const maxBackoff = 6 * time.Hour

func (b backoff) NextRetry(job *rivertype.JobRow) time.Time {
	if d, ok := b.q.retryAfter.LoadAndDelete(job.ID); ok {
		return time.Now().UTC().Add(d.(time.Duration))
	}
	return time.Now().UTC().Add(delay(job.Attempt, rand.Float64())) // #nosec G404 -- jitter, not a secret
}

// delay is the pause after the given failed attempt; random is in [0, 1).
func delay(attempt int, random float64) time.Duration {
	d := time.Second
	for range max(1, attempt) - 1 {
		if d *= 3; d >= maxBackoff {
			d = maxBackoff
			break
		}
	}
	return time.Duration(float64(d) * (0.8 + 0.4*random))
}
