package identity

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"landline/internal/identity/dpop/dpoptest"
	"landline/internal/problem"
)

const boundRedirect = "https://bound.example/cb"

// proven sends a form to the token endpoint with a proof.
func (f *fixture) proven(proof string, pairs ...string) answer {
	f.t.Helper()
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, tokenPath, strings.NewReader(v.Encode()))
	r.Header.Set("Content-Type", formType)
	r.Header.Set("DPoP", proof)
	return f.do(r)
}

func (f *fixture) proofFor(k *dpoptest.Key, method, path, token string) string {
	return k.Proof(method, testApp.PublicURL+path, token, "", f.clock.Now())
}

// TestDPoP is a public client whose tokens are bound to a key, from the code to
// the resource (RFC 9449).
func TestDPoP(t *testing.T) {
	oauthEngines(t, func(t *testing.T, f *fixture) {
		key, other := dpoptest.New(), dpoptest.New()
		grant := []string{"grant_type", grantCode, "client_id", boundClient, "redirect_uri", boundRedirect, "code_verifier", testVerifier, "code"}
		code := f.codeFor(boundClient, boundRedirect, "anna@example.com", "scope", "openid app", "dpop_jkt", key.Thumbprint)
		wantOAuthError(t, f.form(tokenPath, append(grant, code)...), 400, "invalid_dpop_proof")
		wantOAuthError(t, f.proven("rubbish", append(grant, code)...), 400, "invalid_dpop_proof")
		wantOAuthError(t, f.proven(f.proofFor(key, "GET", tokenPath, ""), append(grant, code)...), 400, "invalid_dpop_proof")
		wantOAuthError(t, f.proven(f.proofFor(other, "POST", tokenPath, ""), append(grant, code)...), 400, "invalid_grant") // dpop_jkt
		proof := f.proofFor(key, "POST", tokenPath, "")
		a := f.proven(proof, append(grant, code)...)
		if a.Status != 200 || a.str("token_type") != "DPoP" {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		refresh := func(proof string) answer {
			return f.proven(proof, "grant_type", grantRefresh, "client_id", boundClient, "refresh_token", a.str("refresh_token"))
		}
		wantOAuthError(t, refresh(proof), 400, "invalid_dpop_proof") // used before
		for range 3 {                                                // for ever the same refresh token
			f.clock.Advance(time.Hour)
			again := refresh(f.proofFor(key, "POST", tokenPath, ""))
			if again.Status != 200 || again.str("refresh_token") != a.str("refresh_token") || again.str("token_type") != "DPoP" || again.Header.Get("Refresh-Replay") != "" {
				t.Fatalf("%d %s", again.Status, again.Raw)
			}
			a.Body["access_token"] = again.str("access_token")
		}
		wantOAuthError(t, f.token(a.str("refresh_token"), "client_id", boundClient), 400, "invalid_dpop_proof")
		wantOAuthError(t, refresh(f.proofFor(other, "POST", tokenPath, "")), 400, "invalid_grant")
		if again := refresh(f.proofFor(key, "POST", tokenPath, "")); again.Status != 200 {
			t.Errorf("a thief's attempt ended the session: %s", again.Raw)
		}
		if n := counted(t, f, "landline_identity_refreshes_total"); n["R3b"] != 4 || n["R9"] != 1 || n["R3"] != 0 {
			t.Errorf("%v", n)
		}
		f.useBound(t, key, other, a.str("access_token"))
	})
}

// useBound calls the API with a bound token, rightly and wrongly.
func (f *fixture) useBound(t *testing.T, key, other *dpoptest.Key, token string) {
	t.Helper()
	call := func(scheme string, proofs ...string) answer {
		r := httptest.NewRequest(http.MethodGet, "/v1/me", nil)
		r.Header.Set("Authorization", scheme+" "+token)
		r.Header["Dpop"] = proofs
		return f.do(r)
	}
	good := f.proofFor(key, "GET", "/v1/me", token)
	if a := call("DPoP", good); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Raw)
	}
	for name, c := range map[string]struct {
		a         answer
		challenge string
	}{
		"as Bearer":           {call("Bearer"), `error="invalid_token"`},
		"as Bearer, proven":   {call("Bearer", f.proofFor(key, "GET", "/v1/me", token)), `error="invalid_token"`},
		"without a proof":     {call("DPoP"), `error="invalid_dpop_proof"`},
		"the proof again":     {call("DPoP", good), `error="invalid_dpop_proof"`},
		"two proofs":          {call("DPoP", f.proofFor(key, "GET", "/v1/me", token), f.proofFor(key, "GET", "/v1/me", token)), `error="invalid_dpop_proof"`},
		"another key":         {call("DPoP", f.proofFor(other, "GET", "/v1/me", token)), `error="invalid_token"`},
		"another method":      {call("DPoP", f.proofFor(key, "POST", "/v1/me", token)), `error="invalid_dpop_proof"`},
		"another path":        {call("DPoP", f.proofFor(key, "GET", "/v1/you", token)), `error="invalid_dpop_proof"`},
		"without ath":         {call("DPoP", f.proofFor(key, "GET", "/v1/me", "")), `error="invalid_dpop_proof"`},
		"of another token":    {call("DPoP", f.proofFor(key, "GET", "/v1/me", token+"x")), `error="invalid_dpop_proof"`},
		"a clock that is off": {call("DPoP", key.Proof("GET", testApp.PublicURL+"/v1/me", token, "", f.clock.Now().Add(-time.Hour))), `error="use_dpop_nonce"`},
	} {
		c.a.wantProblem(t, 401, problem.TokenInvalid)
		if got := c.a.Header.Get("WWW-Authenticate"); !strings.HasPrefix(got, "DPoP ") || !strings.Contains(got, c.challenge) || !strings.Contains(got, `algs="ES256 EdDSA Ed25519"`) {
			t.Errorf("%s: challenge %s", name, got)
		}
	}
	// A phone whose clock is wrong goes on with the nonce it is given.
	nonce := call("DPoP", key.Proof("GET", testApp.PublicURL+"/v1/me", token, "", f.clock.Now().Add(-time.Hour))).Header.Get("DPoP-Nonce")
	if nonce == "" {
		t.Fatal("no nonce")
	}
	if a := call("DPoP", key.Proof("GET", testApp.PublicURL+"/v1/me", token, nonce, f.clock.Now().Add(-time.Hour))); a.Status != 200 {
		t.Errorf("with the nonce: %d %s", a.Status, a.Raw)
	}
	// A token that is bound to nothing is no DPoP token.
	plain := f.launch(launchKey).str("session", "access_token")
	r := httptest.NewRequest(http.MethodGet, "/v1/me", nil)
	r.Header.Set("Authorization", "DPoP "+plain)
	r.Header.Set("DPoP", f.proofFor(key, "GET", "/v1/me", plain))
	f.do(r).wantProblem(t, 401, problem.TokenInvalid)
	f.clock.Advance(time.Hour)
	expired := call("DPoP", f.proofFor(key, "GET", "/v1/me", token))
	expired.wantProblem(t, 401, problem.TokenExpired)
	if got := expired.Header.Get("WWW-Authenticate"); !strings.HasPrefix(got, "DPoP ") {
		t.Errorf("expired: %s", got)
	}
}

// TestProofBindsTheAccessTokenOfAnUnboundSession: an app's own session can be
// given bound access tokens, and its refresh token still rotates, so that a
// thief's is still found out.
func TestProofBindsTheAccessTokenOfAnUnboundSession(t *testing.T) {
	f := oauthFixture(t)
	key := dpoptest.New()
	first := f.launch(launchKey).str("session", "refresh_token")
	a := f.proven(f.proofFor(key, "POST", tokenPath, ""), "grant_type", grantRefresh, "refresh_token", first)
	if a.Status != 200 || a.str("token_type") != "DPoP" || a.str("refresh_token") == first {
		t.Fatalf("%d %s", a.Status, a.Raw)
	}
	f.bearer(a.str("access_token")).wantProblem(t, 401, problem.TokenInvalid)
	if again := f.token(a.str("refresh_token")); again.Status != 200 || again.str("token_type") != "Bearer" {
		t.Errorf("%d %s", again.Status, again.Raw)
	}
}

// TestExchangeOfABoundToken needs its key, or a client that authenticates.
func TestExchangeOfABoundToken(t *testing.T) {
	f := oauthFixture(t)
	key, other := dpoptest.New(), dpoptest.New()
	code := f.codeFor(boundClient, boundRedirect, "anna@example.com", "scope", "openid app")
	a := f.proven(f.proofFor(key, "POST", tokenPath, ""), "grant_type", grantCode, "client_id", boundClient, "redirect_uri", boundRedirect, "code_verifier", testVerifier, "code", code)
	if a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Raw)
	}
	exchange := []string{"grant_type", grantExchange, "client_id", testApp.ID, "subject_token", a.str("access_token"), "subject_token_type", typeAccessToken}
	wantOAuthError(t, f.form(tokenPath, exchange...), 400, "invalid_request")
	wantOAuthError(t, f.proven(f.proofFor(other, "POST", tokenPath, ""), exchange...), 400, "invalid_request")
	if x := f.proven(f.proofFor(key, "POST", tokenPath, ""), exchange...); x.Status != 200 || x.str("token_type") != "DPoP" {
		t.Errorf("%d %s", x.Status, x.Raw)
	}
}
