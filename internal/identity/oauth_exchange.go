package identity

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"time"

	"landline/internal/audit"
	"landline/internal/sqldb"
)

const typeAccessToken = "urn:ietf:params:oauth:token-type:access_token" // #nosec G101 -- a name of RFC 8693

// exchanged is a granted token exchange.
type exchanged struct {
	Token string
	For   time.Duration
	Scope string
	Bound bool
}

// isTokenType accepts the two names of what our access tokens are (RFC 8693 §3).
func isTokenType(t string) bool {
	return t == typeAccessToken || t == "urn:ietf:params:oauth:token-type:jwt"
}

// exchange is RFC 8693 for access tokens of ours: a first-party client gets one
// of the same session for itself, for another service, or with less scope. The
// new one never lasts longer and never says more than the old one.
func (s *Service) exchange(ctx context.Context, by caller, form url.Values) (out exchanged, refused *tokenRefusal, err error) {
	bad := func(code, why string) (exchanged, *tokenRefusal, error) {
		return exchanged{}, &tokenRefusal{Error: code, Description: why}, nil
	}
	subjectType, requested := form.Get("subject_token_type"), form.Get("requested_token_type")
	switch {
	case by.ID == "":
		return bad("invalid_request", "client_id is missing")
	case by.client == nil || by.client.ThirdParty:
		return bad("unauthorized_client", "token exchange is for the app's own clients")
	case form.Get("subject_token") == "" || subjectType == "":
		return bad("invalid_request", "subject_token or subject_token_type is missing")
	case !isTokenType(subjectType):
		return bad("invalid_request", "subject_token_type must be "+typeAccessToken)
	case requested != "" && !isTokenType(requested):
		return bad("invalid_request", "requested_token_type must be "+typeAccessToken)
	case (form.Get("actor_token") == "") != (form.Get("actor_token_type") == ""):
		return bad("invalid_request", "actor_token and actor_token_type go together")
	case form.Get("actor_token") != "" && !isTokenType(form.Get("actor_token_type")):
		return bad("invalid_request", "actor_token_type must be "+typeAccessToken)
	case form.Get("resource") != "":
		return bad("invalid_target", "name the target by audience, not by resource")
	case by.client.DPoP && by.KeyProof == "":
		return exchanged{}, needsProof, nil
	}
	now := s.now()
	subject, grant, refused, err := s.exchangeable(ctx, "subject_token", form.Get("subject_token"), now)
	if err != nil || refused != nil {
		return out, refused, err
	}
	if err := s.limitRefresh(ctx, subject.Session); err != nil { // each is an entry of the audit log
		return out, nil, err
	}
	to, scope, refused := s.exchangeFor(by, form, subject)
	if refused != nil {
		return out, refused, nil
	}
	if form.Get("actor_token") != "" {
		actor, _, refused, err := s.exchangeable(ctx, "actor_token", form.Get("actor_token"), now)
		if err != nil || refused != nil {
			return out, refused, err
		}
		to.actor = actor.Subject
	}
	_, err = s.store.Apply(ctx, Change{Audit: []audit.Entry{userEntry(ctx, subject.Subject, "token.exchange", subject.Session, "oauth client "+by.ID,
		map[string]string{"from": subject.Client, "client": by.ID, "audience": to.audience, "scope": scope, "actor": to.actor})}})
	if err != nil {
		return out, nil, err
	}
	out = exchanged{Scope: scope, Bound: to.jkt != ""}
	out.Token, out.For, err = s.access.issue(grant.Session, grant.User, scope, now, to)
	return out, nil, err
}

// exchangeFor is for whom the new token is, and with which scope.
func (s *Service) exchangeFor(by caller, form url.Values, subject claims) (to grantee, scope string, refused *tokenRefusal) {
	to = grantee{client: by.ID, lifetime: by.client.Access, until: time.Unix(subject.Expires, 0), jkt: by.KeyProof, audience: form.Get("audience")}
	scope, ok := narrow(form.Get("scope"), subject.Scope)
	if ok && form.Get("scope") == "" { // what the old token has and this client may have
		scope = common(subject.Scope, by.client.Scopes)
	}
	_, may := by.client.grantable(scope)
	switch jkt := subject.Confirm.KeyThumbprint; {
	case jkt != "" && !by.Proven && jkt != by.KeyProof:
		refused = &tokenRefusal{Error: "invalid_request", Description: "subject_token is bound to a key: send a DPoP proof of it"}
	case to.audience != "" && to.audience != s.app.ID && !slices.Contains(by.client.Audiences, to.audience):
		refused = &tokenRefusal{Error: "invalid_target", Description: "the client may not have tokens for this audience"}
	case !ok || !may || scope == "":
		refused = &tokenRefusal{Error: "invalid_scope", Description: "the subject_token, or the client, has not all of the scope"}
	}
	return to, scope, refused
}

// exchangeable verifies an access token as strictly as the resource server does,
// and that its session is active in the storage.
func (s *Service) exchangeable(ctx context.Context, name, token string, now time.Time) (claims, Grant, *tokenRefusal, error) {
	bad := &tokenRefusal{Error: "invalid_request", Description: name + " is not a valid access token, or no longer (RFC 8693 §2.2.2)"}
	c, _, err := s.access.verify(token, now)
	if err != nil || expired(c.Expires, now) || s.revocations.deny.why(c.Session) != "" || s.revocations.deny.why(c.Subject) != "" {
		return c, Grant{}, bad, nil
	}
	g, err := s.store.Session(ctx, c.Session)
	if errors.Is(err, sqldb.ErrNotFound) || err == nil && (g.Session.State != SessionActive || g.User.State != UserActive || g.User.ID != c.Subject) {
		return c, g, bad, nil
	}
	return c, g, nil, err
}
