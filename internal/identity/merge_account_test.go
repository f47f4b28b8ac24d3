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
	"landline/internal/identity/provider/providertest"
	"landline/internal/secret"
)

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
