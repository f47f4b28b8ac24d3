package provider

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"landline/internal/identity/provider/providertest"
)

// Clocks may differ by a minute, either way.
func TestClocksMayDiffer(t *testing.T) {
	f := newFixture(t)
	for name, times := range map[string][2]time.Duration{
		"just expired": {-5 * time.Minute, -59 * time.Second}, "from the near future": {59 * time.Second, 5 * time.Minute},
		"ten minutes old": {-10*time.Minute - 59*time.Second, time.Hour},
	} {
		claims, err := f.verify("oidc:acme", f.acme.IDToken("flights", map[string]any{"nonce": nonce, "iat": t0.Add(times[0]).Unix(), "exp": t0.Add(times[1]).Unix()}))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want := min(times[0]+10*time.Minute, times[1]) + time.Minute; !claims.ExpiresAt.Equal(t0.Add(want)) {
			t.Errorf("%s: the replay id is to be kept until %s, want %s", name, claims.ExpiresAt, t0.Add(want))
		}
	}
}

// After ExpiresAt a token is refused by its times, so that its replay id may be forgotten.
func TestReplayIDMayBeForgottenAfterItsTime(t *testing.T) {
	f := newFixture(t)
	token := f.acme.IDToken("flights", map[string]any{"nonce": nonce, "exp": t0.Add(time.Hour).Unix()})
	claims, err := f.verify("oidc:acme", token)
	if err != nil {
		t.Fatal(err)
	}
	f.clock.Advance(claims.ExpiresAt.Sub(t0) - time.Nanosecond)
	if again, err := f.verify("oidc:acme", token); err != nil || again.ReplayID != claims.ReplayID {
		t.Errorf("a moment before: %v", err)
	}
	f.clock.Advance(time.Nanosecond)
	_, err = f.verify("oidc:acme", token)
	wants(t, "at its time", err, Refused, ReasonTooOld)
}

// Forms and signatures that are not right.
func TestTokensThatAreRefused(t *testing.T) {
	f := newFixture(t)
	set := f.acme.KeySet()
	kid := set.Keys[0].KeyID
	claims := map[string]any{
		"iss": f.acme.URL(), "aud": "flights", "sub": "user-1", "nonce": nonce, "iat": t0.Unix(), "exp": t0.Add(time.Minute).Unix(),
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	good := f.acme.Sign(claims, nil)
	if _, err := f.verify("oidc:acme", good); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(set.Keys[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	head := func(s string) string { return b64.EncodeToString([]byte(s)) + "." + parts[1] + "." + parts[2] }
	body := func(s string) string {
		return providertest.SignBytes(jose.RS256, stranger, kid, []byte(s), nil)
	}
	encrypted := func() string {
		e, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.RSA_OAEP, Key: &stranger.PublicKey}, nil)
		if err != nil {
			t.Fatal(err)
		}
		jwe, err := e.Encrypt(payload)
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwe.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for name, c := range map[string]struct {
		token  string
		reason Reason
	}{
		"nothing":                      {"", ReasonMissing},
		"no dots":                      {"x", ReasonMalformed},
		"one dot":                      {"x.y", ReasonMalformed},
		"three dots":                   {good + ".", ReasonMalformed},
		"four dots":                    {encrypted(), ReasonEncrypted},
		"100 dots":                     {strings.Repeat(".", 100), ReasonMalformed},
		"8193 dots":                    {strings.Repeat(".", 8193), ReasonTooLarge},
		"too long":                     {good + strings.Repeat("A", maxToken), ReasonTooLarge},
		"padding":                      {good + "=", ReasonMalformed},
		"a line break":                 {parts[0] + "\n." + parts[1] + "." + parts[2], ReasonMalformed},
		"standard base64":              {"+/+/." + parts[1] + "." + parts[2], ReasonMalformed},
		"alg none":                     {b64.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".", ReasonAlgorithm},
		"alg None":                     {head(`{"alg":"None","kid":"` + kid + `"}`), ReasonAlgorithm},
		"HS256 with the public key":    {providertest.SignBytes(jose.HS256, public, kid, payload, nil), ReasonAlgorithm},
		"HS256 with the DER":           {providertest.SignBytes(jose.HS256, der, kid, payload, nil), ReasonAlgorithm},
		"RS512, not in the list":       {providertest.SignBytes(jose.RS512, stranger, kid, payload, nil), ReasonAlgorithm},
		"PS256 with an RS256 key":      {providertest.SignBytes(jose.PS256, stranger, kid, payload, nil), ReasonUnknownKey},
		"ES256 by an RSA key's id":     {providertest.SignBytes(jose.ES256, ec, kid, payload, nil), ReasonUnknownKey},
		"no alg":                       {head(`{"kid":"` + kid + `"}`), ReasonAlgorithm},
		"alg twice":                    {head(`{"alg":"none","alg":"RS256","kid":"` + kid + `"}`), ReasonMalformed},
		"Alg":                          {head(`{"Alg":"RS256"}`), ReasonAlgorithm},
		"crit":                         {f.acme.Sign(claims, map[string]any{"crit": []string{"exp"}, "exp": 1}), ReasonCritical},
		"b64":                          {head(`{"alg":"RS256","kid":"` + kid + `","b64":false,"crit":["b64"]}`), ReasonCritical},
		"an access token":              {f.acme.Sign(claims, map[string]any{"typ": "at+jwt"}), ReasonType},
		"an access token, long":        {f.acme.Sign(claims, map[string]any{"typ": "application/at+jwt"}), ReasonType},
		"a logout token":               {f.acme.Sign(claims, map[string]any{"typ": "logout+jwt"}), ReasonType},
		"nested":                       {f.acme.Sign(claims, map[string]any{"cty": "JWT"}), ReasonType},
		"signed by a stranger":         {providertest.SignBytes(jose.RS256, stranger, kid, payload, nil), ReasonSignature},
		"signed by a stranger, no kid": {providertest.SignBytes(jose.RS256, stranger, "", payload, nil), ReasonSignature},
		"unknown kid":                  {providertest.SignBytes(jose.RS256, stranger, "unknown", payload, nil), ReasonUnknownKey},
		"long kid":                     {providertest.SignBytes(jose.RS256, stranger, strings.Repeat("k", 256), payload, nil), ReasonMalformed},
		"its own key in the header": {providertest.SignBytes(jose.RS256, stranger, "", payload, map[string]any{
			"jwk": jose.JSONWebKey{Key: &stranger.PublicKey}, "jku": "http://127.0.0.1:1/keys"}), ReasonSignature},
		"another payload":       {parts[0] + "." + b64.EncodeToString(bytes.Replace(payload, []byte("user-1"), []byte("user-2"), 1)) + "." + parts[2], ReasonSignature},
		"signature of zeros":    {parts[0] + "." + parts[1] + "." + b64.EncodeToString(make([]byte, 256)), ReasonSignature},
		"no signature":          {parts[0] + "." + parts[1] + ".", ReasonSignature},
		"payload is a list":     {body(`[]`), ReasonMalformed},
		"payload is null":       {body(`null`), ReasonMalformed},
		"payload is not JSON":   {body(`{`), ReasonMalformed},
		"payload has sub twice": {body(`{"sub":"a","sub":"b"}`), ReasonMalformed},
		"payload is deep":       {body(strings.Repeat("[", 3000)), ReasonMalformed},
	} {
		got, err := f.verify("oidc:acme", c.token)
		wants(t, name, err, Refused, c.reason)
		if got != nil {
			t.Errorf("%s: claims beside an error", name)
		}
	}
}

// A signature that can be written in several ways does not make a second use: the
// replay id is of what is signed.
func TestAMalleableSignatureIsTheSameToken(t *testing.T) {
	f := newFixture(t)
	f.acme.RotateES256()
	token := f.acme.IDToken("flights", map[string]any{"nonce": nonce})
	first, err := f.verify("oidc:acme", token)
	if err != nil {
		t.Fatal(err)
	}
	dot := strings.LastIndexByte(token, '.')
	sig, err := decode64(token[dot+1:])
	if err != nil {
		t.Fatal(err)
	}
	s := new(big.Int).SetBytes(sig[32:])
	s.Sub(elliptic.P256().Params().N, s).FillBytes(sig[32:])
	other := token[:dot+1] + b64.EncodeToString(sig)
	second, err := f.verify("oidc:acme", other)
	if err != nil {
		t.Fatalf("the other form of the signature verifies too: %v", err)
	}
	if other == token || first.ReplayID != second.ReplayID {
		t.Error("two forms of one token have two replay ids")
	}
}

// Base64url leaves bits over in a last character. A token that differs in them
// alone would verify, and have another replay id.
func TestATokenHasOneText(t *testing.T) {
	f := newFixture(t)
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	seen := 0
	for n := range 3 {
		token := f.acme.IDToken("flights", map[string]any{"nonce": nonce, "pad": strings.Repeat("x", n)})
		if _, err := f.verify("oidc:acme", token); err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(token, ".")
		for i, part := range parts {
			if len(part)%4 == 0 {
				continue
			}
			other := append([]string{}, parts...)
			last := strings.IndexByte(alphabet, part[len(part)-1])
			other[i] = part[:len(part)-1] + alphabet[last|1:last|1+1]
			if last&1 == 1 {
				t.Fatalf("part %d of a right token has bits left over", i)
			}
			_, err := f.verify("oidc:acme", strings.Join(other, "."))
			wants(t, "bits left over", err, Refused, ReasonMalformed)
			seen++
		}
	}
	if seen < 3 {
		t.Fatalf("%d parts only had bits to spare", seen)
	}
}

func TestNonceRules(t *testing.T) {
	optional := func(c *Config, _ *Options) {
		c.Apple.NonceOptional = true
		acme := c.OIDC["acme"]
		acme.NonceOptional = true
		c.OIDC["acme"] = acme
	}
	strict, loose := newFixture(t), newFixture(t, optional)
	for name, c := range map[string]struct {
		f       *fixture
		p       string
		claims  map[string]any
		given   string
		ok      bool
		checked bool
	}{
		"needed and absent":                     {strict, "oidc:acme", nil, "", false, false},
		"in the token, not given":               {strict, "oidc:acme", map[string]any{"nonce": nonce}, "", false, false},
		"optional and absent":                   {loose, "oidc:acme", nil, "", true, false},
		"optional, in the token, not given":     {loose, "oidc:acme", map[string]any{"nonce": nonce}, "", false, false},
		"optional, given, not in the token":     {loose, "oidc:acme", nil, nonce, false, false},
		"optional, right":                       {loose, "oidc:acme", map[string]any{"nonce": nonce}, nonce, true, true},
		"Apple's old devices":                   {strict, "apple", map[string]any{"nonce_supported": false}, nonce, true, false},
		"Apple's old devices, as text":          {strict, "apple", map[string]any{"nonce_supported": "false"}, nonce, true, false},
		"Apple's devices that can":              {strict, "apple", map[string]any{"nonce_supported": true}, nonce, false, false},
		"Apple does not say":                    {strict, "apple", nil, nonce, false, false},
		"Apple, the hash given for the raw one": {strict, "apple", map[string]any{"nonce": "x"}, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881", false, false},
		"too long":                              {strict, "oidc:acme", map[string]any{"nonce": strings.Repeat("n", 1025)}, strings.Repeat("n", 1025), false, false},
	} {
		issuer, audience := c.f.acme, "flights"
		if c.p == "apple" {
			issuer, audience = c.f.apple, bundleID
		}
		claims, err := c.f.get(c.p).Verify(context.Background(), Token{IDToken: issuer.IDToken(audience, c.claims), Nonce: c.given})
		if !c.ok {
			wants(t, name, err, Refused, ReasonNonce)
		} else if err != nil || claims.NonceChecked != c.checked {
			t.Errorf("%s: %+v, %v", name, claims, err)
		}
	}
}

func TestExternalAuthority(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, func(c *Config, _ *Options) {
		team := ExternalConfig{
			Issuer: "accounts.example.com", Audiences: []string{"flights-api"}, Keys: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
			EmailClaim: "mail",
		}
		team.Defaults()
		team.SubjectClaim, team.Types = "user_id", []string{"at+jwt"}
		c.External["team"] = team
	})
	sign := func(claims map[string]any, header map[string]any) string {
		all := map[string]any{"iss": "accounts.example.com", "aud": "flights-api", "iat": t0.Unix(), "exp": t0.Add(time.Minute).Unix(), "user_id": 4711, "mail": "ada@example.com", "email_verified": true}
		for k, v := range claims {
			all[k] = v
		}
		payload, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		return providertest.SignBytes(jose.ES256, key, "", payload, header)
	}
	access := map[string]any{"typ": "at+jwt"}
	p := f.get("external:team")
	claims, err := p.Verify(context.Background(), Token{IDToken: sign(nil, access)})
	if err != nil || claims.Subject != "4711" || claims.Email != "ada@example.com" || claims.EmailVerified {
		t.Errorf("%+v, %v", claims, err)
	}
	for name, c := range map[string]struct {
		token  string
		reason Reason
	}{
		"an ID token": {sign(nil, nil), ReasonType},
		"a fraction":  {sign(map[string]any{"user_id": 47.5}, access), ReasonSubject},
		"no subject":  {sign(map[string]any{"user_id": nil}, access), ReasonSubject},
		"an unknown key": {func() string {
			text := sign(nil, access)
			return b64.EncodeToString([]byte(`{"alg":"ES256","typ":"at+jwt","kid":"other"}`)) + text[strings.IndexByte(text, '.'):]
		}(), ReasonUnknownKey},
		"too old":        {sign(map[string]any{"iat": t0.Add(-12 * time.Minute).Unix()}, access), ReasonTooOld},
		"other audience": {sign(map[string]any{"aud": []string{"flights-api", "other"}}, access), ReasonAudience},
	} {
		_, err := p.Verify(context.Background(), Token{IDToken: c.token})
		wants(t, name, err, Refused, c.reason)
	}
	if _, err := p.Exchange(context.Background(), Code{Code: "x"}); err == nil || p.TakesCodes() || p.TakesRedirects() || p.TakesNotices() {
		t.Errorf("an authority takes more than tokens: %v", err)
	}
}

// The stand-in is a real issuer: another OpenID Connect client accepts what it does.
func TestTheStandInIsAnIssuerToOthers(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	p, err := oidc.NewProvider(ctx, f.acme.URL())
	if err != nil {
		t.Fatal(err)
	}
	verifier := p.Verifier(&oidc.Config{ClientID: "flights", Now: f.clock.Now})
	token, err := verifier.Verify(ctx, f.acme.IDToken("flights", nil))
	if err != nil || token.Subject != "user-1" {
		t.Errorf("%+v, %v", token, err)
	}
	f.acme.Rotate()
	if _, err := verifier.Verify(ctx, f.acme.IDToken("flights", nil)); err != nil {
		t.Errorf("after rotation: %v", err)
	}
}
