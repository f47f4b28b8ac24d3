package identity

import (
	"context"
	"errors"

	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

// again answers the repeat of a sign-in, nil when there was none (L10). A
// credential that was answered with a question alone (L8) is good once more on
// the installation that was asked, and already spent for all others.
func (s *Service) again(ctx context.Context, p *module.Principal, proven *Proven) (*SignedIn, error) {
	if proven.UseID == "" {
		return nil, nil
	}
	use, err := s.store.CredentialUse(ctx, proven.UseID)
	if errors.Is(err, sqldb.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	spent := credentialUsed()
	if use.InstallationID != p.InstallationID {
		return nil, spent
	}
	if use.UserID == "" {
		found, err := s.resumeHeld(ctx, p.InstallationID, proven)
		if err == nil && !found && proven.Repeat {
			return nil, spent
		}
		proven.Settle = !found
		return nil, err
	}
	line, err := s.store.Line(ctx, LineKey{ID: p.InstallationID})
	if err != nil {
		return nil, err
	}
	for _, g := range line.Active {
		if g.User.ID != use.UserID || g.User.State != UserActive {
			continue
		}
		out := &SignedIn{Move: MoveAgain, User: g.User, Session: g.Session}
		if use.MergedFrom != "" {
			m, err := s.store.MergeOf(ctx, use.MergedFrom)
			if err != nil {
				return nil, err
			}
			out.Merged = &m
		}
		out.Tokens, err = s.tokens(g, g.Session.Scope, s.now())
		return out, err
	}
	return nil, spent // signed out since: the credential is not a way back in
}

func credentialUsed() *problem.Error {
	return problem.New(problem.CredentialUsed, "the credential has been used before; ask the provider for a new one")
}
