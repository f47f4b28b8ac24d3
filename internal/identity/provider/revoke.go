package provider

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"landline/internal/config"
)

// Outcome is what a provider said when it was asked to revoke.
type Outcome string

// The outcomes.
const (
	// Accepted: the provider answered 200. That is a fact to be recorded, not proof
	// that anything was revoked: RFC 7009 §2.2 and Apple answer 200 for tokens that
	// they do not know as well.
	Accepted Outcome = "accepted"
	// NotValid: the provider said that the token is not valid, or no longer.
	NotValid Outcome = "not_valid"
)

// Revocation records that a provider was asked to revoke a token.
type Revocation struct {
	Provider string
	At       time.Time
	Status   int // of HTTP
	Outcome  Outcome
}

// CanRevoke reports whether the provider has a revocation endpoint. It may have to
// be asked.
func (p *Provider) CanRevoke(ctx context.Context) (bool, error) {
	if p.source == nil || !p.client.code {
		return false, nil
	}
	m, err := p.source.metadata(ctx)
	if err != nil {
		return false, p.from(err)
	}
	return m.revoke != "", nil
}

// Revoke asks the provider to revoke a refresh token that Exchange returned;
// clientID is Claims.ClientID of then. After ErrUnavailable it may be asked again;
// doing so twice does no harm. Its errors are *Error.
func (p *Provider) Revoke(ctx context.Context, token config.Secret, clientID string) (Revocation, error) {
	r, err := p.revoke(ctx, token.Reveal(), clientID)
	count(p.set.metrics.revocations, p.name, err)
	if err != nil {
		return r, p.from(err)
	}
	return r, nil
}

func (p *Provider) revoke(ctx context.Context, token, clientID string) (r Revocation, err error) {
	if p.source == nil || !p.client.code {
		return r, misconfigured(nil, ReasonUnsupported, "this provider is not configured to exchange codes, so there is nothing to revoke")
	}
	if clientID == "" {
		clientID = p.client.id
	}
	switch {
	case token == "" || len(token) > maxToken:
		return r, refuse(ReasonMissing, "the token has no or more than %d bytes", maxToken)
	case !slices.Contains(p.rules.clientIDs, clientID):
		return r, misconfigured(nil, ReasonClientID, "the client id that the token was given to is not configured any more")
	}
	m, err := p.source.metadata(ctx)
	if err != nil {
		return r, err
	}
	if m.revoke == "" {
		return r, misconfigured(nil, ReasonUnsupported, "the provider has no revocation endpoint; the user ends the access in the provider's settings")
	}
	form := url.Values{"token": {token}, "token_type_hint": {"refresh_token"}}
	header, err := p.authenticate(m, clientID, form)
	if err != nil {
		return r, err
	}
	a, err := p.call.form(ctx, m.revoke, form, header)
	if err != nil {
		return r, err
	}
	r = Revocation{Provider: p.name, At: p.set.clock.Now(), Status: a.status, Outcome: Accepted}
	if a.status == http.StatusOK || a.status == http.StatusNoContent {
		return r, nil
	}
	var answer tokenAnswer
	if object(a.body, &answer) == nil && (answer.Error == "invalid_token" || answer.Error == "invalid_grant") {
		r.Outcome = NotValid
		return r, nil
	}
	return Revocation{}, refusedBy(a.status, answer.Error)
}
