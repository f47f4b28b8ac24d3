package provider

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"landline/internal/config"
)

const maxCode = 4 << 10

// Code is an authorization code, of an app's SDK or of a redirect.
type Code struct {
	Code        string
	RedirectURI string // with which it was asked for; "" where the SDK had none, "postmessage" for Google's pop-up
	Verifier    string // RFC 7636; "" = none
	ClientID    string // to which it was given; "" = the one that the configuration names for codes
	Nonce       string // as in Token
}

// Exchange sends a code to the provider and returns the claims of the ID token
// that it gets, with the provider's refresh token if there is one. Its errors are
// *Error. A code is good once: after ErrUnavailable it may have been used up, and
// the next try is then refused.
func (p *Provider) Exchange(ctx context.Context, c Code) (*Claims, error) {
	answer, err := p.exchange(ctx, c)
	count(p.set.metrics.exchanges, p.name, err)
	if err != nil {
		return nil, p.from(err)
	}
	claims, err := p.Verify(ctx, Token{IDToken: answer.IDToken, Nonce: c.Nonce})
	if err != nil {
		return nil, err
	}
	claims.RefreshToken = config.Secret(answer.RefreshToken)
	return claims, nil
}

func (p *Provider) exchange(ctx context.Context, c Code) (*tokenAnswer, error) {
	if !p.client.code {
		return nil, misconfigured(nil, ReasonUnsupported, "this provider is not configured to exchange codes; send an ID token")
	}
	if c.ClientID == "" {
		c.ClientID = p.client.id
	}
	if err := p.checkCode(c); err != nil {
		return nil, err
	}
	m, err := p.source.metadata(ctx)
	if err != nil {
		return nil, err
	}
	if m.token == "" {
		return nil, misconfigured(nil, ReasonUnsupported, "the provider has no token endpoint")
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {c.Code}}
	if c.RedirectURI != "" || p.client.google { // Google's SDKs ask for codes with an empty one
		form.Set("redirect_uri", c.RedirectURI)
	}
	if c.Verifier != "" {
		form.Set("code_verifier", c.Verifier)
	}
	header, err := p.authenticate(m, c.ClientID, form)
	if err != nil {
		return nil, err
	}
	a, err := p.call.form(ctx, m.token, form, header)
	if err != nil {
		return nil, err
	}
	return readTokenAnswer(a)
}

// checkCode refuses what the provider would refuse, and what it might not.
func (p *Provider) checkCode(c Code) error {
	noURI := c.RedirectURI == "" || c.RedirectURI == "postmessage" && p.client.google
	switch {
	case c.Code == "":
		return refuse(ReasonMissing, "there is no code")
	case len(c.Code) > maxCode || !visible(c.Code):
		return refuse(ReasonMalformed, "the code is not 1 to %d visible characters", maxCode)
	case !noURI && !slices.Contains(p.redirectURIs, c.RedirectURI):
		return refuse(ReasonRedirectURI, "the redirect_uri is not one of the configured ones")
	case !slices.Contains(p.rules.clientIDs, c.ClientID):
		return refuse(ReasonClientID, "the client id is not one of the configured ones")
	case c.Verifier != "" && !validVerifier(c.Verifier):
		return refuse(ReasonVerifier, "the code_verifier is not 43 to 128 characters of A-Z a-z 0-9 - . _ ~ (RFC 7636)")
	case c.Verifier == "" && p.client.public(c.ClientID):
		return refuse(ReasonVerifier, "a code_verifier is needed: the provider knows us by nothing else")
	}
	return nil
}

// authenticate puts our credentials into the form, or returns a header with them.
func (p *Provider) authenticate(m metadata, clientID string, form url.Values) (http.Header, error) {
	if p.client.public(clientID) {
		form.Set("client_id", clientID)
		return nil, nil
	}
	secret, err := p.client.secret(clientID)
	if err != nil {
		return nil, misconfigured(err, ReasonCredentials, "the client secret cannot be made")
	}
	post := p.client.auth == "post" || p.client.auth == "auto" && m.clientAuth != nil &&
		!slices.Contains(m.clientAuth, "client_secret_basic") && slices.Contains(m.clientAuth, "client_secret_post")
	if post {
		form.Set("client_id", clientID)
		form.Set("client_secret", secret)
		return nil, nil
	}
	// RFC 6749 §2.3.1: both are form-encoded first.
	pair := url.QueryEscape(clientID) + ":" + url.QueryEscape(secret)
	return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(pair))}}, nil
}

func readTokenAnswer(a answer) (*tokenAnswer, error) {
	var t tokenAnswer
	if err := object(a.body, &t); err != nil {
		return nil, unavailable(nil, ReasonAnswer, "the token endpoint answered %d with something that is not a JSON object", a.status)
	}
	if a.status == http.StatusOK {
		if t.IDToken == "" {
			return nil, misconfigured(nil, ReasonAnswer, "the token endpoint gave no ID token; the scope openid may be missing")
		}
		return &t, nil
	}
	return nil, refusedBy(a.status, t.Error)
}

// refusedBy reads an error of RFC 6749 §5.2. Descriptions are not repeated: they
// may quote what was sent.
func refusedBy(status int, code string) error {
	switch code {
	case "invalid_grant":
		return refuse(ReasonCode, "the provider refused the code: it was used, is too old, or was given to another client or redirect_uri; sign in again")
	case "invalid_client", "unauthorized_client":
		return misconfigured(nil, ReasonCredentials, "the provider refuses our client id or secret (%s)", code)
	case "redirect_uri_mismatch", "invalid_request", "unsupported_grant_type", "invalid_scope":
		return misconfigured(nil, ReasonRequestFaulty, "the provider refuses the request (%s)", code)
	}
	return misconfigured(nil, ReasonRequestFaulty, "the provider refuses the request with status %d", status)
}

// validVerifier is RFC 7636 §4.1.
func validVerifier(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0) {
			return false
		}
	}
	return len(s) >= 43 && len(s) <= 128
}

// visible reports whether s has the characters of RFC 6749 appendix A.11 only.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
