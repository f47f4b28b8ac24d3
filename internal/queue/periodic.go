package queue

import (
	"context"
	"fmt"
	"time"

	"landline/internal/sqldb"
)

type periodicJob struct {
	id    string
	every time.Duration
	args  func() Args
	opts  []InsertOption
}

// Periodic enqueues a job once in every period, in the whole cluster: periods
// are aligned to the Unix epoch (every 24h = at midnight UTC). A period in which
// no node ran is left out, but the current one is caught up on at Start, so the
// job also runs when the process is restarted more often than that. Call it
// before Start; the kind must be registered by then.
func (q *Queue) Periodic(id string, every time.Duration, args func() Args, opts ...InsertOption) {
	if id == "" || len(id) > 64 || every < time.Second || every%time.Second != 0 {
		q.faults = append(q.faults, fmt.Errorf("queue: periodic job %q every %v: want an id of 1 to 64 bytes and whole seconds", id, every))
		return
	}
	for _, p := range q.periodic {
		if p.id == id {
			q.faults = append(q.faults, fmt.Errorf("queue: two periodic jobs are named %q", id))
			return
		}
	}
	q.periodic = append(q.periodic, periodicJob{id, every, args, opts})
}

// runPeriodic runs until ctx ends. Each node tries at the start of each period;
// the row in queue_periodic lets one through.
func (q *Queue) runPeriodic(ctx context.Context) {
	due := make([]time.Time, len(q.periodic)) // zero: now
	failures := 0
	for {
		now, wait, failed := time.Now(), time.Hour, false
		for i, p := range q.periodic {
			if !now.Before(due[i]) {
				if err := q.enqueuePeriod(ctx, p, now); err != nil {
					if ctx.Err() != nil {
						return
					}
					q.log.Error("a periodic job could not be enqueued; trying again", "periodic", p.id, "error", err)
					failed = true
					continue
				}
				due[i] = now.Truncate(p.every).Add(p.every)
			}
			wait = min(wait, time.Until(due[i]))
		}
		if failed {
			failures++
			wait = min(wait, min(time.Second<<min(failures, 5), 30*time.Second))
		} else {
			failures = 0
		}
		timer := time.NewTimer(max(wait, time.Millisecond))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func (q *Queue) enqueuePeriod(ctx context.Context, p periodicJob, now time.Time) error {
	period := now.Unix() / int64(p.every/time.Second)
	return q.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		res, err := tx.ExecContext(ctx, Queries.Get("PeriodicClaim"), p.id, period)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err // this period is another node's
		}
		_, err = q.Enqueue(ctx, tx, p.args(), p.opts...)
		return err
	})
}
