package dpop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"pgregory.net/rapid"

	"landline/internal/clock"
	"landline/internal/identity/dpop/dpoptest"
)

// The proofs of RFC 9449 §5 figure 2 and §7.1 figure 12, with the thumbprint of §6.1.
const (
	rfcTokenProof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19" +
		".eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ" +
		".2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
	rfcResourceProof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19" +
		".eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9" +
		".2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
	rfcThumbprint  = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
	rfcAccessToken = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
)

func TestVectorsOfTheRFC(t *testing.T) {
	v := newVerifier(t, Options{Clock: clock.NewFake(time.Unix(1562262650, 0))})
	p, err := v.Verify(Request{Fields: []string{rfcTokenProof}, Method: "POST", URL: "https://server.example.com/token"})
	if err != nil {
		t.Fatal(err)
	}
	if p.Thumbprint != rfcThumbprint || p.IssuedAt.Unix() != 1562262616 || p.Expires.Unix() != 1562262677 {
		t.Errorf("got %+v", p)
	}
	p, err = v.Verify(Request{Fields: []string{rfcResourceProof}, Method: "GET", URL: "https://resource.example.org/protectedresource", AccessToken: rfcAccessToken})
	if err != nil {
		t.Fatal(err)
	}
	if p.Thumbprint != rfcThumbprint {
		t.Errorf("thumbprint %s, want %s", p.Thumbprint, rfcThumbprint)
	}
	if got := TokenHash(rfcAccessToken); got != "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo" {
		t.Errorf("ath is %s", got)
	}
	if err := CheckBinding("DPoP", rfcThumbprint, p); err != nil {
		t.Error(err)
	}
}

// Proofs that the npm package dpop made.
func TestVectorsOfTheNodeClient(t *testing.T) {
	raw, err := os.ReadFile("testdata/npm_dpop.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Now     int64
		Vectors []struct {
			Alg, JKT, Kind, Method, URL, Nonce, Proof string
			AccessToken                               string `json:"access_token"`
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	v := newVerifier(t, Options{Algorithms: supported, Clock: clock.NewFake(time.Unix(file.Now, 0))})
	accepted := 0
	for _, c := range file.Vectors {
		p, err := v.Verify(Request{Fields: []string{c.Proof}, Method: c.Method, URL: c.URL, AccessToken: c.AccessToken})
		if err != nil {
			t.Errorf("%s, %s: %v", c.Alg, c.Kind, err)
			continue
		}
		if p.Thumbprint != c.JKT {
			t.Errorf("%s: thumbprint %s, want %s", c.Alg, p.Thumbprint, c.JKT)
		}
		at := strings.LastIndexByte(c.Proof, '.') + 10 // within the signature
		other := byte('A')
		if c.Proof[at] == other {
			other = 'B'
		}
		broken := c.Proof[:at] + string(other) + c.Proof[at+1:]
		if _, err := v.Verify(Request{Fields: []string{broken}, Method: c.Method, URL: c.URL, AccessToken: c.AccessToken}); codeOf(err) != InvalidProof {
			t.Errorf("%s with a broken signature: %v", c.Alg, err)
		}
		accepted++
	}
	if accepted != len(file.Vectors) || accepted == 0 {
		t.Errorf("%d of %d proofs were accepted", accepted, len(file.Vectors))
	}
}

func TestEveryAlgorithmSigns(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	curves := map[jose.SignatureAlgorithm]elliptic.Curve{jose.ES256: elliptic.P256(), jose.ES384: elliptic.P384(), jose.ES512: elliptic.P521()}
	v := newVerifier(t, Options{Algorithms: supported})
	for _, alg := range supported {
		if alg == edDSA25519 {
			continue // go-jose does not sign under this name: TestVectorsOfTheNodeClient has it
		}
		var key crypto.Signer = rsaKey
		if curve := curves[alg]; curve != nil {
			if key, err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
				t.Fatal(err)
			}
		} else if alg == jose.EdDSA {
			key = ed
		}
		proof := signWith(t, alg, key)
		if _, err := v.Verify(Request{Fields: []string{proof}, Method: "POST", URL: testURL}); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		strict := newVerifier(t, Options{})
		_, err := strict.Verify(Request{Fields: []string{proof}, Method: "POST", URL: testURL})
		if allowed := alg == jose.ES256 || alg == jose.EdDSA; allowed != (err == nil) {
			t.Errorf("%s by default: %v", alg, err)
		}
	}
}

func signWith(t *testing.T, alg jose.SignatureAlgorithm, key crypto.Signer) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{EmbedJWK: true}).WithType(typ))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(dpoptest.Claims("POST", testURL, "", "", testNow))
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Each case changes one thing of a right proof; all must be refused, and no
// answer may quote what was sent.
func TestWrongProofs(t *testing.T) {
	key, other := dpoptest.New(), dpoptest.New()
	right := func() (map[string]any, map[string]any) {
		return key.Header(), dpoptest.Claims("POST", testURL, testToken, "", testNow)
	}
	secretBytes, err := key.Private.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	private := maps.Clone(key.JWK)
	private["d"] = b64.EncodeToString(secretBytes)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	headers := map[string]func(h map[string]any){
		"typ missing":      func(h map[string]any) { delete(h, "typ") },
		"typ JWT":          func(h map[string]any) { h["typ"] = "JWT" },
		"typ at+jwt":       func(h map[string]any) { h["typ"] = "at+jwt" },
		"typ in capitals":  func(h map[string]any) { h["typ"] = "DPOP+JWT" },
		"typ a number":     func(h map[string]any) { h["typ"] = 1 },
		"alg none":         func(h map[string]any) { h["alg"] = "none" },
		"alg HS256":        func(h map[string]any) { h["alg"] = "HS256" },
		"alg missing":      func(h map[string]any) { delete(h, "alg") },
		"alg ES384":        func(h map[string]any) { h["alg"] = "ES384" },
		"alg EdDSA":        func(h map[string]any) { h["alg"] = "EdDSA" },
		"jwk missing":      func(h map[string]any) { delete(h, "jwk") },
		"jwk null":         func(h map[string]any) { h["jwk"] = nil },
		"jwk a text":       func(h map[string]any) { h["jwk"] = "key" },
		"jwk private":      func(h map[string]any) { h["jwk"] = private },
		"jwk of another":   func(h map[string]any) { h["jwk"] = other.JWK },
		"jwk symmetric":    func(h map[string]any) { h["jwk"] = map[string]any{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQ"} },
		"jwk off curve":    func(h map[string]any) { j := maps.Clone(key.JWK); j["x"] = j["y"]; h["jwk"] = j },
		"jwk lacks y":      func(h map[string]any) { j := maps.Clone(key.JWK); delete(j, "y"); h["jwk"] = j },
		"jwk P-384":        func(h map[string]any) { j := maps.Clone(key.JWK); j["crv"] = "P-384"; h["jwk"] = j },
		"jwk of 1024 bits": func(h map[string]any) { h["jwk"] = jose.JSONWebKey{Key: &small.PublicKey}; h["alg"] = "RS256" },
		"crit":             func(h map[string]any) { h["crit"] = []string{"exp"}; h["exp"] = 1 },
		"crit b64":         func(h map[string]any) { h["crit"] = []string{"b64"}; h["b64"] = true },
		"b64 alone":        func(h map[string]any) { h["b64"] = true },
		"unencoded":        func(h map[string]any) { h["b64"] = false },
	}
	claims := map[string]func(c map[string]any){
		"jti missing":     func(c map[string]any) { delete(c, "jti") },
		"jti short":       func(c map[string]any) { c["jti"] = "1234567" },
		"jti long":        func(c map[string]any) { c["jti"] = strings.Repeat("j", MaxJTI+1) },
		"jti a number":    func(c map[string]any) { c["jti"] = 12345678901 },
		"htm missing":     func(c map[string]any) { delete(c, "htm") },
		"htm GET":         func(c map[string]any) { c["htm"] = "GET" },
		"htm lower case":  func(c map[string]any) { c["htm"] = "post" },
		"htu missing":     func(c map[string]any) { delete(c, "htu") },
		"htu of a path":   func(c map[string]any) { c["htu"] = "/v1/trips" },
		"htu other host":  func(c map[string]any) { c["htu"] = "https://evil.example/v1/trips" },
		"htu other path":  func(c map[string]any) { c["htu"] = testURL + "/" },
		"htu http":        func(c map[string]any) { c["htu"] = "http://api.example.com/v1/trips" },
		"htu other port":  func(c map[string]any) { c["htu"] = "https://api.example.com:8443/v1/trips" },
		"htu with a user": func(c map[string]any) { c["htu"] = "https://a@api.example.com/v1/trips" },
		"iat missing":     func(c map[string]any) { delete(c, "iat") },
		"iat a text":      func(c map[string]any) { c["iat"] = "1772366400" },
		"iat negative":    func(c map[string]any) { c["iat"] = -1 },
		"iat huge":        func(c map[string]any) { c["iat"] = 1e300 },
		"iat 61 s ago":    func(c map[string]any) { c["iat"] = testNow.Unix() - 61 },
		"iat in 61 s":     func(c map[string]any) { c["iat"] = testNow.Unix() + 61 },
		"ath missing":     func(c map[string]any) { delete(c, "ath") },
		"ath null":        func(c map[string]any) { c["ath"] = nil },
		"ath empty":       func(c map[string]any) { c["ath"] = "" },
		"ath of another":  func(c map[string]any) { c["ath"] = TokenHash("another") },
		"ath padded":      func(c map[string]any) { c["ath"] = TokenHash(testToken) + "=" },
	}
	good := func() string { return key.Sign(right()) }
	fields := map[string][]string{
		"no field":         nil,
		"an empty field":   {""},
		"two fields":       {good(), good()},
		"two in one":       {good() + ", " + good()},
		"two parts":        {strings.Join(strings.Split(good(), ".")[:2], ".")},
		"four parts":       {good() + ".x"},
		"only dots":        {".."},
		"a space":          {good() + " "},
		"a padded part":    {good() + "="},
		"huge":             {strings.Repeat("a", MaxProof) + ".b.c"},
		"many dots":        {strings.Repeat(".", MaxProof)},
		"changed payload":  {swapPart(good(), good(), 1)},
		"changed header":   {swapPart(good(), other.Sign(other.Header(), dpoptest.Claims("POST", testURL, testToken, "", testNow)), 0)},
		"other signature":  {swapPart(good(), good(), 2)},
		"no signature":     {strings.Join(strings.Split(good(), ".")[:2], ".") + "."},
		"payload no JSON":  {key.Sign(key.Header(), json.RawMessage(`jti`))},
		"payload a list":   {key.Sign(key.Header(), json.RawMessage(`[]`))},
		"payload empty":    {key.Sign(key.Header(), json.RawMessage(``))},
		"htm twice":        {key.Sign(key.Header(), json.RawMessage(`{"jti":"12345678","htm":"GET","htm":"POST","htu":"`+testURL+`","iat":1772366400,"ath":"`+TokenHash(testToken)+`"}`))},
		"member in caps":   {key.Sign(key.Header(), json.RawMessage(`{"jti":"12345678","HTM":"POST","htu":"`+testURL+`","iat":1772366400,"ath":"`+TokenHash(testToken)+`"}`))},
		"header twice typ": {key.Sign(json.RawMessage(`{"typ":"JWT","typ":"dpop+jwt","alg":"ES256","jwk":`+jsonOf(t, key.JWK)+`}`), dpoptest.Claims("POST", testURL, testToken, "", testNow))},
		"JSON serialised":  {`{"payload":"e30","signatures":[]}`},
	}
	for name, change := range headers {
		h, c := right()
		change(h)
		fields["header: "+name] = []string{key.Sign(h, c)}
	}
	for name, change := range claims {
		h, c := right()
		change(c)
		fields["claims: "+name] = []string{key.Sign(h, c)}
	}
	v := newVerifier(t, Options{Algorithms: append([]jose.SignatureAlgorithm{jose.RS256}, jose.ES256, jose.ES384, jose.EdDSA)})
	request := Request{Method: "POST", URL: testURL, AccessToken: testToken}
	request.Fields = []string{good()}
	if _, err := v.Verify(request); err != nil {
		t.Fatalf("the right proof is refused: %v", err)
	}
	refused := 0
	for name, f := range fields {
		request.Fields = f
		p, err := v.Verify(request)
		if err == nil || codeOf(err) != InvalidProof {
			t.Errorf("%s: accepted as %+v, %v", name, p, err)
			continue
		}
		for _, sent := range append(f, "evil.example", "1234567") {
			if len(sent) > 4 && strings.Contains(err.Error(), sent) {
				t.Errorf("%s: the error quotes what was sent: %v", name, err)
			}
		}
		refused++
	}
	t.Logf("%d of %d wrong proofs refused", refused, len(fields))
	if len(fields) < 70 {
		t.Errorf("only %d wrong proofs were tried", len(fields))
	}
}

func swapPart(to, from string, i int) string {
	parts := strings.Split(to, ".")
	parts[i] = strings.Split(from, ".")[i]
	return strings.Join(parts, ".")
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestNewRefuses(t *testing.T) {
	for name, o := range map[string]Options{
		"HS256":                 {Algorithms: []jose.SignatureAlgorithm{jose.HS256}},
		"none":                  {Algorithms: []jose.SignatureAlgorithm{"none"}},
		"a window too long":     {Window: time.Hour},
		"a window below zero":   {Window: -time.Second},
		"nonces that are unset": {RequireNonce: true},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestServerWithoutPublicURL(t *testing.T) {
	key := dpoptest.New()
	v := newVerifier(t, Options{})
	_, err := v.Verify(Request{Fields: []string{key.Proof("POST", testURL, "", "", testNow)}, Method: "POST", URL: "/v1/trips"})
	if err == nil || codeOf(err) != "" {
		t.Errorf("the server's own fault is told as the client's: %v", err)
	}
}

func TestWrongURLNamesTheOrigin(t *testing.T) {
	v := newVerifier(t, Options{})
	_, err := v.Verify(Request{Fields: []string{dpoptest.New().Proof("POST", "http://10.0.0.5:8080/v1/trips", "", "", testNow)}, Method: "POST", URL: testURL})
	if err == nil || !strings.HasSuffix(err.Error(), "one of https://api.example.com") {
		t.Error(err)
	}
}

func TestErrorsMatchByCode(t *testing.T) {
	err := error(invalid("x"))
	if !errors.Is(err, &Error{Code: InvalidProof}) || errors.Is(err, &Error{Code: UseNonce}) {
		t.Error("errors.Is does not match by code")
	}
}

// A proof is accepted exactly while its iat is within the window, and may be
// forgotten no sooner than it is refused.
func TestWindow(t *testing.T) {
	key := dpoptest.New()
	rapid.Check(t, func(t *rapid.T) {
		window := time.Duration(rapid.IntRange(1, 900).Draw(t, "window")) * time.Second
		offset := time.Duration(rapid.IntRange(-2_000_000, 2_000_000).Draw(t, "offset")) * time.Millisecond
		fake := clock.NewFake(testNow.Add(offset))
		v, err := New(Options{Window: window, Clock: fake})
		if err != nil {
			t.Fatal(err)
		}
		proof := key.Proof("POST", testURL, "", "", testNow)
		p, err := v.Verify(Request{Fields: []string{proof}, Method: "POST", URL: testURL})
		if want := offset.Abs() <= window; want != (err == nil) {
			t.Fatalf("offset %s, window %s: %v", offset, window, err)
		}
		if err == nil {
			fake.Advance(p.Expires.Sub(fake.Now()))
			if _, err := v.Verify(Request{Fields: []string{proof}, Method: "POST", URL: testURL}); err == nil {
				t.Fatal("accepted after it may be forgotten")
			}
		}
	})
}
