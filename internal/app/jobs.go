package app

import (
	"context"
	"time"

	"landline/internal/clock"
	"landline/internal/gateway/idem"
	"landline/internal/module"
	"landline/internal/queue"
	"landline/internal/sqldb"
)

// sweepBatch is how many expired keys one statement deletes, so that it does
// not hold up other writes.
const sweepBatch = 1000

// sweepKeys is the job that deletes expired idempotency keys.
type sweepKeys struct{}

// Kind names the job in the queue.
func (sweepKeys) Kind() string { return "idempotency.sweep" }

// registerJobs tells the queue about the kernel's own jobs; capabilities register theirs in Build.
func (a *App) registerJobs() {
	store := idem.New(a.kernel.db, clock.System, a.log)
	queue.Register(a.kernel.queue, func(ctx context.Context, _ *queue.Job[sweepKeys]) error {
		for {
			n, err := store.Sweep(ctx, sweepBatch)
			if err != nil || n < sweepBatch {
				return err
			}
		}
	})
	a.kernel.people.Register(module.Participant{ // merged users keep theirs: see idem.Request.Former
		Name: "idempotency_keys",
		Erase: func(ctx context.Context, tx *sqldb.Tx, user string, _ int) (int64, error) {
			return 0, store.Erase(ctx, tx, user)
		},
	})
	a.kernel.queue.Periodic("idempotency.sweep", 10*time.Minute, func() queue.Args { return sweepKeys{} })
}
