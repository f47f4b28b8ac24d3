package identity

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"landline/internal/problem"
)

// caller is who sends a request to an OAuth endpoint.
type caller struct {
	ID       string  // "" = the request does not say
	client   *client // nil = no client of that id is configured
	Proven   bool    // it authenticated
	KeyProof string  // thumbprint of the key that it proves to hold (RFC 9449); "" = none
}

// errClient is a client that does not authenticate as it must.
var errClient = errors.New("the client's authentication is not accepted")

// called reads the form of an endpoint that clients call, and who calls. It
// answers, and returns false, where either is not as it must be.
func (s *Service) called(w http.ResponseWriter, r *http.Request) (form url.Values, by caller, ok bool) {
	if form, ok = readForm(w, r); !ok {
		return nil, caller{}, false
	}
	by, refused, err := s.callerOf(r, form)
	switch {
	case err != nil:
		problem.Write(w, r, retryable(err))
	case refused != nil:
		refuse(w, *refused)
	default:
		return form, by, true
	}
	return nil, caller{}, false
}

// callerOf finds out who calls. It returns a refusal to be answered, or an error
// for a storage that gives no certain answer. A client that has a secret or a
// key is never taken at its word.
func (s *Service) callerOf(r *http.Request, form url.Values) (caller, *tokenRefusal, error) {
	p, why := presentedClient(r.Header["Authorization"], form)
	if why != "" {
		return caller{}, &tokenRefusal{Error: "invalid_request", Description: why}, nil
	}
	unknown := &tokenRefusal{Error: "invalid_client", Description: "the client is not known or did not authenticate as it must", status: http.StatusUnauthorized}
	if p.Basic {
		unknown.challenge = `Basic realm="landline", charset="UTF-8"`
	}
	if p.Assertion != "" {
		id, err := s.checkAssertion(r.Context(), p)
		if errors.Is(err, errClient) {
			return caller{}, unknown, nil
		}
		return caller{ID: id, client: s.clients[id], Proven: err == nil}, nil, err
	}
	by := caller{ID: p.ID, client: s.clients[p.ID]}
	switch c := by.client; {
	case p.Secret != "" || p.Basic:
		// A public client may send Basic with its id and no secret, as some do.
		if p.Secret == "" && c != nil && !c.Confidential() {
			return by, nil, nil
		}
		if !c.hasSecret(p.Secret) {
			return caller{}, unknown, nil
		}
		by.Proven = true
	case c != nil && c.Confidential():
		return caller{}, unknown, nil
	}
	return by, nil, nil
}

const (
	maxAssertion     = 8 << 10
	maxAssertionLife = 10 * time.Minute
)

// checkAssertion verifies private_key_jwt (RFC 7523 §3, OpenID Connect Core §9)
// and that it is used once.
func (s *Service) checkAssertion(ctx context.Context, p presented) (string, error) {
	if len(p.Assertion) > maxAssertion || strings.Count(p.Assertion, ".") != 2 {
		return "", errClient
	}
	jws, err := jose.ParseSignedCompact(p.Assertion, clientAlgorithms)
	if err != nil {
		return "", errClient
	}
	var said assertionClaims
	if json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &said) != nil { // only to find the client whose key verifies it
		return "", errClient
	}
	c := s.clients[said.Subject]
	if c == nil || said.Issuer != said.Subject || p.ID != "" && p.ID != said.Subject {
		return "", errClient
	}
	head := jws.Signatures[0].Protected
	i := slices.IndexFunc(c.keys, func(k jose.JSONWebKey) bool { return k.KeyID == head.KeyID && k.Algorithm == head.Algorithm })
	if i < 0 {
		return "", errClient
	}
	payload, err := jws.Verify(c.keys[i].Key)
	if err != nil {
		return "", errClient
	}
	var claims assertionClaims
	if json.Unmarshal(payload, &claims) != nil {
		return "", errClient
	}
	now := s.now()
	expires := time.Unix(claims.Expires, 0)
	if claims.ID == "" || len(claims.ID) > 255 || !s.isAudience(claims.Audience) || expired(claims.Expires, now) ||
		expires.Sub(now) > maxAssertionLife || time.Unix(claims.Before, 0).After(now.Add(clockSkew)) {
		return "", errClient
	}
	id, err := s.blind("client assertion\x00" + c.ID + "\x00" + claims.ID)
	if err != nil {
		return "", err
	}
	_, err = s.store.Apply(ctx, Change{Proof: &Proof{ID: id, Expires: expires.Add(2 * clockSkew)}})
	if errors.Is(err, ErrProofSpent) {
		return "", errClient
	}
	return c.ID, err
}

// isAudience accepts the issuer and the token endpoint, alone or in a list.
func (s *Service) isAudience(raw json.RawMessage) bool {
	var one string
	all := []string{}
	if json.Unmarshal(raw, &one) == nil {
		all = []string{one}
	} else if json.Unmarshal(raw, &all) != nil {
		return false
	}
	return slices.Contains(all, s.app.PublicURL) || slices.Contains(all, s.app.PublicURL+tokenPath)
}

// presenter is the client that presents a session's refresh token, as Decide
// compares it. Without authentication nobody is a client that must authenticate,
// and a client that was removed from the configuration keeps nothing it was granted.
func (s *Service) presenter(session Session, by caller) string {
	const nobody = "\x00"
	c := s.clients[session.ClientID]
	switch {
	case c == nil && session.Via != "":
		return nobody
	case c != nil && c.Confidential() && !by.Proven:
		return nobody
	}
	return by.ID
}
