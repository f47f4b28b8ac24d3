package identity

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"landline/internal/module"
)

// Scopes that mean something here. Others are a client's and a feature's business.
const (
	scopeOpenID  = "openid"
	scopeEmail   = "email"
	scopeProfile = "profile"
	scopeOffline = "offline_access"
)

// client is an OAuth client as the endpoints use it.
type client struct {
	ID         string
	Name       string
	ThirdParty bool
	Redirects  []string
	Logouts    []string
	Scopes     []string
	Audiences  []string
	DPoP       bool
	IDTokenAlg string
	Access     time.Duration // lifetime of an access token
	Session    time.Duration // until the absolute end of a session

	secret *[sha256.Size]byte // of a client that has one
	keys   []jose.JSONWebKey
}

// Confidential reports whether the client can keep a secret, and so must
// authenticate wherever it says who it is.
func (c *client) Confidential() bool { return c.secret != nil || len(c.keys) > 0 }

// clients are all that are configured, and the app itself.
type clients map[string]*client

func newClients(app module.App, cfg Config) clients {
	all := clients{}
	if _, configured := cfg.Clients[app.ID]; !configured {
		all[app.ID] = newClient(app.ID, ClientConfig{Name: app.Name}, cfg)
	}
	for id, c := range cfg.Clients {
		if id == app.ID {
			c.Name = cmp.Or(c.Name, app.Name)
		}
		all[id] = newClient(id, c, cfg)
	}
	return all
}

func newClient(id string, c ClientConfig, cfg Config) *client {
	n := &client{ID: id, Name: c.Name, ThirdParty: c.Kind == ThirdParty, Redirects: c.RedirectURIs, Logouts: c.LogoutURIs, Scopes: c.Scopes,
		Audiences: c.Audiences, DPoP: c.DPoP, IDTokenAlg: c.IDTokenAlg, Access: c.AccessTokenLifetime.D(), Session: c.SessionLifetime.D()}
	if n.Name == "" {
		n.Name = id
	}
	if len(n.Scopes) == 0 {
		n.Scopes = []string{scopeOpenID, scopeEmail, scopeProfile, scopeOffline}
		if !n.ThirdParty {
			n.Scopes = append(n.Scopes, module.AllScope)
		}
	}
	if n.IDTokenAlg == "" {
		n.IDTokenAlg = "RS256"
	}
	if n.Access == 0 {
		n.Access = cfg.AccessTokenLifetime.D()
	}
	if n.Session == 0 {
		n.Session = cfg.Refresh.Absolute.D()
	}
	if c.Secret != "" {
		sum := sha256.Sum256([]byte(c.Secret.Reveal()))
		n.secret = &sum
	}
	for _, text := range c.Keys {
		if k, why := clientKey(text); why == "" { // Config.Check has refused the others
			n.keys = append(n.keys, k)
		}
	}
	return n
}

// longest is the longest life of an access token that any client gets.
func (all clients) longest() (d time.Duration) {
	for _, c := range all {
		d = max(d, c.Access)
	}
	return d
}

// redirects reports whether any client uses /oauth/authorize.
func (all clients) redirects() bool {
	for _, c := range all {
		if len(c.Redirects) > 0 {
			return true
		}
	}
	return false
}

// allows reports whether uri is one of the client's redirect URIs: the same text
// (RFC 9700 §4.1.3), where on a loopback address the port may differ (RFC 8252 §7.3).
func (c *client) allows(uri string) bool { return allowed(c.Redirects, uri) }

func allowed(registered []string, uri string) bool {
	if redirectFault(uri) != "" {
		return false
	}
	if slices.Contains(registered, uri) {
		return true
	}
	host, rest, ok := splitLoopback(uri)
	return ok && slices.ContainsFunc(registered, func(one string) bool {
		h, r, ok := splitLoopback(one)
		return ok && h == host && r == rest
	})
}

// claimed reports whether uri proves by itself who receives it: https, which the
// operating system gives to the owner of the domain alone (RFC 8252 §8.6).
func claimed(uri string) bool { return strings.HasPrefix(uri, "https://") }

// grantable returns what of the scope asked for the client may have, in order
// and each once. It is false when it may not have all of it.
func (c *client) grantable(asked string) ([]string, bool) {
	words := strings.Fields(asked)
	if len(words) == 0 && !c.ThirdParty {
		words = []string{module.AllScope}
	}
	if len(words) == 0 || len(words) > maxScopes {
		return nil, false
	}
	var out []string
	for _, one := range words {
		if !slices.Contains(c.Scopes, one) {
			return nil, false
		}
		if !slices.Contains(out, one) {
			out = append(out, one)
		}
	}
	return out, true
}

// presented is what a request says of its client.
type presented struct {
	ID        string
	Secret    string
	Assertion string
	Basic     bool // it came in Authorization: the refusal is a challenge
}

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// presentedClient reads the client's credentials: Authorization: Basic, whose
// halves are form-encoded before base64 (RFC 6749 §2.3.1), or parameters of the
// form. It refuses more than one method (§2.3). why is for an invalid_request.
func presentedClient(authorization []string, form url.Values) (p presented, why string) {
	p.ID, p.Secret, p.Assertion = form.Get("client_id"), form.Get("client_secret"), form.Get("client_assertion")
	if p.Assertion != "" && form.Get("client_assertion_type") != assertionType {
		return p, "client_assertion_type is not " + assertionType
	}
	if len(authorization) > 1 {
		return p, "the request has more than one Authorization header"
	}
	if len(authorization) == 1 {
		id, secret, ok := basic(authorization[0])
		switch {
		case !ok:
			return presented{Basic: true}, ""
		case p.ID != "" && p.ID != id:
			return p, "client_id is not the client of the Authorization header"
		case p.Secret != "" || p.Assertion != "":
			return p, "the client authenticates in more than one way"
		}
		return presented{ID: id, Secret: secret, Basic: true}, ""
	}
	if p.Secret != "" && p.Assertion != "" {
		return p, "the client authenticates in more than one way"
	}
	return p, ""
}

func basic(header string) (id, secret string, ok bool) {
	scheme, text, found := strings.Cut(header, " ")
	if !found || !strings.EqualFold(scheme, "Basic") || len(text) > 4096 {
		return "", "", false
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(text))
	if err != nil {
		return "", "", false
	}
	user, password, found := strings.Cut(string(raw), ":")
	if !found {
		return "", "", false
	}
	id, err = url.QueryUnescape(user)
	if err != nil {
		return "", "", false
	}
	secret, err = url.QueryUnescape(password)
	return id, secret, err == nil && id != ""
}

// hasSecret compares in constant time.
func (c *client) hasSecret(text string) bool {
	sum := sha256.Sum256([]byte(text))
	var none [sha256.Size]byte
	want := &none
	if c != nil && c.secret != nil {
		want = c.secret
	}
	same := subtle.ConstantTimeCompare(sum[:], want[:]) == 1
	return same && c != nil && c.secret != nil
}
