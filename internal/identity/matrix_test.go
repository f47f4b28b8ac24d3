package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"landline/internal/identity/passkey/passkeytest"
	"landline/internal/identity/provider"
	"landline/internal/identity/provider/providertest"
	"landline/internal/secret"
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

// A credential that turns out to be another account's was spent to find that
// out, and can still be used: to sign in as that account.
func TestAConflictTokenSignsIn(t *testing.T) { // L7
	engines(t, func(t *testing.T, f *fixture) {
		p, q, thief := f.phone("a"), f.phone("b"), f.phone("c")
		p.signIn("alice", "n1")
		q.signIn("bob", "n2")
		thief.signIn("eve", "n3")
		bob := q.user
		a := q.link("alice", "n4")
		a.wantCode(t, "bob links alice's", 409, "identity_in_use")
		token := a.str("conflict_token")
		if token == "" || a.Body["can_merge"] != false {
			t.Fatalf("%s", a.Raw)
		}
		if again := q.link("alice", "n4"); again.str("conflict_token") == "" {
			t.Errorf("the answer was lost, and the credential with it: %s", again.Raw)
		}
		thief.link("alice", "n4").wantCode(t, "the credential elsewhere", 403, "credential_used")
		take := func(p *phone, provider string) answer {
			return p.f.post("/v1/auth/sign-in", map[string]any{"provider": provider, "conflict_token": token}, p.bearer()...)
		}
		take(thief, "fake").wantCode(t, "the token elsewhere", 400, "invalid_request")
		take(q, "other").wantCode(t, "another provider", 400, "invalid_request")
		q.link("", "", "conflict_token", token, "confirm", true).wantCode(t, "a merge where there is none", 409, "merge_policy")
		for range 2 { // the second because the answer was lost
			if a := take(q, "fake"); a.Status != 200 || a.str("user", "id") != p.user || a.Body["merged"] != nil {
				t.Errorf("%d %s", a.Status, a.Raw)
			}
		}
		if q.me().str("id") != bob {
			t.Errorf("bob is gone: %s", q.me().Raw)
		}
		f.clock.Advance(6 * time.Minute)
		token = "x" + token[1:]
		take(q, "fake").wantCode(t, "another token", 400, "invalid_request")
	})
}

func TestAccountsMergeWhenBothAreProvenAndTheUserConfirms(t *testing.T) { // L7, L11
	withNotes(t, func(t *testing.T, f *fixture, n *notes) {
		f.config.Merge.Accounts, f.service.config.Merge.Accounts = true, true
		f.people.Register(n.eraser())
		p, q, other := f.phone("a"), f.phone("b"), f.phone("c")
		p.signIn("alice alice@example.com", "n1")
		alice := p.user
		n.add(t, alice, "op-alice")
		n.add(t, alice, "same-x")
		f.send(http.MethodPatch, "/v1/me", map[string]any{"name": "Alice"}, p.bearer()...)
		n.add(t, other.user, "same-x")
		former := other.user // became part of alice, and left a conflict there
		other.signIn("alice alice@example.com", "n2")

		q.signIn("alice alice@example.com", "n3") // alice has been on this phone
		q.signIn("bob", "n4")
		bob := q.user
		n.add(t, bob, "op-bob")
		f.send(http.MethodPatch, "/v1/me", map[string]any{"name": "Bob"}, q.bearer()...)
		merge := func(token string, confirm any) answer {
			body := map[string]any{"provider": "fake", "conflict_token": token, "confirm": confirm}
			return f.post("/v1/auth/link", body, q.bearer()...)
		}
		token := q.link("alice", "n5").str("conflict_token")
		merge(token, false).wantCode(t, "without the user's word", 400, "invalid_request")
		p.f.post("/v1/auth/link", map[string]any{"provider": "fake", "conflict_token": token, "confirm": true}, p.bearer()...).wantCode(t, "alice herself", 400, "invalid_request")
		f.clock.Advance(6 * time.Minute)
		merge(token, true).wantCode(t, "long after both were proven", 401, "insufficient_user_authentication")
		q.signIn("bob", "n6")
		merge(token, true).wantCode(t, "long after alice was proven", 400, "invalid_request")
		token = q.link("alice", "n7").str("conflict_token")
		first := merge(token, true)
		if first.Status != 200 || first.str("merged", "from") != alice || first.str("merged", "into") != bob || first.str("provider") != "fake" {
			t.Fatalf("%d %s", first.Status, first.Raw)
		}
		if again := merge(token, true); again.str("merged", "id") != first.str("merged", "id") || again.str("id") != first.str("id") {
			t.Errorf("a repeat: %d %s", again.Status, again.Raw)
		}
		if got := n.of(t, bob); !slices.Equal(got, []string{"op-alice", "op-bob", "same-x"}) || len(n.of(t, alice)) != 0 {
			t.Errorf("bob has %q, alice %q", got, n.of(t, alice))
		}
		conflicts := f.get("/v1/me/merge-conflicts", q.bearer()...)
		if !strings.Contains(conflicts.Raw, `"of":"`+former) || !strings.Contains(conflicts.Raw, `"Alice"`) {
			t.Errorf("conflicts: %s", conflicts.Raw)
		}
		if me := q.me(); me.str("profile", "name") != "Bob" || len(me.Body["identities"].([]any)) != 2 {
			t.Errorf("%s", me.Raw)
		}
		// Alice's other sessions are over, and whoever signs in as alice is bob.
		f.get("/v1/me", p.bearer()...).wantCode(t, "alice's token", 401, "token_expired")
		if a := f.token(p.refresh); a.Status != 400 || a.str("reason") != "user_merged" {
			t.Errorf("alice's refresh token: %d %s", a.Status, a.Raw)
		}
		p.back()
		if p.signIn("alice alice@example.com", "n8"); p.user != bob {
			t.Fatalf("%d %s", p.status, p.last.Raw)
		}
		// Writes made as alice count where alice was signed in, and nowhere else.
		q.access = f.token(q.refresh).str("access_token")
		never := f.phone("d")
		never.signIn("bob", "n9")
		for name, c := range map[string]struct {
			phone *phone
			is    bool
		}{"the phone that merged": {q, true}, "alice's own": {p, true}, "one she never had": {never, false}} {
			who := must(f.auth.Authenticate(request(c.phone.bearer()...)))
			if who.UserID != bob || who.Is(alice) != c.is {
				t.Errorf("%s: %+v", name, who)
			}
		}
		// Whoever was part of alice goes with bob.
		if err := f.service.finishMerge(t.Context(), alice); err != nil {
			t.Fatal(err)
		}
		n.add(t, former, "late")
		if err := f.service.finishMerge(t.Context(), former); err != nil {
			t.Fatal(err)
		}
		if got := n.of(t, bob); !slices.Contains(got, "late") {
			t.Errorf("bob has %q", got)
		}
		if a := f.send(http.MethodDelete, "/v1/me", nil, never.bearer()...); a.Status != 202 {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		f.clock.Advance(15 * 24 * time.Hour)
		if err := f.service.erase(t.Context(), bob, 1); err != nil {
			t.Fatal(err)
		}
		var aliases []string
		for _, m := range must(f.service.store.MergesInto(t.Context(), bob, 100)) {
			aliases = append(aliases, m.From)
		}
		if e := must(f.service.life.erasure(t.Context(), bob)); e.Report.Aliases != len(aliases) || !slices.Contains(aliases, alice) || !slices.Contains(aliases, former) {
			t.Errorf("%+v of %q", e.Report, aliases)
		}
		for _, user := range []string{alice, former, bob} {
			if _, err := f.ring.Seal(t.Context(), user, "x", nil); !errors.Is(err, secret.ErrShredded) {
				t.Errorf("the key of %s: %v", user, err)
			}
		}
	})
}

func TestTheOtherMethodsAreTold(t *testing.T) { // L8
	withCredentials(t, func(t *testing.T, f *fixture, _ *providertest.Issuer, box *outbox) {
		p := f.phone("a")
		f.post("/v1/auth/email-code", map[string]any{"email": "ada@example.com"}, p.bearer()...)
		p.take(f.post("/v1/auth/sign-up", map[string]any{"email": "ada@example.com", "code": f.deliver(box), "password": "correct horse battery staple"}, p.bearer()...))
		p.link("ada ada@example.com", "n1")
		q := f.phone("b")
		a := q.signIn("x9 ada@example.com", "n2", "provider", "other")
		a.wantCode(t, "verified by this provider", 409, "account_exists_other_provider")
		methods, _ := a.Body["methods"].([]any)
		if fmt.Sprint(methods) != "[email_code password fake]" {
			t.Errorf("methods %v", methods)
		}
		if a := q.signIn("x9 ada@example.com unverified", "n3", "provider", "other"); a.Status != 200 || a.Body["methods"] != nil {
			t.Errorf("not verified: %d %s", a.Status, a.Raw)
		}
	})
}

// The merge of a sign-in with a passkey is told again like any other's.
func TestAMergeByPasskeyIsRepeated(t *testing.T) { // L10
	withCredentials(t, func(t *testing.T, f *fixture, _ *providertest.Issuer, _ *outbox) {
		device := passkeytest.New("https://example.com")
		p, q := f.phone("a"), f.phone("b")
		sign := func(p *phone, response []byte) answer {
			return p.take(f.post("/v1/auth/sign-in", map[string]any{"provider": "passkey", "passkey": json.RawMessage(response)}, p.bearer()...))
		}
		options := func(p *phone, ceremony string) []byte {
			a := f.post("/v1/auth/passkey-options", map[string]any{"ceremony": ceremony}, p.bearer()...)
			return must(json.Marshal(a.Body["options"]))
		}
		sign(p, must(device.Create(options(p, "registration"))))
		f.send(http.MethodPatch, "/v1/me", map[string]any{"name": "Ada"}, q.bearer()...)
		anonymous, refresh := q.user, q.refresh
		response := must(device.Get(options(q, "sign_in")))
		first := sign(q, response)
		if first.Status != 200 || q.merged["from"] != anonymous || q.merged["records"] != 1.0 {
			t.Fatalf("%d %s", first.Status, first.Raw)
		}
		lost := &phone{f: f, access: f.token(refresh).str("access_token")}
		if again := sign(lost, response); again.Status != 200 || fmt.Sprint(lost.merged) != fmt.Sprint(q.merged) || lost.user != q.user {
			t.Errorf("the repeat: %d %s", again.Status, again.Raw)
		}
	})
}

func TestAnAliasLastsHalfAYear(t *testing.T) { // L11
	withNotes(t, func(t *testing.T, f *fixture, n *notes) {
		first, second := f.phone("a"), f.phone("b")
		first.signIn("alice", "n1")
		n.add(t, second.user, "op")
		was := second.user
		second.signIn("alice", "n2")
		is := func() bool {
			t.Helper()
			return must(f.auth.Authenticate(request(second.bearer()...))).Is(was)
		}
		refresh := func() {
			t.Helper()
			a := f.token(second.refresh)
			if a.Status != 200 {
				t.Fatalf("%d %s", a.Status, a.Raw)
			}
			second.access, second.refresh = a.str("access_token"), a.str("refresh_token")
		}
		for day := 0; day < 175; day += 35 {
			f.clock.Advance(35 * 24 * time.Hour)
			if refresh(); !is() {
				t.Fatalf("%d days after the merge the alias is gone", day+35)
			}
		}
		second.signOut(t) // the session is not what the alias hangs on
		if second.signIn("alice", "n3"); !is() {
			t.Error("after signing in again the alias is gone")
		}
		f.clock.Advance(10 * 24 * time.Hour)
		if refresh(); is() {
			t.Error("the alias is followed for ever")
		}
		second.signOut(t)
		if second.signIn("alice", "n4"); is() {
			t.Error("a new session follows an old alias")
		}
	})
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
