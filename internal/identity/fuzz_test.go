package identity

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"landline/internal/id"
	"landline/internal/problem"
)

// FuzzRefreshToken: what parses is exactly what is printed, and nothing is genuine but ours.
func FuzzRefreshToken(f *testing.F) {
	good := formatRefreshToken(refreshToken{session: id.New(id.Session), counter: 12, version: 1})
	for _, s := range []string{"", good, good + ".", strings.Replace(good, ".12.", ".012.", 1), strings.Replace(good, ".12.", ".-1.", 1),
		strings.Replace(good, ".12.", ".9223372036854775807.", 1), "v2" + good[2:], good[:len(good)-1] + "\n", good + "=", "v1..1."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		token, ok := parseRefreshToken(s)
		if !ok {
			return
		}
		if got := formatRefreshToken(token); got != s {
			t.Errorf("%q is read as %q", s, got)
		}
		if token.counter < 1 || token.version < 0 || id.Check(id.Session, token.session) != nil {
			t.Errorf("%q is read as %+v", s, token)
		}
	})
}

// FuzzAuthenticate: a header that we did not make is 401, whatever it is.
func FuzzAuthenticate(f *testing.F) {
	// The key ring needs a *testing.T for its database; one node serves the whole run.
	var node *fixture
	for _, s := range []string{"", "Bearer", "Bearer a.b.c", "DPoP x", "Bearer eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6IiJ9.e30.AA",
		"Bearer eyJhbGciOiJub25lIn0.e30.", "Basic dTpw", "Bearer ..", "Bearer \x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if node == nil {
			node = sqliteFixture(t)
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Authorization"] = []string{header}
		p, err := node.auth.Authenticate(r)
		if p != nil || problem.From(err).Status() != 401 {
			t.Errorf("%q: %v, %v", header, p, err)
		}
	})
}

// FuzzProof: no text crashes the parser or passes without a signature of its own key.
func FuzzProof(f *testing.F) {
	f.Add("a.b.c")
	f.Add("eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2In0.e30.AA")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := parseProof(s, http.MethodPost, "https://api.example.com"+registerPath, t0); err == nil && p.Key.Thumbprint == "" {
			t.Errorf("%q passes without a key", s)
		}
	})
}

// FuzzPublicKey: what is accepted is canonical.
func FuzzPublicKey(f *testing.F) {
	f.Add([]byte(`{"kty":"EC","crv":"P-256","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"}`))
	f.Add([]byte(`"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE"`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		k, err := parsePublicKey(raw)
		if err != nil {
			return
		}
		again, err := parsePublicKey([]byte(k.JWK))
		if err != nil || again != k {
			t.Errorf("%s: %v", k.JWK, err)
		}
	})
}
