package identity

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"landline/internal/problem"
)

const appRedirect = "https://app.example.com/cb"

// asClient sends a form as a confidential client, as RFC 6749 §2.3.1 says.
func (f *fixture) asClient(path, id, secret string, pairs ...string) answer {
	f.t.Helper()
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(v.Encode()))
	r.Header.Set("Content-Type", formType)
	r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret))))
	return f.do(r)
}

// TestTokenErrors is RFC 6749 §5.2, row by row.
func TestTokenErrors(t *testing.T) {
	f := oauthFixture(t)
	code := f.codeFor(testApp.ID, appRedirect, "anna@example.com")
	grant := func(change ...string) []string {
		v := map[string]string{"grant_type": grantCode, "client_id": testApp.ID, "redirect_uri": appRedirect, "code": code, "code_verifier": testVerifier}
		for i := 0; i < len(change); i += 2 {
			v[change[i]] = change[i+1]
		}
		var out []string
		for k, x := range v {
			if x != "-" {
				out = append(out, k, x)
			}
		}
		return out
	}
	for name, c := range map[string]struct {
		form   []string
		status int
		want   string
	}{
		"no grant_type":              {grant("grant_type", "-"), 400, "invalid_request"},
		"password grant":             {grant("grant_type", "password"), 400, "unsupported_grant_type"},
		"client credentials":         {grant("grant_type", "client_credentials"), 400, "unsupported_grant_type"},
		"no client":                  {grant("client_id", "-"), 400, "invalid_request"},
		"an unknown client":          {grant("client_id", "nobody"), 400, "invalid_grant"},
		"another client":             {grant("client_id", partner), 400, "invalid_grant"},
		"no code":                    {grant("code", "-"), 400, "invalid_request"},
		"another code":               {grant("code", "AAAAAAAAAAAAAAAAAAAAAAAAAA"), 400, "invalid_grant"},
		"no verifier":                {grant("code_verifier", "-"), 400, "invalid_request"},
		"the challenge as verifier":  {grant("code_verifier", challengeOf(testVerifier)), 400, "invalid_grant"},
		"a short verifier":           {grant("code_verifier", "short"), 400, "invalid_request"},
		"no redirect_uri":            {grant("redirect_uri", "-"), 400, "invalid_grant"},
		"another redirect_uri":       {grant("redirect_uri", "com.example.flights:/cb"), 400, "invalid_grant"},
		"a secret that nobody has":   {grant("client_secret", "x"), 401, "invalid_client"},
		"a confidential client":      {grant("client_id", backend), 401, "invalid_client"},
		"a wrong secret":             {grant("client_id", backend, "client_secret", clientSecret+"x"), 401, "invalid_client"},
		"a secret and an assertion":  {grant("client_id", backend, "client_secret", clientSecret, "client_assertion", "a.b.c", "client_assertion_type", assertionType), 400, "invalid_request"},
		"an assertion of no type":    {grant("client_assertion", "a.b.c"), 400, "invalid_request"},
		"an assertion of nobody":     {grant("client_assertion", "a.b.c", "client_assertion_type", assertionType), 401, "invalid_client"},
		"DPoP is needed":             {grant("client_id", boundClient), 400, "invalid_dpop_proof"},
		"no refresh token":           {[]string{"grant_type", grantRefresh}, 400, "invalid_request"},
		"a refresh token of nothing": {[]string{"grant_type", grantRefresh, "refresh_token", "v1.x"}, 400, "invalid_grant"},
		"an exchange of nothing":     {[]string{"grant_type", grantExchange, "client_id", testApp.ID}, 400, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) { wantOAuthError(t, f.form(tokenPath, c.form...), c.status, c.want) })
	}
	a := f.asClient(tokenPath, backend, "wrong", "grant_type", grantRefresh)
	wantOAuthError(t, a, 401, "invalid_client")
	if !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("a refusal of Basic has the challenge %q", a.Header.Get("WWW-Authenticate"))
	}
	if a := f.form(tokenPath, grant("client_id", backend)...); a.Header.Get("WWW-Authenticate") != "" {
		t.Error("a challenge without Basic")
	}
	for _, header := range []string{"Basic", "Basic !", "Basic " + base64.StdEncoding.EncodeToString([]byte("nocolon")), "Bearer x", "Basic " + base64.StdEncoding.EncodeToString([]byte("%zz:x"))} {
		r := httptest.NewRequest(http.MethodPost, tokenPath, strings.NewReader("grant_type=refresh_token&refresh_token=x"))
		r.Header.Set("Content-Type", formType)
		r.Header.Set("Authorization", header)
		wantOAuthError(t, f.do(r), 401, "invalid_client")
	}
	// None of all that has used the code up.
	if a := f.form(tokenPath, grant()...); a.Status != 200 {
		t.Errorf("the code is gone: %d %s", a.Status, a.Raw)
	}
}

// TestCodeReplay: the second use is refused, and ends what the first one got.
func TestCodeReplay(t *testing.T) {
	oauthEngines(t, func(t *testing.T, f *fixture) {
		code := f.codeFor(testApp.ID, appRedirect, "anna@example.com", "scope", "openid app")
		a := f.redeem(testApp.ID, appRedirect, code)
		if me := f.bearer(a.str("access_token")); me.Status != 200 {
			t.Fatalf("%d %s", me.Status, me.Raw)
		}
		f.clock.Advance(30 * time.Minute) // long after the code's own life
		wantOAuthError(t, f.redeem(partner, appRedirect, code), 400, "invalid_grant")
		if again := f.token(a.str("refresh_token")); again.Status != 200 {
			t.Fatalf("another client's attempt ended the session: %s", again.Raw)
		}
		wantOAuthError(t, f.redeem(testApp.ID, appRedirect, code), 400, "invalid_grant")
		f.bearer(a.str("access_token")).wantProblem(t, 401, problem.SessionRevoked)
		if again := f.token(a.str("refresh_token")); again.str("reason") != "session_revoked" {
			t.Errorf("refresh: %s", again.Raw)
		}
	})
}

// TestCodeIsUsedOnceInParallel: of many at once at most one gets tokens.
func TestCodeIsUsedOnceInParallel(t *testing.T) {
	oauthEngines(t, func(t *testing.T, f *fixture) {
		code := f.codeFor(testApp.ID, appRedirect, "anna@example.com")
		var wg sync.WaitGroup
		answers := make(chan answer, 8)
		for range 8 {
			wg.Go(func() { answers <- f.redeem(testApp.ID, appRedirect, code) })
		}
		wg.Wait()
		close(answers)
		granted := 0
		for a := range answers {
			switch {
			case a.Status == 200:
				granted++
			case a.str("error") != "invalid_grant":
				t.Errorf("%d %s", a.Status, a.Raw)
			}
		}
		if granted != 1 {
			t.Errorf("%d of 8 got tokens", granted)
		}
	})
}

func TestCodeEnds(t *testing.T) {
	f := oauthFixture(t)
	code := f.codeFor(testApp.ID, appRedirect, "anna@example.com")
	f.clock.Advance(codeLife)
	wantOAuthError(t, f.redeem(testApp.ID, appRedirect, code), 400, "invalid_grant")
	// Signing out in the browser ends what is on its way.
	b := f.browser()
	code = b.password(b.get(authorizeURL(testApp.ID, appRedirect)), "anna@example.com", "right").sentTo(t, appRedirect).Get("code")
	page := b.get(endSessionPath)
	if a := b.press(page, "step", "sign_out"); a.Status != 200 || !strings.Contains(a.Raw, "You are signed out") {
		t.Fatalf("%d %s", a.Status, a.Raw)
	}
	wantOAuthError(t, f.redeem(testApp.ID, appRedirect, code), 400, "invalid_grant")
}

// TestConfidentialClients: their tokens are nobody's else to use or to end.
func TestConfidentialClients(t *testing.T) {
	oauthEngines(t, func(t *testing.T, f *fixture) {
		const redirect = "https://server.example/cb"
		pairs := []string{"grant_type", grantCode, "redirect_uri", redirect, "code_verifier", testVerifier, "code"}
		code := f.codeFor(partnerServer, redirect, "anna@example.com", "scope", "openid offline_access")
		wantOAuthError(t, f.redeem(partnerServer, redirect, code), 401, "invalid_client")
		a := f.asClient(tokenPath, partnerServer, clientSecret, append(pairs, code)...)
		if a.Status != 200 {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		f.checkIDToken(t, a, partnerServer) // ES256, as configured
		refresh := a.str("refresh_token")
		wantOAuthError(t, f.token(refresh), 400, "invalid_grant")
		wantOAuthError(t, f.token(refresh, "client_id", partnerServer), 401, "invalid_client")
		wantOAuthError(t, f.asClient(tokenPath, backend, clientSecret, "grant_type", grantRefresh, "refresh_token", refresh), 400, "invalid_grant")
		wantOAuthError(t, f.form("/oauth/revoke", "token", refresh), 400, "invalid_grant")
		again := f.form(tokenPath, "grant_type", grantRefresh, "refresh_token", refresh, "client_id", partnerServer, "client_secret", clientSecret)
		if again.Status != 200 {
			t.Fatalf("client_secret_post: %d %s", again.Status, again.Raw)
		}
		// Introspection: its own tokens, and nobody else's.
		for name, c := range map[string]struct {
			a      answer
			active bool
		}{
			"own access token":    {f.asClient("/oauth/introspect", partnerServer, clientSecret, "token", again.str("access_token")), true},
			"own refresh token":   {f.asClient("/oauth/introspect", partnerServer, clientSecret, "token", again.str("refresh_token")), true},
			"rubbish":             {f.asClient("/oauth/introspect", partnerServer, clientSecret, "token", "x"), false},
			"its ID token":        {f.asClient("/oauth/introspect", partnerServer, clientSecret, "token", a.str("id_token")), false},
			"the app asks":        {f.asClient("/oauth/introspect", backend, clientSecret, "token", again.str("access_token")), true},
			"an app's own token":  {f.asClient("/oauth/introspect", partnerServer, clientSecret, "token", f.launch(launchKey).str("session", "access_token")), false},
			"… that the app asks": {f.asClient("/oauth/introspect", backend, clientSecret, "token", f.launch(launchKey).str("session", "access_token")), true},
		} {
			if c.a.Status != 200 || c.a.Body["active"] != c.active || !c.active && len(c.a.Body) != 1 {
				t.Errorf("%s: %d %s", name, c.a.Status, c.a.Raw)
			}
		}
		wantOAuthError(t, f.form("/oauth/introspect", "token", refresh), 401, "invalid_client")
		wantOAuthError(t, f.form("/oauth/introspect", "token", refresh, "client_id", testApp.ID), 401, "invalid_client")
		wantOAuthError(t, f.asClient("/oauth/introspect", backend, clientSecret), 400, "invalid_request")
		if out := f.asClient("/oauth/revoke", partnerServer, clientSecret, "token", again.str("refresh_token")); out.Status != 200 {
			t.Fatalf("%d %s", out.Status, out.Raw)
		}
		if out := f.asClient("/oauth/introspect", partnerServer, clientSecret, "token", again.str("access_token")); out.Body["active"] != false {
			t.Errorf("a revoked token is active: %s", out.Raw)
		}
	})
}

// TestAssertions is private_key_jwt: signed by the client's key, for us, once.
func TestAssertions(t *testing.T) {
	d := newDevice(t)
	public := jose.JSONWebKey{Key: &d.key.PublicKey, KeyID: "k1", Algorithm: "ES256"}
	raw, err := public.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	f := oauthFixture(t)
	f.service.clients["jwt"] = newClient("jwt", ClientConfig{Keys: []string{string(raw)}}, f.config)
	assertion := func(alg jose.SignatureAlgorithm, key any, kid string, change map[string]any) string {
		claims := map[string]any{"iss": "jwt", "sub": "jwt", "aud": testApp.PublicURL, "jti": time.Now().String(), "exp": f.clock.Now().Add(time.Minute).Unix()}
		for k, v := range change {
			claims[k] = v
		}
		return sign(t, alg, key, map[jose.HeaderKey]any{"kid": kid}, claims)
	}
	send := func(text string) answer {
		return f.form("/oauth/introspect", "token", "x", "client_assertion", text, "client_assertion_type", assertionType)
	}
	good := assertion(jose.ES256, d.key, "k1", map[string]any{"aud": []string{testApp.PublicURL + tokenPath}})
	if a := send(good); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Raw)
	}
	for name, text := range map[string]string{
		"used before":         good,
		"another key":         assertion(jose.ES256, newDevice(t).key, "k1", nil),
		"another kid":         assertion(jose.ES256, d.key, "k2", nil),
		"HMAC by the key":     assertion(jose.HS256, raw, "k1", nil),
		"another audience":    assertion(jose.ES256, d.key, "k1", map[string]any{"aud": "https://other.example"}),
		"another issuer":      assertion(jose.ES256, d.key, "k1", map[string]any{"iss": backend}),
		"another subject":     assertion(jose.ES256, d.key, "k1", map[string]any{"sub": backend, "iss": backend}),
		"expired":             assertion(jose.ES256, d.key, "k1", map[string]any{"exp": f.clock.Now().Add(-time.Hour).Unix()}),
		"good for ever":       assertion(jose.ES256, d.key, "k1", map[string]any{"exp": f.clock.Now().Add(time.Hour).Unix()}),
		"without jti":         assertion(jose.ES256, d.key, "k1", map[string]any{"jti": ""}),
		"not yet":             assertion(jose.ES256, d.key, "k1", map[string]any{"nbf": f.clock.Now().Add(time.Hour).Unix()}),
		"not signed (none)":   "eyJhbGciOiJub25lIn0." + strings.Split(good, ".")[1] + ".",
		"not a JWS":           "x",
		"an enormous one":     strings.Repeat("a", maxAssertion) + ".b.c",
		"our own ID token":    "eyJhbGciOiJSUzI1NiJ9.e30.e30",
		"of a client by name": assertion(jose.ES256, d.key, "k1", map[string]any{"sub": "jwt2"}),
	} {
		t.Run(name, func(t *testing.T) { wantOAuthError(t, send(text), 401, "invalid_client") })
	}
}

// TestExchange is RFC 8693 between the app's own clients.
func TestExchange(t *testing.T) {
	oauthEngines(t, func(t *testing.T, f *fixture) {
		subject := f.redeem(testApp.ID, appRedirect, f.codeFor(testApp.ID, appRedirect, "anna@example.com", "scope", "openid email app")).str("access_token")
		thirds := f.redeem(partner, "com.partner.app:/cb", f.codeFor(partner, "com.partner.app:/cb", "ben@example.com")).str("access_token")
		exchange := func(pairs ...string) answer {
			return f.asClient(tokenPath, backend, clientSecret, append([]string{"grant_type", grantExchange, "subject_token", subject, "subject_token_type", typeAccessToken}, pairs...)...)
		}
		a := exchange("scope", "openid email")
		if a.Status != 200 || a.str("issued_token_type") != typeAccessToken || a.str("scope") != "openid email" || a.Body["refresh_token"] != nil {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		got := f.asClient("/oauth/introspect", backend, clientSecret, "token", a.str("access_token"))
		if got.str("client_id") != backend || got.str("scope") != "openid email" || got.str("aud") != testApp.ID {
			t.Errorf("%s", got.Raw)
		}
		if me := f.bearer(a.str("access_token")); me.Status != 403 {
			t.Errorf("less scope opens as much: %d", me.Status)
		}
		a = exchange("audience", "https://reports.example.com", "actor_token", f.launch(launchKey).str("session", "access_token"), "actor_token_type", typeAccessToken)
		if a.Status != 200 {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		f.bearer(a.str("access_token")).wantProblem(t, 401, problem.TokenInvalid) // it is another service's
		if got := f.asClient("/oauth/introspect", backend, clientSecret, "token", a.str("access_token")); got.str("aud") != "https://reports.example.com" {
			t.Errorf("%s", got.Raw)
		}
		for name, c := range map[string]struct {
			a    answer
			want string
		}{
			"another audience":        {exchange("audience", "https://other.example"), "invalid_target"},
			"a resource":              {exchange("resource", "https://reports.example.com"), "invalid_target"},
			"more scope":              {exchange("scope", "openid profile"), "invalid_scope"},
			"an unknown scope":        {exchange("scope", "admin"), "invalid_scope"},
			"no subject_token_type":   {exchange("subject_token_type", ""), "invalid_request"},
			"an ID token":             {exchange("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"), "invalid_request"},
			"a refresh token":         {exchange("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token"), "invalid_request"},
			"rubbish":                 {exchange("subject_token", "x"), "invalid_request"},
			"an actor without a type": {exchange("actor_token", subject), "invalid_request"},
			"a false actor":           {exchange("actor_token", "x", "actor_token_type", typeAccessToken), "invalid_request"},
			"somebody else's client": {f.form(tokenPath, "grant_type", grantExchange, "client_id", partner, "subject_token", thirds, "subject_token_type", typeAccessToken),
				"unauthorized_client"},
		} {
			if c.a.Status != 400 || c.a.str("error") != c.want {
				t.Errorf("%s: %d %s", name, c.a.Status, c.a.Raw)
			}
		}
		// It never lasts longer than what it was made of.
		f.clock.Advance(10 * time.Minute)
		a = exchange()
		if seconds, _ := a.Body["expires_in"].(float64); a.Status != 200 || seconds > 300 {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
		f.clock.Advance(10 * time.Minute)
		wantOAuthError(t, exchange(), 400, "invalid_request")
	})
}

// TestLogout is OpenID Connect RP-Initiated Logout.
func TestLogout(t *testing.T) {
	f := oauthFixture(t)
	b := f.browser()
	code := b.password(b.get(authorizeURL(testApp.ID, appRedirect)), "anna@example.com", "right").sentTo(t, appRedirect).Get("code")
	a := f.redeem(testApp.ID, appRedirect, code)
	to := func(pairs ...string) string {
		v := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			v.Set(pairs[i], pairs[i+1])
		}
		return endSessionPath + "?" + v.Encode()
	}
	for name, target := range map[string]string{
		"an open redirect":       to("post_logout_redirect_uri", "https://evil.example"),
		"another client's URI":   to("client_id", partner, "post_logout_redirect_uri", "https://app.example.com/bye"),
		"an unknown client":      to("client_id", "nobody"),
		"a false hint":           to("id_token_hint", "a.b.c"),
		"an access token":        to("id_token_hint", a.str("access_token")),
		"a hint and another app": to("id_token_hint", a.str("id_token"), "client_id", partner),
	} {
		if x := b.get(target); x.Status != 400 || x.Header.Get("Location") != "" {
			t.Errorf("%s: %d to %s", name, x.Status, x.Header.Get("Location"))
		}
	}
	// A link of anybody's asks first.
	if x := b.get(to("client_id", testApp.ID, "post_logout_redirect_uri", "https://app.example.com/bye")); x.Status != 200 || !strings.Contains(x.Raw, "Sign out?") {
		t.Errorf("%d %s", x.Status, x.Raw)
	}
	// A hint alone, elsewhere, ends nothing.
	if x := f.browser().get(to("id_token_hint", a.str("id_token"))); x.Status != 200 {
		t.Errorf("%d %s", x.Status, x.Raw)
	}
	if again := f.token(a.str("refresh_token")); again.Status != 200 {
		t.Fatalf("a hint of an expired kind ended a session: %s", again.Raw)
	}
	f.clock.Advance(time.Hour) // the hint has expired meanwhile, which does not matter
	x := b.get(to("id_token_hint", a.str("id_token"), "post_logout_redirect_uri", "https://app.example.com/bye", "state", "s 1"))
	if x.Status != http.StatusFound || x.Header.Get("Location") != "https://app.example.com/bye?state=s+1" {
		t.Fatalf("%d to %s: %s", x.Status, x.Header.Get("Location"), x.Raw)
	}
	if q := b.get(authorizeURL(testApp.ID, appRedirect, "prompt", "none")).sentTo(t, appRedirect); q.Get("error") != "login_required" {
		t.Errorf("still signed in: %v", q)
	}
	if again := f.token(a.str("refresh_token")); again.str("reason") != "session_revoked" {
		t.Errorf("the client's session: %s", again.Raw)
	}
}

// TestPushedRequests is RFC 9126.
func TestPushedRequests(t *testing.T) {
	oauthEngines(t, func(t *testing.T, f *fixture) {
		push := func(pairs ...string) answer {
			v := map[string]string{"redirect_uri": "https://backend.example/cb", "response_type": "code", "scope": "openid", "state": "st&1", "code_challenge": challengeOf(testVerifier), "code_challenge_method": "S256"}
			var all []string
			for i := 0; i < len(pairs); i += 2 {
				v[pairs[i]] = pairs[i+1]
			}
			for k, x := range v {
				all = append(all, k, x)
			}
			return f.asClient(pushedPath, backend, clientSecret, all...)
		}
		a := push()
		if _, isNumber := a.Body["expires_in"].(float64); a.Status != 201 || !isNumber || !strings.HasPrefix(a.str("request_uri"), pushedPrefix) {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		target := authorizePath + "?" + url.Values{"client_id": {backend}, "request_uri": {a.str("request_uri")}}.Encode()
		b := f.browser()
		if q := b.password(b.get(target), "anna@example.com", "right").sentTo(t, "https://backend.example/cb"); q.Get("code") == "" {
			t.Errorf("%v", q)
		}
		if x := b.get(strings.Replace(target, backend, partner, 1)); x.Status != 400 || x.Header.Get("Location") != "" {
			t.Errorf("another client's: %d", x.Status)
		}
		wantOAuthError(t, push("redirect_uri", "https://evil.example"), 400, "invalid_request")
		wantOAuthError(t, push("scope", "admin"), 400, "invalid_scope")
		wantOAuthError(t, push("request_uri", "x"), 400, "invalid_request")
		wantOAuthError(t, f.form(pushedPath, "client_id", backend), 401, "invalid_client")
		wantOAuthError(t, f.form(pushedPath, "client_id", "nobody"), 401, "invalid_client")
		f.clock.Advance(pushedLife)
		if x := b.get(target); x.Status != 400 {
			t.Errorf("too late: %d", x.Status)
		}
	})
}

// TestTrouble: what a retry could mend has no member error, and sends the browser back with temporarily_unavailable.
func TestTrouble(t *testing.T) {
	f := oauthFixture(t)
	b := f.browser()
	code := b.password(b.get(authorizeURL(testApp.ID, appRedirect)), "anna@example.com", "right").sentTo(t, appRedirect).Get("code")
	failing := &failingStore{Store: f.service.store}
	f.service.store = failing
	failing.broken.Store(true)
	f.redeem(testApp.ID, appRedirect, code).wantProblem(t, 503, problem.StorageUnavailable)
	f.asClient("/oauth/introspect", backend, clientSecret, "token", f.refreshTokenOf(t)).wantProblem(t, 503, problem.StorageUnavailable)
	if q := b.get(authorizeURL(testApp.ID, appRedirect)).sentTo(t, appRedirect); q.Get("error") != "temporarily_unavailable" || q.Get("state") != "st&1" {
		t.Errorf("%v", q)
	}
	failing.broken.Store(false)
	if a := f.redeem(testApp.ID, appRedirect, code); a.Status != 200 {
		t.Errorf("after the trouble: %d %s", a.Status, a.Raw)
	}
}

// TestRemovedClientKeepsNothing: what somebody was granted goes with their entry.
func TestRemovedClientKeepsNothing(t *testing.T) {
	f := oauthFixture(t)
	a := f.redeem(partner, "com.partner.app:/cb", f.codeFor(partner, "com.partner.app:/cb", "anna@example.com", "scope", "openid offline_access"))
	delete(f.service.clients, partner)
	wantOAuthError(t, f.token(a.str("refresh_token"), "client_id", partner), 400, "invalid_grant")
	wantOAuthError(t, f.token(a.str("refresh_token")), 400, "invalid_grant")
}

// TestGrantsAreBounded: the oldest sessions of a client end, other sessions do not count.
func TestGrantsAreBounded(t *testing.T) {
	f := oauthFixture(t)
	b := f.browser()
	page := b.get(authorizeURL(testApp.ID, appRedirect))
	b.password(page, "anna@example.com", "right")
	var all []answer
	for range maxGrants + 2 {
		code := b.get(authorizeURL(testApp.ID, appRedirect)).sentTo(t, appRedirect).Get("code")
		all = append(all, f.redeem(testApp.ID, appRedirect, code))
		f.clock.Advance(time.Second)
	}
	for i, a := range all {
		got := f.asClient("/oauth/introspect", backend, clientSecret, "token", a.str("refresh_token"))
		if want := i >= 2; got.Body["active"] != want {
			t.Errorf("session %d of %d: active %v", i, len(all), got.Body["active"])
		}
	}
}

// failingStore is a store that answers nothing while it is broken.
type failingStore struct {
	Store
	broken atomic.Bool
}

var errBroken = errors.New("the disk is gone")

func (s *failingStore) Challenge(ctx context.Context, id string) (Challenge, error) {
	if s.broken.Load() {
		return Challenge{}, errBroken
	}
	return s.Store.Challenge(ctx, id)
}

func (s *failingStore) Session(ctx context.Context, id string) (Grant, error) {
	if s.broken.Load() {
		return Grant{}, errBroken
	}
	return s.Store.Session(ctx, id)
}

func (s *failingStore) Browser(ctx context.Context, id string) (Browser, error) {
	if s.broken.Load() {
		return Browser{}, errBroken
	}
	return s.Store.Browser(ctx, id)
}

// refreshTokenOf makes a token that is genuine, whatever the store says.
func (f *fixture) refreshTokenOf(t *testing.T) string {
	t.Helper()
	s, err := f.service.beginSession(User{ID: "usr_x"}, Installation{ID: "ins_x"}, backend, "", f.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	token, err := f.service.refresh.current(s)
	if err != nil {
		t.Fatal(err)
	}
	return token
}
