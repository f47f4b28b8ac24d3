package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

// sign makes a compact JWS with a library that is not ours.
func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, header map[jose.HeaderKey]any, claims any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, &jose.SignerOptions{ExtraHeaders: header})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	s, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAccessTokenIsRefused(t *testing.T) {
	f := sqliteFixture(t)
	a := f.launch(launchKey)
	token := a.str("session", "access_token")
	kid, key, err := f.ring.Signer(purposeAccess)
	if err != nil {
		t.Fatal(err)
	}
	upstreamKid, upstreamKey, err := f.ring.Signer(purposeUpstream)
	if err != nil {
		t.Fatal(err)
	}
	now := f.clock.Now()
	good := func(change func(map[string]any)) map[string]any {
		c := map[string]any{"iss": testApp.PublicURL, "aud": testApp.ID, "sub": a.str("user", "id"), "client_id": testApp.ID, "sid": a.str("session", "id"),
			"iid": a.str("installation", "id"), "anon": true, "scope": "app", "auth_time": now.Unix(), "amr": []string{"pop"}, "jti": "1", "iat": now.Unix(), "exp": now.Add(15 * time.Minute).Unix()}
		if change != nil {
			change(c)
		}
		return c
	}
	set := func(name string, v any) map[string]any { return good(func(c map[string]any) { c[name] = v }) }
	head := func(typ, kid string) map[jose.HeaderKey]any {
		return map[jose.HeaderKey]any{jose.HeaderType: typ, "kid": kid}
	}
	mint := func(claims any) string { return sign(t, jose.ES256, key, head(typeAccess, kid), claims) }
	if x := f.bearer(mint(good(nil))); x.Status != 200 {
		t.Fatalf("the good token of the table is refused: %s", x.Raw)
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token, ".")
	raw := func(header string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + parts[1] + "." + parts[2]
	}
	upstream, err := f.auth.UpstreamToken(&module.Principal{UserID: "usr_1", SessionID: "ses_1", InstallationID: "ins_1"}, testApp.ID)
	if err != nil {
		t.Fatal(err)
	}
	flip := []byte(parts[2])
	flip[10] ^= 1
	for name, bad := range map[string]string{
		"alg none":                  raw(`{"alg":"none","typ":"at+jwt","kid":"` + kid + `"}`)[:len(raw(`{"alg":"none","typ":"at+jwt","kid":"`+kid+`"}`))-len(parts[2])],
		"alg none, signature left":  raw(`{"alg":"none","typ":"at+jwt","kid":"` + kid + `"}`),
		"HS256 with the public key": sign(t, jose.HS256, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), head(typeAccess, kid), good(nil)),
		"HS256 with the DER":        sign(t, jose.HS256, der, head(typeAccess, kid), good(nil)),
		"RS256":                     sign(t, jose.RS256, rsaKey, head(typeAccess, kid), good(nil)),
		"typ JWT, as an ID token":   sign(t, jose.ES256, key, head("JWT", kid), good(nil)),
		"no typ":                    sign(t, jose.ES256, key, map[jose.HeaderKey]any{"kid": kid}, good(nil)),
		"typ with application/":     sign(t, jose.ES256, key, head("application/at+jwt", kid), good(nil)),
		"a stranger's key":          sign(t, jose.ES256, stranger, head(typeAccess, kid), good(nil)),
		"an unknown kid":            sign(t, jose.ES256, key, head(typeAccess, "unknown"), good(nil)),
		"no kid":                    sign(t, jose.ES256, key, map[jose.HeaderKey]any{jose.HeaderType: typeAccess}, good(nil)),
		"the upstream key":          sign(t, jose.ES256, upstreamKey, head(typeAccess, upstreamKid), good(nil)),
		"an upstream token":         upstream,
		"a critical extension":      raw(`{"alg":"ES256","typ":"at+jwt","kid":"` + kid + `","crit":["exp"]}`),
		"b64 false":                 raw(`{"alg":"ES256","typ":"at+jwt","kid":"` + kid + `","b64":false}`),
		"another issuer":            mint(set("iss", "https://evil.example.com")),
		"the issuer with a slash":   mint(set("iss", testApp.PublicURL+"/")),
		"another audience":          mint(set("aud", "com.example.other")),
		"two audiences":             mint(set("aud", []string{testApp.ID, "com.example.other"})),
		"no subject":                mint(good(func(c map[string]any) { delete(c, "sub") })),
		"no session":                mint(good(func(c map[string]any) { delete(c, "sid") })),
		"no expiry":                 mint(good(func(c map[string]any) { delete(c, "exp") })),
		"issued in the future":      mint(set("iat", now.Add(62*time.Second).Unix())),
		"an expiry that is text":    mint(set("exp", "never")),
		"a payload that is a list":  mint([]string{"sub"}),
		"a flipped signature":       parts[0] + "." + parts[1] + "." + string(flip),
		"no signature":              parts[0] + "." + parts[1] + ".",
		"two parts":                 parts[0] + "." + parts[1],
		"five parts, as a JWE":      token + ".a.b",
		"a line break":              token[:20] + "\n" + token[20:],
		"nothing but dots":          "..",
		"the refresh token":         a.str("session", "refresh_token"),
		"oversized":                 mint(set("scope", strings.Repeat("a", maxJWT))),
		"a million dots":            strings.Repeat(".", 1_000_000),
	} {
		x := f.bearer(bad)
		x.wantProblem(t, 401, problem.TokenInvalid)
		if x.Status != 401 {
			t.Errorf("%s was accepted", name)
		}
		if got := x.Header.Get("WWW-Authenticate"); !strings.HasPrefix(got, `Bearer realm="landline", error="invalid_token"`) {
			t.Errorf("%s: WWW-Authenticate: %s", name, got)
		}
		if r := x.str("recoverable"); r != recoverRefresh && r != recoverNot {
			t.Errorf("%s: recoverable %q", name, r)
		}
	}
	// Within the allowance for clocks.
	if x := f.bearer(mint(set("iat", now.Add(59*time.Second).Unix()))); x.Status != 200 {
		t.Errorf("issued 59 s ahead: %d %s", x.Status, x.Raw)
	}
}

func TestAccessTokenExpires(t *testing.T) {
	f := sqliteFixture(t)
	token := f.launch(launchKey).str("session", "access_token")
	for _, remembered := range []bool{false, true} {
		f.clock.Advance(15*time.Minute + 59*time.Second)
		if x := f.bearer(token); x.Status != 200 {
			t.Errorf("within the allowance for clocks: %d %s", x.Status, x.Raw)
		}
		f.clock.Advance(time.Second)
		x := f.bearer(token)
		x.wantProblem(t, 401, problem.TokenExpired)
		if x.str("recoverable") != recoverRefresh || x.str("action") != "retry" {
			t.Errorf("remembered %t: %s", remembered, x.Raw)
		}
		f.clock.Advance(-16 * time.Minute)
	}
}

func TestAuthorizationHeader(t *testing.T) {
	f := sqliteFixture(t)
	token := f.launch(launchKey).str("session", "access_token")
	r := httptest.NewRequest(http.MethodGet, "/v1/me", nil)
	if p, err := f.auth.Authenticate(r); p != nil || err != nil {
		t.Errorf("without a header: %v, %v", p, err)
	}
	f.get("/v1/me").wantProblem(t, 401, problem.TokenMissing)
	for _, h := range []string{"", "Bearer", "Bearer ", "Basic dTpw", "DPoP " + token, "dpop " + token, token, "Bearer  " + token, "Bearer " + token + " "} {
		x := f.get("/v1/me", "Authorization", h)
		x.wantProblem(t, 401, problem.TokenInvalid)
		// Also where no token is needed: a bad one is never ignored.
		f.post(registerPath, map[string]any{}, "Idempotency-Key", launchKey, "Authorization", h).wantProblem(t, 401, problem.TokenInvalid)
	}
	for _, h := range []string{"Bearer " + token, "bearer " + token, "BEARER " + token} {
		if x := f.get("/v1/me", "Authorization", h); x.Status != 200 {
			t.Errorf("%d %s", x.Status, x.Raw)
		}
	}
	r.Header["Authorization"] = []string{"Bearer " + token, "Bearer " + token}
	if _, err := f.auth.Authenticate(r); !problem.HasCode(err, problem.TokenInvalid) {
		t.Errorf("two headers: %v", err)
	}
}

// TestTokensVerifyElsewhere has a foreign library verify what we sign, with our published keys.
func TestTokensVerifyElsewhere(t *testing.T) {
	f := sqliteFixture(t)
	a := f.launch(launchKey)
	var set jose.JSONWebKeySet
	x := f.get("/.well-known/jwks.json")
	if err := json.Unmarshal([]byte(x.Raw), &set); err != nil || strings.Contains(x.Raw, `"d"`) {
		t.Fatalf("JWKS: %v: %s", err, x.Raw)
	}
	var keys []crypto.PublicKey
	for _, k := range set.Keys {
		keys = append(keys, k.Public().Key)
	}
	verify := func(token, audience string) map[string]any {
		t.Helper()
		v := oidc.NewVerifier(testApp.PublicURL, &oidc.StaticKeySet{PublicKeys: keys}, &oidc.Config{
			ClientID: audience, SupportedSigningAlgs: []string{"ES256"}, Now: f.clock.Now})
		got, err := v.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		c := map[string]any{}
		if err := got.Claims(&c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := verify(a.str("session", "access_token"), testApp.ID)
	for name, want := range map[string]any{"sub": a.str("user", "id"), "sid": a.str("session", "id"), "iid": a.str("installation", "id"),
		"client_id": testApp.ID, "anon": true, "scope": "app", "auth_time": float64(t0.Unix()), "iat": float64(t0.Unix()), "exp": float64(t0.Unix() + 900)} {
		if c[name] != want {
			t.Errorf("%s is %v, want %v", name, c[name], want)
		}
	}
	if c["jti"] == "" || c["amr"].([]any)[0] != methodSecret {
		t.Errorf("claims: %v", c)
	}

	p := &module.Principal{UserID: a.str("user", "id"), SessionID: a.str("session", "id"), InstallationID: a.str("installation", "id"), Anonymous: true}
	token := func() string {
		t.Helper()
		s, err := f.auth.UpstreamToken(p, "flights")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := token()
	c = verify(first, "flights")
	if c["sub"] != p.UserID || c["sid"] != p.SessionID || c["iid"] != p.InstallationID || c["anon"] != true || c["exp"] != float64(t0.Unix()+60) {
		t.Errorf("claims: %v", c)
	}
	f.clock.Advance(39 * time.Second)
	if token() != first {
		t.Error("it was made anew before its time")
	}
	f.clock.Advance(time.Second)
	second := token()
	if second == first {
		t.Error("it was not renewed before its expiry")
	}
	p.Anonymous = false
	if c := verify(token(), "flights"); c["anon"] != false {
		t.Error("a user with an account still is anonymous")
	}
	if other, err := f.auth.UpstreamToken(p, "trips"); err != nil || verify(other, "trips")["aud"] != "trips" {
		t.Errorf("another upstream: %v", err)
	}
	if _, err := f.auth.UpstreamToken(nil, "trips"); err == nil {
		t.Error("a token for nobody")
	}
}

func TestKeyRotationSignsNobodyOut(t *testing.T) {
	f := sqliteFixture(t)
	a := f.launch(launchKey)
	access, refresh := a.str("session", "access_token"), a.str("session", "refresh_token")
	for _, purpose := range []string{purposeAccess, purposeRefresh, purposeInstallation, purposeBootstrap} {
		if err := f.ring.Rotate(t.Context(), purpose); err != nil {
			t.Fatal(err)
		}
	}
	node := f.another() // remembers nothing
	if x := node.bearer(access); x.Status != 200 {
		t.Errorf("access token: %s", x.Raw)
	}
	x := node.token(refresh)
	if x.Status != 200 {
		t.Errorf("refresh token: %s", x.Raw)
	}
	if y := node.token(x.str("refresh_token")); y.Status != 200 {
		t.Errorf("its successor: %s", y.Raw)
	}
	if b := node.launch(launchKey); b.str("installation", "id") != a.str("installation", "id") || b.str("installation", "secret") != a.str("installation", "secret") {
		t.Errorf("first launch again: %s", b.Raw)
	}
	if b := node.post(registerPath, map[string]any{"installation_id": a.str("installation", "id"), "installation_secret": a.str("installation", "secret")}); b.str("user", "id") != a.str("user", "id") {
		t.Errorf("the secret: %s", b.Raw)
	}
	if b := node.launch("after-rotation-0123456789"); node.token(b.str("session", "refresh_token")).Status != 200 {
		t.Error("a session of the new key cannot be refreshed")
	}
}

// TestDroppedKeyEndsItsTokens is the way out after a signing key has leaked.
func TestDroppedKeyEndsItsTokens(t *testing.T) {
	f := sqliteFixture(t)
	token := f.launch(launchKey).str("session", "access_token")
	if x := f.bearer(token); x.Status != 200 { // it is remembered now
		t.Fatalf("%d %s", x.Status, x.Raw)
	}
	kid, _, err := f.ring.Signer(purposeAccess)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.ring.Rotate(t.Context(), purposeAccess); err != nil {
		t.Fatal(err)
	}
	err = f.db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return f.ring.Drop(ctx, tx, kid) })
	if err != nil {
		t.Fatal(err)
	}
	if err := f.ring.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.bearer(token).wantProblem(t, 401, problem.TokenInvalid)
}

func TestMetadataSaysWhatIsTrue(t *testing.T) {
	f := sqliteFixture(t)
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"} {
		x := f.get(path)
		if x.Status != 200 || x.str("issuer") != testApp.PublicURL || x.str("token_endpoint") != testApp.PublicURL+"/oauth/token" || x.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", path, x.Status, x.Raw)
		}
		for _, endpoint := range []string{"authorization_endpoint", "introspection_endpoint", "userinfo_endpoint", "end_session_endpoint", "revocation_endpoint", "jwks_uri"} {
			path, ok := strings.CutPrefix(x.str(endpoint), testApp.PublicURL)
			if _, match := f.mux.Handler(httptest.NewRequest(http.MethodGet, path, nil)); !ok || match == "" {
				if _, match := f.mux.Handler(httptest.NewRequest(http.MethodPost, path, nil)); match == "" {
					t.Errorf("%s promises the %s %q, which does not exist", path, endpoint, x.str(endpoint))
				}
			}
		}
		// What AppAuth for iOS and Android refuses to go on without.
		for _, needed := range []string{"issuer", "authorization_endpoint", "token_endpoint", "jwks_uri", "response_types_supported", "subject_types_supported", "id_token_signing_alg_values_supported"} {
			if x.Body[needed] == nil {
				t.Errorf("%s lacks %s", path, needed)
			}
		}
		for list, want := range map[string]string{"code_challenge_methods_supported": "[S256]", "response_types_supported": "[code]", "dpop_signing_alg_values_supported": "[ES256 EdDSA Ed25519]"} {
			if got := fmt.Sprint(x.Body[list]); got != want {
				t.Errorf("%s is %s, want %s", list, got, want)
			}
		}
	}
}

func TestMeAfterTheUserIsGone(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		a := f.launch(launchKey)
		_, err := f.db.Writer().ExecContext(t.Context(), `UPDATE app_user SET state = 'deleted' WHERE id = $1`, a.str("user", "id"))
		if err != nil {
			t.Fatal(err)
		}
		f.bearer(a.str("session", "access_token")).wantProblem(t, 401, problem.AccountDeleted)
		if x := f.token(a.str("session", "refresh_token")); x.str("reason") != string(ReasonAccountDeleted) || x.str("recovery") != "" {
			t.Errorf("%d %s", x.Status, x.Raw)
		}
		if _, err := f.db.Writer().ExecContext(t.Context(), `DELETE FROM app_user WHERE id = $1`, a.str("user", "id")); err != nil {
			t.Fatal(err)
		}
		f.bearer(a.str("session", "access_token")).wantProblem(t, 401, problem.AccountDeleted)
		if x := f.token(a.str("session", "refresh_token")); x.str("reason") != string(ReasonAccountDeleted) {
			t.Errorf("%d %s", x.Status, x.Raw)
		}
	})
}

// The vector is RFC 9449's own key (§4.1) and thumbprint (§6.1).
func TestThumbprintFollowsTheStandard(t *testing.T) {
	k, err := parsePublicKey([]byte(`{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"}`))
	if err != nil || k.Thumbprint != "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" {
		t.Errorf("%q, %v", k.Thumbprint, err)
	}
}

func TestBoundedNeverExceedsItsBound(t *testing.T) {
	b := newBounded[int, int](128)
	for i := range 10_000 {
		b.set(uint64(i), i, i, func(v int) bool { return v%2 == 0 })
		if v, ok := b.get(uint64(i), i); !ok || v != i {
			t.Fatalf("%d was not kept", i)
		}
	}
	if n := b.len(); n != 128 {
		t.Errorf("it holds %d", n)
	}
}

// TestVerifiedTokenCostsNoAllocation keeps the way of every request cheap.
func TestVerifiedTokenCostsNoAllocation(t *testing.T) {
	f := sqliteFixture(t)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+f.launch(launchKey).str("session", "access_token"))
	f.service.revocations.deny.add(Revocation{SessionID: "ses_other"}, t0.Add(time.Hour))
	if n := testing.AllocsPerRun(1000, func() {
		if p, err := f.auth.Authenticate(r); p == nil || err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
