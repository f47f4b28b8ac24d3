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
// repeated. An identity of another account is refused (L7): accounts are not merged.
func (s *Service) Link(ctx context.Context, p *module.Principal, proven Proven) (Identity, error) {
	if p.Anonymous {
		return Identity{}, problem.New(problem.AccountRequired, "sign in with the credential instead: that makes the anonymous user an account")
	}
	if err := s.fresh(p); err != nil {
		return Identity{}, err
	}
	if proven.Repeat {
		return s.linkedBefore(ctx, p, proven)
	}
	for range maxTries {
		i, err := s.linkOnce(ctx, p, proven)
		if err != nil || i.ID != "" {
			return i, err
		}
	}
	return Identity{}, problem.New(problem.StorageUnavailable, "the account is being changed by other requests").After(time.Second)
}

// linkedBefore answers the repeat of a link whose credential cannot be verified
// a second time: with the newest way to sign in of that provider.
func (s *Service) linkedBefore(ctx context.Context, p *module.Principal, proven Proven) (Identity, error) {
	use, err := s.store.CredentialUse(ctx, proven.UseID)
	if errors.Is(err, sqldb.ErrNotFound) || err == nil && (use.UserID != p.UserID || use.InstallationID != p.InstallationID) {
		return Identity{}, credentialUsed()
	}
	if err != nil {
		return Identity{}, err
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
	a.out.User = a.current.User
	switch {
	case a.owner.ID == p.UserID:
		return a.identity, nil
	case a.owner.ID != "":
		return Identity{}, problem.New(problem.IdentityInUse, "this way to sign in belongs to another account; sign in with it to use that account")
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
	if proven.UseID != "" {
		use, err := s.store.CredentialUse(ctx, proven.UseID)
		if err == nil && use.UserID != p.UserID {
			return Identity{}, credentialUsed()
		}
		if err != nil && !errors.Is(err, sqldb.ErrNotFound) {
			return Identity{}, err
		}
		if err != nil {
			a.change.Use = &CredentialUse{ID: proven.UseID, InstallationID: p.InstallationID, UserID: p.UserID, ExpiresAt: proven.UseUntil}
		}
	}
	i := a.change.Identity
	a.change.Active = p.UserID // nothing may be added to an account that is being erased
	a.change.Audit = append(a.change.Audit, userEntry(ctx, p.UserID, "identity.link", i.ID, proven.Provider, nil))
	if err := s.withNotice(ctx, &a.change, p.UserID, mail.IdentityLinked, mail.Values{Identity: providerName(proven.Provider), At: a.now}); err != nil {
		return Identity{}, err
	}
	done, err := s.store.Apply(ctx, a.change)
	if err != nil || !done {
		return Identity{}, err
	}
	s.tell(ctx, SecurityEvent{Kind: SecurityLinked, User: p.UserID, Session: p.SessionID, Installation: p.InstallationID, Provider: proven.Provider, At: a.now})
	return *i, nil
}

// attachPending adds the credential of an answer account_exists_other_provider
// to the account that p has just signed in to, which must have its address (L8).
func (s *Service) attachPending(ctx context.Context, p *module.Principal, token string) error {
	proven, err := s.openPending(ctx, p.InstallationID, token)
	if err != nil {
		return err
	}
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
		c := Change{Unlink: &found, Audit: []audit.Entry{userEntry(ctx, p.UserID, "identity.unlink", found.ID, found.Provider, nil)}}
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
