package identity

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"

	"landline/internal/audit"
	"landline/internal/mail"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

// inUse is L7: the credential is another account's. It is spent, so that the
// answer carries what the app goes on with when the user has decided.
func (s *Service) inUse(ctx context.Context, a *attempt) error {
	token := newToken()
	t, err := s.newTicket(ctx, kindConflict, token, a.p.InstallationID, a.owner.ID,
		ticket{User: a.p.UserID, Owner: a.owner.ID, Proven: a.proven, At: a.provenAt().UnixMilli()}, a.now.Add(conflictFor))
	if err != nil {
		return err
	}
	if _, err := s.store.Apply(ctx, Change{Challenges: []Challenge{t}}); err != nil {
		return err
	}
	return problem.New(problem.IdentityInUse, "this way to sign in belongs to another account; sign in with conflict_token to use that account").
		With("conflict_token", token).With("expires_in", int(conflictFor/time.Second)).With("can_merge", s.config.Merge.Accounts && a.now.Sub(a.provenAt()) <= freshFor)
}

func badConflict() error {
	return invalid("conflict_token", "is not one that this installation was given in the last five minutes")
}

// conflicting is the credential of an answer identity_in_use, to sign in with.
func (s *Service) conflicting(ctx context.Context, p *module.Principal, provider, token string) (Proven, error) {
	c, t, err := s.openTicket(ctx, kindConflict, token, p.InstallationID)
	if errors.Is(err, errNoTicket) {
		return Proven{}, badConflict()
	}
	if err != nil {
		return Proven{}, err
	}
	if provider != t.Proven.Provider {
		return Proven{}, invalid("provider", "is not the one of the credential that conflict_token stands for")
	}
	// The token is good once, and its repeat gets the same answer.
	proven := t.Proven
	proven.UseID, proven.UseUntil = "conflict "+c.ID, c.ExpiresAt
	return proven, nil
}

// MergeAccount makes the account that an answer identity_in_use was about part
// of p's (L7): p has signed in, and has proven the other account, within the last
// five minutes, and the user has confirmed it. It may be repeated.
func (s *Service) MergeAccount(ctx context.Context, p *module.Principal, provider, token string, confirmed bool) (Identity, UserMerge, error) {
	none := func(err error) (Identity, UserMerge, error) { return Identity{}, UserMerge{}, err }
	switch {
	case p.Anonymous:
		return none(problem.New(problem.AccountRequired, "sign in with the credential instead: that carries the anonymous user's data over"))
	case !confirmed:
		return none(invalid("confirm", "must be true: ask the user first, for the other account becomes part of this one for good"))
	case !s.config.Merge.Accounts:
		return none(problem.New(problem.MergePolicy, "this server does not merge accounts (identity.merge.accounts)").With("collection", "identity").With("reason", "accounts_are_not_merged"))
	}
	if err := s.fresh(p); err != nil {
		return none(err)
	}
	for range maxTries {
		_, t, err := s.openTicket(ctx, kindConflict, token, p.InstallationID)
		if errors.Is(err, errNoTicket) || err == nil && t.User != p.UserID {
			return none(badConflict())
		}
		if err != nil {
			return none(err)
		}
		if provider != t.Proven.Provider {
			return none(invalid("provider", "is not the one of the credential that conflict_token stands for"))
		}
		i, m, done, err := s.mergeAccountOnce(ctx, p, t)
		if err != nil || done {
			return i, m, err
		}
	}
	return none(problem.New(problem.StorageUnavailable, "the accounts are being changed by other requests").After(time.Second))
}

// mergeAccountOnce returns false when what it read has changed before it could write.
func (s *Service) mergeAccountOnce(ctx context.Context, p *module.Principal, t ticket) (i Identity, m UserMerge, done bool, err error) {
	proven := t.Proven
	proven.Take, proven.UseID = nil, ""
	a, err := s.read(ctx, p, proven)
	if err != nil {
		return i, m, false, err
	}
	if a.owner.ID == p.UserID { // a repeat, or linked meanwhile
		m, err := s.store.MergeOf(ctx, t.Owner)
		if errors.Is(err, sqldb.ErrNotFound) || err == nil && m.Into != p.UserID {
			err = badConflict()
		}
		return a.identity, m, true, err
	}
	if a.owner.ID != t.Owner || a.owner.ID == "" {
		return i, m, false, badConflict()
	}
	if a.now.Sub(time.UnixMilli(t.At)) > freshFor { // the token may be younger than the proof
		return i, m, false, invalid("conflict_token", "stands for a proof that is more than five minutes old: prove the other account again")
	}
	if err := s.usable(ctx, a); err != nil {
		return i, m, false, err
	}
	if len(a.change.State) > 0 {
		return i, m, false, problem.New(problem.AccountLocked, "sign in to the other account first").With("recoverable", recoverNot)
	}
	m = UserMerge{ID: newID(prefixMerge), From: a.owner.ID, Into: p.UserID, InstallationID: p.InstallationID, State: MergeRunning, CreatedAt: a.now, Account: true}
	c, err := s.planAccountMerge(ctx, a, m)
	if err != nil {
		return i, m, false, err
	}
	if done, err = s.changeWithSessions(ctx, m.From, c); err != nil || !done {
		return i, m, false, err
	}
	s.revocations.announce(ctx, Revocation{SessionID: m.From, Reason: ReasonUserMerged, At: a.now})
	s.tell(ctx, SecurityEvent{Kind: SecurityLinked, User: p.UserID, Session: p.SessionID, Installation: p.InstallationID, Provider: t.Proven.Provider, At: a.now})
	if m, err = s.store.MergeOf(ctx, m.From); err != nil {
		return i, m, false, err
	}
	i, _, err = s.store.IdentityBy(ctx, a.identity.Lookup)
	return i, m, true, err
}

// planAccountMerge is everything that moves with an account besides the rows of
// the collections: its ways to sign in, and who had become part of it.
func (s *Service) planAccountMerge(ctx context.Context, a *attempt, m UserMerge) (Change, error) {
	theirs, err := s.store.IdentitiesOf(ctx, m.From, maxIdentities)
	if err != nil {
		return Change{}, err
	}
	ours, err := s.store.IdentitiesOf(ctx, m.Into, maxIdentities)
	if err != nil {
		return Change{}, err
	}
	if len(theirs)+len(ours) > maxIdentities {
		return Change{}, problem.New(problem.Conflict, "the two accounts have more than %d ways to sign in; unlink some first", maxIdentities)
	}
	profiles := make([][]byte, len(theirs))
	for n, i := range theirs {
		p, err := s.profile(ctx, i)
		if err != nil {
			return Change{}, err
		}
		if against := a.proven.Against; i.ID == a.identity.ID && against != nil && !bytes.Equal(against, p.Secret) {
			return Change{}, problem.New(problem.CredentialInvalid, "the credential was changed since it was verified; use the new one")
		}
		if profiles[n], err = json.Marshal(p); err != nil { // #nosec G117 -- sealed in the next step
			return Change{}, err
		}
	}
	here := a.current.Session.Formerly
	if there, err := s.hadSession(ctx, m.From, a.p.InstallationID); err != nil {
		return Change{}, err
	} else if there {
		here = withFormer(here, m.From, a.now)
	}
	c := Change{
		Active: m.Into, Merge: &m, EndAll: &EndAll{UserID: m.From, Reason: ReasonUserMerged, At: a.now}, End: a.change.End,
		Audit: []audit.Entry{userEntry(ctx, m.Into, "user.merge_account", m.From, a.proven.Provider, map[string]string{"into": m.Into, "merge": m.ID})},
		Within: func(ctx context.Context, tx *sqldb.Tx) error {
			for n, i := range theirs {
				if err := s.moveIdentity(ctx, tx, i, profiles[n], m.Into); err != nil {
					return err
				}
			}
			if err := s.moveAccount(ctx, tx, m, a.current.Session.ID, here); err != nil {
				return err
			}
			return s.beginMerge(ctx, tx, m)
		},
	}
	return c, s.withNotice(ctx, &c, m.Into, mail.IdentityLinked, mail.Values{Identity: providerName(a.proven.Provider), At: a.now})
}

func (s *Service) moveIdentity(ctx context.Context, tx *sqldb.Tx, i Identity, profile []byte, to string) error {
	sealed, err := s.keys.SealTx(ctx, tx, to, fieldProfile, profile)
	if err != nil {
		return err
	}
	n, err := exec(ctx, tx, "IdentityMove", to, sealed, i.ID, i.UserID, i.Sealed)
	if err == nil && n != 1 {
		err = errUnmet
	}
	return err
}

// moveAccount moves what hangs on the user's id. An export of the account that
// goes would be of somebody who is no more, and clients must ask for consent anew.
func (s *Service) moveAccount(ctx context.Context, tx *sqldb.Tx, m UserMerge, session, formerly string) error {
	var left int
	if err := tx.QueryRowContext(ctx, Queries.Get("IdentityCount"), m.From).Scan(&left); err != nil {
		return err
	}
	if left != 0 { // one was linked meanwhile
		return errUnmet
	}
	for _, step := range []struct {
		query string
		args  []any
	}{
		{"EraseExportParts", []any{m.From}}, {"EraseExports", []any{m.From}}, {"ConsentsErase", []any{m.From, maxConsents}},
		{"AliasesRedirect", []any{m.Into, m.From}}, {"MergesRedirect", []any{m.Into, m.From}},
		{"SessionFormerly", []any{formerly, session, m.Into}},
	} {
		if _, err := exec(ctx, tx, step.query, step.args...); err != nil {
			return err
		}
	}
	return nil
}

// hadSession reports whether the user was signed in on the installation.
func (s *Service) hadSession(ctx context.Context, user, installation string) (bool, error) {
	all, err := s.store.SessionsOf(ctx, user, 500)
	for _, g := range all {
		if g.Session.InstallationID == installation {
			return true, nil
		}
	}
	return false, err
}

// conflictsParticipant moves what had lost in earlier merges along with an account.
func (s *Service) conflictsParticipant() module.Participant {
	return module.Participant{Name: "merge_conflicts", Policies: []module.MergePolicy{module.Union},
		Merge: func(ctx context.Context, tx *sqldb.Tx, m module.Merge) (out module.Moved, err error) {
			rows, err := tx.QueryContext(ctx, Queries.Get("ConflictsOfUser"), m.From, "", m.Limit)
			if err != nil {
				return out, err
			}
			var all []MergeConflict
			for rows.Next() {
				c, err := scanConflict(rows)
				if err != nil {
					return out, errors.Join(err, rows.Close())
				}
				all = append(all, c)
			}
			if err := cmp.Or(rows.Err(), rows.Close()); err != nil {
				return out, err
			}
			out.More = len(all) == m.Limit
			for _, c := range all {
				raw, err := s.keys.Open(ctx, m.From, fieldConflict, c.Sealed)
				if err != nil {
					return out, err
				}
				sealed, err := s.keys.SealTx(ctx, tx, m.Into, fieldConflict, raw)
				if err != nil {
					return out, err
				}
				if _, err := exec(ctx, tx, "ConflictMove", m.Into, sealed, c.ID, m.From); err != nil {
					return out, err
				}
			}
			return out, nil
		},
	}
}
