package identity

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"landline/internal/identity/provider"
	"landline/internal/identity/provider/providertest"
	"landline/internal/problem"
)

// Every outcome of the matrix writes its entry into the audit log, once, and the
// repeat of a call writes none.
func TestEveryOutcomeIsAuditedOnce(t *testing.T) { // B-23
	withNotes(t, func(t *testing.T, f *fixture, n *notes) {
		f.service.config.Merge.Accounts = true
		seen := len(f.actions())
		wrote := func(what string, want ...string) {
			t.Helper()
			all := f.actions()
			got := all[seen:]
			seen = len(all)
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		p := f.phone("a")
		wrote("L1", "installation.create")
		f.phone("a")
		wrote("L1, a repeat")
		p.signIn("alice alice@example.com", "n1")
		wrote("L2", "user.promote")
		p.signIn("alice alice@example.com", "n1")
		wrote("L10")
		q := f.phone("b")
		n.add(t, q.user, "op")
		q.signIn("alice alice@example.com", "n2")
		wrote("L3", "installation.create", "user.merge")
		r := f.phone("c")
		r.signIn("alice alice@example.com", "n3")
		wrote("L4", "installation.create", "session.create")
		r.signIn("bob", "n4")
		wrote("L5", "user.create", "session.create")
		r.signIn("bob", "n5")
		wrote("proven again", "session.renew")
		linked := p.link("second", "n6").str("id")
		wrote("L6", "identity.link")
		conflict := p.link("bob", "n7")
		wrote("L7", "sign_in.refuse")
		p.link("bob", "n7")
		wrote("L7, a repeat")
		p.link("", "", "conflict_token", conflict.str("conflict_token"), "confirm", true)
		wrote("L7, merged", "user.merge_account")
		s := f.phone("d")
		s.signIn("x alice@example.com", "n8", "provider", "other")
		wrote("L8", "installation.create", "sign_in.refuse")
		f.post("/v1/auth/unlink", map[string]any{"identity_id": linked}, p.bearer()...)
		wrote("unlinked", "identity.unlink")
		p.signOut(t)
		wrote("L14", "session.sign_out", "user.create", "session.create")
		p.signIn("alice alice@example.com", "n9")
		wrote("L4 again", "session.create")
		p.take(f.post(registerPath, map[string]any{"installation_id": p.installation, "installation_secret": p.secret, "reinstalled": true}))
		wrote("L16", "session.revoke")
		f.post(registerPath, map[string]any{"installation_id": p.installation, "installation_secret": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})
		wrote("L18", "installation.clone")
		q.access = f.token(q.refresh).str("access_token")
		wrote("R3")
		p.signIn("alice alice@example.com", "n10")
		wrote("L4 once more", "session.create")
		f.send(http.MethodDelete, "/v1/me", nil, p.bearer()...)
		wrote("left", "user.delete")
		s.signIn("alice alice@example.com", "n11")
		wrote("L21", "sign_in.refuse")
		body := map[string]any{"provider": "fake", "code": "alice alice@example.com", "nonce": "n11", "undo_deletion": true}
		f.post("/v1/auth/sign-in", body, s.bearer()...)
		wrote("undone", "user.undelete", "session.create")
	})
}

// What is refused has left no trace but its entry, and what fails leaves none.
func TestAnEntryIsPartOfItsChange(t *testing.T) { // B-23
	engines(t, func(t *testing.T, f *fixture) {
		p := f.phone("a")
		before := f.actions()
		between := f.interpose()
		between.meanwhile = moved(t, p.user, UserActive, UserLocked)
		if a := p.signIn("alice", "n1"); a.Status/100 == 2 {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		if after := f.actions(); !slices.Equal(after, before) {
			t.Errorf("a sign-in that did not happen is audited: %q", after[len(before):])
		}
	})
}

func TestNoAnswerIsStored(t *testing.T) { // B-25, B-03
	withCredentials(t, func(t *testing.T, f *fixture, _ *providertest.Issuer, _ *outbox) {
		p, q := f.phone("a"), f.phone("b")
		for name, a := range map[string]answer{
			"launch": p.last, "sign-in": p.signIn("alice", "n1"), "link": p.link("second", "n2"), "me": p.me(),
			"profile":      f.send(http.MethodPatch, "/v1/me", map[string]any{"name": "Ada"}, p.bearer()...),
			"sessions":     f.get("/v1/me/sessions", p.bearer()...),
			"phones":       f.get("/v1/me/installations", p.bearer()...),
			"conflicts":    f.get("/v1/me/merge-conflicts", p.bearer()...),
			"export":       f.post("/v1/me/export", nil, p.bearer()...),
			"code":         f.post("/v1/auth/email-code", map[string]any{"email": "ada@example.com"}, p.bearer()...),
			"passkey":      f.post("/v1/auth/passkey-options", map[string]any{}, p.bearer()...),
			"refresh":      f.token(p.refresh),
			"bad refresh":  f.token("v1.nonsense"),
			"revoke":       f.form("/oauth/revoke", "token", q.refresh),
			"introspect":   f.form("/oauth/introspect", "token", p.access),
			"no token":     f.get("/v1/me", "Authorization", "Bearer nonsense"),
			"admin":        f.get("/admin/v1/users/" + p.user),
			"sign-out":     f.post("/v1/auth/sign-out", nil, p.bearer()...),
			"bad passkey":  f.post("/v1/auth/sign-in", map[string]any{"provider": "passkey", "passkey": map[string]any{}}, q.bearer()...),
			"bad notice":   f.form("/v1/auth/notices/apple"),
			"no such user": f.get("/admin/v1/users/usr_01h455vb4pex5vsknk084sn02q"),
		} {
			if a.Header.Get("Cache-Control") != noStore && a.Status != http.StatusNotFound || a.Status == http.StatusNotFound && a.str("code") != "" && a.Header.Get("Cache-Control") != noStore {
				t.Errorf("%s: %d with Cache-Control %q", name, a.Status, a.Header.Get("Cache-Control"))
			}
			if a.Status == http.StatusOK && a.Body["data"] != nil && a.Header.Get("Data-Subject") == "" {
				t.Errorf("%s: a list that does not say whose it is", name)
			}
		}
	})
}

// Texts from outside are bounded before anything is done with them.
func TestEverySizeIsBounded(t *testing.T) { // B-24
	engines(t, func(t *testing.T, f *fixture) {
		p := f.phone("a")
		long := func(n int) string { return string(slices.Repeat([]byte("x"), n)) }
		for name, a := range map[string]answer{
			"an access token":      f.get("/v1/me", "Authorization", "Bearer "+long(maxJWT+1)),
			"a refresh token":      f.token(long(maxForm)),
			"a form":               f.token(long(maxForm + 1)),
			"an ID token":          p.signIn("alice", "n1", "id_token", long(8193)),
			"a code":               p.signIn(long(2049), "n2"),
			"a password":           p.signIn("alice", "n3", "password", long(1025)),
			"a pending link":       p.signIn("alice", "n4", "pending_link", long(257)),
			"a conflict token":     p.signIn("alice", "n5", "conflict_token", long(257)),
			"an installation":      f.post(registerPath, map[string]any{"installation_id": long(65)}, "Idempotency-Key", "a-key-of-sixteen-and-more"),
			"a proof":              f.post(registerPath, map[string]any{"proof": long(4097)}),
			"a key":                f.post(registerPath, map[string]any{}, "Idempotency-Key", long(256)),
			"a body":               f.post("/v1/auth/sign-in", map[string]any{"provider": long(maxCredential)}, p.bearer()...),
			"dots":                 f.get("/v1/me", "Authorization", "Bearer "+string(slices.Repeat([]byte("."), 4000))),
			"a profile":            f.send(http.MethodPatch, "/v1/me", map[string]any{"name": long(201)}, p.bearer()...),
			"an operator's reason": f.post("/admin/v1/users/"+p.user+"/lock", map[string]any{"reason": long(501)}),
		} {
			if a.Status < 400 || a.Status >= 500 {
				t.Errorf("%s that is too long: %d %.200s", name, a.Status, a.Raw)
			}
		}
		if p.me().Status != 200 {
			t.Errorf("%s", p.me().Raw)
		}
	})
}

// A notice is answered when it is durable, and does its work once.
func TestANoticeComesTwice(t *testing.T) { // B-11, L23
	engines(t, func(t *testing.T, f *fixture) {
		p := f.phone("a")
		p.signIn("alice", "n1")
		f.clock.Advance(time.Second)
		n := provider.Notice{ReplayID: "j1", Kind: provider.NoticeAccountDeleted, Issuer: "https://fake", Subject: "alice", At: f.clock.Now(), KeepUntil: f.clock.Now().Add(time.Hour)}
		for range 2 {
			if err := f.service.takeNotice(t.Context(), n); err != nil {
				t.Fatal(err)
			}
		}
		if u := must(f.service.store.User(t.Context(), p.user)); u.State != UserDeleting {
			t.Errorf("%+v", u)
		}
		count := 0
		for _, action := range f.actions() {
			if action == "identity.notice" {
				count++
			}
		}
		if count != 1 {
			t.Errorf("the notice did its work %d times", count)
		}
		q := f.phone("b")
		if a := q.signIn("alice", "n2"); a.str("code") != string(problem.DeletionPending) {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
	})
}
