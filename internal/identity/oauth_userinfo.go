package identity

import (
	"context"
	"net/http"
	"slices"

	"landline/internal/module"
	"landline/internal/problem"
)

// handleUserInfo answers whoever holds an access token with the scope openid.
// The route is AuthOwn: such tokens are good for nothing else by default.
func (s *Service) handleUserInfo(w http.ResponseWriter, r *http.Request) {
	p, err := s.auth.Authenticate(r)
	if err == nil && p == nil {
		err = problem.New(problem.TokenMissing, "send an access token in the Authorization header")
	}
	if err == nil && (p.Scopes != nil && !slices.Contains(p.Scopes, scopeOpenID) || p.Anonymous) {
		err = problem.New(problem.InsufficientScope, "the access token's scope does not include openid, or its user is anonymous").
			WithHeader("WWW-Authenticate", `Bearer realm="landline", error="insufficient_scope", scope="openid"`)
	}
	if err != nil {
		problem.Write(w, r, err)
		return
	}
	out, err := s.userInfo(r.Context(), p)
	if err != nil {
		problem.Write(w, r, retryable(err))
		return
	}
	answerJSON(w, http.StatusOK, noStore, out)
}

func (s *Service) userInfo(ctx context.Context, p *module.Principal) (userInfo, error) {
	if _, err := s.Me(ctx, p); err != nil { // the session lives and its user is there
		return userInfo{}, err
	}
	out := userInfo{Subject: p.UserID}
	email := p.Scopes == nil || slices.Contains(p.Scopes, scopeEmail)
	name := p.Scopes == nil || slices.Contains(p.Scopes, scopeProfile)
	if !email && !name {
		return out, nil
	}
	all, err := s.store.IdentitiesOf(ctx, p.UserID, maxIdentities)
	if err != nil {
		return out, err
	}
	// The verified address first, then whatever was linked first.
	slices.SortStableFunc(all, func(a, b Identity) int {
		switch {
		case a.EmailVerified == b.EmailVerified:
			return 0
		case a.EmailVerified:
			return -1
		}
		return 1
	})
	for _, i := range all {
		profile, err := s.profile(ctx, i)
		if err != nil {
			return out, err
		}
		if email && out.Email == "" && profile.Email != "" {
			verified := i.EmailVerified
			out.Email, out.EmailVerified = profile.Email, &verified
		}
		if name && out.Name == "" {
			out.Name = profile.Name
		}
	}
	return out, nil
}
