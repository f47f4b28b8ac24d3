package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"landline/internal/audit"
	"landline/internal/sqldb"
)

const (
	tokenPath = "/oauth/token" // #nosec G101 -- a path

	grantCode     = "authorization_code"
	grantExchange = "urn:ietf:params:oauth:grant-type:token-exchange"

	codeLife   = 60 * time.Second
	replayKeep = time.Hour // how long after its use a code's replay is still noticed
	maxGrants  = 20        // sessions of one user with one client

	kindAuthCode = "oauth.code"
)

// codeID is what a code is stored under.
func (s *Service) codeID(code string) (string, error) { return s.blind("oauth code\x00" + code) }

// newCode stores c, with consent where the user has just given it, and returns the code.
func (s *Service) newCode(ctx context.Context, c codeState, consent *Consent) (string, error) {
	code := rand.Text() + rand.Text()
	key, err := s.codeID(code)
	if err != nil {
		return "", err
	}
	c.Expires = s.now().Add(codeLife)
	state, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	change := Change{Challenges: []Challenge{{ID: key, Kind: kindAuthCode, State: state, ExpiresAt: c.Expires.Add(replayKeep)}}, Consent: consent}
	if consent != nil {
		change.Audit = append(change.Audit, userEntry(ctx, c.User, "consent.grant", c.Client, "", map[string]string{"scope": consent.Scope}))
	}
	done, err := s.store.Apply(ctx, change)
	if err == nil && !done {
		err = errors.New("identity: an authorization code was made twice")
	}
	return code, err
}

// invalidGrant is why a code, or what it stands for, is refused.
func invalidGrant(description string) *tokenRefusal {
	return &tokenRefusal{Error: "invalid_grant", Description: description}
}

// granted is what the code grant gives.
type granted struct {
	Tokens  Tokens
	IDToken string
	Refresh bool // the client may have the refresh token
}

// redeem is the authorization code grant (RFC 6749 §4.1.3, RFC 7636 §4.6, RFC 9449 §10).
func (s *Service) redeem(ctx context.Context, by caller, form url.Values) (granted, *tokenRefusal, error) {
	code, verifier := form.Get("code"), form.Get("code_verifier")
	switch {
	case by.ID == "":
		return granted{}, &tokenRefusal{Error: "invalid_request", Description: "client_id is missing"}, nil
	case by.client == nil:
		return granted{}, invalidGrant("the code is not valid"), nil
	case code == "":
		return granted{}, &tokenRefusal{Error: "invalid_request", Description: "code is missing"}, nil
	case !validVerifier(verifier):
		return granted{}, &tokenRefusal{Error: "invalid_request", Description: "code_verifier is missing, or has not 43 to 128 characters of A-Z a-z 0-9 - . _ ~ (RFC 7636)"}, nil
	case by.client.DPoP && by.KeyProof == "":
		return granted{}, needsProof, nil
	}
	key, err := s.codeID(code)
	if err != nil {
		return granted{}, nil, err
	}
	for range maxTries {
		out, refused, err := s.redeemOnce(ctx, by, key, verifier, form.Get("redirect_uri"))
		if err != nil || refused != nil || out.Tokens.Access != "" {
			return out, refused, err
		}
	}
	return granted{}, nil, errors.New("identity: the code is being used by too many requests at once")
}

// needsProof refuses a client whose tokens must be bound.
var needsProof = &tokenRefusal{Error: "invalid_dpop_proof", Description: "this client's tokens are bound to a key: send a DPoP proof"}

// redeemOnce returns nothing when somebody else was faster: to be looked at again.
func (s *Service) redeemOnce(ctx context.Context, by caller, key, verifier, redirect string) (out granted, refused *tokenRefusal, err error) {
	bad := invalidGrant("the code is not valid, or no longer")
	ch, err := s.store.Challenge(ctx, key)
	if errors.Is(err, sqldb.ErrNotFound) {
		return out, bad, nil
	}
	if err != nil {
		return out, nil, err
	}
	var c codeState
	if ch.Kind != kindAuthCode || json.Unmarshal(ch.State, &c) != nil {
		return out, bad, nil
	}
	now := s.now()
	switch {
	case c.Client != by.ID:
		return out, bad, nil
	case c.Granted != "": // one of the two who used it is a thief (RFC 6749 §4.1.2)
		_, err := s.end(ctx, c.Granted, ReasonCodeReplayed, audit.Entry{Action: "session.revoke", Reason: string(ReasonCodeReplayed)})
		return out, invalidGrant("the code was used before; what was issued for it has been revoked"), err
	case !now.Before(c.Expires):
		return out, bad, nil
	case redirect != c.Redirect:
		return out, invalidGrant("redirect_uri is not the one of the authorization request"), nil
	case !proves(verifier, c.Challenge):
		return out, invalidGrant("code_verifier is not the one of the authorization request"), nil
	case c.JKT != "" && c.JKT != by.KeyProof:
		return out, invalidGrant("the code is bound to another key than the proof's"), nil
	}
	signedIn, err := s.store.Session(ctx, c.Session)
	if errors.Is(err, sqldb.ErrNotFound) || err == nil && (signedIn.Session.State != SessionActive || signedIn.User.ID != c.User || signedIn.User.State != UserActive) {
		return out, invalidGrant("the user has signed out meanwhile"), nil
	}
	if err != nil {
		return out, nil, err
	}
	return s.grantCode(ctx, by, ch, c, signedIn.User, now)
}

// grantCode opens the client's session and uses the code up, in one write.
func (s *Service) grantCode(ctx context.Context, by caller, ch Challenge, c codeState, u User, now time.Time) (out granted, refused *tokenRefusal, err error) {
	scopes := strings.Fields(c.Scope)
	out.Refresh = !by.client.ThirdParty || slices.Contains(scopes, scopeOffline)
	i := Installation{ID: newInstallationID(), App: AppInfo{Platform: "oauth", Device: clip(by.client.Name, 128)}, CreatedAt: now, SeenAt: now}
	session, err := s.beginSession(u, i, by.ID, c.Methods, now)
	if err != nil {
		return out, nil, err
	}
	session.AuthTime, session.Scope, session.Via = c.AuthTime, c.Scope, ViaCode
	if by.KeyProof != "" && !by.client.Confidential() {
		session.KeyThumbprint = by.KeyProof
	}
	life := by.client.Session
	if !out.Refresh {
		life = by.client.Access
	}
	session.ExpiresAt = now.Add(min(life, s.config.Refresh.Absolute.D()))
	session.IdleExpiresAt = earlier(session.IdleExpiresAt, session.ExpiresAt)
	c.Granted = session.ID
	if ch.State, err = json.Marshal(c); err != nil {
		return out, nil, err
	}
	ch.ExpiresAt = now.Add(replayKeep)
	change := Change{Active: u.ID, Challenges: []Challenge{ch}, Installation: &i, Session: &session, ProvenAs: c.Session,
		Audit: []audit.Entry{userEntry(ctx, u.ID, "session.create", session.ID, "oauth client "+by.ID, map[string]string{"client": by.ID, "scope": c.Scope})}}
	if change.End, err = s.surplus(ctx, u.ID, by.ID, now); err != nil {
		return out, nil, err
	}
	done, err := s.store.Apply(ctx, change)
	if err != nil || !done {
		return granted{}, nil, err
	}
	for _, e := range change.End {
		s.revocations.announce(ctx, Revocation(e))
		s.metrics.endings.WithLabelValues(string(e.Reason)).Inc()
	}
	if out.Tokens, err = s.tokensFor(Grant{session, u}, c.Scope, by.KeyProof, now); err != nil {
		return out, nil, err
	}
	if slices.Contains(scopes, scopeOpenID) {
		out.IDToken, err = s.idToken(by.client, session, u, c.Nonce, out.Tokens.Access, now)
	}
	return out, nil, err
}

// surplus is the end of the user's oldest sessions with the client, so that a
// client which never ends any does not fill the storage.
func (s *Service) surplus(ctx context.Context, user, client string, now time.Time) (ends []Ending, err error) {
	all, err := s.store.ActiveSessionsOf(ctx, user, 500)
	n := 0
	for _, g := range all { // the newest first
		if g.Session.Via == "" || g.Session.ClientID != client {
			continue
		}
		if n++; n >= maxGrants {
			ends = append(ends, Ending{SessionID: g.Session.ID, Reason: ReasonReplaced, At: now})
		}
	}
	return ends, err
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// validVerifier is RFC 7636 §4.1.
func validVerifier(v string) bool {
	for i := range len(v) {
		c := v[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0) {
			return false
		}
	}
	return len(v) >= 43 && len(v) <= 128
}

// proves is RFC 7636 §4.6 for S256, in constant time.
func proves(verifier, challenge string) bool {
	sum := sha256.Sum256([]byte(verifier))
	return subtle.ConstantTimeCompare([]byte(b64.EncodeToString(sum[:])), []byte(challenge)) == 1
}
