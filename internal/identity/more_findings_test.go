package identity

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"landline/internal/identity/passkey"
	"landline/internal/identity/passkey/passkeytest"
	"landline/internal/identity/provider/providertest"
	"landline/internal/sqldb"
)

// An app may send Apple's ID token together with its code. Both are spent then:
// the token alone opens nothing on another phone.
func TestAnIDTokenBesideACodeIsSpentToo(t *testing.T) {
	withCredentials(t, func(t *testing.T, f *fixture, idp *providertest.Issuer, _ *outbox) {
		person := map[string]any{"sub": "alice", "nonce": "raw"}
		body := func() map[string]any {
			return withProvider(map[string]any{"id_token": idp.IDToken("flights", person), "nonce": "raw",
				"code": idp.Code("flights", "com.example.flights:/callback", "", person), "redirect_uri": "com.example.flights:/callback"})
		}
		p, thief := f.phone("a"), f.phone("thief")
		first, sent := p.access, body()
		if p.take(f.post("/v1/auth/sign-in", sent, p.bearer()...)); p.status != 200 {
			t.Fatalf("%d %s", p.status, p.last.Raw)
		}
		alone := withProvider(map[string]any{"id_token": sent["id_token"], "nonce": "raw"})
		f.post("/v1/auth/sign-in", alone, thief.bearer()...).wantCode(t, "the ID token alone", 403, "credential_used")
		f.post("/v1/auth/sign-in", sent, thief.bearer()...).wantCode(t, "both elsewhere", 403, "credential_used")
		repeat := &phone{f: f, access: first}
		if repeat.take(f.post("/v1/auth/sign-in", sent, repeat.bearer()...)); repeat.status != 200 || repeat.user != p.user {
			t.Errorf("the repeat, whose first answer was lost: %d %s", repeat.status, repeat.last.Raw)
		}
	})
}

// A page that was drawn for one account never acts on another, which is all that
// is signed in when the button is pressed.
func TestAPageActsOnTheAccountThatItShows(t *testing.T) {
	oauthEngines(t, func(t *testing.T, f *fixture) {
		f.account("ada@example.com")
		f.account("ben@example.com")
		b := f.browser()
		b.password(b.get(accountPath), "ada@example.com", "right")
		page := b.password(b.press(b.get(confirmPath), "step", "another"), "ben@example.com", "right")
		page.says(t, 200, "You are signed in as ben@example.com")
		_, form := b.fields(page, "step", "delete")
		ben := form.Get("user")
		if _, err := f.service.changeWithSessions(t.Context(), ben, Change{EndAll: &EndAll{UserID: ben, Reason: ReasonSignOut, At: f.clock.Now()}}); err != nil {
			t.Fatal(err)
		}
		if a := b.press(page, "step", "delete"); a.Status == http.StatusSeeOther {
			t.Errorf("ben's page led to %s", a.Header.Get("Location"))
		}
		if n := f.count(t, "SELECT COUNT(*) FROM app_user WHERE state = 'deleting'"); n != 0 {
			t.Errorf("%d accounts are deleted: the page was ben's, who has signed out, and only ada was there", n)
		}
	})
}

func TestACodeIsForTheAccountThatWasChosen(t *testing.T) {
	ada, ben := Grant{User: User{ID: "usr_1"}, Session: Session{AuthTime: t0, Methods: "pwd"}}, "usr_2"
	a := &authRequest{client: &client{ThirdParty: true}, redirect: "https://a.example/cb", maxAge: -1, scopes: []string{"openid"}}
	f := flowFacts{Accounts: []Grant{ada}, User: ben, Started: t0, Now: t0, Acted: true, Allowed: true}
	if v := decideConsent(a, f, decideAccount(a, f), ""); v.Step == flowIssue {
		t.Errorf("ben allowed it and was signed out meanwhile: %+v", v)
	}
}

// identity.accounts.one and the bound of accounts hold also where the anonymous
// user, who is back beside a signed-in account, becomes one or part of one.
func TestOneAccountHoldsForAnonymousUsersToo(t *testing.T) {
	withNotes(t, func(t *testing.T, f *fixture, n *notes) {
		f.service.config.Accounts.One = true
		f.phone("other").signIn("dora", "n0")
		for name, who := range map[string]string{"promote": "bob", "merge": "dora"} {
			p := f.phone(name)
			p.signIn("carol-"+name, "n1-"+name)
			carol := p.access
			p.back() // the installation's credential gives it an anonymous user beside carol
			n.add(t, p.user, "op-"+name)
			if p.signIn(who, "n2-"+name); p.status != 200 || (p.merged != nil) != (name == "merge") {
				t.Fatalf("%s: %d %s", name, p.status, p.last.Raw)
			}
			if a := f.get("/v1/me", "Authorization", "Bearer "+carol); a.Status != 401 {
				t.Errorf("%s: accounts.one keeps two: %d %s", name, a.Status, a.Raw)
			}
			if a := p.me(); a.Status != 200 {
				t.Errorf("%s: who signed in is out: %d %s", name, a.Status, a.Raw)
			}
		}
	})
}

// What a provider says of how a person signed in there is no proof that this
// sign-in here resists phishing: a pushed question is swk as well (RFC 8176).
func TestAProvidersWordIsNoPhishingResistance(t *testing.T) {
	for methods, want := range map[string]string{"fed hwk": "1", "fed swk mfa": "1", "fed": "1", "fed phr": "1", "swk user": "phr", "hwk": "phr"} {
		if got := acrOf(methods); got != want {
			t.Errorf("%q: %q, want %q", methods, got, want)
		}
	}
}

// Nothing that is stored of an address that waits for its code, or of an
// authorization request that was pushed, tells the address.
func TestAddressesAreNotStoredInClear(t *testing.T) {
	withCredentials(t, func(t *testing.T, f *fixture, _ *providertest.Issuer, _ *outbox) {
		p := f.phone("a")
		if a := f.post("/v1/auth/email-code", map[string]any{"email": "Ada.Lovelace@example.com"}, p.bearer()...); a.Status != http.StatusAccepted {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		if text := strings.ToLower(dump(t, f.db)); strings.Contains(text, "lovelace") {
			t.Error("the address is in the database")
		}
	})
	f := oauthFixture(t)
	u := httptest.NewRequest(http.MethodGet, authorizeURL(testApp.ID, appRedirect, "login_hint", "lovelace@example.com"), nil).URL.Query()
	var pairs []string
	for name := range u {
		pairs = append(pairs, name, u.Get(name))
	}
	a := f.form(pushedPath, pairs...)
	if a.Status != http.StatusCreated {
		t.Fatalf("%d %s", a.Status, a.Raw)
	}
	if strings.Contains(dump(t, f.db), "lovelace") {
		t.Error("the login_hint of a pushed request is in the database")
	}
	b := f.browser()
	if page := b.get(authorizePath + "?client_id=" + testApp.ID + "&request_uri=" + a.str("request_uri")); page.Status != 200 || !strings.Contains(page.Raw, "lovelace@example.com") {
		t.Errorf("%d %s", page.Status, page.Raw)
	}
}

// Clients are told the reasons that the reference names, and no others.
func TestReasonsThatClientsSee(t *testing.T) {
	documented := []Reason{ReasonExpiredIdle, ReasonExpiredAbsolute, ReasonReused, ReasonStaleDuplicate, ReasonSessionRevoked,
		ReasonAccountDeleted, ReasonAccountLocked, ReasonUserMerged, ReasonClientMismatch}
	known := map[Reason]bool{}
	for _, r := range documented {
		known[r] = true
	}
	for _, r := range append(documented, "", ReasonSignOut, ReasonRevocation, ReasonOperator, ReasonReinstalled, ReasonReplaced, ReasonCodeReplayed, ReasonUnlinked, ReasonPassword) {
		if !known[r.public()] {
			t.Errorf("%q is told as %q", r, r.public())
		}
	}
}

// Introspection calls every refresh token good that the token endpoint takes.
func TestIntrospectionKnowsTokensOfBeforeASignIn(t *testing.T) {
	s := Session{Current: 4, Previous: 3, AcceptedFrom: 1}
	for counter, want := range map[int64]bool{1: true, 2: true, 3: true, 4: true, 5: false} {
		if got := s.takes(counter); got != want {
			t.Errorf("%d: %v", counter, got)
		}
	}
	if (Session{Current: 4, Previous: 3}).takes(2) {
		t.Error("an older one")
	}
}

// The answer of a sign-in in a session that is bound to a key says how its tokens are sent.
func TestATokenThatIsBoundIsCalledSo(t *testing.T) {
	if w := tokensWireOf("ses_1", Tokens{Bound: true}); w.TokenType != "DPoP" {
		t.Error(w.TokenType)
	}
	if w := tokensWireOf("ses_1", Tokens{}); w.TokenType != "Bearer" {
		t.Error(w.TokenType)
	}
}

// One proof of work makes one installation, whatever secrets are shown with one id.
func TestAProofOfWorkIsForOneInstallation(t *testing.T) {
	f := sqliteFixture(t)
	f.config.BotCost.Bits = 8
	f.start(nil)
	const id = "ins_01h455vb4pex5vsknk084sn02q"
	made := 0
	for _, secret := range []string{strings.Repeat("A", 43), strings.Repeat("B", 42) + "A", strings.Repeat("C", 42) + "A"} {
		if a := f.post(registerPath, map[string]any{"installation_id": id, "installation_secret": secret, "work": workFor(t, id, 8)}); a.Status == 201 {
			made++
		}
		if a := f.post(registerPath, map[string]any{"installation_id": id, "installation_secret": secret, "work": workFor(t, secret, 8)}); a.Status != 201 {
			t.Errorf("with work for this secret: %d %s", a.Status, a.Raw)
		}
	}
	if made > 0 {
		t.Errorf("one proof of work for the id made %d installations", made)
	}
}

// workFor finds the proof of work of a first launch that subject identifies.
func workFor(t *testing.T, subject string, bits int) string {
	t.Helper()
	for n := range 1 << 16 {
		work := strconv.Itoa(n)
		sum := sha256.Sum256([]byte("landline-work\x00" + testApp.ID + "\x00" + subject + "\x00" + work))
		if zeroBits(sum[:]) >= bits {
			return work
		}
	}
	t.Fatal("no proof of work was found")
	return ""
}

// Exchanges are bounded like refreshes: each is an entry of the audit log.
func TestExchangesOfOneSessionAreLimited(t *testing.T) {
	f := oauthFixture(t)
	f.config.Refresh.Limit = 5
	f.start(nil)
	f.host()
	token := f.account("ada@example.com")
	last := answer{}
	for range 7 {
		last = f.form(tokenPath, "grant_type", grantExchange, "client_id", testApp.ID, "subject_token", token, "subject_token_type", typeAccessToken)
	}
	if last.Status != 429 || last.str("code") != "rate_limited" || last.Body["error"] != nil || last.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s", last.Status, last.Raw)
	}
}

// A code that was used for something else sets no password, and says so.
func TestAUsedCodeSetsNoPassword(t *testing.T) {
	withCredentials(t, func(t *testing.T, f *fixture, _ *providertest.Issuer, box *outbox) {
		p := f.phone("a")
		f.post("/v1/auth/email-code", map[string]any{"email": "ada@example.com"}, p.bearer()...)
		code := f.deliver(box)
		if p.take(f.post("/v1/auth/sign-in", map[string]any{"provider": "email_code", "email": "ada@example.com", "code": code}, p.bearer()...)); p.status != 200 {
			t.Fatalf("%d %s", p.status, p.last.Raw)
		}
		set := func(code, password string) answer {
			return f.post("/v1/auth/sign-up", map[string]any{"email": "ada@example.com", "code": code, "password": password}, p.bearer()...)
		}
		set(code, "correct horse battery staple").wantCode(t, "after a sign-in with the code", 403, "credential_used")
		f.clock.Advance(2 * time.Minute)
		f.post("/v1/auth/email-code", map[string]any{"email": "ada@example.com"}, p.bearer()...)
		code = f.deliver(box)
		for range 2 { // the second because the answer was lost
			if a := set(code, "correct horse battery staple"); a.Status != 200 {
				t.Fatalf("%d %s", a.Status, a.Raw)
			}
		}
		set(code, "another horse battery staple").wantCode(t, "another password with the same code", 403, "credential_used")
		if a := f.post("/v1/auth/sign-in", map[string]any{"provider": "password", "email": "ada@example.com", "password": "correct horse battery staple"}, p.bearer()...); a.Status != 200 {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
	})
}

// A code proves the address once, also when the storage fails right after it was
// accepted: the same call again goes on.
func TestACodeOutlivesASignInThatFailed(t *testing.T) {
	withCredentials(t, func(t *testing.T, f *fixture, _ *providertest.Issuer, box *outbox) {
		var failing *refusing
		f.start(func(s Store) Store {
			failing = &refusing{Store: s}
			return failing
		})
		p, thief := f.phone("a"), f.phone("thief")
		f.post("/v1/auth/email-code", map[string]any{"email": "ada@example.com"}, p.bearer()...)
		body := map[string]any{"provider": "email_code", "email": "ada@example.com", "code": f.deliver(box)}
		signIn := func(p *phone) answer { return p.take(f.post("/v1/auth/sign-in", body, p.bearer()...)) }
		failing.when = func(c Change) bool { return c.Promote != "" }
		if signIn(p); p.status != 503 {
			t.Fatalf("%d %s", p.status, p.last.Raw)
		}
		failing.when = nil
		signIn(thief).wantCode(t, "elsewhere", 403, "credential_invalid")
		first := p.access
		if signIn(p); p.status != 200 || p.last.str("user", "kind") != "account" {
			t.Fatalf("the same call again: %d %s", p.status, p.last.Raw)
		}
		repeat := &phone{f: f, access: first}
		if signIn(repeat); repeat.status != 200 || repeat.user != p.user {
			t.Errorf("once more: %d %s", repeat.status, repeat.last.Raw)
		}
		f.post("/v1/auth/sign-out", nil, p.bearer()...)
		p.back()
		signIn(p).wantCode(t, "after a sign-out", 403, "credential_used")
	})
}

// refusing fails the changes that it is told to.
type refusing struct {
	Store
	when func(Change) bool
}

func (s *refusing) Apply(ctx context.Context, c Change) (bool, error) {
	if s.when != nil && s.when(c) {
		return false, sqldb.ErrUnavailable
	}
	return s.Store.Apply(ctx, c)
}

// A form that the browser sends once more, because its user reloads the page, gets
// the page of the first time: the account waits to be erased, and can be kept.
func TestAReloadedSignInAsksAgain(t *testing.T) {
	withCredentials(t, func(t *testing.T, f *fixture, _ *providertest.Issuer, _ *outbox) {
		f.config.Passkey = passkey.Config{RPID: "example.com", Origins: []string{testApp.PublicURL}}
		f.start(nil)
		device := passkeytest.NewSynced(testApp.PublicURL)
		p := f.phone("a")
		o := f.post("/v1/auth/passkey-options", map[string]any{"ceremony": "registration", "name": "ada"}, p.bearer()...)
		p.take(f.post("/v1/auth/sign-in", map[string]any{"provider": "passkey", "passkey": json.RawMessage(must(device.Create(must(json.Marshal(o.Body["options"])))))}, p.bearer()...))
		if a := f.send(http.MethodDelete, "/v1/me", nil, p.bearer()...); a.Status != http.StatusAccepted {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		b := f.browser()
		v := b.passkeyForm(b.get(confirmPath))
		options := b.post(optionsPath, v)
		v.Set("step", "passkey")
		v.Set("passkey", string(must(device.Get([]byte(options.Raw)))))
		for i := range 2 {
			page := b.post(accountPath, v)
			page.says(t, 200, "Undo the deletion")
			if i == 1 {
				b.press(page, "step", "undo").says(t, 200, "Your account stays")
			}
		}
	})
}

// A credential that waits for a decision may be shown again, and does not become a
// fresh proof by that: accounts merge on what was proven within five minutes.
func TestAnOldProofMergesNoAccounts(t *testing.T) { // L7
	engines(t, func(t *testing.T, f *fixture) {
		f.service.config.Merge.Accounts = true
		p, q := f.phone("a"), f.phone("b")
		p.signIn("alice", "n1")
		q.signIn("bob", "n2")
		q.link("alice", "n3").wantCode(t, "bob links alice's", 409, "identity_in_use")
		f.clock.Advance(6 * time.Minute)
		q.signIn("bob", "n4")
		a := q.link("alice", "n3")
		a.wantCode(t, "the same credential again", 409, "identity_in_use")
		if a.Body["can_merge"] != false {
			t.Errorf("%s", a.Raw)
		}
		q.link("", "", "conflict_token", a.str("conflict_token"), "confirm", true).wantCode(t, "a merge on a proof of six minutes ago", 400, "invalid_request")
		if u := must(f.service.store.User(t.Context(), p.user)); u.State != UserActive {
			t.Errorf("alice's account is %s", u.State)
		}
		a = q.link("alice", "n5")
		if a = q.link("", "", "conflict_token", a.str("conflict_token"), "confirm", true); a.Status != 200 {
			t.Errorf("with a new proof: %d %s", a.Status, a.Raw)
		}
	})
}

// Of two nodes that finish one erasure one tells of it.
func TestAnErasureIsToldOnce(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		p := f.phone("a")
		if a := f.send(http.MethodDelete, "/v1/me", nil, p.bearer()...); a.Status != http.StatusAccepted {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		e := must(f.service.life.erasure(t.Context(), p.user))
		if err := f.service.eraseRun(t.Context(), &e); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second has read that it is running before the first was done
			if err := f.service.eraseLast(t.Context(), e, []string{p.user}); err != nil {
				t.Fatal(err)
			}
		}
		if told := f.events.list(); len(told) != 1 || told[0] != EventDeleted+" "+p.user {
			t.Errorf("%q", told)
		}
		if n := strings.Count(strings.Join(f.actions(), " "), "user.erase"); n != 1 {
			t.Errorf("%d entries of the audit log", n)
		}
	})
}

// Asking for a code writes the same, whoever has the address: the first use of a
// user's key is a write of its own, and would tell by time who has an account.
func TestACodeWritesTheSameForEverybody(t *testing.T) {
	withCredentials(t, func(t *testing.T, f *fixture, _ *providertest.Issuer, box *outbox) {
		owner := f.phone("owner")
		f.post("/v1/auth/email-code", map[string]any{"email": "ada@example.com"}, owner.bearer()...)
		owner.take(f.post("/v1/auth/sign-in", map[string]any{"provider": "email_code", "email": "ada@example.com", "code": f.deliver(box)}, owner.bearer()...))
		for _, email := range []string{"ada@example.com", "nobody@example.com"} {
			before := f.count(t, "SELECT COUNT(*) FROM secret_dek")
			stranger := f.phone("stranger-of-" + email[:3])
			f.post("/v1/auth/email-code", map[string]any{"email": email}, stranger.bearer()...)
			if n := f.count(t, "SELECT COUNT(*) FROM secret_dek") - before; n != 1 {
				t.Errorf("%s: %d keys were made", email, n)
			}
		}
	})
}

// Who is asked to sign in as before, and takes longer than what waits for it, signs
// in all the same.
func TestAnOldPendingLinkKeepsNobodyOut(t *testing.T) {
	oauthEngines(t, func(t *testing.T, f *fixture) {
		f.account("ada@example.com")
		b := f.browser()
		page := b.get(authorizeURL(testApp.ID, appRedirect))
		link := html.UnescapeString(linkPattern.FindStringSubmatch(page.Raw)[1])
		to := must(url.Parse(b.get(link).Header.Get("Location")))
		page = b.get(callbackPath + "?" + url.Values{"state": {to.Query().Get("state")}, "code": {"x9 ada@example.com"}}.Encode())
		page.says(t, 400, `name="pending"`)
		f.clock.Advance(16 * time.Minute)
		if q := b.password(page, "ada@example.com", "right").sentTo(t, appRedirect); q.Get("code") == "" {
			t.Errorf("%v", q)
		}
	})
}
