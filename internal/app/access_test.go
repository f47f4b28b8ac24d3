package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/clock"
	"landline/internal/id"
	"landline/internal/identity"
	"landline/internal/module"
	"landline/internal/problem"
)

// credential is one way to be refused: what is sent, and what must be said.
type credential struct {
	name   string
	header []string
	codes  string // that may be answered, space separated
}

// badCredentials are refused on every route, the public ones too.
func (h *theHouse) badCredentials() []credential {
	h.t.Helper()
	good := h.account()
	forge := func(header, claims map[string]any) []string { return bearer(h.forge(good.access, nil, header, claims)) }
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	upstream, err := h.app.modules[0].Authenticator.UpstreamToken(&module.Principal{UserID: good.user, SessionID: good.session, InstallationID: good.installation}, "flights")
	if err != nil {
		h.t.Fatal(err)
	}
	all := []credential{
		{"garbage", bearer("garbage"), "token_invalid"},
		{"three parts of garbage", bearer("a.b.c"), "token_invalid"},
		{"no token", []string{"Authorization", "Bearer"}, "token_invalid"},
		{"an empty header", []string{"Authorization", ""}, "token_invalid"},
		{"two headers", append(bearer(good.access), bearer(good.access)...), "token_invalid"},
		{"another scheme", []string{"Authorization", "Negotiate " + good.access}, "token_invalid"},
		{"a bearer token as DPoP", []string{"Authorization", "DPoP " + good.access}, "token_invalid dpop_proof_invalid invalid_dpop_proof token_missing"},
		{"cut", bearer(good.access[:len(good.access)-2]), "token_invalid"},
		{"too long", bearer(good.access + strings.Repeat("A", 9000)), "token_invalid"},
		{"expired", forge(nil, map[string]any{"exp": ago(time.Hour), "iat": ago(2 * time.Hour)}), "token_expired"},
		{"no expiry", forge(nil, map[string]any{"exp": nil}), "token_invalid"},
		{"from the future", forge(nil, map[string]any{"iat": ago(-time.Hour)}), "token_invalid"},
		{"wrong aud", forge(nil, map[string]any{"aud": "com.example.other"}), "token_invalid"},
		{"wrong iss", forge(nil, map[string]any{"iss": "https://evil.example"}), "token_invalid"},
		{"no sub", forge(nil, map[string]any{"sub": nil}), "token_invalid"},
		{"an id token", forge(map[string]any{"typ": "JWT"}, nil), "token_invalid"},
		{"no typ", forge(map[string]any{"typ": nil}, nil), "token_invalid"},
		{"an upstream token", bearer(upstream), "token_invalid"},
		{"an upstream's type with an access key", forge(map[string]any{"typ": "landline-identity+jwt"}, nil), "token_invalid"},
		{"a refresh token", bearer(good.refresh), "token_invalid"},
		{"an installation's secret", bearer(good.secret), "token_invalid"},
		{"unknown kid", forge(map[string]any{"kid": "nobody"}, nil), "token_invalid"},
		{"no kid", forge(map[string]any{"kid": nil}, nil), "token_invalid"},
		{"crit", forge(map[string]any{"crit": []string{"exp"}}, nil), "token_invalid"},
		{"another key under our kid", bearer(h.forge(good.access, own, nil, nil)), "token_invalid"},
		{"a key in its own header", bearer(h.forge(good.access, own, map[string]any{"kid": nil, "jwk": map[string]any{"kty": "EC", "crv": "P-256"}}, nil)), "token_invalid"},
		{"alg none", bearer(h.unsigned(good.access, "none", nil)), "token_invalid"},
		{"alg none with a signature", bearer(h.unsigned(good.access, "none", []byte("x"))), "token_invalid"},
		{"HS256 with the public key", bearer(h.hmacWithPublicKey(good.access)), "token_invalid"},
	}
	for role, token := range h.operators {
		all = append(all, credential{"the token of a " + string(role), bearer(token), "token_invalid"})
	}
	return append(all, h.ended()...)
}

// unsigned is token with another algorithm and signature.
func (h *theHouse) unsigned(token, alg string, sig []byte) string {
	header, claims := h.claimsOf(token)
	return part(h.t, with(header, map[string]any{"alg": alg})) + "." + part(h.t, claims) + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// hmacWithPublicKey is the confusion of algorithms: our public key as a shared secret.
func (h *theHouse) hmacWithPublicKey(token string) string {
	header, claims := h.claimsOf(token)
	kid, _ := header["kid"].(string)
	key, _, ok := h.app.kernel.ring.Verifier(kid)
	if !ok {
		h.t.Fatal("the key of a token is not known")
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		h.t.Fatal(err)
	}
	signed := part(h.t, with(header, map[string]any{"alg": "HS256"})) + "." + part(h.t, claims)
	mac := hmac.New(sha256.New, der)
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// ended are tokens that verify, of sessions and users that are no more.
func (h *theHouse) ended() []credential {
	h.t.Helper()
	signedOut, everywhere, byOperator, merged, into, locked, deleted, anonymous := h.account(), h.account(), h.account(), h.launch(), h.account(), h.account(), h.account(), h.launch()
	must := func(a reply) {
		h.t.Helper()
		if a.status/100 != 2 {
			h.t.Fatalf("%d %s", a.status, a.raw)
		}
	}
	operator := bearer(h.operators[module.Owner])
	must(h.ask("POST /v1/auth/sign-out", "", bearer(signedOut.access)...))
	must(h.ask("POST /v1/auth/sign-out?everywhere=true", "", bearer(everywhere.access)...))
	must(h.ask("POST /admin/v1/sessions/"+byOperator.session+"/revoke", `{"reason":"matrix"}`, operator...))
	must(h.ask("POST /admin/v1/users/"+locked.user+"/lock", `{"reason":"matrix"}`, operator...))
	must(h.ask("POST /admin/v1/users/"+deleted.user+"/delete", `{"reason":"matrix"}`, operator...))
	must(h.ask("DELETE /v1/me", "", bearer(anonymous.access)...))
	now := clock.System.Now()
	h.apply(identity.Change{Merge: &identity.UserMerge{ID: id.New("mrg"), From: merged.user, Into: into.user, InstallationID: merged.installation, State: identity.MergeDone, CreatedAt: now, FinishedAt: now}})
	if err := h.app.modules[0].Start(h.t.Context()); err != nil { // reads the revocations of others
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		if err := h.app.modules[0].Stop(h.t.Context()); err != nil {
			h.t.Error(err)
		}
	})
	return []credential{
		{"signed out", bearer(signedOut.access), "session_revoked"},
		{"signed out everywhere", bearer(everywhere.access), "session_revoked"},
		{"ended by an operator", bearer(byOperator.access), "session_revoked"},
		{"a merged user", bearer(merged.access), "token_expired"},
		{"a locked user", bearer(locked.access), "session_revoked account_locked"},
		{"a deleted account", bearer(deleted.access), "account_deleted"},
		{"a deleted anonymous user", bearer(anonymous.access), "account_deleted"},
	}
}

// refusal checks that an answer refuses, and refuses well.
func (h *theHouse) refusal(what string, a reply, status int, codes string) {
	h.t.Helper()
	code := a.str("code")
	if a.status != status || code == "" || !strings.Contains(" "+codes+" ", " "+code+" ") {
		h.t.Errorf("%s: %d %q, wanted %d %s: %.300s", what, a.status, code, status, codes, a.raw)
		return
	}
	if a.header.Get("Content-Type") != problem.MediaType || a.body["error"] != nil || a.header.Get("Cache-Control") != "no-store" {
		h.t.Errorf("%s: the refusal has the wrong shape: %v %s", what, a.header, a.raw)
	}
	if status == http.StatusUnauthorized && a.header.Get("WWW-Authenticate") == "" {
		h.t.Errorf("%s: a 401 without a challenge", what)
	}
}

// TestNoRouteLetsABadTokenIn is figure F7 over every route of the table: a
// header that does not verify is refused everywhere, and nobody without one gets
// past a route that needs it. A route that is added is here the same day.
func TestNoRouteLetsABadTokenIn(t *testing.T) {
	h := newHouse(t)
	bad, checked := h.badCredentials(), 0
	stranger := h.launch()
	for _, r := range h.publicRoutes() {
		if r.auth == module.AuthOwn { // OAuth endpoints judge the header as their RFCs say: it may hold a client's credentials
			for _, c := range bad {
				if a := h.ask(r.match, "", c.header...); a.status/100 == 2 || a.status >= 500 {
					t.Errorf("%s with %s: %d %.300s", r.shape, c.name, a.status, a.raw)
				}
				checked++
			}
			continue
		}
		for _, c := range bad {
			status, codes := http.StatusUnauthorized, c.codes
			if codes == "account_deleted" && !strings.HasPrefix(r.match, "GET ") { // a write of somebody who is gone is gone (L21)
				status, codes = http.StatusGone, "account_gone"
			}
			h.refusal(r.shape+" with "+c.name, h.ask(r.match, "", c.header...), status, codes)
			checked++
		}
		if r.auth == module.AuthNone {
			continue
		}
		h.refusal(r.shape+" without a token", h.ask(r.match, ""), http.StatusUnauthorized, "token_missing")
		h.refusal(r.shape+" with a token in the query", h.ask(r.match+"?access_token="+stranger.access, ""), http.StatusUnauthorized, "token_missing")
		checked += 2
		if r.auth == module.AuthAccount {
			h.refusal(r.shape+" by an anonymous user", h.ask(r.match, "", bearer(stranger.access)...), http.StatusForbidden, "account_required")
			checked++
		}
		// The control: who may, is not refused for who they are.
		if a := h.ask(r.match, "", bearer(h.account().access)...); a.status == http.StatusUnauthorized || a.str("code") == "account_required" {
			t.Errorf("%s refuses an account: %d %s", r.shape, a.status, a.raw)
		}
		// A write for somebody else is refused before anything happens.
		h.refusal(r.shape+" for another user", h.ask(r.match, "", append(bearer(h.account().access), "Expect-User", stranger.user)...), http.StatusPreconditionFailed, "wrong_user")
		checked += 2
	}
	t.Logf("%d requests on %d routes", checked, len(h.publicRoutes()))
	h.documented()
}

// documented fails for an operation of the document that no route of the table serves.
func (h *theHouse) documented() {
	h.t.Helper()
	served := map[string]bool{}
	for _, r := range h.publicRoutes() {
		served[r.shape] = true
	}
	for path, item := range h.app.gateway.OpenAPI().Paths {
		for _, op := range operationsOf(item) {
			if !served[op.Method+" "+path] {
				h.t.Errorf("%s %s is documented and has no route that the matrix could ask", op.Method, path)
			}
		}
	}
}

func operationsOf(item *huma.PathItem) (all []*huma.Operation) {
	for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
		if op != nil {
			all = append(all, op)
		}
	}
	return all
}

// adminPlain are routes of the admin listener that are no operations of its document.
var adminPlain = map[string]module.Role{
	"GET /metrics": module.Viewer, "GET /debug/pprof": module.Operator, "GET /debug/pprof/": module.Operator,
	"GET /debug/pprof/heap": module.Operator, "GET /debug/pprof/cmdline": module.Operator, "POST /debug/pprof/symbol": module.Operator,
}

// TestNoOperationIsForLesserRoles is F7 on the admin listener: every operation
// by nobody, by users, by forged tokens and by every lesser role.
func TestNoOperationIsForLesserRoles(t *testing.T) {
	h := newHouse(t)
	routes := map[string]module.Role{}
	for path, item := range h.app.admin.OpenAPI().Paths {
		for _, op := range operationsOf(item) {
			routes[op.Method+" "+path] = module.RoleOf(op)
		}
	}
	if len(routes) < 40 {
		t.Fatalf("only %d operations", len(routes))
	}
	for match, role := range adminPlain {
		routes[match] = role
	}
	user, owner := h.account(), h.operators[module.Owner]
	bad := []credential{
		{"the token of a user", bearer(user.access), "token_invalid"},
		{"a refresh token", bearer(user.refresh), "token_invalid"},
		{"alg none", bearer(h.unsigned(user.access, "none", nil)), "token_invalid"},
		{"garbage", bearer("garbage"), "token_invalid"},
		{"a token that is cut", bearer(owner[:len(owner)-1]), "token_invalid"},
		{"another token of the right form", bearer(owner[:len(owner)-4] + "AAAA"), "token_invalid"},
		{"two tokens", append(bearer(owner), bearer(owner)...), "token_invalid"},
		{"a basic password", []string{"Authorization", "Basic " + owner}, "token_invalid"},
		{"an empty header", []string{"Authorization", ""}, "token_invalid"},
	}
	checked := 0
	for shape, least := range routes {
		match := fill(shape, id.New(id.User))
		h.refusal(shape+" without a token", h.ask(match, ""), http.StatusUnauthorized, "token_missing")
		h.refusal(shape+" with a token in the query", h.ask(match+"?access_token="+owner, ""), http.StatusUnauthorized, "token_missing")
		for _, c := range bad {
			h.refusal(shape+" with "+c.name, h.ask(match, "", c.header...), http.StatusUnauthorized, c.codes)
			checked++
		}
		for role, token := range h.operators {
			if !role.Allows(least) {
				h.refusal(fmt.Sprintf("%s by a %s", shape, role), h.ask(match, "", bearer(token)...), http.StatusForbidden, "forbidden")
				checked++
			}
		}
		if least != module.Owner && strings.HasPrefix(shape, "GET ") { // the control
			if a := h.ask(match, "", bearer(h.operators[least])...); a.status == http.StatusUnauthorized || a.status == http.StatusForbidden {
				t.Errorf("%s refuses a %s: %d %s", shape, least, a.status, a.raw)
			}
		}
	}
	t.Logf("%d requests on %d operations", checked, len(routes))
}
