package identity

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/module"
	"landline/internal/problem"
)

const maxForm = 16 << 10

const grantRefresh = "refresh_token"

// oauthHandlers are the routes whose shape OAuth fixes.
func (s *Service) oauthHandlers() []module.Handler {
	own := func(match string, h http.HandlerFunc, doc *huma.Operation) module.Handler {
		return module.Handler{Match: match, Auth: module.AuthOwn, Handler: h, Doc: doc}
	}
	return []module.Handler{
		own("POST "+tokenPath, s.handleToken, tokenDoc()),
		own("POST /oauth/revoke", s.handleRevoke, revokeDoc()),
		own("POST /oauth/introspect", s.handleIntrospect, introspectDoc()),
		own("GET "+userInfoPath, s.handleUserInfo, userInfoDoc(http.MethodGet)),
		own("POST "+userInfoPath, s.handleUserInfo, userInfoDoc(http.MethodPost)),
		{Match: "GET /.well-known/jwks.json", Auth: module.AuthNone, Handler: http.HandlerFunc(s.handleJWKS), Doc: documentDoc("/.well-known/jwks.json", "get-jwks", "Public keys of access tokens, ID tokens and of Landline-Identity (RFC 7517)")},
		{Match: "GET /.well-known/oauth-authorization-server", Auth: module.AuthNone, Handler: http.HandlerFunc(s.handleMetadata), Doc: documentDoc("/.well-known/oauth-authorization-server", "get-authorization-server", "Metadata of the authorization server (RFC 8414)")},
		{Match: "GET /.well-known/openid-configuration", Auth: module.AuthNone, Handler: http.HandlerFunc(s.handleMetadata), Doc: documentDoc("/.well-known/openid-configuration", "get-openid-configuration", "The same metadata under the name that OpenID clients ask for")},
	}
}

// handleToken is RFC 6749 §3.2. Everything that a retry could mend is answered
// as a problem, without the member error.
func (s *Service) handleToken(w http.ResponseWriter, r *http.Request) {
	form, by, ok := s.called(w, r)
	if !ok {
		return
	}
	var refused *tokenRefusal
	var err error
	by.KeyProof, refused, err = s.keyProof(w, r)
	switch {
	case err != nil:
		problem.Write(w, r, retryable(err))
		return
	case refused != nil:
		refuse(w, *refused)
		return
	}
	switch form.Get("grant_type") {
	case grantRefresh:
		s.tokenByRefresh(w, r, by, form)
	case grantCode:
		s.tokenByCode(w, r, by, form)
	case grantExchange:
		s.tokenByExchange(w, r, by, form)
	case "":
		refuse(w, tokenRefusal{Error: "invalid_request", Description: "grant_type is missing"})
	default:
		refuse(w, tokenRefusal{Error: "unsupported_grant_type", Description: "this server knows the grant types refresh_token, authorization_code and token-exchange"})
	}
}

func (s *Service) tokenByRefresh(w http.ResponseWriter, r *http.Request, by caller, form url.Values) {
	if form.Get("refresh_token") == "" {
		refuse(w, tokenRefusal{Error: "invalid_request", Description: "refresh_token is missing"})
		return
	}
	out, err := s.refreshFor(r.Context(), form.Get("refresh_token"), by, form.Get("scope"))
	switch {
	case errors.Is(err, errScope):
		refuse(w, tokenRefusal{Error: "invalid_scope", Description: "the session's scope does not include all of it"})
	case errors.Is(err, errNeedsProof):
		refuse(w, *needsProof)
	case err != nil:
		problem.Write(w, r, err)
	case out.Refused:
		refuse(w, tokenRefusal{Error: "invalid_grant", Description: refusalText(out.Reason), Reason: out.Reason, Recovery: out.Recovery})
	default:
		if out.Replay != "" {
			w.Header().Set("Refresh-Replay", out.Replay)
		}
		a := tokenAnswerOf(out.Tokens, true)
		buf := plainBodies.Get().(*[maxPlainBody]byte)
		answerBytes(w, http.StatusOK, noStore, a.append(buf[:0]))
		plainBodies.Put(buf)
	}
}

func (s *Service) tokenByCode(w http.ResponseWriter, r *http.Request, by caller, form url.Values) {
	out, refused, err := s.redeem(r.Context(), by, form)
	switch {
	case err != nil:
		problem.Write(w, r, retryable(err))
	case refused != nil:
		refuse(w, *refused)
	default:
		answer := tokenAnswerOf(out.Tokens, out.Refresh)
		answer.IDToken = out.IDToken
		answerJSON(w, http.StatusOK, noStore, answer)
	}
}

func (s *Service) tokenByExchange(w http.ResponseWriter, r *http.Request, by caller, form url.Values) {
	out, refused, err := s.exchange(r.Context(), by, form)
	switch {
	case err != nil:
		problem.Write(w, r, retryable(err))
	case refused != nil:
		refuse(w, *refused)
	default:
		answerJSON(w, http.StatusOK, noStore, tokenAnswer{AccessToken: out.Token, IssuedTokenType: typeAccessToken,
			TokenType: tokenType(out.Bound), ExpiresIn: seconds(out.For), Scope: out.Scope})
	}
}

func tokenType(bound bool) string {
	if bound {
		return "DPoP"
	}
	return "Bearer"
}

func tokenAnswerOf(t Tokens, refresh bool) tokenAnswer {
	a := tokenAnswer{AccessToken: t.Access, TokenType: tokenType(t.Bound), ExpiresIn: seconds(t.AccessFor), Scope: t.Scope}
	if refresh {
		a.RefreshToken, a.RefreshExpiresIn = t.Refresh, seconds(t.RefreshFor)
	}
	return a
}

// revokeWithin is how long reading and writing may take together: as long as one
// write may, so that a storage that hangs is told as soon as at the token endpoint.
const revokeWithin = 10 * time.Second

// handleRevoke is RFC 7009: 200 also for what is no token of ours, but never
// when the storage has not taken the revocation.
func (s *Service) handleRevoke(w http.ResponseWriter, r *http.Request) {
	form, by, ok := s.called(w, r)
	if !ok {
		return
	}
	if form.Get("token") == "" {
		refuse(w, tokenRefusal{Error: "invalid_request", Description: "token is missing"})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), revokeWithin)
	defer cancel()
	own, err := s.revokeFor(ctx, form.Get("token"), by)
	if err != nil && ctx.Err() != nil && r.Context().Err() == nil {
		err = problem.New(problem.StorageUnavailable, "whether the session has ended is not known; repeating is safe").Wrap(err)
	}
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
	if !isForm(r.Header.Get("Content-Type")) {
		refuse(w, tokenRefusal{Error: "invalid_request", Description: "send the parameters as application/x-www-form-urlencoded"})
		return nil, false
	}
	buf := plainBodies.Get().(*[maxPlainBody]byte)
	defer plainBodies.Put(buf)
	body, err := readUpTo(r.Body, buf[:], maxForm+1)
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
	text := string(body)
	if form, plain := parsePlainForm(text); plain {
		return form, true
	}
	form, err := url.ParseQuery(text)
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

// readUpTo reads r to its end, or the first most bytes of it, into buf if it is large enough.
func readUpTo(r io.Reader, buf []byte, most int) ([]byte, error) {
	n := 0
	for n < len(buf) {
		k, err := r.Read(buf[n:])
		n += k
		if errors.Is(err, io.EOF) {
			return buf[:n], nil
		}
		if err != nil { // a client that was cut off too
			return nil, err
		}
	}
	more, err := io.ReadAll(io.LimitReader(r, int64(most-n)))
	return append(buf[:n:n], more...), err
}

// parsePlainForm reads what a refresh sends: a few parameters, each given once
// and nothing of it escaped. It returns false for any other text, good or bad.
func parsePlainForm(text string) (url.Values, bool) {
	const most = 8
	if strings.ContainsAny(text, "%+;") || strings.Count(text, "&") >= most {
		return nil, false
	}
	form, values := make(url.Values, most), make([]string, 0, most)
	for one := range strings.SplitSeq(text, "&") {
		if one == "" {
			continue
		}
		name, value, _ := strings.Cut(one, "=")
		if form[name] != nil {
			return nil, false
		}
		values = append(values, value)
		form[name] = values[len(values)-1 : len(values) : len(values)]
	}
	return form, true
}

func isForm(contentType string) bool {
	const form = "application/x-www-form-urlencoded"
	if contentType == form {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && media == form
}

func refuse(w http.ResponseWriter, t tokenRefusal) {
	if t.challenge != "" {
		w.Header().Set("WWW-Authenticate", t.challenge)
	}
	if t.nonce != "" {
		w.Header().Set("DPoP-Nonce", t.nonce)
	}
	answerJSON(w, cmp.Or(t.status, http.StatusBadRequest), noStore, t)
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
	answerJSON(w, http.StatusOK, "public, max-age=300", s.keys.JWKS(purposeAccess, purposeUpstream, purposeIDToken, purposeIDTokenEC))
}

func answerJSON(w http.ResponseWriter, status int, cache string, v any) {
	body, err := json.Marshal(v)
	if err != nil { // the types of wire.go and a key set always marshal
		panic(err)
	}
	answerBytes(w, status, cache, body)
}

// answerBytes answers with JSON.
func answerBytes(w http.ResponseWriter, status int, cache string, body []byte) {
	setFields(w.Header(), "Content-Type", "application/json", "Content-Length", strconv.Itoa(len(body)),
		"Cache-Control", cache, "X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(body)
}

// setFields sets header fields, pairs of a canonical name and a value, in one piece of memory.
func setFields(h http.Header, pairs ...string) {
	values := make([]string, len(pairs)/2)
	for i := range values {
		values[i] = pairs[2*i+1]
		h[pairs[2*i]] = values[i : i+1 : i+1]
	}
}
