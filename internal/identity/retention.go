package identity

import (
	"context"
	"time"

	"landline/internal/audit"
	"landline/internal/sqldb"
)

// retireBatch is how many anonymous users one run of the job looks at.
const retireBatch = 500

// retire begins the erasure of anonymous users who have not been seen for long:
// those without data after AnonymousConfig.EmptyKeep, the others after Keep
// (B-19). Whoever refreshed or re-attached in that time stays.
func (s *Service) retire(ctx context.Context, now time.Time) error {
	ctx = audit.WithActor(ctx, audit.Actor{Type: audit.TypeSystem})
	c := s.config.Anonymous
	after := ""
	for range cleanRounds {
		cut := sqldb.Millis(now.Add(-min(c.EmptyKeep.D(), c.Keep.D())))
		idle, err := list(ctx, s.db, "AnonymousIdle", scanUser, cut, cut, cut, after, retireBatch)
		if err != nil || len(idle) == 0 {
			return err
		}
		for _, u := range idle {
			after = u.ID
			if err := s.retireOne(ctx, u, now); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) retireOne(ctx context.Context, u User, now time.Time) error {
	until, err := s.anonymousUntil(ctx, u.ID)
	if err != nil || now.Before(until) {
		return err
	}
	_, err = s.requestErasure(ctx, u.ID, "not seen for too long")
	return err
}

// anonymousUntil is when an anonymous user is erased who is not seen until then.
func (s *Service) anonymousUntil(ctx context.Context, user string) (time.Time, error) {
	keep := s.config.Anonymous.EmptyKeep.D()
	data, err := s.hasRows(ctx, user)
	if err != nil {
		return time.Time{}, err
	}
	if data || s.config.Merge.Always || s.events.Wants(EventMerged) { // the team's services may keep something
		keep = s.config.Anonymous.Keep.D()
	}
	seen, err := one(ctx, s.db, "AnonymousSeen", func(r row) (ms int64, err error) {
		err = r.Scan(&ms)
		return ms, err
	}, user)
	return sqldb.Time(seen).Add(keep), err
}
