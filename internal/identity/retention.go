package identity

import (
	"context"
	"time"

	"landline/internal/audit"
	"landline/internal/sqldb"
)

// retireBatch is how many users the job reads at a time.
const retireBatch = 500

// idleUser is a user as the job meets it.
type idleUser struct {
	id      string
	created int64
	idle    bool // anonymous, and neither seen nor refreshed for long
}

func scanIdle(r row) (u idleUser, err error) {
	err = r.Scan(&u.id, &u.created, &u.idle)
	return u, err
}

// retire begins the erasure of anonymous users who have not been seen for long:
// those without data after AnonymousConfig.EmptyKeep, the others after Keep
// (B-19). Whoever refreshed or re-attached in that time stays. It reads all users
// in the order of their ids until all that it reads are too young, which are
// those behind them as well.
func (s *Service) retire(ctx context.Context, now time.Time) error {
	ctx = audit.WithActor(ctx, audit.Actor{Type: audit.TypeSystem})
	c := s.config.Anonymous
	cut := sqldb.Millis(now.Add(-min(c.EmptyKeep.D(), c.Keep.D())))
	for after, young := "", false; !young; {
		page, err := list(ctx, s.db, "UsersIdle", scanIdle, cut, cut, cut, after, retireBatch)
		if err != nil {
			return err
		}
		young = true // so is an empty page
		for _, u := range page {
			after, young = u.id, young && u.created >= cut
			if !u.idle {
				continue
			}
			if err := s.retireOne(ctx, u.id, now); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) retireOne(ctx context.Context, user string, now time.Time) error {
	until, err := s.anonymousUntil(ctx, user)
	if err != nil || now.Before(until) {
		return err
	}
	_, err = s.requestErasure(ctx, user, "not seen for too long")
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
