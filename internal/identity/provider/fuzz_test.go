package provider

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"landline/internal/clock"
)

// fuzzSet is one Set for a whole run. Its keys are fixed, so it makes no calls.
func fuzzSet(t testing.TB) *Set {
	t.Helper()
	keys, err := parseStaticKeys(`{"keys":[{"kty":"EC","kid":"k","crv":"P-256","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	s := &Set{clock: clock.NewFake(t0), metrics: newMetrics(nil)}
	s.byName = map[string]*Provider{}
	for name, read := range map[string]func(*noticeClaims, []string) ([]Notice, error){"apple": appleNotices, "google": securityEvents} {
		s.byName[name] = &Provider{
			name: name, set: s, keys: staticKeys(keys),
			rules: rules{
				provider: name, issuers: []string{"i"}, clientIDs: []string{"a", "b"}, algorithms: []string{"ES256"}, types: idTokenTypes, maxAge: idTokenAge,
				nonce: nonceApple, subject: "sub", email: "email", emailVerified: "email_verified", apple: name == "apple",
			},
			notices: &noticeRules{keys: staticKeys(keys), issuers: []string{"i"}, read: read},
		}
	}
	return s
}

func unsigned(header, payload string) string {
	return b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(payload)) + "." + b64.EncodeToString(make([]byte, 64))
}

// FuzzToken: no text is a token of a key whose private half nobody has; and every
// error is one of ours.
func FuzzToken(f *testing.F) {
	s := fuzzSet(f)
	f.Add("a.b.c", "")
	f.Add(unsigned(`{"alg":"ES256","kid":"k"}`, `{"iss":"i","aud":["a","b"],"azp":"b","sub":"s","iat":1772366400,"exp":1772366500,"nonce":"n"}`), "n")
	f.Add(unsigned(`{"alg":"none"}`, `{}`), "")
	f.Add(unsigned(`{"alg":"ES256","crit":["b64"],"b64":false}`, `[]`), "")
	f.Add(strings.Repeat(".", 5000), "n")
	f.Fuzz(func(t *testing.T, token, nonce string) {
		claims, err := s.byName["apple"].Verify(context.Background(), Token{IDToken: token, Nonce: nonce})
		if e, ok := err.(*Error); !ok || e.Kind != Refused || claims != nil {
			t.Errorf("%q: %+v, %v", token, claims, err)
		}
	})
}

// FuzzClaims: what passes the rules keeps its bounds, whoever signed it.
func FuzzClaims(f *testing.F) {
	s := fuzzSet(f)
	f.Add([]byte(`{"iss":"i","aud":"a","sub":"s","iat":1772366400,"exp":1772366500,"nonce":"n","email":"a@b","email_verified":"true","name":"A","amr":["x"],"auth_time":1.5}`))
	f.Add([]byte(`{"iss":"i","aud":["a"],"sub":4,"iat":1e9,"exp":null}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		p := s.byName["apple"]
		o := &opened{text: "a.b.c", payload: payload}
		c, err := p.rules.check(o, "n", s.clock.Now())
		if err != nil {
			if c != nil {
				t.Errorf("%q: claims beside an error", payload)
			}
			return
		}
		if c.Issuer != "i" || c.Subject == "" || len(c.Subject) > maxSubject || len(c.Email) > maxEmail || len([]rune(c.Name)) > maxName || len(c.AMR) > maxMethods ||
			!c.ExpiresAt.After(s.clock.Now()) || c.ExpiresAt.After(s.clock.Now().Add(idTokenAge+2*clockSkew)) || c.ReplayID == "" || c.ClientID != "a" && c.ClientID != "b" || c.EmailVerified && c.Email == "" {
			t.Errorf("%q: %+v", payload, c)
		}
	})
}

// FuzzNotices: no body is a notice without a signature.
func FuzzNotices(f *testing.F) {
	s := fuzzSet(f)
	f.Add(`{"payload":"` + unsigned(`{"alg":"ES256","kid":"k"}`, `{"iss":"i","aud":"a","iat":1772366400,"jti":"j","events":"{\"type\":\"consent-revoked\",\"sub\":\"s\"}"}`) + `"}`)
	f.Add(unsigned(`{"alg":"ES256","kid":"k","typ":"secevent+jwt"}`, `{"iss":"i","aud":["a"],"iat":1772366400,"events":{"x":{}}}`))
	f.Add(`{}`)
	f.Fuzz(func(t *testing.T, body string) {
		for _, p := range s.All() {
			if notices, err := p.Notices(context.Background(), []byte(body)); notices != nil || err == nil {
				t.Errorf("%q: %+v, %v", body, notices, err)
			}
		}
	})
}

// FuzzEvents: what is read of events keeps its bounds, whoever signed them.
func FuzzEvents(f *testing.F) {
	s := fuzzSet(f)
	f.Add(`"{\"type\":\"consent-revoked\",\"sub\":\"s\",\"event_time\":1772366400000}"`)
	f.Add(`{"https://schemas.openid.net/secevent/risc/event-type/sessions-revoked":{"subject":{"subject_type":"iss-sub","iss":"i","sub":"s"}}}`)
	f.Add(`[{"type":"x"}]`)
	f.Fuzz(func(t *testing.T, events string) {
		for _, p := range s.All() {
			notices, err := p.notices.read(&noticeClaims{Events: []byte(events)}, p.notices.issuers)
			if err != nil && notices != nil || len(notices) > maxEvents {
				t.Errorf("%q: %+v, %v", events, notices, err)
			}
			for _, n := range notices {
				if n.Kind == "" || len(n.Type) > 255 || len(n.Subject) > maxSubject {
					t.Errorf("%q: %s", events, n)
				}
			}
		}
	})
}

// FuzzKeys: what is taken for a key set can verify, and is bounded.
func FuzzKeys(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","kid":"k","crv":"P-256","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","x5c":["x"]},{"kty":"oct","k":"AA"},7]}`))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		set, err := parseKeys(body)
		if (err == nil) != (len(set) > 0) || len(set) > maxKeys {
			t.Errorf("%q: %d keys, %v", body, len(set), err)
		}
		for _, key := range set {
			if !usable(key.Key) || !key.IsPublic() {
				t.Errorf("%q: %v is taken", body, key)
			}
		}
	})
}

// FuzzCallback: only the state that was made and the right issuer give a code.
func FuzzCallback(f *testing.F) {
	pending := Pending{Provider: "x", State: "state-1", Issuers: []string{"i"}, NeedsIssuer: true, FormPost: true, ExpiresAt: t0.Add(pendingLifetime)}
	f.Add("state=state-1&iss=i&code=c&user={}")
	f.Add("state=state-1&iss=i&error=access_denied")
	f.Add("state=state-1&state=x&code=%00")
	f.Fuzz(func(t *testing.T, query string) {
		params, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		c, err := pending.Complete(params, t0)
		if err == nil && (params.Get("state") != "state-1" || params.Get("iss") != "i" || params.Get("error") != "" || c.Code.Code == "" || len(c.Code.Code) > maxParameter) {
			t.Errorf("%q: %+v", query, c)
		}
	})
}
