package identity

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"

	"landline/internal/module"
	"landline/internal/problem"
)

const maxForm = 16 << 10

const grantRefresh = "refresh_token"

// oauthHandlers are the routes whose shape OAuth fixes.
func (s *Service) oauthHandlers() []module.Handler {
	return []module.Handler{
		{Match: "POST /oauth/token", Auth: module.AuthNone, Handler: http.HandlerFunc(s.handleToken), Doc: tokenDoc()},
		{Match: "POST /oauth/revoke", Auth: module.AuthNone, Handler: http.HandlerFunc(s.handleRevoke), Doc: revokeDoc()},
		{Match: "GET /.well-known/jwks.json", Auth: module.AuthNone, Handler: http.HandlerFunc(s.handleJWKS), Doc: documentDoc("/.well-known/jwks.json", "get-jwks", "Public keys of access tokens and of Landline-Identity (RFC 7517)")},
		{Match: "GET /.well-known/oauth-authorization-server", Auth: module.AuthNone, Handler: http.HandlerFunc(s.handleMetadata), Doc: documentDoc("/.well-known/oauth-authorization-server", "get-authorization-server", "Metadata of the authorization server (RFC 8414)")},
		{Match: "GET /.well-known/openid-configuration", Auth: module.AuthNone, Handler: http.HandlerFunc(s.handleMetadata), Doc: documentDoc("/.well-known/openid-configuration", "get-openid-configuration", "The same metadata under the name that OpenID clients ask for")},
	}
}

func (s *Service) handleToken(w http.ResponseWriter, r *http.Request) {
	form, ok := readForm(w, r)
	if !ok {
		return
	}
	switch grant := form.Get("grant_type"); {
	case grant == "":
		refuse(w, tokenRefusal{Error: "invalid_request", Description: "grant_type is missing"})
		return
	case grant != grantRefresh:
		refuse(w, tokenRefusal{Error: "unsupported_grant_type", Description: "this server knows the grant type refresh_token"})
		return
	case form.Get("refresh_token") == "":
		refuse(w, tokenRefusal{Error: "invalid_request", Description: "refresh_token is missing"})
		return
	}
	out, err := s.Refresh(r.Context(), form.Get("refresh_token"), form.Get("client_id"), form.Get("scope"))
	switch {
	case errors.Is(err, errScope):
		refuse(w, tokenRefusal{Error: "invalid_scope", Description: "the session's scope does not include all of it"})
	case err != nil:
		problem.Write(w, r, err)
	case out.Refused:
		refuse(w, tokenRefusal{Error: "invalid_grant", Description: refusalText(out.Reason), Reason: out.Reason, Recovery: out.Recovery})
	default:
		if out.Replay != "" {
			w.Header().Set("Refresh-Replay", out.Replay)
		}
		answerJSON(w, http.StatusOK, noStore, tokenAnswer{
			AccessToken: out.Tokens.Access, TokenType: "Bearer", ExpiresIn: seconds(out.Tokens.AccessFor),
			RefreshToken: out.Tokens.Refresh, RefreshExpiresIn: seconds(out.Tokens.RefreshFor), Scope: out.Tokens.Scope,
		})
	}
}

// handleRevoke is RFC 7009: 200 also for what is no token of ours, but never
// when the storage has not taken the revocation.
func (s *Service) handleRevoke(w http.ResponseWriter, r *http.Request) {
	form, ok := readForm(w, r)
	if !ok {
		return
	}
	if form.Get("token") == "" {
		refuse(w, tokenRefusal{Error: "invalid_request", Description: "token is missing"})
		return
	}
	own, err := s.RevokeToken(r.Context(), form.Get("token"), form.Get("client_id"))
	switch {
	case err != nil:
		problem.Write(w, r, retryable(err))
	case !own:
		refuse(w, tokenRefusal{Error: "invalid_grant", Description: "the token is another client's", Reason: ReasonClientMismatch})
	default:
		w.Header().Set("Cache-Control", noStore)
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
	}
}

// retryable makes sure that an error of the storage asks for a retry.
func retryable(err error) error {
	if problem.From(err).Code != problem.Internal {
		return err
	}
	return problem.New(problem.StorageUnavailable, "").Wrap(err)
}

// readForm reads a form-encoded body in which no parameter is repeated (RFC 6749
// §3.2), or answers and returns false.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, bool) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/x-www-form-urlencoded" {
		refuse(w, tokenRefusal{Error: "invalid_request", Description: "send the parameters as application/x-www-form-urlencoded"})
		return nil, false
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxForm+1))
	if err != nil { // the client was cut off: nothing fatal may be said
		if problem.From(err).Code == problem.Internal {
			err = problem.New(problem.RequestTimeout, "the request did not arrive whole").Wrap(err)
		}
		problem.Write(w, r, err)
		return nil, false
	}
	if len(body) > maxForm {
		refuse(w, tokenRefusal{Error: "invalid_request", Description: "the body has more than 16384 bytes"})
		return nil, false
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		refuse(w, tokenRefusal{Error: "invalid_request", Description: "the body is not form-encoded"})
		return nil, false
	}
	for _, values := range form {
		if len(values) > 1 {
			refuse(w, tokenRefusal{Error: "invalid_request", Description: "a parameter is repeated"})
			return nil, false
		}
	}
	return form, true
}

func refuse(w http.ResponseWriter, t tokenRefusal) {
	answerJSON(w, http.StatusBadRequest, noStore, t)
}

func refusalText(r Reason) string {
	switch r {
	case ReasonExpiredIdle:
		return "the session was not used for too long"
	case ReasonExpiredAbsolute:
		return "the session has lasted as long as it may"
	case ReasonReused:
		return "the refresh token was used twice; the session has been ended"
	case ReasonStaleDuplicate:
		return "the refresh token was replaced a moment ago; use the newer one"
	case ReasonSessionRevoked:
		return "the session has ended"
	case ReasonAccountDeleted:
		return "the account has been deleted"
	case ReasonAccountLocked:
		return "the account is locked"
	case ReasonUserMerged:
		return "the user was merged into another account"
	case ReasonClientMismatch:
		return "the refresh token belongs to another client"
	}
	return "the refresh token is not valid"
}

// handleJWKS may be cached: a next key is in the set long before it signs.
func (s *Service) handleJWKS(w http.ResponseWriter, _ *http.Request) {
	answerJSON(w, http.StatusOK, "public, max-age=300", s.keys.JWKS(purposeAccess, purposeUpstream))
}

// handleMetadata is RFC 8414 and OpenID Connect Discovery, as far as it is true:
// there is no authorization endpoint and there are no ID tokens.
func (s *Service) handleMetadata(w http.ResponseWriter, _ *http.Request) {
	base := s.app.PublicURL
	answerJSON(w, http.StatusOK, "public, max-age=300", serverMetadata{
		Issuer: base, TokenEndpoint: base + "/oauth/token", TokenAuthMethods: []string{"none"},
		RevocationEndpoint: base + "/oauth/revoke", RevocationAuthMethods: []string{"none"},
		JWKSURI: base + "/.well-known/jwks.json", GrantTypes: []string{grantRefresh}, ResponseTypes: []string{}, Scopes: []string{defaultScope},
	})
}

func answerJSON(w http.ResponseWriter, status int, cache string, v any) {
	body, err := json.Marshal(v)
	if err != nil { // the types of wire.go and a key set always marshal
		panic(err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", cache)
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(body)
}
