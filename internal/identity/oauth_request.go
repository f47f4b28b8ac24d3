package identity

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// authRequest is an authorization request that may be worked on.
type authRequest struct {
	client    *client
	redirect  string
	state     string
	nonce     string
	scopes    []string
	challenge string
	prompts   []string
	maxAge    time.Duration // negative = not asked
	acr       []string
	hint      string // subject of id_token_hint
	loginHint string
	locales   []string
	jkt       string
	own       string // page of the own account, in place of a client's request; see ownRequest
	export    string // of ownExport: its id
	raw       string // canonical form, to be parsed again in each step
}

func (a *authRequest) prompt(name string) bool { return slices.Contains(a.prompts, name) }

// scope is space separated.
func (a *authRequest) scope() string { return strings.Join(a.scopes, " ") }

// authFault is what is wrong with an authorization request. Without redirect it
// must be told to the user: to send them on would make us an open redirector.
type authFault struct {
	Code        string // RFC 6749 §4.1.2.1, OpenID Connect Core §3.1.2.6
	Description string
	redirect    string
	state       string
}

// Bounds of the parameters.
const (
	maxState  = 2048
	maxNonce  = 512
	maxParam  = 2048
	maxParams = 40
)

// understood are the parameters that are kept; others are ignored (RFC 6749 §3.1).
var understood = []string{"client_id", "redirect_uri", "response_type", "response_mode", "scope", "state", "nonce", "code_challenge", "code_challenge_method",
	"prompt", "max_age", "acr_values", "login_hint", "ui_locales", "id_token_hint", "dpop_jkt", "request", "registration", "request_uri"}

// parseAuth validates an authorization request. It does no I/O. The order
// matters: nothing is sent to a redirect URI before it is known to be the client's.
func (s *Service) parseAuth(in url.Values) (*authRequest, *authFault) {
	page := func(why string) (*authRequest, *authFault) {
		return nil, &authFault{Code: "invalid_request", Description: why}
	}
	if len(in) > maxParams {
		return page("the request has too many parameters")
	}
	for _, name := range []string{"client_id", "redirect_uri"} {
		if len(in[name]) > 1 {
			return page(name + " is there more than once")
		}
	}
	c := s.clients[in.Get("client_id")]
	switch {
	case in.Get("client_id") == "":
		return page("client_id is missing")
	case c == nil:
		return page("client_id is not known")
	case len(c.Redirects) == 0:
		return page("the client has no redirect_uris: it cannot use this endpoint")
	case in.Get("redirect_uri") == "":
		return page("redirect_uri is missing")
	case !c.allows(in.Get("redirect_uri")):
		return page("redirect_uri is not one of the client's")
	}
	a := &authRequest{client: c, redirect: in.Get("redirect_uri"), maxAge: -1}
	kept := url.Values{}
	for _, name := range understood {
		if v := in.Get(name); v != "" {
			kept.Set(name, v)
		}
	}
	a.raw = kept.Encode()
	fault := a.fill(in)
	if fault != nil {
		fault.redirect, fault.state = a.redirect, a.state
		return nil, fault
	}
	if text := in.Get("id_token_hint"); text != "" {
		claims, ok := s.hint(text)
		if !ok {
			return nil, &authFault{"invalid_request", "id_token_hint is not an ID token of this server", a.redirect, a.state}
		}
		a.hint = claims.Subject
	}
	return a, nil
}

// fill reads everything that is answered to the client.
func (a *authRequest) fill(in url.Values) *authFault {
	bad := func(code, why string) *authFault { return &authFault{Code: code, Description: why} }
	if v := in.Get("state"); len(in["state"]) == 1 && len(v) <= maxState {
		a.state = v
	} else if len(in["state"]) > 0 && v != "" {
		return bad("invalid_request", "state is there more than once or has more than 2048 bytes")
	}
	for _, name := range understood {
		if len(in[name]) > 1 {
			return bad("invalid_request", name+" is there more than once")
		}
		if name != "state" && name != "id_token_hint" && len(in.Get(name)) > maxParam {
			return bad("invalid_request", name+" has more than 2048 bytes")
		}
	}
	switch {
	case in.Get("request") != "":
		return bad("request_not_supported", "send the parameters by themselves, or push them")
	case in.Get("request_uri") != "":
		return bad("request_uri_not_supported", "request_uri is for requests that were pushed to this server")
	case in.Get("registration") != "":
		return bad("registration_not_supported", "clients are registered in the configuration")
	case in.Get("response_type") == "":
		return bad("invalid_request", "response_type is missing")
	case in.Get("response_type") != "code":
		return bad("unsupported_response_type", "response_type must be code")
	case in.Get("response_mode") != "" && in.Get("response_mode") != "query":
		return bad("invalid_request", "response_mode must be query")
	case in.Get("code_challenge") == "":
		return bad("invalid_request", "code_challenge is missing: every client uses PKCE (RFC 7636)")
	case in.Get("code_challenge_method") != "S256":
		return bad("invalid_request", "code_challenge_method must be S256")
	case !isHash(in.Get("code_challenge")):
		return bad("invalid_request", "code_challenge is not base64url of a SHA-256 hash")
	case in.Get("dpop_jkt") != "" && !isHash(in.Get("dpop_jkt")):
		return bad("invalid_request", "dpop_jkt is not base64url of a SHA-256 hash")
	case len(in.Get("nonce")) > maxNonce:
		return bad("invalid_request", "nonce has more than 512 bytes")
	}
	return a.fillWishes(in)
}

// fillWishes reads what the client wishes of tokens and of the sign-in.
func (a *authRequest) fillWishes(in url.Values) *authFault {
	bad := func(code, why string) *authFault { return &authFault{Code: code, Description: why} }
	a.challenge, a.jkt, a.nonce = in.Get("code_challenge"), in.Get("dpop_jkt"), in.Get("nonce")
	var ok bool
	if a.scopes, ok = a.client.grantable(in.Get("scope")); !ok {
		return bad("invalid_scope", "the client may not have all of the scope, or it asked for none")
	}
	if v := in.Get("max_age"); v != "" {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return bad("invalid_request", "max_age is not a number of seconds")
		}
		a.maxAge = time.Duration(n) * time.Second // #nosec G115 -- at most 2^31
	}
	a.prompts = strings.Fields(in.Get("prompt"))
	for _, p := range a.prompts {
		switch p {
		case "none", "login", "consent", "select_account":
		default:
			return bad("invalid_request", "prompt must be of none, login, consent and select_account")
		}
	}
	if a.prompt("none") && len(a.prompts) > 1 {
		return bad("invalid_request", "prompt=none goes with no other")
	}
	a.acr = strings.Fields(in.Get("acr_values"))
	a.locales = strings.Fields(in.Get("ui_locales"))
	if hint := in.Get("login_hint"); len(hint) <= 254 && strings.Contains(hint, "@") {
		a.loginHint = hint
	}
	return nil
}

// isHash says whether text has the form of base64url of 32 bytes.
func isHash(text string) bool {
	raw, err := decode64(text)
	return err == nil && len(raw) == 32
}
