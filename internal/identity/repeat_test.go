package identity

import (
	"fmt"
	"testing"
	"time"

	"landline/internal/identity/provider/providertest"
)

// A code that was exchanged cannot be verified a second time: its repeat gets
// the answer of then, and never makes a way to sign in of nothing.
func TestALinkWithACodeIsRepeated(t *testing.T) { // L6, L10
	withCredentials(t, func(t *testing.T, f *fixture, idp *providertest.Issuer, _ *outbox) {
		ways := func(p *phone) int {
			t.Helper()
			return len(must(f.service.store.IdentitiesOf(t.Context(), p.user, maxIdentities)))
		}
		code := func(subject string) map[string]any {
			return withProvider(map[string]any{"redirect_uri": "com.example.flights:/callback", "nonce": "raw",
				"code": idp.Code("flights", "com.example.flights:/callback", "", map[string]any{"sub": subject, "nonce": "raw"})})
		}
		p, q := f.phone("a"), f.phone("b")
		p.signIn("ada", "n1")
		q.signIn("eve", "n2")
		body := code("alice")
		first := f.post("/v1/auth/link", body, p.bearer()...)
		if first.Status != 200 || ways(p) != 2 {
			t.Fatalf("%d %s", first.Status, first.Raw)
		}
		if again := f.post("/v1/auth/link", body, p.bearer()...); again.Status != 200 || again.str("id") != first.str("id") || ways(p) != 2 {
			t.Errorf("the repeat: %d %s, and %d ways to sign in", again.Status, again.Raw, ways(p))
		}
		if a := f.post("/v1/auth/link", body, q.bearer()...); a.str("code") != "credential_used" || ways(q) != 1 {
			t.Errorf("somebody else's code: %d %s", a.Status, a.Raw)
		}
		// What was signed in with is not good for a link either, once that way is gone.
		if a := f.post("/v1/auth/unlink", map[string]any{"identity_id": first.str("id")}, p.bearer()...); a.Status != 204 {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		if a := f.post("/v1/auth/link", body, p.bearer()...); a.str("code") != "credential_used" || ways(p) != 1 {
			t.Errorf("after it was unlinked: %d %s", a.Status, a.Raw)
		}
		// The memory of a use may go between two looks at it.
		gone := Proven{Provider: "oidc:acme", UseID: "forgotten", Repeat: true}
		if _, err := f.service.SignIn(t.Context(), must(f.auth.Authenticate(request("Authorization", "Bearer "+p.access))), gone, false); err == nil {
			t.Error("a credential that nobody verified signs in")
		}
	})
}

// Who verified a password just before it was changed must neither get in nor
// bring it back.
func TestAChangedPasswordStaysChanged(t *testing.T) {
	withCredentials(t, func(t *testing.T, f *fixture, _ *providertest.Issuer, box *outbox) {
		owner, thief := f.phone("a"), f.phone("b")
		set := func(password string) {
			t.Helper()
			f.post("/v1/auth/email-code", map[string]any{"email": "ada@example.com"}, owner.bearer()...)
			owner.take(f.post("/v1/auth/sign-up", map[string]any{"email": "ada@example.com", "code": f.deliver(box), "password": password}, owner.bearer()...))
			if owner.status != 200 {
				t.Fatalf("%d %s", owner.status, owner.last.Raw)
			}
		}
		const old, changed = "correct horse battery staple", "another horse battery staple"
		set(old)
		p := must(f.auth.Authenticate(request("Authorization", "Bearer "+thief.access)))
		proven := must(passwordVerifier{f.service}.verify(t.Context(), p, CredentialWire{Email: "ada@example.com", Password: old}))
		f.clock.Advance(2 * time.Minute)
		set(changed)
		if got, err := f.service.SignIn(t.Context(), p, proven, false); err == nil {
			t.Errorf("the old password signs in %s", got.User.ID)
		}
		for _, c := range []struct {
			password string
			status   int
		}{{changed, 200}, {old, 403}} {
			q := f.phone(fmt.Sprint(c.status))
			if q.take(f.post("/v1/auth/sign-in", map[string]any{"provider": "password", "email": "ada@example.com", "password": c.password}, q.bearer()...)); q.status != c.status {
				t.Errorf("%q: %d %s", c.password, q.status, q.last.Raw)
			}
		}
	})
}

// A credential that was answered with a question is spent: another installation
// that got hold of it gets nothing for it.
func TestACredentialThatWasAskedAboutIsSpent(t *testing.T) { // L8
	engines(t, func(t *testing.T, f *fixture) {
		p, q, thief := f.phone("a"), f.phone("b"), f.phone("c")
		p.signIn("alice ada@example.com", "n1")
		other := func(p *phone) answer {
			return p.signIn("other ada@example.com", "n2", "provider", "other")
		}
		for range 2 { // the repeat is asked again
			if a := other(q); a.str("code") != "account_exists_other_provider" || a.str("pending_link") == "" {
				t.Fatalf("%d %s", a.Status, a.Raw)
			}
		}
		if a := other(thief); a.str("code") != "credential_used" {
			t.Errorf("elsewhere: %d %s", a.Status, a.Raw)
		}
		// The account with the address goes, and the credential makes another one.
		if a := f.post("/admin/v1/users/"+p.user+"/unlink", map[string]any{"reason": "asked for", "identity_id": must(f.service.store.IdentitiesOf(t.Context(), p.user, 1))[0].ID}); a.Status != 200 {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		if a := other(q); a.Status != 200 {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
	})
}
