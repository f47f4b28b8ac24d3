package provider

import (
	"context"
	"slices"
	"strings"
	"time"
)

// metadata is where a provider's endpoints are.
type metadata struct {
	authorize, token, keys, revoke string
	clientAuth                     []string // of RFC 8414; nil = not said
	issParameter                   bool     // RFC 9207
}

// What Apple and Google publish. Both are stable and are trusted by name, so
// sign-in needs no discovery and works behind an outgoing proxy.
var (
	appleMetadata = metadata{ // #nosec G101 -- addresses
		authorize: "https://appleid.apple.com/auth/authorize", token: "https://appleid.apple.com/auth/token",
		keys: "https://appleid.apple.com/auth/keys", revoke: "https://appleid.apple.com/auth/revoke",
	}
	googleMetadata = metadata{ // #nosec G101 -- addresses
		authorize: "https://accounts.google.com/o/oauth2/v2/auth", token: "https://oauth2.googleapis.com/token",
		keys: "https://www.googleapis.com/oauth2/v3/certs", revoke: "https://oauth2.googleapis.com/revoke",
	}
)

const (
	appleIssuer  = "https://appleid.apple.com"
	googleIssuer = "https://accounts.google.com"
	googleRISC   = "https://accounts.google.com/.well-known/risc-configuration"
)

// source gives a provider's metadata: fixed, or discovered.
type source interface {
	metadata(context.Context) (metadata, error)
}

type fixed metadata

func (f fixed) metadata(context.Context) (metadata, error) { return metadata(f), nil }

type discovered struct{ doc *cached[metadata] }

func (d discovered) metadata(ctx context.Context) (metadata, error) {
	m, _, err := d.doc.get(ctx)
	return m, err
}

// discover returns a source that reads url, a discovery document that must name
// one of issuers. That is what binds the document to the issuer (OpenID Connect
// Discovery 1.0 §4.3).
func (s *Set) discover(k *caller, url string, issuers ...string) discovered {
	return discovered{cacheOf(s, func(ctx context.Context) (m metadata, fresh time.Duration, err error) {
		a, err := k.document(ctx, url)
		if err != nil {
			return m, 0, err
		}
		var doc discoveryDocument
		if object(a.body, &doc) != nil {
			return m, 0, unavailable(nil, ReasonAnswer, "the discovery document is not as expected")
		}
		if !slices.Contains(issuers, doc.Issuer) {
			return m, 0, misconfigured(nil, ReasonIssuerDiffers, "the discovery document names another issuer; configure the issuer letter by letter as the provider writes it, a slash at its end included")
		}
		if doc.Keys == "" {
			return m, 0, misconfigured(nil, ReasonAnswer, "the discovery document has no jwks_uri")
		}
		for _, endpoint := range []string{doc.Keys, doc.Authorization, doc.Token, doc.Revocation} {
			if endpoint != "" {
				if _, err := k.client(endpoint); err != nil {
					return m, 0, err
				}
			}
		}
		return metadata{
			authorize: doc.Authorization, token: doc.Token, keys: doc.Keys, revoke: doc.Revocation,
			clientAuth: doc.ClientAuth, issParameter: doc.IssParameter,
		}, freshness(a.header), nil
	})}
}

// wellKnown is where an issuer's discovery document is (OpenID Connect Discovery 1.0 §4).
func wellKnown(issuer string) string {
	return strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
}

// keysOf returns the keys that a source names.
func (s *Set) keysOf(name string, k *caller, from source) *cached[keySet] {
	return cacheOf(s, func(ctx context.Context) (keySet, time.Duration, error) {
		set, fresh, err := fetchKeys(ctx, k, from)
		s.metrics.fetched(name, s.clock.Now(), err)
		if err != nil && ctx.Err() == nil {
			s.log.Warn("the keys of a sign-in provider cannot be fetched; known ones stay good until they are too old", "provider", name, "error", err)
		}
		return set, fresh, err
	})
}

func fetchKeys(ctx context.Context, k *caller, from source) (keySet, time.Duration, error) {
	m, err := from.metadata(ctx)
	if err != nil {
		return nil, 0, err
	}
	a, err := k.document(ctx, m.keys)
	if err != nil {
		return nil, 0, err
	}
	set, err := parseKeys(a.body)
	if err != nil {
		return nil, 0, unavailable(err, ReasonAnswer, "the provider's key set cannot be used")
	}
	return set, freshness(a.header), nil
}

func cacheOf[T any](s *Set, fetch func(context.Context) (T, time.Duration, error)) *cached[T] {
	return &cached[T]{clock: s.clock, life: s.life, maxStale: s.maxStale, patience: patience, fetch: fetch}
}
