package identity

import (
	"context"
	"slices"

	"landline/internal/problem"
)

// emailTaken is L8. Only addresses that both sides have verified say anything,
// and they only ever lead to a question, never to a link.
func (s *Service) emailTaken(ctx context.Context, proven Proven) (taken []Identity, err error) {
	if !proven.EmailVerified || proven.Profile.Email == "" || proven.Profile.PrivateEmail {
		return nil, nil
	}
	lookup, err := s.emailLookup(proven.Profile.Email)
	if err != nil {
		return nil, err
	}
	return s.store.VerifiedByEmail(ctx, lookup, maxIdentities)
}

// existsElsewhere is L8. The credential is spent, so the answer carries what is
// needed to attach it after the owner has signed in as before.
func (s *Service) existsElsewhere(ctx context.Context, a *attempt) error {
	pending := newToken()
	t, err := s.newTicket(ctx, kindPending, pending, a.p.InstallationID, a.taken[0].UserID, ticket{User: a.p.UserID, Proven: a.proven, At: a.now.UnixMilli()}, a.now.Add(pendingFor))
	if err != nil {
		return err
	}
	if _, err := s.store.Apply(ctx, Change{Challenges: []Challenge{t}}); err != nil {
		return err
	}
	methods, err := s.methodsOf(ctx, a.taken)
	if err != nil {
		return err
	}
	return problem.New(problem.AccountExistsElsewhere, "an account with this address signs in otherwise; sign in to it and send pending_link, and this way to sign in is added to it").
		With("pending_link", pending).With("methods", methods)
}

// methodsOf is how the account with an address signs in. It is told to whoever
// has shown that the address is theirs, and to nobody else.
func (s *Service) methodsOf(ctx context.Context, all []Identity) ([]string, error) {
	var methods []string
	add := func(method string) {
		if !slices.Contains(methods, method) {
			methods = append(methods, method)
		}
	}
	for _, i := range all {
		if i.UserID != all[0].UserID {
			continue
		}
		add(i.Provider)
		if i.Provider != providerEmail || s.passwords == nil {
			continue
		}
		p, err := s.profile(ctx, i)
		if err != nil {
			return nil, err
		}
		if len(p.Secret) > 0 {
			add("password")
		}
	}
	return methods, nil
}
