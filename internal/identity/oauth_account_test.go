package identity

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"landline/internal/audit"
	"landline/internal/identity/passkey"
	"landline/internal/identity/passkey/passkeytest"
	"landline/internal/identity/provider/providertest"
	"landline/internal/module"
)

// account signs email in on the hosted pages as a client would have it, and
// returns an access token.
func (f *fixture) account(email string) string {
	f.t.Helper()
	a := f.redeem(testApp.ID, appRedirect, f.codeFor(testApp.ID, appRedirect, email, "scope", "openid email app"))
	if a.Status != 200 {
		f.t.Fatalf("%d %s", a.Status, a.Raw)
	}
	return a.str("access_token")
}

func (a answer) says(t *testing.T, status int, parts ...string) {
	t.Helper()
	t.Helper()
	for _, part := range parts {
		if a.Status != status || !strings.Contains(html.UnescapeString(a.Raw), part) {
			_, body, _ := strings.Cut(a.Raw, "</style>")
			t.Fatalf("got %d without %q, want %d: %s %s", a.Status, part, status, a.Header.Get("Location"), body)
		}
	}
}

func (a answer) leadsTo(t *testing.T, want string) {
	t.Helper()
	if got := a.Header.Get("Location"); a.Status != http.StatusSeeOther || got != want {
		t.Fatalf("%d to %q, want %s: %s", a.Status, got, want, a.Raw)
	}
}

// TestDeletionPage walks the way that the stores ask for, in a browser that has
// never seen the app.
func TestDeletionPage(t *testing.T) {
	oauthEngines(t, func(t *testing.T, f *fixture) {
		f.config.Deletion.Erased = map[string][]string{"en": {"Your trips & favourites"}}
		f.config.Deletion.Kept = map[string][]string{"en": {"Invoices, for five years"}, "pl": {"Faktury, przez pięć lat"}}
		f.start(nil)
		f.host()
		phone := f.account("ada@example.com")
		b := f.browser()
		page := b.get(deletePath)
		page.says(t, 200, "Delete your account", "your Flights account", "Your trips & favourites", "Invoices, for five years", "Until 15 March 2026, 12:00 UTC", confirmPath)
		b.get(deletePath+"?lang=pl").says(t, 200, `lang="pl"`, "Faktury, przez pięć lat", "Usunięcie konta", confirmPath+"?lang=pl")
		page = b.get(confirmPath)
		page.says(t, 200, "This shows that it is yours", `value="password"`)
		b.password(page, "nobody@example.com", "right").says(t, 400, "No account signs in this way")
		b.password(b.get(confirmPath), "ada@example.com", "wrong").says(t, 400, "is not right")
		page = b.password(b.get(confirmPath), "ada@example.com", "right")
		page.says(t, 200, "Delete this account?", "You are signed in as ada@example.com", "you can still keep the account")
		if a := f.browser().get(deletePath); a.Header.Get("Set-Cookie") != "" {
			t.Error("who only reads gets a cookie")
		}
		b.press(page, "step", "delete").leadsTo(t, deletePath)
		b.press(page, "step", "delete").leadsTo(t, deletePath) // a second click
		if a := f.get("/v1/me", "Authorization", "Bearer "+phone); a.Status != 401 || a.str("code") != "account_deleted" {
			t.Errorf("the phone: %d %s", a.Status, a.Raw)
		}
		page = b.get(deletePath)
		page.says(t, 200, "Your request is in", "Undo the deletion", "on 15 March 2026, 12:00 UTC")
		f.browser().get(deletePath).says(t, 200, "Go on to delete the account")
	})
}

// deleted is a browser that has asked for the deletion of email, and the page it got.
func (f *fixture) deleted(email string) (*browser, answer) {
	f.t.Helper()
	b := f.browser()
	page := b.password(b.get(confirmPath), email, "right")
	b.press(page, "step", "delete").leadsTo(f.t, deletePath)
	page = b.get(deletePath)
	page.says(f.t, 200, "Undo the deletion")
	return b, page
}

func TestDeletionIsUndoneWhereItWasAskedFor(t *testing.T) {
	oauthEngines(t, func(t *testing.T, f *fixture) {
		f.account("ada@example.com")
		b, page := f.deleted("ada@example.com")
		stranger := f.browser()
		_, v := b.fields(page, "step", "undo")
		stranger.get(confirmPath)
		stranger.post(accountPath, v).says(t, 400, "open for too long")
		b.site = "cross-site"
		b.press(page, "step", "undo").says(t, 400, "open for too long")
		b.site = "same-origin"
		b.press(page, "step", "undo").says(t, 200, "Your account stays")
		b.get(deletePath).says(t, 200, "Go on to delete the account")
		f.account("ada@example.com") // signs in as before

		// Two accounts, one after the other, in one browser: each undo is of the last one.
		f.account("ben@example.com")
		b.password(b.get(accountPath), "ben@example.com", "right")
		b.press(b.password(b.press(b.get(confirmPath), "step", "another"), "ada@example.com", "right"), "step", "delete").leadsTo(t, deletePath)
		b.press(b.get(confirmPath), "step", "delete").leadsTo(t, deletePath)
		b.press(b.get(deletePath), "step", "undo").says(t, 200, "Your account stays")
		f.account("ben@example.com")
		other := f.browser()
		other.press(other.password(other.get(confirmPath), "ada@example.com", "right"), "step", "undo").says(t, 200, "Your account stays")

		// Half an hour later a sign-in is needed, and it is enough.
		b, page = f.deleted("ada@example.com")
		f.clock.Advance(31 * time.Minute)
		page = b.press(page, "step", "undo")
		page.says(t, 400, "open for too long", "This shows that it is yours")
		page = b.password(page, "ada@example.com", "right")
		page.says(t, 200, "all data of the account is erased", "Undo the deletion", "on 15 March 2026, 12:00 UTC")
		b.press(page, "step", "undo").says(t, 200, "Your account stays")
		f.account("ada@example.com")
	})
}

func TestDeletionIsTooLateToUndo(t *testing.T) {
	f := oauthFixture(t)
	f.account("ada@example.com")
	b, page := f.deleted("ada@example.com")
	rows, _, err := f.audit.List(t.Context(), audit.Filter{Action: "user.delete"})
	if err != nil || len(rows) != 1 {
		t.Fatalf("%v, %v", rows, err)
	}
	user := rows[0].Target
	e := must(f.service.life.erasure(t.Context(), user))
	if err := f.service.eraseRun(t.Context(), &e); err != nil {
		t.Fatal(err)
	}
	b.press(page, "step", "undo").says(t, 409, "too late")
	b.get(deletePath).says(t, 200, "is being erased")
}

func TestDeletionWithoutGrace(t *testing.T) {
	f := oauthFixture(t)
	f.config.Deletion.Grace = 0
	f.start(nil)
	f.host()
	f.account("ada@example.com")
	b := f.browser()
	b.get(deletePath).says(t, 200, "All of it is erased at once")
	page := b.password(b.get(confirmPath), "ada@example.com", "right")
	page.says(t, 200, "This cannot be undone")
	b.press(page, "step", "delete").leadsTo(t, deletePath)
	page = b.get(deletePath)
	page.says(t, 200, "is being erased")
	if strings.Contains(page.Raw, "Undo") {
		t.Error(page.Raw)
	}
}

// TestDeletionAsksAgain: neither a sign-in of a while ago nor a page of somebody
// else deletes anything.
func TestDeletionAsksAgain(t *testing.T) {
	oauthEngines(t, func(t *testing.T, f *fixture) {
		phone := f.account("ada@example.com")
		b := f.browser()
		page := b.password(b.get(confirmPath), "ada@example.com", "right")
		for name, forge := range map[string]func(url.Values, *browser){
			"another's token": func(v url.Values, _ *browser) { v.Set("csrf", strings.Repeat("A", 43)) },
			"no token":        func(v url.Values, _ *browser) { v.Del("csrf") },
			"no ticket":       func(v url.Values, _ *browser) { v.Del("ticket") },
			"another site":    func(_ url.Values, b *browser) { b.site = "cross-site" },
			"a sibling site":  func(_ url.Values, b *browser) { b.site = "same-site" },
		} {
			action, v := b.fields(page, "step", "delete")
			forge(v, b)
			a := b.post(action, v)
			b.site = "same-origin"
			if a.Status != 400 || !strings.Contains(a.Raw, "open for too long") {
				t.Errorf("%s: %d %s", name, a.Status, a.Raw)
			}
		}
		_, v := b.fields(page, "step", "delete")
		v.Set("request", "own=account") // a page that needs no fresh sign-in
		if a := b.post(accountPath, v); a.Status != 400 {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
		_, v = b.fields(b.get(accountPath), "step", "export")
		v.Set("step", "delete")
		if a := b.post(accountPath, v); a.Status != 400 || !strings.Contains(a.Raw, "not one of this page") {
			t.Errorf("deleting from the account page: %d %s", a.Status, a.Raw)
		}
		f.clock.Advance(6 * time.Minute)
		page = b.press(page, "step", "delete")
		page.says(t, 200, "This shows that it is yours")
		b.get(confirmPath).says(t, 200, "This shows that it is yours")
		if a := f.get("/v1/me", "Authorization", "Bearer "+phone); a.Status != 200 {
			t.Errorf("deleted after all: %d %s", a.Status, a.Raw)
		}
		page = b.password(page, "ada@example.com", "right")
		page.says(t, 200, "Delete this account?")
		// With another account signed in beside it, the form says whose it is.
		other := b.password(b.press(page, "step", "another"), "nobody@example.com", "right")
		other.says(t, 400, "No account signs in this way")
		f.account("ben@example.com")
		both := b.password(b.press(page, "step", "another"), "ben@example.com", "right")
		both.says(t, 200, "You are signed in as ben@example.com")
		choose := b.get(confirmPath)
		choose.says(t, 200, "ada@example.com", "ben@example.com")
		_, v = b.fields(choose, "user", "")
		v.Set("step", "choose")
		b.post(accountPath, v).says(t, 200, "Delete this account?")
	})
}

// TestUndoOnAnyHostedPage: who signs in for a client while the account waits to be
// erased is asked, and goes on to the client.
func TestUndoOnAnyHostedPage(t *testing.T) {
	oauthEngines(t, func(t *testing.T, f *fixture) {
		f.account("ada@example.com")
		f.deleted("ada@example.com")
		b := f.browser()
		page := b.password(b.get(authorizeURL(testApp.ID, appRedirect)), "ada@example.com", "right")
		page.says(t, 200, "Your account is going to be deleted", "all data of the account is erased")
		action, v := b.fields(page, "step", "undo")
		thief := f.browser()
		thief.password(thief.get(authorizeURL(testApp.ID, appRedirect)), "eve@example.com", "right").sentTo(t, appRedirect)
		_, own := thief.fields(thief.get(accountPath), "step", "export")
		own.Set("step", "undo")
		own.Set("keep", v.Get("keep"))
		thief.post(action, own).says(t, 400, "open for too long")
		b.press(b.password(b.get(authorizeURL(testApp.ID, appRedirect)), "ada@example.com", "right"), "step", "another").says(t, 200, `value="password"`)
		q := b.post(action, v).sentTo(t, appRedirect)
		if q.Get("code") == "" || q.Get("state") != "st&1" {
			t.Errorf("%v", q)
		}
		f.deleted("ada@example.com")
		_, again := b.fields(b.password(b.get(authorizeURL(testApp.ID, appRedirect)), "ada@example.com", "right"), "step", "undo")
		again.Set("keep", v.Get("keep")) // used before
		b.post(action, again).says(t, 400, "open for too long")
		if strings.Contains(f.logs.String(), v.Get("keep")) {
			t.Error("the log has what undoes a deletion")
		}
	})
}

func TestAccountPage(t *testing.T) {
	oauthEngines(t, func(t *testing.T, f *fixture) {
		phone := f.account("ada@example.com")
		b := f.browser()
		page := b.password(b.get(accountPath), "ada@example.com", "right")
		page.says(t, 200, "You are signed in to Flights as ada@example.com", "this one", "A browser", deletePath)
		me := f.get("/v1/me", "Authorization", "Bearer "+phone)
		b.press(page, "session", me.str("session", "id")).leadsTo(t, accountPath)
		if a := f.get("/v1/me", "Authorization", "Bearer "+phone); a.Status != 401 {
			t.Errorf("the session that was ended: %d", a.Status)
		}
		_, v := b.fields(page, "session", me.str("session", "id"))
		other := f.account("ben@example.com")
		v.Set("session", f.get("/v1/me", "Authorization", "Bearer "+other).str("session", "id"))
		b.post(accountPath, v).leadsTo(t, accountPath) // as if it were not there
		if a := f.get("/v1/me", "Authorization", "Bearer "+other); a.Status != 200 {
			t.Errorf("somebody else's session was ended: %d", a.Status)
		}
		v.Set("session", "x")
		b.post(accountPath, v).says(t, 400, "not one of this page")
	})
}

var downloadPattern = regexp.MustCompile(`href="(` + archivePath + `[^"]*)"`)

func TestExportPage(t *testing.T) {
	oauthEngines(t, func(t *testing.T, f *fixture) {
		f.account("ada@example.com")
		b := f.browser()
		page := b.password(b.get(confirmPath), "ada@example.com", "right")
		asked := b.press(page, "step", "export")
		at := asked.Header.Get("Location")
		if asked.Status != 303 || !strings.HasPrefix(at, exportPath+"?id=exp_") {
			t.Fatalf("%d %s", asked.Status, at)
		}
		b.get(at).says(t, 200, "is being put together")
		if err := f.service.export(t.Context(), strings.TrimPrefix(at, exportPath+"?id="), 1); err != nil {
			t.Fatal(err)
		}
		ready := b.get(at)
		ready.says(t, 200, "The copy is ready")
		link := downloadPattern.FindStringSubmatch(ready.Raw)
		if link == nil {
			t.Fatal(ready.Raw)
		}
		archive := b.get(link[1])
		if archive.Status != 200 || archive.Header.Get("Content-Type") != "application/zip" {
			t.Fatalf("%d %v", archive.Status, archive.Header)
		}
		if z, err := zip.NewReader(bytes.NewReader([]byte(archive.Raw)), int64(len(archive.Raw))); err != nil || len(z.File) == 0 {
			t.Errorf("%v", err)
		}
		f.browser().get(link[1]).says(t, 200, "to get a copy of your data", `value="password"`)
		f.account("eve@example.com")
		eve := f.browser()
		eve.password(eve.get(accountPath), "eve@example.com", "right")
		eve.get(link[1]).says(t, 404, "no such copy")
		f.clock.Advance(61 * time.Minute) // the browser may have been left open
		again := b.get(link[1])
		again.says(t, 200, "to get a copy of your data", `value="password"`)
		b.password(again, "ada@example.com", "right").says(t, 200, "The copy is ready")
		for _, bad := range []string{"?id=x", "?id=" + newID(prefixMerge), "?id=%zz"} {
			b.get(exportPath+bad).says(t, 400, "not one of this page")
		}
		b.get(exportPath+"?id="+newID(prefixExport)).says(t, 404, "no such copy")
		if a := b.get(exportPath); a.Status != 302 || a.Header.Get("Location") != accountPath {
			t.Errorf("a link alone begins an export: %d", a.Status)
		}
	})
}

func TestExportPageTellsThatACopyFailed(t *testing.T) {
	oauthEngines(t, func(t *testing.T, f *fixture) {
		f.people.Register(module.Participant{Name: "broken", Export: func(context.Context, string, func(any) error) error {
			return errors.New("a fault of a capability")
		}})
		f.account("ada@example.com")
		b := f.browser()
		page := b.password(b.get(confirmPath), "ada@example.com", "right")
		at := b.press(page, "step", "export").Header.Get("Location")
		if err := f.service.export(t.Context(), strings.TrimPrefix(at, exportPath+"?id="), exportAttempts); err != nil {
			t.Fatal(err)
		}
		b.get(at).says(t, 200, "could not be put together", accountPath)
	})
}

// TestHostedPasskey signs in as the script of the page does.
func TestHostedPasskey(t *testing.T) {
	withCredentials(t, func(t *testing.T, f *fixture, _ *providertest.Issuer, _ *outbox) {
		f.config.Passkey = passkey.Config{RPID: "example.com", Origins: []string{testApp.PublicURL}}
		f.config.Clients[testApp.ID] = testClients[testApp.ID]
		f.start(nil)
		device := passkeytest.NewSynced(testApp.PublicURL)
		p := f.phone("a")
		o := f.post("/v1/auth/passkey-options", map[string]any{"ceremony": "registration", "name": "ada"}, p.bearer()...)
		created := must(device.Create(must(json.Marshal(o.Body["options"]))))
		if p.take(f.post("/v1/auth/sign-in", map[string]any{"provider": "passkey", "passkey": json.RawMessage(created)}, p.bearer()...)); p.status != 200 {
			t.Fatalf("%d %s", p.status, p.last.Raw)
		}
		b := f.browser()
		page := b.get(authorizeURL(testApp.ID, appRedirect, "scope", "openid app"))
		if csp := page.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "script-src "+testApp.PublicURL+scriptPath+";") {
			t.Fatalf("the script may not run: %s", csp)
		}
		page.says(t, 200, `value="password"`, `autocomplete="username webauthn"`)
		if a := b.get(scriptPath); a.Status != 200 || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/javascript") {
			t.Errorf("%d %v", a.Status, a.Header)
		}
		fields := b.passkeyForm(page)
		options := b.post(optionsPath, fields)
		if options.Status != 200 || options.str("challenge") == "" || options.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%d %s", options.Status, options.Raw)
		}
		answered := url.Values{"step": {"passkey"}, "passkey": {string(must(device.Get([]byte(options.Raw))))}}
		for name := range fields {
			answered.Set(name, fields.Get(name))
		}
		// In another browser the answer is good for nothing.
		thief := f.browser()
		stolen := thief.passkeyForm(thief.get(authorizeURL(testApp.ID, appRedirect)))
		stolen.Set("step", "passkey")
		stolen.Set("passkey", answered.Get("passkey"))
		thief.post(signInPath, stolen).says(t, 400, "was not accepted")
		q := b.post(signInPath, answered).sentTo(t, appRedirect)
		a := f.redeem(testApp.ID, appRedirect, q.Get("code"))
		me := f.get("/v1/me", "Authorization", "Bearer "+a.str("access_token"))
		if a.Status != 200 || me.str("id") != p.user {
			t.Fatalf("%d %s; %s", a.Status, a.Raw, me.Raw)
		}
		// Once, and from our pages.
		b.post(signInPath, answered).says(t, 400, "open for too long") // the cookie has changed since
		b.site = "cross-site"
		if a := b.post(optionsPath, b.passkeyForm(page)); a.Status != 403 {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
		if a := f.browser().post(optionsPath, url.Values{}); a.Status != 403 {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
		for _, bad := range []string{"", "{}", "null", `{"id":1}`, strings.Repeat("x", 40_000)} {
			g := f.browser()
			v := g.passkeyForm(g.get(authorizeURL(testApp.ID, appRedirect)))
			v.Set("step", "passkey")
			v.Set("passkey", bad)
			g.post(signInPath, v).says(t, 400, "There is a problem")
		}
	})
}

// TestStepUpOnTheHostedPages: who asks for phr gets a page that offers passkeys
// alone, and a token that says so.
func TestStepUpOnTheHostedPages(t *testing.T) {
	withCredentials(t, func(t *testing.T, f *fixture, _ *providertest.Issuer, _ *outbox) {
		f.config.Passkey = passkey.Config{RPID: "example.com", Origins: []string{testApp.PublicURL}}
		f.config.Clients[testApp.ID] = testClients[testApp.ID]
		f.start(nil)
		device := passkeytest.NewSynced(testApp.PublicURL)
		p := f.phone("a")
		o := f.post("/v1/auth/passkey-options", map[string]any{"ceremony": "registration", "name": "ada"}, p.bearer()...)
		p.take(f.post("/v1/auth/sign-in", map[string]any{"provider": "passkey", "passkey": json.RawMessage(must(device.Create(must(json.Marshal(o.Body["options"])))))}, p.bearer()...))
		b := f.browser()
		page := b.get(authorizeURL(testApp.ID, appRedirect, "acr_values", "phr"))
		page.says(t, 200, "This step needs a passkey")
		if strings.Contains(page.Raw, `value="password"`) || strings.Contains(page.Raw, `value="send"`) || strings.Contains(page.Raw, goPath+"?") {
			t.Errorf("ways are offered that lead nowhere: %s", page.Raw)
		}
		if q := b.press(page, "step", "deny").sentTo(t, appRedirect); q.Get("error") != "access_denied" {
			t.Errorf("%v", q)
		}
		v := b.passkeyForm(page)
		options := b.post(optionsPath, v)
		v.Set("step", "passkey")
		v.Set("passkey", string(must(device.Get([]byte(options.Raw)))))
		q := b.post(signInPath, v).sentTo(t, appRedirect)
		a := f.redeem(testApp.ID, appRedirect, q.Get("code"))
		r := httptest.NewRequest(http.MethodGet, "/x", nil)
		r.Header.Set("Authorization", "Bearer "+a.str("access_token"))
		who, err := f.auth.Authenticate(r)
		if err != nil || who.ACR != module.ACRPhr {
			t.Errorf("%+v, %v", who, err)
		}
		// A code by e-mail will do where any class will.
		f.browser().get(authorizeURL(testApp.ID, appRedirect, "acr_values", "phr 1")).says(t, 200, `value="password"`)
	})
}

// passkeyForm is what the script reads from the page.
func (b *browser) passkeyForm(page answer) url.Values {
	b.f.t.Helper()
	_, form, ok := strings.Cut(page.Raw, ` id="passkey" `)
	form, _, closed := strings.Cut(form, "</form>")
	if !ok || !closed {
		b.f.t.Fatalf("no form for passkeys: %s", page.Raw)
	}
	v := url.Values{}
	for _, h := range hiddenPattern.FindAllStringSubmatch(form, -1) {
		v.Set(html.UnescapeString(h[1]), html.UnescapeString(h[2]))
	}
	v.Del("step")
	v.Del("passkey")
	return v
}

// TestDecideOwnKeepsItsPromises: nobody sees a page of an account that is not
// signed in here, or not lately enough.
func TestDecideOwnKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := t0
		users := []string{"usr_1", "usr_2", "usr_3"}
		var f flowFacts
		f.Now = now
		for _, u := range users {
			if rapid.Bool().Draw(t, u) {
				age := time.Duration(rapid.IntRange(0, 7200).Draw(t, "age")) * time.Second
				f.Accounts = append(f.Accounts, Grant{Session{ID: "ses_" + u, AuthTime: now.Add(-age)}, User{ID: u, Kind: Account}})
			}
		}
		f.User = rapid.SampledFrom(append(users, "", "usr_4")).Draw(t, "user")
		page := rapid.SampledFrom([]string{ownAccount, ownDelete, ownExport}).Draw(t, "page")
		v := decideOwn(page, f)
		age := now.Sub(v.Grant.Session.AuthTime)
		switch {
		case v.Step != flowIssue:
			if len(f.Accounts) > 0 && page == ownAccount && v.Step != flowChoose {
				t.Fatalf("%s is asked for where it is not needed", v.Step)
			}
		case v.Grant.User.ID == "", page == ownDelete && age > 5*time.Minute, page == ownExport && age > time.Hour:
			t.Fatalf("%s lets %+v in", page, v.Grant)
		case (len(f.Accounts) > 1 || f.User != "") && v.Grant.User.ID != f.User:
			t.Fatalf("nobody chose %s", v.Grant.User.ID)
		}
	})
}
