package identity

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"landline/internal/identity/provider"
	"landline/internal/identity/provider/providertest"
)

// signOut ends the session and comes back as the installation.
func (p *phone) signOut(t *testing.T) {
	t.Helper()
	if a := p.f.post("/v1/auth/sign-out", nil, p.bearer()...); a.Status != 204 {
		t.Fatalf("sign-out: %d %s", a.Status, a.Raw)
	}
	p.back()
}

func (p *phone) back() {
	p.f.t.Helper()
	p.take(p.f.post(registerPath, map[string]any{"installation_id": p.installation, "installation_secret": p.secret}))
}

func (p *phone) link(code, nonce string, more ...any) answer {
	p.f.t.Helper()
	body := map[string]any{"provider": "fake", "code": code, "nonce": nonce}
	for i := 0; i < len(more); i += 2 {
		body[more[i].(string)] = more[i+1]
	}
	return p.f.post("/v1/auth/link", body, p.bearer()...)
}

func (a answer) wantCode(t *testing.T, what string, status int, code string) {
	t.Helper()
	if a.Status != status || a.str("code") != code {
		t.Errorf("%s: %d %s, want %d %s", what, a.Status, a.Raw, status, code)
	}
}

func TestADeletedUserIsToldSo(t *testing.T) { // L21
	engines(t, func(t *testing.T, f *fixture) {
		p, q := f.phone("a"), f.phone("b")
		p.signIn("alice", "n1")
		q.signIn("alice", "n2")
		account := p.user
		if a := f.send(http.MethodDelete, "/v1/me", nil, p.bearer()...); a.Status != 202 {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		check := func(when string) {
			t.Helper()
			f.get("/v1/me", q.bearer()...).wantCode(t, when+", a read", 401, "account_deleted")
			f.send(http.MethodPatch, "/v1/me", map[string]any{"name": "late"}, q.bearer()...).wantCode(t, when+", a write", 410, "account_gone")
			if a := f.token(q.refresh); a.Status != 400 || a.str("reason") != "account_deleted" {
				t.Errorf("%s, a refresh: %d %s", when, a.Status, a.Raw)
			}
		}
		check("at once")
		f.clock.Advance(14*24*time.Hour + time.Minute)
		if err := f.service.erase(t.Context(), account, 1); err != nil {
			t.Fatal(err)
		}
		if a := f.token(q.refresh); a.Status != 400 || a.str("reason") != "account_deleted" {
			t.Errorf("after the erasure, a refresh: %d %s", a.Status, a.Raw)
		}
		for _, g := range must(f.service.store.SessionsOf(t.Context(), account, 10)) {
			if s := g.Session; s.InstallationID != "" || s.Methods != "" || !s.CreatedAt.Equal(time.UnixMilli(0)) {
				t.Errorf("the erased session still says %+v", s)
			}
		}
		q.back()
		if q.status != 200 || q.user == account {
			t.Errorf("%d %s", q.status, q.last.Raw)
		}
	})
}

func TestOnlySessionsOfAWithdrawnIdentityEnd(t *testing.T) { // L22
	engines(t, func(t *testing.T, f *fixture) {
		p, q := f.phone("a"), f.phone("b")
		p.signIn("alice", "n1")
		p.link("other-way", "n2", "provider", "other")
		if q.signIn("other-way", "n3", "provider", "other"); q.user != p.user {
			t.Fatalf("%d %s", q.status, q.last.Raw)
		}
		revoke := func(jti, issuer, subject string) {
			t.Helper()
			f.clock.Advance(time.Second)
			n := provider.Notice{ReplayID: jti, Kind: provider.NoticeConsentRevoked, Issuer: issuer, Subject: subject, At: f.clock.Now(), KeepUntil: f.clock.Now().Add(time.Hour)}
			if err := f.service.takeNotice(t.Context(), n); err != nil {
				t.Fatal(err)
			}
		}
		revoke("j1", "https://fake", "alice")
		if p.me().Status != 401 || q.me().Status != 200 {
			t.Errorf("after one of two was withdrawn: %d %d", p.me().Status, q.me().Status)
		}
		if list := q.me().Body["identities"].([]any); len(list) != 1 {
			t.Errorf("%v", list)
		}
		if !slices.Contains(f.events.list(), "user.notice "+q.user) {
			t.Errorf("events %q", f.events.list())
		}
		// The last one: the account waits for its user, with its data.
		f.send(http.MethodPatch, "/v1/me", map[string]any{"name": "Ada"}, q.bearer()...)
		revoke("j2", "https://other", "other-way")
		q.me().wantCode(t, "after the last was withdrawn", 401, "session_revoked")
		account := q.user
		if u := must(f.service.store.User(t.Context(), account)); u.State != UserNoLogin {
			t.Fatalf("%+v", u)
		}
		f.clock.Advance(29 * 24 * time.Hour)
		if err := f.service.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		q.back()
		if q.signIn("other-way", "n4", "provider", "other"); q.status != 200 || q.user != account || q.me().str("profile", "name") != "Ada" {
			t.Fatalf("the consent was given again: %d %s", q.status, q.last.Raw)
		}
		if !slices.Contains(f.actions(), "user.unlock") {
			t.Errorf("audited: %q", f.actions())
		}
		// Nobody comes: the account is deleted like any other.
		revoke("j3", "https://other", "other-way")
		f.clock.Advance(31 * 24 * time.Hour)
		if err := f.service.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		if u := must(f.service.store.User(t.Context(), account)); u.State != UserDeleting {
			t.Errorf("%+v", u)
		}
		// An operator lets in whom support knows.
		r := f.phone("c")
		r.signIn("carol", "n5")
		revoke("j4", "https://fake", "carol")
		if a := f.post("/admin/v1/users/"+r.user+"/unlock", map[string]any{"reason": "showed a passport"}); a.Status != 200 || a.str("state") != "active" {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
	})
}

func TestTooManyOfEitherCanBeMadeRoomFor(t *testing.T) { // L30
	engines(t, func(t *testing.T, f *fixture) {
		p := f.phone("p")
		for i := range maxAccounts {
			if p.signIn(fmt.Sprintf("account%d", i), fmt.Sprintf("n%d", i)); p.status != 200 {
				t.Fatalf("%d %s", p.status, p.last.Raw)
			}
		}
		a := p.signIn("one-more", "m1")
		a.wantCode(t, "21 accounts", 409, "too_many_accounts")
		list, _ := a.Body["sessions"].([]any)
		if len(list) != maxAccounts {
			t.Fatalf("%s", a.Raw)
		}
		one := list[3].(map[string]any)
		p.signIn("one-more", "m1", "end_session", "ses_01h455vb4pex5vsknk084sn02q").wantCode(t, "a session of nobody", 409, "too_many_accounts")
		if a := p.signIn("one-more", "m1", "end_session", one["id"].(string)); a.Status != 200 {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		if g := must(f.service.store.Session(t.Context(), one["id"].(string))); g.Session.State != SessionRevoked || g.User.ID != one["user_id"] {
			t.Errorf("%+v", g)
		}

		phones := make([]*phone, maxInstallations)
		for i := range phones {
			phones[i] = f.phone(fmt.Sprintf("q%d", i))
			if phones[i].signIn("bob", fmt.Sprintf("b%d", i)); phones[i].status != 200 {
				t.Fatalf("%d %s", phones[i].status, phones[i].last.Raw)
			}
		}
		// Ended sessions are not in the way.
		for range 3 {
			phones[0].signOut(t)
			phones[0].signIn("bob", fmt.Sprint(f.clock.Now().UnixNano(), len(f.actions())))
		}
		last := f.phone("last")
		a = last.signIn("bob", "m2")
		a.wantCode(t, "21 installations", 409, "too_many_installations")
		list, _ = a.Body["sessions"].([]any)
		if len(list) != maxInstallations || list[0].(map[string]any)["app"] == nil {
			t.Fatalf("%s", a.Raw)
		}
		if a := last.signIn("bob", "m2", "end_session", phones[5].session); a.Status != 200 || a.str("user", "id") != phones[0].user {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		phones[5].me().wantCode(t, "the one that made room", 401, "session_revoked")
		if a := last.signIn("bob", "m2", "end_session", phones[6].session); a.Status != 200 || phones[6].me().Status != 200 {
			t.Errorf("the repeat ends another session: %d, %d", a.Status, phones[6].me().Status)
		}
	})
}

// Whoever had the session's refresh token before the user signed in has nothing
// of it once the app uses the new one; an app that never got the new one goes on.
func TestASignInGivesANewRefreshToken(t *testing.T) { // ASVS 5.0 7.2.4
	withNotes(t, func(t *testing.T, f *fixture, n *notes) {
		first := f.phone("0")
		first.signIn("alice", "first")
		for i, data := range []bool{false, true} { // a promotion, and a merge
			who := fmt.Sprint("somebody", i)
			if data {
				who = "alice"
			}
			p := f.phone(fmt.Sprint("p", i))
			if data {
				n.add(t, p.user, "op")
			}
			before, session := p.refresh, p.session
			if p.signIn(who, fmt.Sprint("n", i)); p.status != 200 || p.refresh == before || p.session != session {
				t.Fatalf("%d %s", p.status, p.last.Raw)
			}
			f.clock.Advance(time.Hour)
			lost := f.token(before)
			if lost.Status != 200 || lost.Header.Get("Refresh-Replay") != "lost-response" {
				t.Fatalf("the answer was lost: %d %s", lost.Status, lost.Raw)
			}
			p.access, p.refresh = lost.str("access_token"), lost.str("refresh_token")
			if p.signIn(who, fmt.Sprint("m", i)); p.status != 200 { // proven again, while the line recovers
				t.Fatalf("%d %s", p.status, p.last.Raw)
			}
			if a := f.token(p.refresh); a.Status != 200 {
				t.Fatalf("the new token: %d %s", a.Status, a.Raw)
			}
			f.clock.Advance(time.Minute)
			if a := f.token(before); a.Status != 400 || a.str("reason") != "refresh_token_reused" {
				t.Errorf("the old token: %d %s", a.Status, a.Raw)
			}
		}
	})
}

// The same proof is good for the decision that it was answered with.
func TestADeletionIsUndoneWithTheSameProof(t *testing.T) { // L21, B-17
	withCredentials(t, func(t *testing.T, f *fixture, idp *providertest.Issuer, box *outbox) {
		for name, credential := range map[string]func(p *phone) map[string]any{
			"a code by e-mail": func(p *phone) map[string]any {
				f.clock.Advance(2 * time.Minute)
				f.post("/v1/auth/email-code", map[string]any{"email": "ada@example.com"}, p.bearer()...)
				return map[string]any{"provider": "email_code", "email": "ada@example.com", "code": f.deliver(box)}
			},
			"a code of a provider": func(*phone) map[string]any {
				return withProvider(map[string]any{"redirect_uri": "com.example.flights:/callback", "nonce": "raw",
					"code": idp.Code("flights", "com.example.flights:/callback", "", map[string]any{"sub": "alice", "nonce": "raw"})})
			},
		} {
			key := strings.ReplaceAll(name, " ", "-")
			p, q, thief := f.phone(key+"1"), f.phone(key+"2"), f.phone(key+"3")
			if p.take(f.post("/v1/auth/sign-in", credential(p), p.bearer()...)); p.status != 200 {
				t.Fatalf("%s: %d %s", name, p.status, p.last.Raw)
			}
			if a := f.send(http.MethodDelete, "/v1/me", nil, p.bearer()...); a.Status != 202 {
				t.Fatalf("%s: %d %s", name, a.Status, a.Raw)
			}
			body := credential(q)
			for range 2 {
				f.post("/v1/auth/sign-in", body, q.bearer()...).wantCode(t, name, 403, "deletion_pending")
			}
			body["undo_deletion"] = true
			if a := f.post("/v1/auth/sign-in", body, thief.bearer()...); a.Status != 403 {
				t.Errorf("%s elsewhere: %d %s", name, a.Status, a.Raw)
			}
			for range 2 {
				if q.take(f.post("/v1/auth/sign-in", body, q.bearer()...)); q.status != 200 || q.user != p.user {
					t.Errorf("%s: %d %s", name, q.status, q.last.Raw)
				}
			}
			if a := f.send(http.MethodDelete, "/v1/me", nil, q.bearer()...); a.Status != 202 {
				t.Fatal(a.Raw)
			}
			f.clock.Advance(15 * 24 * time.Hour)
			if err := f.service.erase(t.Context(), q.user, 1); err != nil {
				t.Fatal(err)
			}
		}
	})
}
