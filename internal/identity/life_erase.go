package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"landline/internal/audit"
	"landline/internal/mail"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/queue"
	"landline/internal/sqldb"
)

const (
	eraseBatch     = 500 // rows of one collection in one transaction
	revokeAttempts = 6   // of a provider's revocation; then its failure is written down, and the erasure goes on
)

func (eraseArgs) Kind() string { return "identity_erase" }

// revoker ends what a provider has given: its refresh token. What it returns
// goes into the report as a fact, not as a proof.
type revoker interface {
	revoke(ctx context.Context, p Profile) (answer string, err error)
}

// Leave begins the erasure of p's user: every session ends now, the data goes
// when the grace period is over. An anonymous user has no way back and goes at once.
func (s *Service) Leave(ctx context.Context, p *module.Principal) (Erasure, error) {
	u, err := s.store.User(ctx, p.UserID) // an older token may still say anonymous
	if err != nil {
		return Erasure{}, err
	}
	if u.Kind == Account {
		if err := s.fresh(p); err != nil {
			return Erasure{}, err
		}
	}
	ctx = audit.WithActor(ctx, audit.Actor{Type: audit.TypeUser, ID: p.UserID, IP: audit.ActorFrom(ctx).IP})
	return s.requestErasure(ctx, p.UserID, "")
}

// requestErasure begins a user's erasure on behalf of the actor in ctx. It is idempotent.
func (s *Service) requestErasure(ctx context.Context, user, why string) (Erasure, error) {
	for range maxTries {
		u, err := s.store.User(ctx, user)
		if err != nil {
			return Erasure{}, err
		}
		switch u.State {
		case UserMerged:
			return Erasure{}, problem.New(problem.Conflict, "the user was merged into %s; delete that one", u.MergedInto)
		case UserDeleting, UserDeleted:
			return s.life.erasure(ctx, user)
		}
		now := s.now()
		e := Erasure{UserID: user, State: ErasureWaiting, RequestedBy: audit.ActorFrom(ctx).ID, RequestedAt: now, EraseAt: now.Add(s.config.Deletion.Grace.D())}
		e.Report.Locked = u.State == UserLocked
		if u.Kind == Anonymous {
			e.EraseAt = now
		}
		c := Change{
			State:  []StateChange{{UserID: user, From: u.State, To: UserDeleting, At: now}},
			EndAll: &EndAll{UserID: user, Reason: ReasonAccountDeleted, At: now},
			Audit:  []audit.Entry{{Action: "user.delete", Target: user, Reason: why, After: map[string]any{"erase_at": e.EraseAt}}},
		}
		c.Within = func(ctx context.Context, tx *sqldb.Tx) error {
			began, err := s.life.request(ctx, tx, e)
			if err != nil {
				return err
			}
			if !began {
				return fmt.Errorf("identity: %s is being erased although its state says %s", user, u.State)
			}
			_, err = s.queue.Enqueue(ctx, tx, eraseArgs{User: user}, queue.At(e.EraseAt))
			return err
		}
		if err := s.withNotice(ctx, &c, user, mail.DeletionScheduled, mail.Values{At: e.EraseAt}); err != nil {
			return Erasure{}, err
		}
		done, err := s.changeWithSessions(ctx, user, c)
		if err != nil || done {
			return e, err
		}
	}
	return Erasure{}, problem.New(problem.StorageUnavailable, "the account is being changed by other requests").After(time.Second)
}

// changeWithSessions applies c, which ends all of a user's sessions, and makes
// every node refuse their tokens.
func (s *Service) changeWithSessions(ctx context.Context, user string, c Change) (bool, error) {
	before, err := s.store.ActiveSessionsOf(ctx, user, 500)
	if err != nil {
		return false, err
	}
	done, err := s.store.Apply(ctx, c)
	if err != nil || !done {
		return false, err
	}
	stay := map[string]bool{c.EndAll.Except: true}
	if c.EndAll.Proven != "" {
		after, err := s.store.ActiveSessionsOf(ctx, user, 500)
		if err != nil { // every node reads the table too, a moment later
			s.log.WarnContext(ctx, "the sessions that have ended cannot be read", "user", user, "error", err)
			return true, nil
		}
		for _, g := range after {
			stay[g.Session.ID] = true
		}
	}
	var ended []Revocation
	for _, g := range before {
		if !stay[g.Session.ID] {
			ended = append(ended, Revocation{SessionID: g.Session.ID, Reason: c.EndAll.Reason, At: c.EndAll.At})
		}
	}
	s.metrics.endings.WithLabelValues(string(c.EndAll.Reason)).Add(float64(len(ended)))
	s.revocations.announce(ctx, ended...)
	return true, nil
}

// erase is the job. Each step may be repeated; a step that was done changes nothing.
func (s *Service) erase(ctx context.Context, user string, attempt int) error {
	e, err := s.life.erasure(ctx, user)
	if errors.Is(err, sqldb.ErrNotFound) {
		return nil
	}
	if err != nil || e.State == ErasureUndone || e.State == ErasureDone {
		return err
	}
	if s.now().Before(e.EraseAt) { // asked for again after it was undone, or a clock is behind
		return s.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := s.queue.Enqueue(ctx, tx, eraseArgs{User: user}, queue.At(e.EraseAt))
			return err
		})
	}
	if err := s.eraseRun(ctx, &e); err != nil || e.State != ErasureRunning {
		return err
	}
	if err := s.revokeProviders(ctx, &e, attempt); err != nil || e.State != ErasureRunning {
		return err // another node has finished it
	}
	aliases, err := s.store.MergesInto(ctx, user, 10_000)
	if err != nil {
		return err
	}
	// The user comes last: a merge that still runs moves rows of an alias to them.
	var users []string
	for _, m := range aliases {
		users = append(users, m.From)
	}
	users = append(users, user)
	e.Report.Aliases = len(aliases)
	if err := s.eraseCollections(ctx, &e, users); err != nil {
		return err
	}
	// A backup from before a merge has the aliases as users of their own.
	if err := s.journal.append(s.now(), users...); err != nil {
		return fmt.Errorf("identity: write the erasure into the journal: %w", err)
	}
	return s.eraseLast(ctx, e, users)
}

// installationIdle is after how long an installation whose user is erased will
// not come back as itself.
const installationIdle = 30 * 24 * time.Hour

// eraseRun passes the point after which nothing can be undone.
func (s *Service) eraseRun(ctx context.Context, e *Erasure) error {
	return s.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		running, err := s.life.run(ctx, tx, e.UserID, e.Report)
		e.State = ErasureUndone // also when this is done again, because somebody was faster
		if running {
			e.State = ErasureRunning
		}
		return err
	})
}

func (s *Service) revokeProviders(ctx context.Context, e *Erasure, attempt int) error {
	all, err := s.store.IdentitiesOf(ctx, e.UserID, maxIdentities)
	if err != nil {
		return err
	}
	for _, i := range all {
		r, ok := s.revokers[i.Provider]
		if !ok || e.Report.Providers[i.Provider] != "" {
			continue
		}
		p, err := s.profile(ctx, i)
		if err != nil {
			return err
		}
		if p.Refresh == "" {
			continue
		}
		answer, err := r.revoke(ctx, p)
		if err != nil && attempt < revokeAttempts {
			return fmt.Errorf("identity: revoke the tokens of %s: %w", i.Provider, err)
		}
		if err != nil {
			answer = "no answer"
			s.log.WarnContext(ctx, "a provider's tokens could not be revoked; the erasure goes on", "provider", i.Provider, "user", e.UserID, "error", err)
		}
		if e.Report.Providers == nil {
			e.Report.Providers = map[string]string{}
		}
		e.Report.Providers[i.Provider] = answer
		if err := s.eraseRun(ctx, e); err != nil || e.State != ErasureRunning {
			return err
		}
	}
	return nil
}

func (s *Service) eraseCollections(ctx context.Context, e *Erasure, users []string) error {
	if e.Report.Rows == nil {
		e.Report.Rows = map[string]int64{}
	}
	for _, one := range s.people.All() {
		if one.Erase == nil {
			continue
		}
		for _, user := range users {
			for {
				var n int64
				err := s.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
					n, err = one.Erase(ctx, tx, user, eraseBatch)
					return err
				})
				if err != nil {
					return fmt.Errorf("identity: erase %s of %s: %w", one.Name, user, err)
				}
				e.Report.Rows[one.Name] += n
				if n < eraseBatch {
					break
				}
			}
		}
	}
	return nil
}

// eraseLast removes what this capability keeps, destroys the keys of everything
// that was sealed for the user, in backups too, and tells the team's services.
func (s *Service) eraseLast(ctx context.Context, e Erasure, users []string) error {
	now := s.now()
	c := Change{Audit: []audit.Entry{{Actor: audit.Actor{Type: audit.TypeSystem}, Action: "user.erase", Target: e.UserID, After: e.Report}}}
	c.Within = func(ctx context.Context, tx *sqldb.Tx) error {
		for _, user := range users {
			if _, err := exec(ctx, tx, "EraseDeviceProofs", user); err != nil {
				return err
			}
			if _, err := exec(ctx, tx, "EraseInstallations", user, sqldb.Millis(now.Add(-installationIdle))); err != nil {
				return err
			}
			for _, query := range []string{"EraseInstallationFacts", "EraseSessionProofs", "EraseIdentities", "EraseSessions", "EraseConflicts", "EraseCredentialUses", "EraseExportParts", "EraseExports", "ProfileDelete"} {
				if _, err := exec(ctx, tx, query, user); err != nil {
					return err
				}
			}
			if err := s.keys.Shred(ctx, tx, user); err != nil {
				return err
			}
			if _, err := exec(ctx, tx, "UserEraseAlias", user); err != nil {
				return err
			}
		}
		if _, err := exec(ctx, tx, "UserErase", sqldb.Millis(now), e.UserID); err != nil {
			return err
		}
		if err := s.life.finish(ctx, tx, e.UserID, now, e.Report); err != nil {
			return err
		}
		return s.events.Emit(ctx, tx, EventDeleted, e.UserID, deletedEvent{User: e.UserID, Aliases: users[:len(users)-1]})
	}
	_, err := s.store.Apply(ctx, c)
	return err
}

// replayErasures erases again whoever the journal says was erased: a restored
// backup has brought them back. It runs before the node takes traffic.
func (s *Service) replayErasures(ctx context.Context, users []string) (again int, err error) {
	for _, user := range users {
		begun, err := s.eraseOneAgain(ctx, user)
		if err != nil {
			return again, err
		}
		if begun {
			again++
		}
	}
	return again, nil
}

// eraseOneAgain is false when the user is gone already. Another node may replay
// the same list, or the user be changed meanwhile: then it looks again.
func (s *Service) eraseOneAgain(ctx context.Context, user string) (bool, error) {
	for range maxTries {
		u, err := s.store.User(ctx, user)
		if err == nil && (u.State == UserDeleted || u.State == UserMerged) {
			return false, nil
		}
		if err != nil && !errors.Is(err, sqldb.ErrNotFound) {
			return false, err
		}
		if done, err := s.eraseAgain(ctx, u, user); err != nil || done {
			return done, err
		}
	}
	return false, fmt.Errorf("identity: %s must be erased again and is being changed by others", user)
}

// eraseAgain takes a user who was erased out of reach at once; the job does the
// rest. A user whom the backup does not know gets a tombstone.
func (s *Service) eraseAgain(ctx context.Context, u User, user string) (bool, error) {
	now := s.now()
	c := Change{Audit: []audit.Entry{{Action: "user.erase_again", Target: user, Reason: "a restored backup had brought the user back"}}}
	if u.ID == "" {
		c.Within = func(ctx context.Context, tx *sqldb.Tx) error {
			if _, err := exec(ctx, tx, "UserTombstone", user, string(Account), sqldb.Millis(now), sqldb.Millis(now)); err != nil {
				return err
			}
			return s.keys.Shred(ctx, tx, user)
		}
		return s.store.Apply(ctx, c)
	}
	if u.State != UserDeleting {
		c.State = []StateChange{{UserID: user, From: u.State, To: UserDeleting, At: now}}
	}
	c.EndAll = &EndAll{UserID: user, Reason: ReasonAccountDeleted, At: now}
	c.Within = func(ctx context.Context, tx *sqldb.Tx) error {
		// The restored row may say waiting, with a time that lies ahead, or undone.
		if _, err := exec(ctx, tx, "ErasureAgain", user, string(ErasureRunning), "", sqldb.Millis(now), sqldb.Millis(now), "{}"); err != nil {
			return err
		}
		_, err := s.queue.Enqueue(ctx, tx, eraseArgs{User: user})
		return err
	}
	return s.changeWithSessions(ctx, user, c)
}

// replayJournal is replayErasures for the journal of this node.
func (s *Service) replayJournal(ctx context.Context) error {
	users, err := s.journal.users()
	if err != nil {
		return err
	}
	again, err := s.replayErasures(ctx, users)
	if again > 0 {
		s.log.WarnContext(ctx, "users whom a restored backup had brought back are erased again", "users", again)
	}
	return err
}
