package identity

import (
	"net/http"
	"slices"

	"landline/internal/module"
)

const (
	authorizePath  = "/oauth/authorize"
	userInfoPath   = "/oauth/userinfo"
	endSessionPath = "/oauth/end-session"
	pushedPath     = "/oauth/par"
)

// handleMetadata is RFC 8414 and OpenID Connect Discovery 1.0 §4.
func (s *Service) handleMetadata(w http.ResponseWriter, _ *http.Request) {
	answerJSON(w, http.StatusOK, "public, max-age=300", s.metadata())
}

func (s *Service) metadata() serverMetadata {
	base := s.app.PublicURL
	scopes := []string{scopeOpenID, scopeEmail, scopeProfile, scopeOffline}
	for _, c := range s.clients {
		for _, one := range c.Scopes {
			if !slices.Contains(scopes, one) {
				scopes = append(scopes, one)
			}
		}
	}
	slices.Sort(scopes)
	methods := []string{"client_secret_basic", "client_secret_post", "private_key_jwt"}
	m := serverMetadata{
		Issuer: base, AuthorizationEndpoint: base + authorizePath, TokenEndpoint: base + tokenPath, JWKSURI: base + "/.well-known/jwks.json",
		UserInfoEndpoint: base + userInfoPath, RevocationEndpoint: base + "/oauth/revoke", IntrospectionEndpoint: base + "/oauth/introspect",
		EndSessionEndpoint: base + endSessionPath, PushedRequestEndpoint: base + pushedPath,
		ResponseTypes: []string{"code"}, ResponseModes: []string{"query"}, GrantTypes: []string{grantCode, grantRefresh, grantExchange},
		SubjectTypes: []string{"public"}, IDTokenAlgs: []string{"RS256", "ES256"}, Scopes: scopes,
		Claims:    []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "sid", "at_hash", "name", "email", "email_verified"},
		ACRValues: module.KnownACR(), Prompts: []string{"none", "login", "consent", "select_account"}, Locales: s.pages.Languages(),
		TokenAuthMethods: append([]string{"none"}, methods...), RevocationAuthMethods: append([]string{"none"}, methods...), IntrospectionAuthMethods: methods,
		ChallengeMethods: []string{"S256"}, IssInResponse: true, DPoPAlgs: s.proofAlgorithms(),
	}
	for _, a := range clientAlgorithms {
		m.TokenAuthAlgs = append(m.TokenAuthAlgs, string(a))
	}
	return m
}
