package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/queue"
	"landline/internal/sqldb"
)

// A merge moves this many rows of each collection in the transaction of the
// sign-in, and this many in each step of its job.
const mergeBatch = 500

// mergeSettle is how long after a merge it is looked at once more: another
// process may have been writing as the merged user until it heard of the merge.
const mergeSettle = 2 * time.Minute

func (mergeArgs) Kind() string { return "identity_merge" }

// beginMerge moves what fits into the sign-in's transaction and leaves the rest,
// and the second look, to a job that exists when the merge does.
func (s *Service) beginMerge(ctx context.Context, tx *sqldb.Tx, m UserMerge) error {
	if err := s.mayMerge(ctx, tx, m); err != nil {
		return err
	}
	more, err := s.mergeStep(ctx, tx, m)
	if err != nil {
		return err
	}
	looks := []time.Duration{mergeSettle}
	if more {
		looks = []time.Duration{0, mergeSettle}
	}
	for _, after := range looks {
		if _, err := s.queue.Enqueue(ctx, tx, mergeArgs{From: m.From}, queue.At(s.now().Add(after))); err != nil {
			return err
		}
	}
	return s.events.Emit(ctx, tx, EventMerged, m.Into, mergedEvent{Merge: m.ID, From: m.From, Into: m.Into, Installation: m.InstallationID})
}

// mayMerge asks every participant before anything moves (L29).
func (s *Service) mayMerge(ctx context.Context, tx *sqldb.Tx, m UserMerge) error {
	for _, one := range s.people.All() {
		if one.MayMerge == nil {
			continue
		}
		err := one.MayMerge(ctx, tx, m.From, m.Into)
		var no *module.MergeRefused
		if errors.As(err, &no) {
			return problem.New(problem.MergePolicy, "%s refuses to merge these users: %s", one.Name, no.Detail).With("collection", one.Name).With("reason", no.Reason)
		}
		if err != nil {
			return fmt.Errorf("identity: ask %s about the merge of %s into %s: %w", one.Name, m.From, m.Into, err)
		}
	}
	return nil
}

// mergeStep calls every participant once and adds up what they did. It reports
// whether any has more.
func (s *Service) mergeStep(ctx context.Context, tx *sqldb.Tx, m UserMerge) (bool, error) {
	var sum module.Moved
	more := false
	for _, one := range s.people.All() {
		if one.Merge == nil {
			continue
		}
		policy := one.Policies[0]
		if p, ok := s.config.Merge.Policies[one.Name]; ok {
			policy = p
		}
		moved, err := one.Merge(ctx, tx, module.Merge{
			ID: m.ID, From: m.From, Into: m.Into, Policy: policy, Limit: mergeBatch, At: s.now(),
			Conflict: func(key string, losing json.RawMessage) error {
				return s.keepConflict(ctx, tx, m, one.Name, key, losing)
			},
		})
		if err != nil {
			return false, fmt.Errorf("identity: merge %s of %s into %s: %w", one.Name, m.From, m.Into, err)
		}
		more = more || moved.More
		sum.Records, sum.Conflicts, sum.Deduped = sum.Records+moved.Records, sum.Conflicts+moved.Conflicts, sum.Deduped+moved.Deduped
		tx.OnCommit(func() { s.countMoved(one.Name, moved) })
	}
	state, finished := MergeDone, s.now()
	if more {
		state, finished = MergeRunning, time.Time{}
	}
	_, err := tx.ExecContext(ctx, Queries.Get("MergeProgress"), string(state), sum.Records, sum.Conflicts, sum.Deduped, millisOrNull(finished), m.From)
	return more, err
}

func (s *Service) countMoved(collection string, m module.Moved) {
	for result, n := range map[string]int64{"moved": m.Records, "conflict": m.Conflicts, "deduped": m.Deduped} {
		s.metrics.merges.WithLabelValues(collection, result).Add(float64(n))
	}
}

func (s *Service) keepConflict(ctx context.Context, tx *sqldb.Tx, m UserMerge, collection, key string, losing json.RawMessage) error {
	sealed, err := s.keys.SealTx(ctx, tx, m.Into, fieldConflict, losing)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, Queries.Get("ConflictInsert"), newID(prefixConflict), m.ID, m.Into, collection, key, sealed, sqldb.Millis(s.now()))
	return err
}

// finishMerge goes on where a merge stopped, until nothing of From is left.
func (s *Service) finishMerge(ctx context.Context, from string) error {
	for {
		m, err := s.store.MergeOf(ctx, from)
		if err != nil {
			return err
		}
		if m.Into, err = s.finalUser(ctx, m.Into); err != nil {
			return err
		}
		more := false
		err = s.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
			more, err = s.mergeStep(ctx, tx, m)
			return err
		})
		if err != nil || !more {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// finalUser follows merges to the user who is. When an account is merged the users
// before it are redirected, so that the way is one step long; a restored backup may
// have more, and the bound ends what should never be a circle.
func (s *Service) finalUser(ctx context.Context, user string) (string, error) {
	for range 8 {
		u, err := s.store.User(ctx, user)
		if err != nil || u.State != UserMerged {
			return user, err
		}
		user = u.MergedInto
	}
	return "", fmt.Errorf("identity: %s was merged too many times", user)
}

// checkPolicies refuses policies of the configuration that no collection can follow.
func (s *Service) checkPolicies() error {
	for name, policy := range s.config.Merge.Policies {
		i := slices.IndexFunc(s.people.All(), func(p module.Participant) bool { return p.Name == name && p.Merge != nil })
		if i < 0 {
			return fmt.Errorf("identity.merge.policies.%s: there is no collection of this name", name)
		}
		if can := s.people.All()[i].Policies; !slices.Contains(can, policy) {
			return fmt.Errorf("identity.merge.policies.%s: %s is not possible for this collection; write one of %v", name, policy, can)
		}
	}
	return nil
}
