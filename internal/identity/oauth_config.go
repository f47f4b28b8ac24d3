package identity

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"landline/internal/config"
	"landline/internal/module"
)

// ClientConfig is one OAuth client.
type ClientConfig struct {
	Name                string          `yaml:"name" doc:"Name for people, shown on the consent page." example:"Flights for the web"`
	Kind                ClientKind      `yaml:"kind" enum:"first_party,third_party" doc:"first_party: the team's own, may have all of the app's API and is not asked about. third_party: somebody else's; the user is asked to consent to its scopes. Default: first_party."`
	RedirectURIs        []string        `yaml:"redirect_uris" doc:"Where /oauth/authorize may send the user back to, compared exactly (RFC 8252): https URLs, private-use schemes with a dot, and http on 127.0.0.1 or [::1], there with any port. None: the client cannot use /oauth/authorize." example:"[\"com.example.partner:/callback\"]"`
	LogoutURIs          []string        `yaml:"post_logout_redirect_uris" doc:"Where /oauth/end-session may send the user back to, compared exactly." example:"[\"https://partner.example/bye\"]"`
	Scopes              []string        `yaml:"scopes" doc:"What the client may ask for. Default: openid, email, profile, offline_access and, for first_party, app, which is all of the app's API." example:"[openid, email, flights.read]"`
	Secret              config.Secret   `yaml:"client_secret" doc:"Makes the client a confidential one, which must authenticate at /oauth/token: at least 32 characters." example:"${PARTNER_CLIENT_SECRET}"`
	Keys                []string        `yaml:"public_keys" doc:"JWKs (RFC 7517) of a confidential client that authenticates with private_key_jwt (RFC 7523), as JSON: ES256, EdDSA, PS256 or RS256."`
	AccessTokenLifetime config.Duration `yaml:"access_token_lifetime" doc:"How long the client's access tokens are good for, 15m to 60m. Default: identity.access_token_lifetime."`
	SessionLifetime     config.Duration `yaml:"session_lifetime" doc:"When the client must send the user to sign in again, at most identity.refresh.absolute, which is the default."`
	DPoP                bool            `yaml:"dpop" doc:"Refuse the client tokens that are not bound to a key (RFC 9449). Otherwise it may bind them."`
	IDTokenAlg          string          `yaml:"id_token_alg" enum:"RS256,ES256" doc:"Signature of its ID tokens. Default: RS256, which every client of OpenID Connect takes."`
	Audiences           []string        `yaml:"audiences" doc:"For which other services the client may exchange an access token (RFC 8693). A first_party client may also exchange a token of another client for one of its own." example:"[https://reports.example.com]"`
}

// ClientKind says who is responsible for a client.
type ClientKind string

// The kinds of client.
const (
	FirstParty ClientKind = "first_party"
	ThirdParty ClientKind = "third_party"
)

// ScopeConfig is a scope as people read it.
type ScopeConfig struct {
	Text map[string]string `yaml:"text" doc:"What the client may do with it, by language; shown on the consent page." example:"{en: See your trips, pl: Wgląd w Twoje podróże}"`
}

// Bounds of a client's configuration.
const (
	minClientSecret = 32
	maxRedirectURIs = 50
	maxScopes       = 50
)

func (c *ClientConfig) check(v *config.Validator, general *Config) {
	if c.Secret != "" && len(c.Secret.Reveal()) < minClientSecret {
		v.At("client_secret").Fault("make one with: openssl rand -base64 33", "has %d characters, at least %d are needed", len(c.Secret.Reveal()), minClientSecret)
	}
	if len(c.RedirectURIs) > maxRedirectURIs || len(c.LogoutURIs) > maxRedirectURIs {
		v.At("redirect_uris").Fault("", "has more than %d entries", maxRedirectURIs)
	}
	for _, uri := range c.RedirectURIs {
		if why := redirectFault(uri); why != "" {
			v.At("redirect_uris").Fault("write https://…, com.example.app:/path or http://127.0.0.1/path", "%q %s", uri, why)
		}
	}
	for _, uri := range c.LogoutURIs {
		if why := redirectFault(uri); why != "" {
			v.At("post_logout_redirect_uris").Fault("write https://…, com.example.app:/path or http://127.0.0.1/path", "%q %s", uri, why)
		}
	}
	if len(c.Scopes) > maxScopes {
		v.At("scopes").Fault("", "has more than %d entries", maxScopes)
	}
	for _, scope := range c.Scopes {
		if !module.ValidScope(scope) {
			v.At("scopes").Fault("write for example flights.read", "%q is no scope: it has 1 to 64 characters of A-Z a-z 0-9 . _ : - /", scope)
		}
	}
	for _, text := range c.Keys {
		if _, why := clientKey(text); why != "" {
			v.At("public_keys").Fault("write the public key as a JWK with kid and alg", "a key %s", why)
		}
	}
	if c.AccessTokenLifetime != 0 {
		within(v.At("access_token_lifetime"), c.AccessTokenLifetime, 15*time.Minute, time.Hour)
	}
	if c.SessionLifetime != 0 {
		within(v.At("session_lifetime"), c.SessionLifetime, time.Hour, general.Refresh.Absolute.D())
	}
}

// clientAlgorithms may sign a client's assertion.
var clientAlgorithms = []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.PS256, jose.RS256}

// clientKey reads the public JWK of a client.
func clientKey(text string) (k jose.JSONWebKey, why string) {
	switch err := json.Unmarshal([]byte(text), &k); {
	case err != nil:
		return k, "is not a JWK"
	case !k.Valid() || !k.IsPublic():
		return k, "is not a public key"
	case k.KeyID == "":
		return k, "has no kid"
	case !slices.Contains(clientAlgorithms, jose.SignatureAlgorithm(k.Algorithm)):
		return k, "has no alg of ES256, EdDSA, PS256 and RS256"
	}
	return k, ""
}

// maxURI is the longest redirect URI that is taken.
const maxURI = 2048

// redirectFault says what is wrong with a URI that the user's browser is to be
// sent to, "" when nothing is. It knows no wildcards.
func redirectFault(text string) string {
	if text == "" || len(text) > maxURI {
		return "is empty or longer than 2048 characters"
	}
	for i := range len(text) {
		if c := text[i]; c <= 0x20 || c >= 0x7f || strings.IndexByte("\\\"<>^`{|}*", c) >= 0 {
			return "has a character that no URI may have, or a *"
		}
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "is not a URI"
	case u.Scheme == "" || u.Scheme != strings.ToLower(u.Scheme) || !strings.HasPrefix(text, u.Scheme+":"):
		return "has no scheme in lower case"
	case strings.Contains(text, "#"):
		return "has a fragment"
	case u.User != nil:
		return "has a user name"
	case u.Scheme == "https":
		if u.Hostname() == "" {
			return "has no host"
		}
	case u.Scheme == "http":
		if _, _, ok := splitLoopback(text); !ok {
			return "is plain http elsewhere than on 127.0.0.1 or [::1]"
		}
	case !strings.Contains(u.Scheme, "."):
		return "has a scheme that others may have too: use the reverse of a domain that is yours (RFC 8252 §7.1)"
	}
	return ""
}

// splitLoopback takes a redirect URI on a loopback address apart: what is before
// the port, and what is behind it (RFC 8252 §7.3). It works on the text, so that
// no parser's view of a URI can differ from a browser's.
func splitLoopback(text string) (host, rest string, ok bool) {
	for _, host := range []string{"http://127.0.0.1", "http://[::1]"} {
		tail, found := strings.CutPrefix(text, host)
		if !found {
			continue
		}
		if digits, found := strings.CutPrefix(tail, ":"); found {
			n := 0
			for n < len(digits) && digits[n] >= '0' && digits[n] <= '9' {
				n++
			}
			if n == 0 || n > 5 {
				return "", "", false
			}
			tail = digits[n:]
		}
		if tail == "" || tail[0] == '/' {
			return host, tail, true
		}
	}
	return "", "", false
}
