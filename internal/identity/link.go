package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"landline/internal/audit"
	"landline/internal/mail"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

// freshFor is how long after a proof a user may change how the account is
// reached (L6). 0 seconds of max_age would ask for a sign-in for each call.
const freshFor = 5 * time.Minute

// fresh refuses a session whose user proved themselves too long ago (RFC 9470).
func (s *Service) fresh(p *module.Principal) error {
	if age := s.now().Sub(p.AuthTime); age <= freshFor {
		return nil
	}
	return problem.New(problem.ReauthenticationRequired, "sign in again first: the last time was more than %d minutes ago", int(freshFor/time.Minute)).
		With("recoverable", recoverReauthorize).With("max_age", int(freshFor/time.Second)).
		WithHeader("WWW-Authenticate", fmt.Sprintf(`Bearer realm="landline", error="insufficient_user_authentication", error_description="sign in again", max_age=%d`, int(freshFor/time.Second)))
}

// Link makes the credential one more way into the account of p (L6). It may be
// repeated. An identity of another account is refused, with a token to go on with (L7).
func (s *Service) Link(ctx context.Context, p *module.Principal, proven Proven) (Identity, error) {
	if p.Anonymous {
		return Identity{}, problem.New(problem.AccountRequired, "sign in with the credential instead: that makes the anonymous user an account")
	}
	if err := s.fresh(p); err != nil {
		return Identity{}, err
	}
	if proven.UseID != "" {
		if i, err := s.linkedBefore(ctx, p, &proven); err != nil || i.ID != "" {
			return i, err
		}
	}
	for range maxTries {
		i, err := s.linkOnce(ctx, p, proven)
		if err != nil || i.ID != "" {
			return i, err
		}
	}
	return Identity{}, problem.New(problem.StorageUnavailable, "the account is being changed by other requests").After(time.Second)
}

// linkedBefore looks whether the credential was used before. Where it cannot be
// verified a second time, the repeat of a link is answered with the newest way
// to sign in of that provider; what was answered with a question goes on.
func (s *Service) linkedBefore(ctx context.Context, p *module.Principal, proven *Proven) (Identity, error) {
	use, err := s.store.CredentialUse(ctx, proven.UseID)
	switch {
	case errors.Is(err, sqldb.ErrNotFound) && !proven.Repeat:
		return Identity{}, nil
	case errors.Is(err, sqldb.ErrNotFound):
		return Identity{}, credentialUsed()
	case err != nil:
		return Identity{}, err
	case use.InstallationID != p.InstallationID, use.UserID != "" && use.UserID != p.UserID:
		return Identity{}, credentialUsed()
	case use.UserID == "":
		found, err := s.resumeHeld(ctx, p.InstallationID, proven)
		if err == nil && !found && proven.Repeat {
			err = credentialUsed()
		}
		proven.Settle = !found
		return Identity{}, err
	case !proven.Repeat: // verified again: what is there is told, or made anew
		proven.UseID = ""
		return Identity{}, nil
	}
	all, err := s.store.IdentitiesOf(ctx, p.UserID, maxIdentities)
	if err != nil {
		return Identity{}, err
	}
	for _, i := range slices.Backward(all) {
		if i.Provider == proven.Provider {
			return i, nil
		}
	}
	return Identity{}, credentialUsed() // unlinked since
}

// linkOnce returns a zero Identity when what it read has changed before it could write.
func (s *Service) linkOnce(ctx context.Context, p *module.Principal, proven Proven) (Identity, error) {
	a, err := s.read(ctx, p, proven)
	if err != nil {
		return Identity{}, err
	}
	i, err := s.linkAttempt(ctx, p, a)
	if err != nil {
		return Identity{}, s.hold(ctx, a, err)
	}
	return i, nil
}

func (s *Service) linkAttempt(ctx context.Context, p *module.Principal, a *attempt) (Identity, error) {
	a.out.User = a.current.User
	switch {
	case a.owner.ID == p.UserID:
		return a.identity, nil
	case a.owner.ID != "":
		return Identity{}, s.inUse(ctx, a)
	}
	all, err := s.store.IdentitiesOf(ctx, p.UserID, maxIdentities)
	if err != nil {
		return Identity{}, err
	}
	if len(all) >= maxIdentities {
		return Identity{}, problem.New(problem.Conflict, "an account has at most %d ways to sign in; unlink one first", maxIdentities)
	}
	if err := s.addIdentity(ctx, a); err != nil {
		return Identity{}, err
	}
	a.spend(p.UserID)
	i := a.change.Identity
	a.change.Active = p.UserID // nothing may be added to an account that is being erased
	a.change.Audit = append(a.change.Audit, userEntry(ctx, p.UserID, "identity.link", i.ID, a.proven.Provider, nil))
	if err := s.withNotice(ctx, &a.change, p.UserID, mail.IdentityLinked, mail.Values{Identity: providerName(a.proven.Provider), At: a.now}); err != nil {
		return Identity{}, err
	}
	done, err := s.store.Apply(ctx, a.change)
	if err != nil || !done {
		return Identity{}, err
	}
	s.tell(ctx, SecurityEvent{Kind: SecurityLinked, User: p.UserID, Session: p.SessionID, Installation: p.InstallationID, Provider: a.proven.Provider, At: a.now})
	return *i, nil
}

// pendingLink opens the ticket of an answer account_exists_other_provider.
func (s *Service) pendingLink(ctx context.Context, installation, token string) (ticket, error) {
	_, t, err := s.openTicket(ctx, kindPending, token, installation)
	if errors.Is(err, errNoTicket) {
		err = invalid("pending_link", "is not one that this installation was given in the last 15 minutes")
	}
	return t, err
}

// attachPending adds the credential of an answer account_exists_other_provider
// to the account that p has just signed in to, which must have its address (L8).
func (s *Service) attachPending(ctx context.Context, p *module.Principal, token string) error {
	t, err := s.pendingLink(ctx, p.InstallationID, token)
	if err != nil {
		return err
	}
	proven := t.Proven
	address, err := s.emailLookup(proven.Profile.Email)
	if err != nil {
		return err
	}
	all, err := s.store.IdentitiesOf(ctx, p.UserID, maxIdentities)
	if err != nil {
		return err
	}
	for _, i := range all {
		if i.EmailVerified && i.EmailLookup == address {
			proven.UseID = "" // spent by the sign-in that was answered with the token
			_, err := s.Link(ctx, p, proven)
			return err
		}
	}
	return invalid("pending_link", "belongs to an account with another address than the one that is signed in")
}

// Unlink removes a way into the account of p. The last one stays (B-16).
func (s *Service) Unlink(ctx context.Context, p *module.Principal, identity string) error {
	if err := s.fresh(p); err != nil {
		return err
	}
	for range maxTries {
		all, err := s.store.IdentitiesOf(ctx, p.UserID, maxIdentities)
		if err != nil {
			return err
		}
		found := Identity{}
		for _, i := range all {
			if i.ID == identity {
				found = i
			}
		}
		switch {
		case found.ID == "":
			return problem.New(problem.NotFound, "the account has no such way to sign in")
		case len(all) == 1:
			return problem.New(problem.LastIdentity, "link another way to sign in first")
		}
		c := Change{Unlink: &Unlinking{ID: found.ID, UserID: found.UserID, At: s.now()}, Audit: []audit.Entry{userEntry(ctx, p.UserID, "identity.unlink", found.ID, found.Provider, nil)}}
		// Two calls at once must not remove the last two: the count is taken again within the transaction.
		c.Within = func(ctx context.Context, tx *sqldb.Tx) error {
			var left int
			if err := tx.QueryRowContext(ctx, Queries.Get("IdentityCount"), p.UserID).Scan(&left); err != nil {
				return err
			}
			if left == 0 {
				return problem.New(problem.LastIdentity, "link another way to sign in first")
			}
			return nil
		}
		if err := s.withNotice(ctx, &c, p.UserID, mail.IdentityUnlinked, mail.Values{Identity: providerName(found.Provider), At: s.now()}); err != nil {
			return err
		}
		done, err := s.store.Apply(ctx, c)
		if err != nil {
			return err
		}
		if done {
			s.tell(ctx, SecurityEvent{Kind: SecurityUnlinked, User: p.UserID, Session: p.SessionID, Installation: p.InstallationID, Provider: found.Provider, At: s.now()})
			return nil
		}
	}
	return problem.New(problem.StorageUnavailable, "the account is being changed by other requests").After(time.Second)
}
