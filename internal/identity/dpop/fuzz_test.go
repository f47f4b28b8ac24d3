package dpop

import (
	"encoding/json"
	"strings"
	"testing"

	"landline/internal/clock"
	"landline/internal/identity/dpop/dpoptest"
)

// FuzzProof signs what the fuzzer makes of header and payload: whatever is
// accepted says what was asked for, and has bounded parts.
func FuzzProof(f *testing.F) {
	key := dpoptest.New()
	nonces := NewNonces(testKeys{current: 1}, "p", 0)
	nonce, err := nonces.Current(testNow)
	if err != nil {
		f.Fatal(err)
	}
	encode := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		return string(b)
	}
	header := encode(key.Header())
	for _, payload := range []string{
		encode(dpoptest.Claims("POST", testURL, testToken, "", testNow)), encode(dpoptest.Claims("POST", testURL, testToken, nonce, testNow)),
		`{}`, `null`, `{"jti":"12345678","htm":"POST","htu":"https://api.example.com:443/v1/./trips?x","iat":1.7723664e9}`, strings.Repeat("[", 2000),
	} {
		f.Add(header, payload)
	}
	f.Add(`{"typ":"dpop+jwt","alg":"ES256"}`, `{}`)
	f.Add(strings.Replace(header, `"jwk":{`, `"jwk":{"d":"AA",`, 1), `{}`)
	f.Add(strings.Replace(header, `"ES256"`, `"none"`, 1), `{}`)
	v := newVerifier(f, Options{Nonces: nonces, Clock: clock.NewFake(testNow)})
	f.Fuzz(func(t *testing.T, header, payload string) {
		proof := key.Sign(json.RawMessage(header), json.RawMessage(payload))
		p, err := v.Verify(Request{Fields: []string{proof}, Method: "POST", URL: testURL, AccessToken: testToken})
		if err != nil {
			if codeOf(err) != InvalidProof && codeOf(err) != UseNonce {
				t.Errorf("%v", err)
			}
			return
		}
		if p.Thumbprint != key.Thumbprint || len(p.ReplayID) != 43 || !testNow.Before(p.Expires) || p.Expires.Sub(testNow) > MaxReplayLife {
			t.Errorf("accepted as %+v", p)
		}
		if !strings.Contains(payload, TokenHash(testToken)) && !strings.Contains(payload, `\`) {
			t.Errorf("accepted without ath: %q", payload)
		}
	})
}

// FuzzField: a text that we did not sign is never accepted.
func FuzzField(f *testing.F) {
	key := dpoptest.New()
	for _, s := range []string{"", "..", "a.b.c", rfcTokenProof, key.Proof("GET", testURL, "", "", testNow), strings.Repeat(".", 100)} {
		f.Add(s)
	}
	v := newVerifier(f, Options{})
	f.Fuzz(func(t *testing.T, s string) {
		p, err := v.Verify(Request{Fields: []string{s}, Method: "POST", URL: testURL})
		if err == nil || codeOf(err) != InvalidProof {
			t.Errorf("%q: %+v, %v", s, p, err)
		}
	})
}

// FuzzNormalizeURL: what is normal is a fixed point without query, fragment or dot segments.
func FuzzNormalizeURL(f *testing.F) {
	for _, s := range []string{testURL, "HTTP://a:80/../%7e?b#c", "https://[::1]:443/%2F", "https://a\\b/", "https://a/%", "https://a@b/", "//a", "https://a/.%2e/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		normal, ok := NormalizeURL(s)
		if !ok {
			return
		}
		again, ok := NormalizeURL(normal)
		if !ok || again != normal || strings.ContainsAny(normal, "?#@\\ ") && !strings.Contains(s, "@") || strings.Contains(normal+"/", "/../") {
			t.Errorf("%q → %q → %q, %v", s, normal, again, ok)
		}
	})
}

// FuzzNonce: only the nonces of two steps are good.
func FuzzNonce(f *testing.F) {
	n := NewNonces(testKeys{current: 1}, "p", 0)
	current, err := n.Current(testNow)
	if err != nil {
		f.Fatal(err)
	}
	before, err := n.Current(testNow.Add(-NonceStep))
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"", current, before, current + "=", strings.Repeat("A", 38)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if _, _, ok := n.Check(s, testNow); ok && s != current && s != before {
			t.Errorf("%q is good", s)
		}
	})
}
