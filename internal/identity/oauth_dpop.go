package identity

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"landline/internal/clock"
	"landline/internal/identity/dpop"
	"landline/internal/kv"
	"landline/internal/problem"
	"landline/internal/secret"
)

// purposeNonce is of the keys of DPoP nonces.
const purposeNonce = "identity.dpop-nonce"

// maxProofs is how many proofs a node remembers, about 60 bytes each. Proofs are
// good for two to four minutes, so that this is 1,000 bound requests in a second.
const maxProofs = 250_000

// proofs verifies DPoP proofs (RFC 9449) at the token endpoint and of requests.
type proofs struct {
	base     string // public URL
	verifier *dpop.Verifier
	here     dpop.ReplayStore // this node's memory: what a request may cost
	all      dpop.ReplayStore // and that of all nodes: at the token endpoint
}

func newProofs(base string, keys *secret.Ring, store kv.Store, clk clock.Clock) (*proofs, error) {
	v, err := dpop.New(dpop.Options{Nonces: dpop.NewNonces(keys, purposeNonce, 0), Clock: clk})
	if err != nil {
		return nil, err
	}
	memory, err := dpop.NewReplayCache(maxProofs, clk)
	if err != nil {
		return nil, err
	}
	return &proofs{base: base, verifier: v, here: memory,
		all: dpop.Layered{memory, dpop.Shared{Store: store, Prefix: "identity:dpop:", Clock: clk}}}, nil
}

// check verifies the proof of r, for token where there is one, and that it is used once.
func (p *proofs) check(ctx context.Context, r *http.Request, token string, once dpop.ReplayStore) (*dpop.Proof, error) {
	proof, err := p.verifier.Verify(dpop.Request{Fields: r.Header["Dpop"], Method: r.Method, URL: p.base + r.URL.EscapedPath(), AccessToken: token})
	if err != nil {
		return nil, err
	}
	return proof, dpop.Once(ctx, once, proof)
}

// keyProof reads the key that a token request proves to hold, "" when it brings
// no proof (RFC 9449 §5).
func (s *Service) keyProof(w http.ResponseWriter, r *http.Request) (string, *tokenRefusal, error) {
	if len(r.Header["Dpop"]) == 0 {
		return "", nil, nil
	}
	proof, err := s.auth.proofs.check(r.Context(), r, "", s.auth.proofs.all)
	if err != nil {
		code, description, ok := dpop.TokenError(err)
		if !ok {
			return "", nil, proofUnknown(err)
		}
		refused := &tokenRefusal{Error: code, Description: description}
		if e, ok := errors.AsType[*dpop.Error](err); ok {
			refused.nonce = e.Nonce
		}
		return "", refused, nil
	}
	if proof.NextNonce != "" {
		w.Header().Set(dpop.NonceField, proof.NextNonce)
	}
	return proof.Thumbprint, nil, nil
}

// proofUnknown is for a proof of which it is not known whether it was used before.
func proofUnknown(err error) error {
	return problem.New(problem.StorageUnavailable, "it cannot be known whether the DPoP proof was used before; make a new one and retry").After(time.Second).Wrap(err)
}

func (s *Service) proofAlgorithms() []string {
	return strings.Fields(s.auth.proofs.verifier.Algorithms())
}

// bound refuses a token that is sent in another way than it was issued for: one
// that is bound to a key needs the scheme DPoP and a proof of the key (RFC 9449
// §7.1, §7.2). It does no I/O.
func (a *authenticator) bound(r *http.Request, scheme, token, jkt string) error {
	var proof *dpop.Proof
	var err error
	if jkt != "" && strings.EqualFold(scheme, "DPoP") {
		proof, err = a.proofs.check(r.Context(), r, token, a.proofs.here)
	}
	if err == nil {
		err = dpop.CheckBinding(scheme, jkt, proof)
	}
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*dpop.Error](err)
	if !ok {
		return proofUnknown(err)
	}
	a.metrics.invalid.Inc()
	refusal := problem.New(problem.TokenInvalid, "%s", e.Detail).With("recoverable", recoverNot).
		WithHeader("WWW-Authenticate", dpop.Challenge(err, "landline", a.proofs.verifier.Algorithms()))
	if e.Nonce != "" {
		refusal = refusal.WithHeader(dpop.NonceField, e.Nonce)
	}
	return refusal
}

// challenged makes the challenge of a refusal the scheme's that was used.
func (a *authenticator) challenged(authorization string, err error) error {
	e := problem.From(err)
	scheme, _, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "DPoP") || e.Status() != http.StatusUnauthorized || e.Header.Get("WWW-Authenticate") != "" {
		return err
	}
	return e.WithHeader("WWW-Authenticate", dpop.Challenge(&dpop.Error{Code: dpop.InvalidToken, Detail: "the access token is not accepted, or no longer"},
		"landline", a.proofs.verifier.Algorithms()))
}
