package app

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"landline/internal/admin"
	"landline/internal/clock"
	"landline/internal/config"
	"landline/internal/id"
	"landline/internal/identity"
	"landline/internal/module"
	"landline/internal/testkit"
)

// accessConfig is a server with all that is built in turned on.
const accessConfig = `
app: {id: com.example.app, public_url: "https://api.example.com"}
identity:
  email_code: {on: true}
  password: {on: true}
  passkey: {rp_id: example.com, apple_apps: [ABCDE12345.com.example.app]}
`

// purposeAccess is the purpose of the keys that sign access tokens.
const purposeAccess = "identity.access-token"

// theHouse is a whole server, asked without a network, and everything it has said.
type theHouse struct {
	t         *testing.T
	app       *App
	logs      *testkit.Buffer
	operators map[module.Role]string
	calls     int
}

func newHouse(t *testing.T, extra ...module.Capability) *theHouse {
	t.Helper()
	h := &theHouse{t: t, logs: &testkit.Buffer{}, operators: map[module.Role]string{}}
	a, err := New(t.Context(), Options{
		ConfigData: []byte(accessConfig), Env: config.Env{Lookup: func(string) (string, bool) { return "", false }}, Extra: extra,
		Public: "127.0.0.1:0", Admin: "127.0.0.1:0", Data: t.TempDir(), Stdout: io.Discard, Stderr: h.logs, Version: "development",
	})
	if err != nil {
		t.Fatal(err)
	}
	h.app = a
	t.Cleanup(func() {
		a.gateway.Close()
		if err := a.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	k := a.kernel
	for _, role := range []module.Role{module.Viewer, module.Support, module.Operator, module.Owner} {
		if h.operators[role], err = admin.AddOperator(t.Context(), k.db, k.ring, k.audit, "matrix-"+string(role), role); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// reply is what a request got.
type reply struct {
	status int
	header http.Header
	raw    string
	body   map[string]any
}

func (r reply) str(path ...string) string {
	var v any = r.body
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = m[p]
	}
	s, _ := v.(string)
	return s
}

// ask sends a request to the public listener's handler, or to the admin one's.
// Each comes from an address of its own, so that no limit answers in its place.
func (h *theHouse) ask(match, body string, header ...string) reply {
	h.t.Helper()
	method, target, _ := strings.Cut(match, " ")
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	h.calls++
	r.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:4000", h.calls>>16&255, h.calls>>8&255, h.calls&255)
	r.Host = "localhost"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
		if strings.HasPrefix(target, "/oauth/") {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Content-Type" {
			r.Header.Del("Content-Type")
		}
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	var handler http.Handler = h.app.gateway
	if path := r.URL.Path; strings.HasPrefix(path, "/admin/") || strings.HasPrefix(path, "/debug/") || path == "/metrics" {
		handler = h.app.admin.Handler()
	}
	handler.ServeHTTP(w, r)
	out := reply{status: w.Code, header: w.Header(), raw: w.Body.String()}
	if strings.Contains(w.Header().Get("Content-Type"), "json") && w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &out.body); err != nil {
			h.t.Errorf("%s: %d with a body that is not JSON: %s", match, w.Code, out.raw)
		}
	}
	return out
}

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// someone is a signed-in installation.
type someone struct{ installation, secret, user, session, access, refresh string }

func (h *theHouse) launch() someone {
	h.t.Helper()
	a := h.ask("POST /v1/installations", "{}", "Idempotency-Key", rand.Text())
	if a.status != http.StatusCreated {
		h.t.Fatalf("launch: %d %s", a.status, a.raw)
	}
	return someone{a.str("installation", "id"), a.str("installation", "secret"), a.str("user", "id"), a.str("session", "id"),
		a.str("session", "access_token"), a.str("session", "refresh_token")}
}

func (h *theHouse) store() *identity.SQLStore {
	return identity.NewSQLStore(h.app.kernel.db, h.app.kernel.audit)
}

func (h *theHouse) apply(c identity.Change) {
	h.t.Helper()
	if done, err := h.store().Apply(h.t.Context(), c); err != nil || !done {
		h.t.Fatalf("the change was not applied: %v %v", done, err)
	}
}

// account is someone whose user has an identity, with a token that says so.
func (h *theHouse) account() someone {
	h.t.Helper()
	s := h.launch()
	raw, err := json.Marshal(identity.Profile{Issuer: "https://issuer.example", Subject: s.user})
	if err != nil {
		h.t.Fatal(err)
	}
	sealed, err := h.app.kernel.ring.Seal(h.t.Context(), s.user, "identity.profile", raw)
	if err != nil {
		h.t.Fatal(err)
	}
	now := clock.System.Now()
	h.apply(identity.Change{Promote: s.user, Identity: &identity.Identity{ID: id.New("idn"), UserID: s.user, Provider: "email_code", Lookup: s.user, Sealed: sealed, CreatedAt: now, UsedAt: now}})
	a := h.ask("POST /oauth/token", "grant_type=refresh_token&refresh_token="+s.refresh)
	if a.status != http.StatusOK {
		h.t.Fatalf("refresh: %d %s", a.status, a.raw)
	}
	s.access, s.refresh = a.str("access_token"), a.str("refresh_token")
	return s
}

// claimsOf reads a token without verifying it.
func (h *theHouse) claimsOf(token string) (header, claims map[string]any) {
	h.t.Helper()
	parts := strings.Split(token, ".")
	for i, to := range []*map[string]any{&header, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			h.t.Fatal(err)
		}
		if err := json.Unmarshal(raw, to); err != nil {
			h.t.Fatal(err)
		}
	}
	return header, claims
}

// forge signs like token, with changes; a nil value removes a member. key nil: the server's own.
func (h *theHouse) forge(token string, key *ecdsa.PrivateKey, header, claims map[string]any) string {
	h.t.Helper()
	was, had := h.claimsOf(token)
	if key == nil {
		kid, own, err := h.app.kernel.ring.Signer(purposeAccess)
		if err != nil {
			h.t.Fatal(err)
		}
		was["kid"], key = kid, own
	}
	signed := part(h.t, with(was, header)) + "." + part(h.t, with(had, claims))
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		h.t.Fatal(err)
	}
	sig := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func with(base, change map[string]any) map[string]any {
	out := maps.Clone(base)
	for name, v := range change {
		if out[name] = v; v == nil {
			delete(out, name)
		}
	}
	return out
}

func part(t *testing.T, m map[string]any) string {
	t.Helper()
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// publicRoute is a route of the table with its path filled in.
type publicRoute struct {
	match string // "GET /v1/me/sessions/ses_…"
	shape string // "GET /v1/me/sessions/{id}"
	auth  module.Auth
}

// publicRoutes reads every route from the gateway's own table.
func (h *theHouse) publicRoutes() (all []publicRoute) {
	h.t.Helper()
	for _, f := range h.app.gateway.FeatureStatus() {
		for _, r := range f.Routes {
			all = append(all, publicRoute{fill(r.Match, id.New(id.Session)), r.Match, r.Auth})
		}
	}
	slices.SortFunc(all, func(a, b publicRoute) int { return strings.Compare(a.shape, b.shape) })
	if len(all) < 18 {
		h.t.Fatalf("only %d public routes: the matrix is not the server's", len(all))
	}
	return all
}

// fill puts value in the place of every parameter of a path.
func fill(shape, value string) string {
	for {
		open := strings.IndexByte(shape, '{')
		if open < 0 {
			return shape
		}
		shape = shape[:open] + value + shape[open+strings.IndexByte(shape[open:], '}')+1:]
	}
}

func ago(d time.Duration) int64 { return clock.System.Now().Add(-d).Unix() }
