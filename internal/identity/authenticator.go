package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"landline/internal/clock"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/secret"
)

// How a client can recover from a 401: the member "recoverable" of its body.
const (
	recoverRefresh      = "refresh"            // present the refresh token
	recoverReauthorize  = "reauthenticate"     // let the user sign in
	recoverInstallation = "installation_proof" // re-attach the installation
	recoverNot          = "none"               // correct the request
)

// authenticator is the module.Authenticator of this capability. Everything it
// needs is in memory.
type authenticator struct {
	access  accessTokens
	keys    *secret.Ring
	deny    *denySet
	clock   clock.Clock
	metrics *metrics
	proofs  *proofs

	verified *bounded[[sha256.Size]byte, *verifiedToken]
	seed     maphash.Seed
	upstream *bounded[upstreamKey, *upstreamToken]
}

type verifiedToken struct {
	principal module.Principal
	kid       string
	jkt       string // key that it is bound to
	expires   int64
}

type upstreamKey struct{ session, upstream string }

type upstreamToken struct {
	token     string
	user      string
	formerly  string // the newest of them
	scope     string
	client    string
	anonymous bool
	expires   int64
}

const (
	upstreamLifetime = 60 // seconds; what an upstream can rely on is a third of it
	upstreamRenew    = 20 // seconds before expiry
	maxUpstreamCache = 100_000
)

func newAuthenticator(access accessTokens, deny *denySet, proofs *proofs, clk clock.Clock, m *metrics, tokens int) *authenticator {
	return &authenticator{
		access: access, keys: access.keys, deny: deny, clock: clk, metrics: m, proofs: proofs, seed: maphash.MakeSeed(),
		verified: newBounded[[sha256.Size]byte, *verifiedToken](tokens),
		upstream: newBounded[upstreamKey, *upstreamToken](maxUpstreamCache),
	}
}

// Authenticate is module.Authenticator.Authenticate. The principal is shared by
// all requests with the token: it must not be changed.
func (a *authenticator) Authenticate(r *http.Request) (*module.Principal, error) {
	values := r.Header["Authorization"]
	if len(values) == 0 {
		return nil, nil
	}
	p, err := a.authenticate(r, values)
	if err != nil {
		return nil, a.challenged(values[0], err)
	}
	return p, nil
}

func (a *authenticator) authenticate(r *http.Request, values []string) (*module.Principal, error) {
	if len(values) > 1 {
		return nil, a.malformed("send one Authorization header")
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	switch {
	case !ok || !strings.EqualFold(scheme, "Bearer") && !strings.EqualFold(scheme, "DPoP") || token == "":
		return nil, a.malformed("send Authorization: Bearer and the access token, or DPoP for one that is bound to a key")
	case len(token) > maxJWT:
		return nil, a.malformed("the access token has more than 8192 bytes")
	}
	now := a.clock.Now()
	var room [2048]byte // so that hashing a token of usual length allocates nothing
	sum := sha256.Sum256(append(room[:0], token...))
	hash := binary.LittleEndian.Uint64(sum[:8])
	v, hit := a.verified.get(hash, sum)
	if hit = hit && a.access.trusts(v.kid); !hit {
		c, kid, err := a.access.verify(token, now)
		if err != nil {
			a.metrics.invalid.Inc()
			return nil, problem.New(problem.TokenInvalid, "the access token is not accepted: %s", err.Error()).With("recoverable", recoverRefresh)
		}
		v = &verifiedToken{kid: kid, jkt: c.Confirm.KeyThumbprint, expires: c.Expires, principal: module.Principal{
			UserID: c.Subject, InstallationID: c.Installation, SessionID: c.Session, ClientID: c.Client, Anonymous: c.Anonymous,
			AuthTime: time.Unix(c.AuthTime, 0).UTC(), Methods: c.Methods, ACR: c.ACR, Scopes: limitedTo(c.Scope), ExpiresAt: time.Unix(c.Expires, 0).UTC(), Formerly: c.Formerly, Device: c.Device,
		}}
	}
	if err := a.denied(&v.principal, r.Method); err != nil {
		return nil, err
	}
	if expired(v.expires, now) {
		a.metrics.expired.Inc()
		return nil, problem.New(problem.TokenExpired, "").With("recoverable", recoverRefresh)
	}
	if v.jkt != "" || len(scheme) != len("Bearer") {
		if err := a.bound(r, scheme, token, v.jkt); err != nil {
			return nil, err
		}
	}
	if hit {
		a.metrics.cached.Inc()
	} else {
		a.metrics.verified.Inc()
		a.verified.set(hash, sum, v, func(o *verifiedToken) bool { return expired(o.expires, now) })
	}
	return &v.principal, nil
}

// limitedTo is what a token is good for, nil for all of the app's API.
func limitedTo(scope string) []string {
	all := strings.Fields(scope)
	if slices.Contains(all, module.AllScope) {
		return nil
	}
	return append([]string{}, all...)
}

// denied is the refusal of a token that verifies although its session or user is no more.
// A write of a user who was deleted is gone for good, and says so (L21).
func (a *authenticator) denied(p *module.Principal, method string) error {
	if a.deny.why(p.UserID) != "" { // merged: the session goes on as the account, and a refresh gives its token
		a.metrics.expired.Inc()
		return problem.New(problem.TokenExpired, "the user of this token has become part of an account; refresh, and the session goes on as the account").With("recoverable", recoverRefresh)
	}
	switch a.deny.why(p.SessionID) {
	case "":
		return nil
	case ReasonAccountDeleted:
		a.metrics.revoked.Inc()
		if method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions {
			return problem.New(problem.AccountGone, "").With("recoverable", recoverInstallation)
		}
		return problem.New(problem.AccountDeleted, "").With("recoverable", recoverInstallation)
	}
	a.metrics.revoked.Inc()
	return sessionRevoked(p.Anonymous)
}

// malformed is for a header that no refresh can mend.
func (a *authenticator) malformed(detail string) error {
	a.metrics.invalid.Inc()
	return problem.New(problem.TokenInvalid, detail).With("recoverable", recoverNot)
}

func sessionRevoked(anonymous bool) *problem.Error {
	how := recoverReauthorize
	if anonymous {
		how = recoverInstallation
	}
	return problem.New(problem.SessionRevoked, "").With("recoverable", how)
}

func former(p *module.Principal) string {
	if len(p.Formerly) == 0 {
		return ""
	}
	return p.Formerly[0]
}

func scopeOf(p *module.Principal) string { return strings.Join(p.Scopes, " ") }

var errNoPrincipal = errors.New("identity: an upstream token needs a principal")

// UpstreamToken is module.Authenticator.UpstreamToken. The token is a JWT of
// type landline-identity+jwt with iss, aud (the upstream's name), sub, sid, iid,
// anon, iat, exp and jti, was where users were merged into sub, and scope and
// client_id where the access token is good for less than all of the API. It is good for 20 to 60 seconds.
func (a *authenticator) UpstreamToken(p *module.Principal, upstream string) (string, error) {
	if p == nil {
		return "", errNoPrincipal
	}
	now := a.clock.Now()
	key := upstreamKey{p.SessionID, upstream}
	hash := maphash.Comparable(a.seed, key)
	t, ok := a.upstream.get(hash, key)
	if left := int64(0); ok {
		left = t.expires - now.Unix()
		if left > upstreamRenew && left <= upstreamLifetime && t.user == p.UserID && t.anonymous == p.Anonymous && t.formerly == former(p) && t.scope == scopeOf(p) && t.client == p.ClientID {
			return t.token, nil
		}
	}
	t = &upstreamToken{user: p.UserID, formerly: former(p), scope: scopeOf(p), client: p.ClientID, anonymous: p.Anonymous, expires: now.Unix() + upstreamLifetime}
	b := make([]byte, 0, 384)
	b = append(append(b, `{"iss":`...), jsonString(a.access.issuer)...)
	b = append(append(b, `,"aud":`...), jsonString(upstream)...)
	b = append(append(b, `,"sub":`...), jsonString(p.UserID)...)
	b = append(append(b, `,"sid":`...), jsonString(p.SessionID)...)
	b = append(append(b, `,"iid":`...), jsonString(p.InstallationID)...)
	b = strconv.AppendBool(append(b, `,"anon":`...), p.Anonymous)
	if p.Scopes != nil {
		b = append(append(b, `,"scope":`...), jsonString(t.scope)...)
		b = append(append(b, `,"client_id":`...), jsonString(t.client)...)
	}
	b = appendFormerly(b, strings.Join(p.Formerly, " "))
	b = append(append(b, `,"jti":"`...), rand.Text()...)
	b = strconv.AppendInt(append(b, `","iat":`...), now.Unix(), 10)
	b = strconv.AppendInt(append(b, `,"exp":`...), t.expires, 10)
	var err error
	if t.token, err = signJWT(a.keys, purposeUpstream, typeUpstream, append(b, '}')); err != nil {
		return "", err
	}
	a.upstream.set(hash, key, t, func(o *upstreamToken) bool { return o.expires <= now.Unix() })
	return t.token, nil
}
