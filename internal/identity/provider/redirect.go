package provider

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// pendingLifetime is how long a user may take at the provider.
const pendingLifetime = 15 * time.Minute

const maxParameter = 4 << 10

// Begin is what a sign-in by redirect is begun with.
type Begin struct {
	RedirectURI string   // one of the configured ones
	LoginHint   string   // an e-mail address, "" = none
	Locales     []string // BCP 47, for the provider's pages
	Prompt      string   // "", login, select_account, consent
}

// Begin returns the address to send the user's browser to, and what is to be kept
// until it comes back. Its errors are *Error.
func (p *Provider) Begin(ctx context.Context, b Begin) (authorizeURL string, pending Pending, err error) {
	if !p.redirects {
		return "", Pending{}, p.from(misconfigured(nil, ReasonUnsupported, "this provider is not configured for sign-in by redirect"))
	}
	m, err := p.source.metadata(ctx)
	if err != nil {
		return "", Pending{}, p.from(err)
	}
	pending = Pending{
		Provider: p.name, ClientID: p.redirectClient(), RedirectURI: b.RedirectURI,
		State: rand.Text(), Nonce: rand.Text(), Verifier: rand.Text() + rand.Text(),
		Issuers: p.callbackIss, NeedsIssuer: m.issParameter, FormPost: p.formPost,
		ExpiresAt: p.set.clock.Now().Add(pendingLifetime),
	}
	if authorizeURL, err = p.authorize(m.authorize, pending, b); err != nil {
		return "", Pending{}, p.from(err)
	}
	return authorizeURL, pending, nil
}

// redirectClient is the client id of web sign-in.
func (p *Provider) redirectClient() string {
	if p.webClient != "" {
		return p.webClient
	}
	return p.client.id
}

// authorize builds the address (OpenID Connect Core 1.0 §3.1.2.1, RFC 7636 §4.3).
func (p *Provider) authorize(endpoint string, pending Pending, b Begin) (string, error) {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Host == "":
		return "", misconfigured(nil, ReasonUnsupported, "the provider has no authorization endpoint")
	case !slices.Contains(p.redirectURIs, b.RedirectURI):
		return "", misconfigured(nil, ReasonRedirectURI, "the redirect_uri is not one of the configured ones")
	}
	q := u.Query()
	q.Set("response_type", "code")
	q.Set("client_id", pending.ClientID)
	q.Set("redirect_uri", pending.RedirectURI)
	q.Set("scope", strings.Join(p.scopes, " "))
	q.Set("state", pending.State)
	q.Set("nonce", pending.Nonce)
	q.Set("code_challenge", challenge(pending.Verifier))
	q.Set("code_challenge_method", "S256")
	if p.formPost {
		q.Set("response_mode", "form_post") // Apple demands it as soon as a scope is asked for
	}
	if p.client.google {
		q.Set("access_type", "offline") // Google's way to ask for the refresh token that Revoke needs
	}
	for name, value := range map[string]string{"login_hint": b.LoginHint, "ui_locales": strings.Join(b.Locales, " "), "prompt": b.Prompt} {
		if value != "" && len(value) <= 255 {
			q.Set(name, value)
		}
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// challenge is S256 of RFC 7636 §4.2.
func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return b64.EncodeToString(sum[:])
}

// Callback is a redirect that came back well. Code goes to Exchange.
type Callback struct {
	Code Code
	// Name is what Apple's page says the user typed, once, at the first sign-in. The
	// browser sent it, nobody signed it: show it, trust it in nothing.
	Name string
}

// StateOf returns the parameter state, under which the Pending is found. The
// parameters are those of the query, or of the form for Pending.FormPost.
func StateOf(params url.Values) (string, error) {
	state, err := single(params, "state")
	if err == nil && state == "" {
		err = refuse(ReasonState, "the redirect has no state")
	}
	return state, err
}

// Complete checks what the provider sent the browser back with (RFC 6749 §4.1.2,
// RFC 9207). It makes no calls. The Pending is used up, whatever comes out. Its
// errors are *Error: ErrRefused with ReasonCancelled when the user said no,
// ErrUnavailable when the provider is in trouble.
func (p Pending) Complete(params url.Values, now time.Time) (*Callback, error) {
	callback, err := p.complete(params, now)
	if err != nil {
		e := *asError(err)
		e.Provider = p.Provider
		return nil, &e
	}
	return callback, nil
}

func (p Pending) complete(params url.Values, now time.Time) (*Callback, error) {
	values := map[string]string{}
	for _, name := range []string{"state", "iss", "code", "error", "user"} {
		value, err := single(params, name)
		if err != nil {
			return nil, err
		}
		values[name] = value
	}
	switch {
	case p.State == "" || subtle.ConstantTimeCompare([]byte(values["state"]), []byte(p.State)) != 1:
		return nil, refuse(ReasonState, "the redirect belongs to another sign-in")
	case !now.Before(p.ExpiresAt):
		return nil, refuse(ReasonTimeout, "the sign-in took longer than %s; begin it again", pendingLifetime)
	case values["iss"] == "" && p.NeedsIssuer, values["iss"] != "" && !slices.Contains(p.Issuers, values["iss"]):
		return nil, refuse(ReasonIssuer, "the redirect is of another issuer (RFC 9207)")
	case values["error"] != "":
		return nil, callbackError(values["error"])
	case values["code"] == "" || !visible(values["code"]):
		return nil, refuse(ReasonMissing, "the redirect has no code")
	}
	c := &Callback{Code: Code{Code: values["code"], RedirectURI: p.RedirectURI, Verifier: p.Verifier, ClientID: p.ClientID, Nonce: p.Nonce}}
	var user appleUser
	if p.FormPost && values["user"] != "" && object([]byte(values["user"]), &user) == nil {
		c.Name = clip(user.Name.First + " " + user.Name.Last)
	}
	return c, nil
}

// single returns a parameter that must not repeat (RFC 6749 §3.1).
func single(params url.Values, name string) (string, error) {
	values := params[name]
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", refuse(ReasonMalformed, "the parameter %s is there %s times", name, strconv.Itoa(len(values)))
	case len(values[0]) > maxParameter:
		return "", refuse(ReasonTooLarge, "the parameter %s has more than %d bytes", name, maxParameter)
	}
	return values[0], nil
}

// callbackError reads RFC 6749 §4.1.2.1, OpenID Connect Core 1.0 §3.1.2.6 and
// Apple's own word for a user who said no.
func callbackError(code string) error {
	switch code {
	case "access_denied", "user_cancelled_authorize", "consent_required", "interaction_required", "login_required", "account_selection_required":
		return refuse(ReasonCancelled, "the sign-in was cancelled at the provider")
	case "temporarily_unavailable", "server_error":
		return unavailable(nil, ReasonUnreachable, "the provider is in trouble (%s); try again", code)
	case "invalid_request", "unauthorized_client", "unsupported_response_type", "invalid_scope", "invalid_client":
		return misconfigured(nil, ReasonRequestFaulty, "the provider refuses the request (%s)", code)
	}
	return refuse(ReasonProvider, "the provider ended the sign-in")
}
