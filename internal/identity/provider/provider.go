package provider

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/clock"
	"landline/internal/config"
)

// DefaultTimeout bounds one call of a provider.
const DefaultTimeout = 5 * time.Second

// Options are what a Set is made with beside its configuration.
type Options struct {
	Clock   clock.Clock           // nil = clock.System
	Log     *slog.Logger          // nil = nobody
	Metrics prometheus.Registerer // nil = none
	Timeout time.Duration         // of one call of a provider; 0 = DefaultTimeout
}

// Set is the sign-in providers of a configuration. It is safe for concurrent use.
type Set struct {
	clock    clock.Clock
	log      *slog.Logger
	metrics  metrics
	maxStale time.Duration
	life     *life
	clients  clients
	byName   map[string]*Provider
}

// New returns the providers of c, which was checked. It makes no calls: a provider
// is asked when it is first needed. Errors are of keys that cannot be read.
func New(c Config, o Options) (*Set, error) {
	if o.Clock == nil {
		o.Clock = clock.System
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	s := &Set{
		clock: o.Clock, log: o.Log, metrics: newMetrics(o.Metrics), maxStale: c.MaxStale.D(),
		life: newLife(), clients: newClients(o.Timeout, o.Log, o.Metrics), byName: map[string]*Provider{},
	}
	if s.maxStale <= 0 {
		s.maxStale = DefaultConfig().MaxStale.D()
	}
	if c.Apple != nil {
		if err := s.addApple(*c.Apple); err != nil {
			return nil, err
		}
	}
	if c.Google != nil {
		s.addGoogle(*c.Google)
	}
	for name, oidc := range c.OIDC {
		s.addOIDC("oidc:"+name, oidc)
	}
	for name, external := range c.External {
		if err := s.addExternal("external:"+name, external); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Get returns the provider that requests call name: apple, google, oidc:<name>,
// external:<name>.
func (s *Set) Get(name string) (*Provider, bool) {
	p, ok := s.byName[name]
	return p, ok
}

// All returns the providers by name.
func (s *Set) All() []*Provider {
	all := make([]*Provider, 0, len(s.byName))
	for _, name := range sorted(s.byName) {
		all = append(all, s.byName[name])
	}
	return all
}

// Close ends the fetches that run and waits for them.
func (s *Set) Close() {
	s.life.end()
	s.clients.close()
}

// Provider is one way to prove who somebody is.
type Provider struct {
	name   string
	set    *Set
	call   *caller
	source source // nil: there are no endpoints
	keys   keySource
	rules  rules

	client       client
	redirectURIs []string
	redirects    bool   // Begin works
	webClient    string // of Begin; "" = client.id
	scopes       []string
	formPost     bool
	callbackIss  []string // RFC 9207
	notices      *noticeRules
}

// client is our side of the token endpoint.
type client struct {
	id     string                          // with which codes are exchanged if none is named
	secret func(id string) (string, error) // nil = none (PKCE alone)
	anyID  bool                            // secret can be made for every client id; else it is id's
	auth   string                          // auto, basic, post
	code   bool                            // codes can be exchanged
	google bool                            // redirect_uri may be empty or "postmessage"
}

// public reports whether the provider knows a client by nothing but PKCE.
func (c client) public(id string) bool { return c.secret == nil || !c.anyID && id != c.id }

// Name is what requests call the provider.
func (p *Provider) Name() string { return p.name }

// Issuer is the canonical issuer, the first half of an identity.
func (p *Provider) Issuer() string { return p.rules.issuers[0] }

// TakesCodes reports whether Exchange works.
func (p *Provider) TakesCodes() bool { return p.client.code }

// TakesRedirects reports whether Begin works.
func (p *Provider) TakesRedirects() bool { return p.redirects }

// SendsBackTo reports whether the provider is configured to send users back to uri.
func (p *Provider) SendsBackTo(uri string) bool {
	return p.redirects && slices.Contains(p.redirectURIs, uri)
}

// TakesNotices reports whether Notices works.
func (p *Provider) TakesNotices() bool { return p.notices != nil }

// Ready fetches the provider's keys if they are not known, for a start-up check or
// a health page.
func (p *Provider) Ready(ctx context.Context) error {
	if _, _, err := p.keys.get(ctx); err != nil {
		return p.from(err)
	}
	return nil
}

// Token is what an app got from the provider's SDK.
type Token struct {
	IDToken string // compact JWS, at most 8 KiB
	Nonce   string // as the app made it, before any hashing; "" = there was none
}

// Verify returns the claims of a token. Its errors are *Error. The caller stores
// ReplayID: a token is good once.
func (p *Provider) Verify(ctx context.Context, t Token) (*Claims, error) {
	claims, err := p.verify(ctx, t)
	count(p.set.metrics.tokens, p.name, err)
	if err != nil {
		return nil, p.from(err)
	}
	return claims, nil
}

func (p *Provider) verify(ctx context.Context, t Token) (*Claims, error) {
	o, err := open(t.IDToken, p.rules.algorithms, p.rules.types)
	if err != nil {
		return nil, err
	}
	// What costs nothing comes first: a token of somebody else makes no fetch.
	claims, err := p.rules.check(o, t.Nonce, p.set.clock.Now())
	if err != nil {
		return nil, err
	}
	if err := o.verify(ctx, p.keys, claims.IssuedAt); err != nil {
		return nil, err
	}
	return claims, nil
}

var idTokenTypes = []string{"", "JWT"}

func (s *Set) addApple(c AppleConfig) error {
	p := &Provider{
		name: "apple", set: s, source: fixed(appleMetadata), formPost: true, scopes: []string{"name", "email"},
		redirectURIs: c.RedirectURIs, redirects: c.WebClientID != "", webClient: c.WebClientID, callbackIss: []string{appleIssuer},
		rules: rules{
			provider: "apple", issuers: []string{appleIssuer}, clientIDs: c.ClientIDs, algorithms: []string{"RS256"},
			types: idTokenTypes, maxAge: idTokenAge, nonce: nonceApple, nonceNeeded: !c.NonceOptional,
			subject: "sub", email: "email", emailVerified: "email_verified", apple: true,
		},
		client: client{id: first(c.ClientIDs), anyID: true, auth: "post", code: c.TeamID != ""},
	}
	s.standIn(p, c.StandIn, appleMetadata)
	if c.TeamID != "" {
		key, err := parseAppleKey(c.PrivateKey.Reveal())
		if err != nil {
			return fmt.Errorf("provider apple: private_key %w", err)
		}
		p.client.secret = p.appleSecret(c.TeamID, c.KeyID, key)
	}
	p.keys = s.keysOf(p.name, p.call, p.source)
	p.notices = &noticeRules{keys: p.keys, issuers: p.rules.issuers, read: appleNotices}
	s.byName[p.name] = p
	return nil
}

func (p *Provider) appleSecret(team, kid string, key *ecdsa.PrivateKey) func(string) (string, error) {
	audience := p.rules.issuers[0]
	return func(clientID string) (string, error) {
		return appleClientSecret(key, kid, team, clientID, audience, p.set.clock.Now())
	}
}

func (s *Set) addGoogle(c GoogleConfig) {
	p := &Provider{
		name: "google", set: s, source: fixed(googleMetadata), scopes: []string{"openid", "email", "profile"},
		redirectURIs: c.RedirectURIs, redirects: c.WebClientID != "", callbackIss: []string{googleIssuer},
		rules: rules{
			provider: "google", issuers: []string{googleIssuer, "accounts.google.com"}, clientIDs: c.ClientIDs,
			parties: c.AuthorizedParties, anyParty: len(c.AuthorizedParties) == 0, algorithms: []string{"RS256"},
			types: idTokenTypes, maxAge: idTokenAge, nonceNeeded: !c.NonceOptional, hostedDomains: c.HostedDomains,
			subject: "sub", email: "email", emailVerified: "email_verified",
		},
		client: client{id: c.WebClientID, auth: "post", code: c.WebClientID != "", google: true, secret: plain(c.ClientSecret)},
	}
	risc := googleRISC
	if c.StandIn != "" {
		risc = strings.TrimSuffix(c.StandIn, "/") + "/.well-known/risc-configuration"
	}
	s.standIn(p, c.StandIn, googleMetadata)
	p.keys = s.keysOf(p.name, p.call, p.source)
	issuers := slashed(p.rules.issuers)
	p.notices = &noticeRules{
		keys:    s.keysOf("google notices", p.call, s.discover(p.call, risc, issuers...)),
		issuers: issuers, read: securityEvents,
	}
	s.byName[p.name] = p
}

// standIn sets up p's calls; with url somebody on this machine plays the provider.
func (s *Set) standIn(p *Provider, url string, real metadata) {
	if url == "" {
		p.call = newCaller(s.clients, []string{real.authorize, real.token, real.keys, real.revoke}, nil)
		return
	}
	p.call = newCaller(s.clients, []string{url}, nil)
	p.rules.issuers, p.callbackIss = []string{url}, []string{url}
	p.source = s.discover(p.call, wellKnown(url), url)
}

// slashed adds the forms with a slash at the end, in which Google writes its
// issuer in notices.
func slashed(issuers []string) []string {
	out := slices.Clone(issuers)
	for _, issuer := range issuers {
		out = append(out, issuer+"/")
	}
	return out
}

func (s *Set) addOIDC(name string, c OIDCConfig) {
	p := &Provider{
		name: name, set: s, scopes: c.Scopes, redirectURIs: c.RedirectURIs, redirects: true, callbackIss: []string{c.Issuer},
		call: newCaller(s.clients, []string{c.Issuer}, c.TrustedHosts),
		rules: rules{
			provider: name, issuers: []string{c.Issuer}, clientIDs: c.ClientIDs, parties: c.AuthorizedParties,
			algorithms: c.Algorithms, types: idTokenTypes, maxAge: idTokenAge, nonceNeeded: !c.NonceOptional,
			subject: "sub", email: "email", emailVerified: "email_verified",
		},
		client: client{id: first(c.ClientIDs), auth: c.ClientAuth, code: true, secret: plain(c.ClientSecret)},
	}
	p.source = s.discover(p.call, wellKnown(c.Issuer), c.Issuer)
	p.keys = s.keysOf(name, p.call, p.source)
	s.byName[name] = p
}

func (s *Set) addExternal(name string, c ExternalConfig) error {
	p := &Provider{
		name: name, set: s,
		rules: rules{
			provider: name, issuers: []string{c.Issuer}, clientIDs: c.Audiences, anyParty: true,
			algorithms: c.Algorithms, types: slices.Clone(c.Types), maxAge: c.MaxAge.D(), nonce: nonceIfPresent,
			subject: c.SubjectClaim, email: c.EmailClaim, emailVerified: c.EmailVerifiedClaim,
		},
	}
	if slices.ContainsFunc(c.Types, func(t string) bool { return strings.EqualFold(t, "JWT") }) {
		p.rules.types = append(p.rules.types, "")
	}
	if c.JWKSURL != "" {
		p.call = newCaller(s.clients, []string{c.JWKSURL}, nil)
		p.keys = s.keysOf(name, p.call, fixed{keys: c.JWKSURL})
	} else {
		set, err := parseStaticKeys(c.Keys)
		if err != nil {
			return fmt.Errorf("provider %s: keys: %w", name, err)
		}
		p.keys = staticKeys(set)
	}
	s.byName[name] = p
	return nil
}

// first is "" of none: Config.Check does not let that pass.
func first(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return ids[0]
}

// plain is a secret that is sent as it is; nil when there is none.
func plain(secret config.Secret) func(string) (string, error) {
	if secret.Reveal() == "" {
		return nil
	}
	return func(string) (string, error) { return secret.Reveal(), nil }
}
