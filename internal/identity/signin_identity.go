package identity

import (
	"bytes"
	"context"
	"time"

	"landline/internal/problem"
)

// addIdentity makes the credential a way into a.out.User.
func (s *Service) addIdentity(ctx context.Context, a *attempt) error {
	email, err := s.emailLookup(a.proven.Profile.Email)
	if err != nil {
		return err
	}
	i := Identity{ID: newID(prefixIdentity), UserID: a.out.User.ID, Provider: a.proven.Provider, Lookup: a.identity.Lookup,
		EmailLookup: email, EmailVerified: a.proven.EmailVerified, CreatedAt: a.now, UsedAt: a.now}
	if a.proven.NewPassword {
		i.SecretAt = a.now
	}
	a.change.Identity = &i
	return s.seal(ctx, &i, a.proven.Profile)
}

// useIdentity writes down that it was used and what the provider says of the person now.
func (s *Service) useIdentity(ctx context.Context, a *attempt) error {
	i := a.identity
	old, err := s.profile(ctx, i)
	if err != nil {
		return err
	}
	if against := a.proven.Against; against != nil && !bytes.Equal(against, old.Secret) {
		return problem.New(problem.CredentialInvalid, "the credential was changed while it was being verified; use the new one")
	}
	fresh := a.proven.Profile.orElse(old)
	if a.proven.Provider == providerPasskey {
		if fresh.Secret, err = laterPasskey(old.Secret, fresh.Secret); err != nil {
			return err
		}
	}
	if i.EmailLookup, err = s.emailLookup(fresh.Email); err != nil {
		return err
	}
	if a.proven.Profile.Email != "" {
		i.EmailVerified = a.proven.EmailVerified
	}
	if a.proven.NewPassword && len(old.Secret) > 0 { // whoever knew the old one may be signed in elsewhere
		a.change.EndAll = &EndAll{UserID: i.UserID, Except: a.out.Session.ID, Reason: ReasonPassword, At: a.now}
		a.change.Audit = append(a.change.Audit, userEntry(ctx, i.UserID, "user.change_password", i.UserID, "", nil))
	}
	if a.proven.NewPassword { // never earlier than the one before, whatever the nodes' clocks say
		i.SecretAt = a.now
		if next := a.identity.SecretAt.Add(time.Millisecond); i.SecretAt.Before(next) {
			i.SecretAt = next
		}
	}
	i.UsedAt, i.SecretVoid = a.now, false // fresh has no password that is void
	a.change.Used, a.change.UsedFrom = &i, a.identity.Sealed
	return s.seal(ctx, &i, fresh)
}

// orElse keeps what a provider tells at the first sign-in alone.
func (p Profile) orElse(old Profile) Profile {
	if p.Email == "" {
		p.Email, p.PrivateEmail = old.Email, old.PrivateEmail
	}
	if p.Email == old.Email {
		p.EmailOff = old.EmailOff
	}
	if p.Name == "" {
		p.Name = old.Name
	}
	if p.Refresh == "" {
		p.Refresh, p.Client = old.Refresh, old.Client
	}
	if p.Secret == nil {
		p.Secret = old.Secret
	}
	return p
}
