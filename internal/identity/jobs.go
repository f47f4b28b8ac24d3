package identity

import (
	"context"
	"time"

	"landline/internal/audit"
	"landline/internal/queue"
	"landline/internal/sqldb"
)

const (
	cleanEvery  = time.Hour
	retireEvery = 24 * time.Hour
	cleanBatch  = 500
	cleanRounds = 2000 // so that one run ends; the next goes on

	unlinkedKeep = 366 * 24 * time.Hour // by then nobody restores a backup from before
	sessionKeep  = 30 * 24 * time.Hour  // after a session's absolute end, so that its clients are told why
)

// cleanArgs is the job that removes what is no longer needed.
type cleanArgs struct{}

func (cleanArgs) Kind() string { return "identity_clean" }

// retireArgs is the job that erases anonymous users who do not come back. It
// reads all who are old enough, so once a day.
type retireArgs struct{}

func (retireArgs) Kind() string { return "identity_retire" }

func (s *Service) registerJobs(q *queue.Queue) {
	queue.Register(q, func(ctx context.Context, _ *queue.Job[cleanArgs]) error { return s.clean(ctx) })
	queue.Register(q, func(ctx context.Context, job *queue.Job[mergeArgs]) error { return s.finishMerge(ctx, job.Args.From) })
	queue.Register(q, func(ctx context.Context, job *queue.Job[eraseArgs]) error {
		return s.erase(ctx, job.Args.User, job.Attempt)
	},
		queue.Attempts(30), queue.Timeout(10*time.Minute))
	queue.Register(q, s.sendMail, queue.Attempts(mailAttempts), queue.Timeout(2*time.Minute))
	queue.Register(q, func(ctx context.Context, job *queue.Job[exportArgs]) error {
		return s.export(ctx, job.Args.ID, job.Attempt)
	},
		queue.Attempts(exportAttempts), queue.Timeout(30*time.Minute))
	queue.Register(q, func(ctx context.Context, _ *queue.Job[retireArgs]) error { return s.retire(ctx, s.now()) }, queue.Timeout(time.Hour))
	q.Periodic("identity_retire", retireEvery, func() queue.Args { return retireArgs{} })
	q.Periodic("identity_clean", cleanEvery, func() queue.Args { return cleanArgs{} })
}

// clean works in small transactions, so that it never holds sign-in up.
func (s *Service) clean(ctx context.Context) error {
	now := s.now()
	before := Retention{
		BootstrapKeys: now.Add(-s.config.BootstrapKeyKeep.D()),
		Proofs:        now.Add(-proofWindow),
		Revocations:   now.Add(-2 * s.revocations.lifetime),
		Sessions:      now.Add(-sessionKeep),
		Unlinked:      now.Add(-unlinkedKeep),
		Expired:       now,
	}
	if err := s.eraseDue(ctx, now); err != nil {
		return err
	}
	if err := s.eraseNoLogin(ctx, now); err != nil {
		return err
	}
	for range cleanRounds {
		n, err := s.store.Clean(ctx, before, cleanBatch)
		if err != nil || n == 0 {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// noLoginKeep is how long an account is kept after its provider withdrew the
// only way in (L22). Then its deletion begins, which has its own time to come back.
const noLoginKeep = 30 * 24 * time.Hour

// eraseNoLogin begins the erasure of accounts that nobody has come back to.
func (s *Service) eraseNoLogin(ctx context.Context, now time.Time) error {
	ctx = audit.WithActor(ctx, audit.Actor{Type: audit.TypeSystem})
	for range cleanRounds {
		gone, err := list(ctx, s.db, "UsersNoLogin", scanUser, sqldb.Millis(now.Add(-noLoginKeep)), cleanBatch)
		if err != nil || len(gone) == 0 {
			return err
		}
		for _, u := range gone {
			if _, err := s.requestErasure(ctx, u.ID, "its only way to sign in was withdrawn"); err != nil {
				return err
			}
		}
	}
	return nil
}

// eraseDue begins again what is overdue by an hour: a restored database has
// erasures without their jobs, and a job may have died.
func (s *Service) eraseDue(ctx context.Context, now time.Time) error {
	due, err := list(ctx, s.db, "ErasuresDue", scanErasure, sqldb.Millis(now.Add(-time.Hour)), cleanBatch)
	if err != nil || len(due) == 0 {
		return err
	}
	return s.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for _, e := range due {
			if _, err := s.queue.Enqueue(ctx, tx, eraseArgs{User: e.UserID}, queue.Unique(0, true)); err != nil {
				return err
			}
		}
		return nil
	})
}
