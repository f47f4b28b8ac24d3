package identity

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"landline/internal/problem"
	"landline/internal/sqldb"
)

func (s *Service) handleIntrospect(w http.ResponseWriter, r *http.Request) {
	form, by, ok := s.called(w, r)
	if !ok {
		return
	}
	switch {
	case !by.Proven: // anybody who found a token could else ask what it is good for
		refuse(w, tokenRefusal{Error: "invalid_client", Description: "introspection is for clients that authenticate", status: http.StatusUnauthorized,
			challenge: `Basic realm="landline", charset="UTF-8"`})
		return
	case form.Get("token") == "":
		refuse(w, tokenRefusal{Error: "invalid_request", Description: "token is missing"})
		return
	}
	out, err := s.introspect(r.Context(), by, form.Get("token"))
	if err != nil {
		problem.Write(w, r, retryable(err))
		return
	}
	answerJSON(w, http.StatusOK, noStore, out)
}

// introspect tells first-party clients of every token, others of their own.
func (s *Service) introspect(ctx context.Context, by caller, token string) (introspection, error) {
	out, session, err := s.inspect(token)
	if err != nil || session == "" {
		return introspection{}, err
	}
	g, err := s.store.Session(ctx, session)
	if errors.Is(err, sqldb.ErrNotFound) {
		return introspection{}, nil
	}
	if err != nil {
		return introspection{}, err
	}
	now := s.now()
	if g.Session.State != SessionActive || g.User.State != UserActive {
		return introspection{}, nil
	}
	if out.ClientID == "" { // a refresh token
		t, _ := s.refresh.verify(token)
		if now.After(g.Session.RefreshExpiresAt()) || t.version != g.Session.KeyVersion || !g.Session.takes(t.counter) {
			return introspection{}, nil
		}
		out = introspection{Active: true, Scope: g.Session.Scope, ClientID: g.Session.ClientID, Subject: g.User.ID, Issuer: s.app.PublicURL,
			Session: session, Expires: g.Session.RefreshExpiresAt().Unix(), AuthTime: g.Session.AuthTime.Unix()}
		if g.Session.KeyThumbprint != "" {
			out.Confirm = &confirmation{g.Session.KeyThumbprint}
		}
	} else if out.Subject != g.User.ID {
		return introspection{}, nil
	}
	if by.client.ThirdParty && out.ClientID != by.ID {
		return introspection{}, nil
	}
	return out, nil
}

// inspect reads a token without I/O; session is "" for one that is not good.
func (s *Service) inspect(token string) (out introspection, session string, err error) {
	if t, ok := s.refresh.verify(token); ok {
		return introspection{}, t.session, nil
	}
	if s.refresh.early(token) {
		return out, "", errKeyNotHere
	}
	now := s.now()
	audience := s.access
	if aud := audienceOf(token); aud != "" { // tokens for other services come from here too
		for _, c := range s.clients {
			for _, one := range c.Audiences {
				if one == aud {
					audience.audience = aud
				}
			}
		}
	}
	c, _, err := audience.verify(token, now)
	if err != nil || expired(c.Expires, now) || s.revocations.deny.why(c.Session) != "" || s.revocations.deny.why(c.Subject) != "" {
		return out, "", nil
	}
	out = introspection{Active: true, Scope: c.Scope, ClientID: c.Client, TokenType: "Bearer", Subject: c.Subject, Audience: c.Audience, Issuer: c.Issuer,
		ID: c.ID, Session: c.Session, IssuedAt: c.IssuedAt, Expires: c.Expires, AuthTime: c.AuthTime, ACR: c.ACR, Methods: c.Methods}
	if jkt := c.Confirm.KeyThumbprint; jkt != "" {
		out.TokenType, out.Confirm = "DPoP", &confirmation{jkt}
	}
	return out, c.Session, nil
}

// common is what both scopes have.
func common(scope string, client []string) string {
	var out []string
	for _, one := range strings.Fields(scope) {
		for _, may := range client {
			if one == may {
				out = append(out, one)
			}
		}
	}
	return strings.Join(out, " ")
}
