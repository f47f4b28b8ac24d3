package provider

import (
	"net/url"
	"slices"
	"sort"
	"strings"
	"time"

	"landline/internal/config"
)

// Config is the key "providers" of the section "identity".
type Config struct {
	Apple    *AppleConfig              `yaml:"apple" doc:"Sign in with Apple. In requests it is the provider apple."`
	Google   *GoogleConfig             `yaml:"google" doc:"Sign in with Google. In requests it is the provider google."`
	OIDC     map[string]OIDCConfig     `yaml:"oidc" doc:"OpenID Connect issuers that have a discovery document, by name. In requests they are the providers oidc:<name>."`
	External map[string]ExternalConfig `yaml:"external" doc:"Token authorities of the team's own: an app that is signed in there already shows their JWT. In requests they are the providers external:<name>."`
	MaxStale config.Duration           `yaml:"max_stale" doc:"How long a provider's signing keys stay good after they were last fetched, 1h to 7d. While a provider is down, sign-in goes on for this long; a key that the provider withdrew is refused after this long at the latest, mostly within the hour."`
}

// AppleConfig is Sign in with Apple.
type AppleConfig struct {
	ClientIDs     []string      `yaml:"client_ids" doc:"The bundle ids of the apps, and the Services ID of the web: whose tokens are taken." example:"[com.example.flights, com.example.flights.web]" required:"true" max:"50"`
	WebClientID   string        `yaml:"web_client_id" doc:"The Services ID with which hosted pages and the web sign in; one of client_ids. Empty: no sign-in by redirect." example:"com.example.flights.web"`
	TeamID        string        `yaml:"team_id" doc:"Ten characters, on Apple's membership page. With key_id and private_key authorization codes are exchanged, which is what account deletion needs to revoke Apple's tokens." example:"ABCDE12345"`
	KeyID         string        `yaml:"key_id" doc:"The id of the key for Sign in with Apple." example:"FGHIJ67890"`
	PrivateKey    config.Secret `yaml:"private_key" doc:"The key itself, the .p8 file that Apple gives once." example:"${file:apple.p8}"`
	RedirectURIs  []string      `yaml:"redirect_uris" doc:"Addresses that Apple may send users back to, as registered there." example:"[https://api.example.com/auth/callback]" max:"50"`
	NonceOptional bool          `yaml:"nonce_optional" doc:"Take tokens that have no nonce. Tokens are good for one use in any case; a nonce binds them to the sign-in that asked for them."`
	StandIn       string        `yaml:"stand_in" doc:"The address of an issuer on this machine that plays Apple, for tests and development. Refused in production." example:"http://127.0.0.1:9400"`
}

// GoogleConfig is Sign in with Google.
type GoogleConfig struct {
	ClientIDs         []string      `yaml:"client_ids" doc:"The OAuth client ids of the apps and the web: whose tokens are taken. Android apps ask for tokens of the web client id." example:"[1234-web.apps.googleusercontent.com, 1234-ios.apps.googleusercontent.com]" required:"true" max:"50"`
	WebClientID       string        `yaml:"web_client_id" doc:"The client id that client_secret belongs to; one of client_ids. With it codes are exchanged and hosted pages sign in." example:"1234-web.apps.googleusercontent.com"`
	ClientSecret      config.Secret `yaml:"client_secret" doc:"The secret of web_client_id." example:"${GOOGLE_CLIENT_SECRET}"`
	RedirectURIs      []string      `yaml:"redirect_uris" doc:"Addresses that Google may send users back to, as registered there. Codes of the Android and iOS SDKs and of Google's pop-up need none." example:"[https://api.example.com/auth/callback]" max:"50"`
	HostedDomains     []string      `yaml:"hosted_domains" doc:"Take accounts of these Google Workspace domains only. Empty: all accounts." example:"[example.com]" max:"100"`
	AuthorizedParties []string      `yaml:"authorized_parties" doc:"Client ids that may ask for a token of one of client_ids (the claim azp). Empty: any of the same Google Cloud project, as Google itself makes sure." max:"50"`
	NonceOptional     bool          `yaml:"nonce_optional" doc:"Take tokens that have no nonce, for older Google SDKs that cannot pass one. Tokens are good for one use in any case."`
	StandIn           string        `yaml:"stand_in" doc:"The address of an issuer on this machine that plays Google, for tests and development. Refused in production." example:"http://127.0.0.1:9400"`
}

// OIDCConfig is one OpenID Connect issuer.
type OIDCConfig struct {
	Issuer            string        `yaml:"issuer" doc:"The issuer, letter by letter as its discovery document has it; that is read from below it, at /.well-known/openid-configuration." example:"https://login.example.com" required:"true"`
	ClientIDs         []string      `yaml:"client_ids" doc:"Whose tokens are taken. With the first one codes are exchanged and hosted pages sign in." example:"[flights]" required:"true" max:"50"`
	ClientSecret      config.Secret `yaml:"client_secret" doc:"The secret of the first client id. Empty: a public client, which has PKCE alone." example:"${ACME_CLIENT_SECRET}"`
	ClientAuth        string        `yaml:"client_auth" doc:"How the secret is sent: basic (in the header), post (in the form), auto (basic, unless the discovery document offers post alone)." enum:"auto,basic,post"`
	RedirectURIs      []string      `yaml:"redirect_uris" doc:"Addresses that the issuer may send users back to, those of the apps included, as registered there." example:"[https://api.example.com/auth/callback, com.example.flights:/callback]" max:"50"`
	Scopes            []string      `yaml:"scopes" doc:"What hosted pages ask for." example:"[openid, email, profile]" max:"20"`
	Algorithms        []string      `yaml:"algorithms" doc:"Signature algorithms that are taken." enum:"RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA"`
	AuthorizedParties []string      `yaml:"authorized_parties" doc:"Client ids beside client_ids that may ask for a token of one of client_ids (the claim azp)." max:"50"`
	NonceOptional     bool          `yaml:"nonce_optional" doc:"Take tokens that have no nonce. Tokens are good for one use in any case."`
	TrustedHosts      []string      `yaml:"trusted_hosts" doc:"Hosts, with :port if it is not 443, that the discovery document may name though they are not public. The issuer's own host and port need not be listed." example:"[keys.internal:8443]" max:"20"`
}

// Defaults implements config.Defaulter.
func (c *OIDCConfig) Defaults() {
	c.ClientAuth = "auto"
	c.Scopes = []string{"openid", "email", "profile"}
	c.Algorithms = []string{"RS256", "PS256", "ES256", "EdDSA"}
}

// ExternalConfig is one token authority of the team's own.
type ExternalConfig struct {
	Issuer             string          `yaml:"issuer" doc:"The claim iss of its tokens, letter by letter." example:"https://accounts.example.com" required:"true"`
	Audiences          []string        `yaml:"audiences" doc:"Values of the claim aud that are taken. A token that has others as well is refused." example:"[flights-api]" required:"true" max:"50"`
	JWKSURL            string          `yaml:"jwks_url" doc:"Where its public keys are, a JWK Set. Either this or keys." example:"https://accounts.example.com/jwks.json"`
	Keys               string          `yaml:"keys" doc:"Its public keys themselves: a JWK Set, a JWK or PEM blocks PUBLIC KEY. Either this or jwks_url." example:"${file:accounts.pem}"`
	Algorithms         []string        `yaml:"algorithms" doc:"Signature algorithms that are taken. Shared secrets (HS256) are not: who can check such a token can make one." enum:"RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA"`
	Types              []string        `yaml:"types" doc:"Values of the header typ that are taken. A token without one counts as JWT; add at+jwt for access tokens of RFC 9068." example:"[JWT]" max:"10"`
	SubjectClaim       string          `yaml:"subject_claim" doc:"The claim that names the person, for ever and never for another one: a text or a whole number."`
	EmailClaim         string          `yaml:"email_claim" doc:"The claim with the e-mail address. Empty: none is read." example:"email"`
	EmailVerifiedClaim string          `yaml:"email_verified_claim" doc:"The claim that says whether the address was verified. Empty: it never was." example:"email_verified"`
	MaxAge             config.Duration `yaml:"max_age" doc:"How long after it was issued (iat) a token opens an account, 1m to 24h."`
}

// Defaults implements config.Defaulter.
func (c *ExternalConfig) Defaults() {
	c.Algorithms = []string{"RS256", "PS256", "ES256", "EdDSA"}
	c.Types = []string{"JWT"}
	c.SubjectClaim = "sub"
	c.MaxAge = config.Duration(idTokenAge)
}

// DefaultConfig has no provider.
func DefaultConfig() Config {
	return Config{OIDC: map[string]OIDCConfig{}, External: map[string]ExternalConfig{}, MaxStale: config.Duration(24 * time.Hour)}
}

// StandIns returns the configuration keys, below providers, under which something
// plays Apple or Google. There must be none in production.
func (c *Config) StandIns() []string {
	var keys []string
	if c.Apple != nil && c.Apple.StandIn != "" {
		keys = append(keys, "apple.stand_in")
	}
	if c.Google != nil && c.Google.StandIn != "" {
		keys = append(keys, "google.stand_in")
	}
	return keys
}

// Check reports what ties providers together.
func (c *Config) Check(v *config.Validator) {
	if c.MaxStale.D() < time.Hour || c.MaxStale.D() > 7*24*time.Hour {
		v.At("max_stale").Fault("the default suits most", "must be 1h to 7d, is %s", c.MaxStale)
	}
	issuers := map[string]string{appleIssuer: "apple", googleIssuer: "google", "accounts.google.com": "google"}
	if c.Apple == nil {
		delete(issuers, appleIssuer)
	}
	if c.Google == nil {
		delete(issuers, googleIssuer)
		delete(issuers, "accounts.google.com")
	}
	if c.Apple != nil && c.Google != nil && c.Apple.StandIn != "" && strings.TrimSuffix(c.Apple.StandIn, "/") == strings.TrimSuffix(c.Google.StandIn, "/") {
		v.At("google", "stand_in").Fault("start two stand-ins", "the same as apple.stand_in: a person of one would be a person of the other")
	}
	one := func(at *config.Validator, name, key, issuer string) {
		if !validName(name) {
			at.Fault("write for example acme", "a name has 1 to 40 characters of a-z 0-9 - _ and begins with a letter or digit")
		}
		if other, taken := issuers[issuer]; taken && issuer != "" {
			at.At("issuer").Fault("give an issuer to one provider; a provider can have several client ids", "is the issuer of %s too: one person would have two identities", other)
		}
		issuers[issuer] = key
	}
	for _, name := range sorted(c.OIDC) {
		one(v.At("oidc", name), name, "oidc."+name, c.OIDC[name].Issuer)
	}
	for _, name := range sorted(c.External) {
		one(v.At("external", name), name, "external."+name, c.External[name].Issuer)
	}
}

// Check reports what does not fit together.
func (c *AppleConfig) Check(v *config.Validator) {
	checkTexts(v.At("client_ids"), c.ClientIDs, 255)
	checkWebClient(v, c.WebClientID, c.ClientIDs)
	checkRedirects(v.At("redirect_uris"), c.RedirectURIs)
	checkStandIn(v.At("stand_in"), c.StandIn)
	all := c.TeamID != "" && c.KeyID != "" && c.PrivateKey.Reveal() != ""
	if any := c.TeamID != "" || c.KeyID != "" || c.PrivateKey.Reveal() != ""; any && !all {
		v.Fault("write all three or none", "team_id, key_id and private_key belong together")
	}
	if c.PrivateKey.Reveal() != "" {
		if _, err := parseAppleKey(c.PrivateKey.Reveal()); err != nil {
			v.At("private_key").Fault("take the .p8 file as Apple gave it", "%s", err)
		}
	}
	if c.WebClientID != "" && !all {
		v.At("web_client_id").Fault("add team_id, key_id and private_key", "sign-in by redirect exchanges codes, which needs the team's key")
	}
}

// Check reports what does not fit together.
func (c *GoogleConfig) Check(v *config.Validator) {
	checkTexts(v.At("client_ids"), c.ClientIDs, 255)
	checkTexts(v.At("authorized_parties"), c.AuthorizedParties, 255)
	checkWebClient(v, c.WebClientID, c.ClientIDs)
	checkRedirects(v.At("redirect_uris"), c.RedirectURIs)
	checkStandIn(v.At("stand_in"), c.StandIn)
	if (c.WebClientID == "") != (c.ClientSecret.Reveal() == "") {
		v.Fault("write both or none", "web_client_id and client_secret belong together")
	}
	for i, domain := range c.HostedDomains {
		if domain == "" || domain != strings.ToLower(domain) || strings.ContainsAny(domain, "@/ ") {
			v.At("hosted_domains", i).Fault("write for example example.com", "must be a domain in lower case")
		}
	}
}

// Check reports what does not fit together.
func (c *OIDCConfig) Check(v *config.Validator) {
	checkURL(v.At("issuer"), c.Issuer)
	checkTexts(v.At("client_ids"), c.ClientIDs, 255)
	checkTexts(v.At("authorized_parties"), c.AuthorizedParties, 255)
	checkRedirects(v.At("redirect_uris"), c.RedirectURIs)
	checkHosts(v.At("trusted_hosts"), c.TrustedHosts)
	checkTexts(v.At("scopes"), c.Scopes, 100)
	if !slices.Contains(c.Scopes, "openid") {
		v.At("scopes").Fault("add openid", "without the scope openid there is no ID token")
	}
	if len(c.Algorithms) == 0 {
		v.At("algorithms").Fault("leave the key out for the usual ones", "no algorithm is taken")
	}
}

// Check reports what does not fit together.
func (c *ExternalConfig) Check(v *config.Validator) {
	if len(c.Issuer) > maxURL {
		v.At("issuer").Fault("", "has more than %d characters", maxURL)
	}
	checkTexts(v.At("audiences"), c.Audiences, 255)
	checkTexts(v.At("types"), c.Types, 100)
	switch {
	case (c.JWKSURL == "") == (c.Keys == ""):
		v.Fault("write one of them", "either jwks_url or keys says how its tokens are checked")
	case c.JWKSURL != "":
		checkURL(v.At("jwks_url"), c.JWKSURL)
	default:
		if _, err := parseStaticKeys(c.Keys); err != nil {
			v.At("keys").Fault("write ${file:keys.pem}", "%s", err)
		}
	}
	if len(c.Algorithms) == 0 {
		v.At("algorithms").Fault("leave the key out for the usual ones", "no algorithm is taken")
	}
	if len(c.Types) == 0 {
		v.At("types").Fault("leave the key out for JWT", "no type is taken")
	}
	if c.SubjectClaim == "" || len(c.SubjectClaim) > 100 {
		v.At("subject_claim").Fault("the default is sub", "must be the name of a claim")
	}
	if c.MaxAge.D() < time.Minute || c.MaxAge.D() > 24*time.Hour {
		v.At("max_age").Fault("the default suits most", "must be 1m to 24h, is %s", c.MaxAge)
	}
}

func checkTexts(v *config.Validator, texts []string, max int) {
	for i, s := range texts {
		if s == "" || len(s) > max || strings.TrimSpace(s) != s {
			v.At(i).Fault("", "must have 1 to %d characters and no space around it", max)
		}
		if slices.Index(texts, s) < i {
			v.At(i).Fault("", "is listed twice")
		}
	}
}

func checkWebClient(v *config.Validator, web string, all []string) {
	if web != "" && !slices.Contains(all, web) {
		v.At("web_client_id").Fault("add it to client_ids", "is not one of client_ids")
	}
}

func checkHosts(v *config.Validator, hosts []string) {
	for i, host := range hosts {
		u, err := url.Parse("https://" + host)
		if err != nil || u.Host != host || u.Hostname() == "" {
			v.At(i).Fault("write for example keys.internal:8443", "must be a host, with a port if it is not 443")
		}
	}
}

// checkRedirects takes https, http on this machine, and an app's own scheme (RFC 8252 §7).
func checkRedirects(v *config.Validator, uris []string) {
	for i, raw := range uris {
		u, err := url.Parse(raw)
		switch {
		case err != nil || len(raw) > maxURL || u.Fragment != "" || u.User != nil || u.Scheme == "":
			v.At(i).Fault("write for example https://api.example.com/auth/callback", "must be an absolute URI without fragment")
		case u.Scheme == "https" && u.Host != "" || u.Scheme == "http" && isLoopback(u.Hostname()):
		case !strings.Contains(u.Scheme, "."):
			v.At(i).Fault("write https://…, or for an app com.example.flights:/callback", "must be https, http on this machine, or a scheme made of a domain of yours (RFC 8252)")
		}
	}
}

func checkStandIn(v *config.Validator, raw string) {
	if raw == "" {
		return
	}
	if u, err := url.Parse(raw); err != nil || !isLoopback(u.Hostname()) || u.Scheme != "http" && u.Scheme != "https" {
		v.Fault("write for example http://127.0.0.1:9400", "must be an address of this machine")
	}
}

func checkURL(v *config.Validator, raw string) {
	u, err := url.Parse(raw)
	switch {
	case raw == "": // required says it
	case err != nil || len(raw) > maxURL || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		v.Fault("write for example https://login.example.com", "must be a URL without user, query and fragment")
	case u.Scheme == "http" && isLoopback(u.Hostname()):
	case u.Scheme != "https":
		v.Fault("http is for an issuer on this machine", "must begin with https://")
	}
}

func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || i > 0 && (c == '-' || c == '_')) {
			return false
		}
	}
	return s != "" && len(s) <= 40
}

func sorted[T any](m map[string]T) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
