package identity

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// TestCodeFlow is a third-party app from the first page to the refresh.
func TestCodeFlow(t *testing.T) {
	oauthEngines(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		const redirect = "com.partner.app:/cb"
		page := b.get(authorizeURL(partner, redirect, "scope", "openid email offline_access flights.read"))
		if page.Status != 200 || !strings.Contains(page.Raw, "<h1>Sign in</h1>") || !strings.Contains(page.Raw, "Partner") {
			t.Fatalf("%d %s", page.Status, page.Raw)
		}
		if csp := page.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' com.partner.app:;") {
			t.Errorf("the page could not lead back to the client: %s", csp)
		}
		page = b.password(page, "anna@example.com", "right")
		for _, want := range []string{"Allow access?", "see your e-mail address", "see your flights", "anna@example.com", "Partner is not part of Flights"} {
			if !strings.Contains(page.Raw, want) {
				t.Errorf("the consent page does not say %q:\n%s", want, page.Raw)
			}
		}
		q := b.press(page, "step", "allow").sentTo(t, redirect)
		if q.Get("state") != "st&1" || q.Get("code") == "" || len(q) != 3 {
			t.Errorf("sent back with %v", q)
		}
		a := f.redeem(partner, redirect, q.Get("code"))
		if a.Status != 200 || a.str("token_type") != "Bearer" || a.str("scope") != "openid email offline_access flights.read" || a.str("refresh_token") == "" {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		if _, isNumber := a.Body["expires_in"].(float64); !isNumber || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("expires_in is %T", a.Body["expires_in"])
		}
		f.checkIDToken(t, a, partner)
		info := f.get(userInfoPath, "Authorization", "Bearer "+a.str("access_token"))
		if info.Status != 200 || info.str("email") != "anna@example.com" || info.Body["email_verified"] != true || info.Body["name"] != nil || info.str("sub") == "" {
			t.Errorf("userinfo: %d %s", info.Status, info.Raw)
		}
		// The token opens nothing of the app's API.
		if me := f.bearer(a.str("access_token")); me.Status != 403 || me.str("code") != "insufficient_scope" {
			t.Errorf("/v1/me: %d %s", me.Status, me.Raw)
		}
		again := f.token(a.str("refresh_token"), "client_id", partner)
		if again.Status != 200 || again.str("refresh_token") == a.str("refresh_token") || again.str("scope") != a.str("scope") {
			t.Errorf("refresh: %d %s", again.Status, again.Raw)
		}
		// What was allowed is remembered; a native app's user still says who they are.
		page = b.get(authorizeURL(partner, redirect))
		q = b.press(page, "user", "").sentTo(t, redirect)
		if q.Get("code") == "" {
			t.Errorf("the second time: %v", q)
		}
		for _, action := range []string{"consent.grant", "session.create", "user.promote"} {
			if !strings.Contains(strings.Join(f.actions(), " "), action) {
				t.Errorf("%s is not audited: %v", action, f.actions())
			}
		}
		for _, secret := range []string{q.Get("code"), a.str("access_token"), a.str("refresh_token"), a.str("id_token"), "right", b.cookies[cookieSecure]} {
			if secret != "right" && strings.Contains(f.logs.String(), secret) {
				t.Errorf("the log has %s", secret)
			}
		}
	})
}

// checkIDToken verifies it with a client library that is not ours.
func (f *fixture) checkIDToken(t *testing.T, a answer, client string) {
	t.Helper()
	set := f.ring.JWKS(purposeIDToken, purposeIDTokenEC)
	var keys oidc.StaticKeySet
	for _, k := range set.Keys {
		keys.PublicKeys = append(keys.PublicKeys, k.Key)
	}
	v := oidc.NewVerifier(testApp.PublicURL, &keys, &oidc.Config{ClientID: client, Now: f.clock.Now, SupportedSigningAlgs: []string{"RS256", "ES256"}})
	id, err := v.Verify(t.Context(), a.str("id_token"))
	if err != nil {
		t.Fatal(err)
	}
	if err := id.VerifyAccessToken(a.str("access_token")); err != nil {
		t.Error(err)
	}
	var c struct {
		AuthTime int64    `json:"auth_time"`
		ACR      string   `json:"acr"`
		AMR      []string `json:"amr"`
		SID      string   `json:"sid"`
	}
	if err := id.Claims(&c); err != nil {
		t.Fatal(err)
	}
	if id.Nonce != "n-1" || c.AuthTime == 0 || c.ACR != "1" || len(c.AMR) != 1 || c.SID == "" {
		t.Errorf("nonce %q, %+v", id.Nonce, c)
	}
}

// TestFirstPartyFlow: nobody is asked for consent, and the token is good for the app's API.
func TestFirstPartyFlow(t *testing.T) {
	oauthEngines(t, func(t *testing.T, f *fixture) {
		const redirect = "https://app.example.com/cb"
		a := f.redeem(testApp.ID, redirect, f.codeFor(testApp.ID, redirect, "anna@example.com", "scope", "openid app"))
		if a.Status != 200 || a.str("refresh_token") == "" {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		me := f.bearer(a.str("access_token"))
		if me.Status != 200 || me.str("kind") != "account" {
			t.Errorf("%d %s", me.Status, me.Raw)
		}
		// Without offline_access somebody else's client gets no refresh token.
		code := f.codeFor(partner, "https://partner.example/cb?x=1", "anna@example.com")
		if a := f.redeem(partner, "https://partner.example/cb?x=1", code); a.Status != 200 || a.Body["refresh_token"] != nil || a.Body["refresh_expires_in"] != nil {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
	})
}

// TestAuthorizeErrorsInTheRedirect is RFC 6749 §4.1.2.1 and OpenID Connect Core §3.1.2.6.
func TestAuthorizeErrorsInTheRedirect(t *testing.T) {
	f := oauthFixture(t)
	for name, c := range map[string]struct {
		change []string
		want   string
	}{
		"no response_type":         {[]string{"response_type", "-"}, "invalid_request"},
		"the implicit flow":        {[]string{"response_type", "token"}, "unsupported_response_type"},
		"the hybrid flow":          {[]string{"response_type", "code id_token"}, "unsupported_response_type"},
		"another response_mode":    {[]string{"response_mode", "fragment"}, "invalid_request"},
		"no PKCE":                  {[]string{"code_challenge", "-", "code_challenge_method", "-"}, "invalid_request"},
		"PKCE plain":               {[]string{"code_challenge_method", "plain"}, "invalid_request"},
		"PKCE plain by default":    {[]string{"code_challenge_method", "-"}, "invalid_request"},
		"PKCE method s256":         {[]string{"code_challenge_method", "s256"}, "invalid_request"},
		"a short challenge":        {[]string{"code_challenge", "abc"}, "invalid_request"},
		"a challenge with padding": {[]string{"code_challenge", challengeOf("x") + "="}, "invalid_request"},
		"a scope of others":        {[]string{"scope", "openid app"}, "invalid_scope"},
		"an unknown scope":         {[]string{"scope", "openid admin"}, "invalid_scope"},
		"no scope":                 {[]string{"scope", "-"}, "invalid_scope"},
		"an unknown prompt":        {[]string{"prompt", "create"}, "invalid_request"},
		"prompt none and login":    {[]string{"prompt", "none login"}, "invalid_request"},
		"nobody is signed in":      {[]string{"prompt", "none"}, "login_required"},
		"a negative max_age":       {[]string{"max_age", "-1"}, "invalid_request"},
		"max_age is no number":     {[]string{"max_age", "1h"}, "invalid_request"},
		"a request object":         {[]string{"request", "e30.e30."}, "request_not_supported"},
		"a request_uri of others":  {[]string{"request_uri", "https://evil.example/r"}, "request_uri_not_supported"},
		"a registration":           {[]string{"registration", "{}"}, "registration_not_supported"},
		"a long nonce":             {[]string{"nonce", strings.Repeat("n", 513)}, "invalid_request"},
		"a bad dpop_jkt":           {[]string{"dpop_jkt", "abc"}, "invalid_request"},
		"a bad id_token_hint":      {[]string{"id_token_hint", "a.b.c"}, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			a := f.browser().get(authorizeURL(partner, "com.partner.app:/cb", c.change...))
			q := a.sentTo(t, "com.partner.app:/cb")
			if q.Get("error") != c.want || q.Get("state") != "st&1" || q.Get("code") != "" {
				t.Errorf("%v, want %s", q, c.want)
			}
		})
	}
	a := f.browser().get(authorizeURL(partner, "com.partner.app:/cb") + "&scope=openid")
	if q := a.sentTo(t, "com.partner.app:/cb"); q.Get("error") != "invalid_request" {
		t.Errorf("a repeated parameter: %v", q)
	}
	a = f.browser().get(authorizeURL(partner, "com.partner.app:/cb") + "&state=other")
	if q := a.sentTo(t, "com.partner.app:/cb"); q.Get("error") != "invalid_request" || q.Has("state") {
		t.Errorf("a repeated state: %v", q)
	}
}

// TestAuthorizeErrorsOnAPage: what is not known to be the client's is sent nowhere.
func TestAuthorizeErrorsOnAPage(t *testing.T) {
	f := oauthFixture(t)
	for name, target := range map[string]string{
		"no client":             authorizeURL("-", "com.partner.app:/cb", "client_id", "-"),
		"an unknown client":     authorizeURL("nobody", "com.partner.app:/cb"),
		"a client without URIs": authorizeURL("no-redirect", "com.partner.app:/cb"),
		"no redirect_uri":       authorizeURL(partner, "", "redirect_uri", "-"),
		"two redirect_uris":     authorizeURL(partner, "com.partner.app:/cb") + "&redirect_uri=https%3A%2F%2Fevil.example",
		"two clients":           authorizeURL(partner, "com.partner.app:/cb") + "&client_id=" + backend,
		"another's URI":         authorizeURL(partner, "https://backend.example/cb"),
		"a broken query":        authorizePath + "?client_id=%zz",
		"an unknown push":       authorizeURL(partner, "com.partner.app:/cb", "request_uri", pushedPrefix+"x"),
	} {
		t.Run(name, func(t *testing.T) {
			a := f.browser().get(target)
			if a.Status != 400 || a.Header.Get("Location") != "" || !strings.Contains(a.Header.Get("Content-Type"), "text/html") {
				t.Errorf("%d to %q: %s", a.Status, a.Header.Get("Location"), a.Raw)
			}
		})
	}
}

// TestRedirectURIBypasses are the ways in which redirect URIs have been got around elsewhere.
func TestRedirectURIBypasses(t *testing.T) {
	f := oauthFixture(t)
	for _, bad := range []string{
		"https://partner.example/cb", "https://partner.example/cb?x=1&y=2", "https://partner.example/cb?x=1#f", "https://partner.example/cb/?x=1", "https://partner.example/CB?x=1",
		"https://partner.example.evil.example/cb?x=1", "https://evil.example/https://partner.example/cb?x=1", "https://partner.example@evil.example/cb?x=1",
		"https://user@partner.example/cb?x=1", "http://partner.example/cb?x=1", "https://partner.example:443/cb?x=1", "https://PARTNER.example/cb?x=1",
		"https://partner.example\\@evil.example/cb?x=1", "https://partner.example/cb/../evil?x=1", "https://partner.example/%63b?x=1", "//partner.example/cb?x=1", "/cb",
		"javascript:alert(1)", "data:text/html,x", "com.partner.app:/cb/", "com.partner.app:/cb?x", "com.partner.app://cb", "COM.partner.app:/cb", " com.partner.app:/cb", "com.partner.app:/cb\n",
		"http://127.0.0.1/", "http://127.0.0.1/cb2", "http://127.0.0.1/cb?x", "http://localhost/cb", "http://127.0.0.2/cb", "http://127.0.0.1.evil.example/cb", "http://127.0.0.1:80@evil.example/cb",
		"http://127.0.0.1:/cb", "http://127.0.0.1:123456/cb", "http://127.0.0.1:8x/cb", "http://[::1].evil/cb", "http://0.0.0.0/cb", "https://127.0.0.1/cb", "http://2130706433/cb", "http://evil@127.0.0.1/cb",
	} {
		if a := f.browser().get(authorizeURL(partner, bad)); a.Status != 400 || a.Header.Get("Location") != "" {
			t.Errorf("%q: %d to %q", bad, a.Status, a.Header.Get("Location"))
		}
	}
	for _, good := range []string{"https://partner.example/cb?x=1", "com.partner.app:/cb", "http://127.0.0.1/cb", "http://127.0.0.1:1/cb", "http://127.0.0.1:65535/cb", "http://[::1]:51004/cb"} {
		if a := f.browser().get(authorizeURL(partner, good)); a.Status != 200 {
			t.Errorf("%q: %d %s", good, a.Status, a.Raw)
		}
	}
}

// TestPromptsAndAges: what asks the user, and what must not.
func TestPromptsAndAges(t *testing.T) {
	f := oauthFixture(t)
	const redirect = "https://app.example.com/cb"
	to := func(change ...string) string { return authorizeURL(testApp.ID, redirect, change...) }
	b := f.browser()
	if q := b.password(b.get(to()), "anna@example.com", "right").sentTo(t, redirect); q.Get("code") == "" {
		t.Fatalf("%v", q)
	}
	f.clock.Advance(10 * time.Minute)
	if q := b.get(to("prompt", "none")).sentTo(t, redirect); q.Get("code") == "" {
		t.Errorf("prompt=none of who is signed in: %v", q)
	}
	if q := b.get(to("prompt", "none", "max_age", "60")).sentTo(t, redirect); q.Get("error") != "login_required" {
		t.Errorf("prompt=none, signed in too long ago: %v", q)
	}
	if q := b.get(to("prompt", "none", "acr_values", "phr")).sentTo(t, redirect); q.Get("error") != "unmet_authentication_requirements" {
		t.Errorf("prompt=none, signed in too weakly: %v", q)
	}
	if q := b.get(to("acr_values", "urn:x 1")).sentTo(t, redirect); q.Get("code") == "" {
		t.Errorf("acr_values met: %v", q)
	}
	for name, change := range map[string][]string{"prompt=login": {"prompt", "login"}, "max_age=0": {"max_age", "0"}, "max_age": {"max_age", "300"}, "acr_values": {"acr_values", "phr"}} {
		page := b.get(to(change...))
		if page.Status != 200 || !strings.Contains(page.Raw, "<h1>Sign in</h1>") {
			t.Fatalf("%s: %d to %s", name, page.Status, page.Header.Get("Location"))
		}
		f.clock.Advance(time.Second)
		if name == "acr_values" {
			if q := b.password(page, "anna@example.com", "right").sentTo(t, redirect); q.Get("error") != "unmet_authentication_requirements" {
				t.Errorf("too weak again: %v", q)
			}
			f.clock.Advance(time.Second)
			page = b.get(to(change...))
			if q := b.password(page, "anna@example.com", "hardware").sentTo(t, redirect); q.Get("code") == "" {
				t.Errorf("strong enough: %v", q)
			}
			continue
		}
		if q := b.password(page, "anna@example.com", "right").sentTo(t, redirect); q.Get("code") == "" {
			t.Errorf("%s after the sign-in: %v", name, q)
		}
		f.clock.Advance(10 * time.Minute)
	}
	// A native app's redirect URI may be another app's as well: the user is asked.
	native := authorizeURL(testApp.ID, "com.example.flights:/cb")
	if q := b.get(native+"&prompt=none").sentTo(t, "com.example.flights:/cb"); q.Get("error") != "interaction_required" {
		t.Errorf("a native app without a question: %v", q)
	}
	page := b.get(native)
	if !strings.Contains(page.Raw, "Go on as") || !strings.Contains(page.Raw, "anna@example.com") {
		t.Fatalf("%d %s", page.Status, page.Raw)
	}
	if q := b.press(page, "user", "").sentTo(t, "com.example.flights:/cb"); q.Get("code") == "" {
		t.Errorf("after the question: %v", q)
	}
	// The account chooser.
	page = b.press(page, "step", "another")
	if q := b.password(page, "ben@example.com", "right").sentTo(t, "com.example.flights:/cb"); q.Get("code") == "" {
		t.Errorf("a second account: %v", q)
	}
	page = b.get(to())
	if !strings.Contains(page.Raw, "anna@example.com") || !strings.Contains(page.Raw, "ben@example.com") {
		t.Fatalf("the chooser: %d %s", page.Status, page.Raw)
	}
	if q := b.get(to("prompt", "none")).sentTo(t, redirect); q.Get("error") != "account_selection_required" {
		t.Errorf("prompt=none with two accounts: %v", q)
	}
	if q := b.press(page, "user", "").sentTo(t, redirect); q.Get("code") == "" {
		t.Errorf("after the choice: %v", q)
	}
}

// TestSignInPage: faults are told, and nothing is lost on the way.
func TestSignInPage(t *testing.T) {
	f := oauthFixture(t)
	const redirect = "https://app.example.com/cb"
	b := f.browser()
	page := b.get(authorizeURL(testApp.ID, redirect, "login_hint", "anna@example.com", "ui_locales", "pl"))
	if !strings.Contains(page.Raw, `<html lang="pl" `) || !strings.Contains(page.Raw, `value="anna@example.com"`) || !strings.Contains(page.Raw, "Fake &amp; Co") {
		t.Fatalf("%s", page.Raw)
	}
	page = b.get(authorizeURL(testApp.ID, redirect))
	for password, c := range map[string]struct {
		status int
		text   string
	}{
		"wrong":  {400, "The address, code or password is not right."},
		"locked": {400, "This account is locked."},
		"slow":   {429, "Too many attempts."},
		"down":   {503, "This does not work at the moment."},
	} {
		bad := b.password(page, "anna@example.com", password)
		if bad.Status != c.status || !strings.Contains(bad.Raw, c.text) || !strings.Contains(bad.Raw, `role="alert"`) {
			t.Errorf("%s: %d %s", password, bad.Status, bad.Raw)
		}
		page = bad
	}
	// By a code in the mail.
	code := b.press(page, "step", "send", "email", "anna@example.com")
	if code.Status != 200 || !strings.Contains(code.Raw, `autocomplete="one-time-code"`) {
		t.Fatalf("%d %s", code.Status, code.Raw)
	}
	bad := b.press(code, "step", "code", "code", "wrong")
	if bad.Status != 400 || !strings.Contains(bad.Raw, `aria-invalid="true"`) {
		t.Errorf("%d %s", bad.Status, bad.Raw)
	}
	if q := b.press(bad, "step", "code", "code", " right ").sentTo(t, redirect); q.Get("code") == "" {
		t.Errorf("%v", q)
	}
	if bad := b.press(page, "step", "send", "email", "nonsense"); bad.Status != 400 {
		t.Errorf("%d", bad.Status)
	}
}

// TestProviderRedirect goes to a provider and comes back.
func TestProviderRedirect(t *testing.T) {
	oauthEngines(t, func(t *testing.T, f *fixture) {
		const redirect = "https://app.example.com/cb"
		b := f.browser()
		begin := func(b *browser) url.Values {
			t.Helper()
			page := b.get(authorizeURL(testApp.ID, redirect))
			links := linkPattern.FindStringSubmatch(page.Raw)
			if links == nil {
				t.Fatalf("no link: %s", page.Raw)
			}
			a := b.get(strings.ReplaceAll(links[1], "&amp;", "&"))
			u, err := url.Parse(a.Header.Get("Location"))
			if err != nil || a.Status != http.StatusFound || u.Host != "idp.example" {
				t.Fatalf("%d %s %v", a.Status, a.Header.Get("Location"), err)
			}
			return u.Query()
		}
		state := begin(b).Get("state")
		back := callbackPath + "?" + url.Values{"state": {state}, "code": {"subject-1 anna@example.com"}}.Encode()
		before := b.cookies[cookieSecure]
		if q := b.get(back).sentTo(t, redirect); q.Get("code") == "" {
			t.Errorf("%v", q)
		}
		if b.cookies[cookieSecure] == before {
			t.Error("the cookie is the one from before the sign-in")
		}
		if a := b.get(back); a.Status != 400 || a.Header.Get("Location") != "" {
			t.Errorf("the same state again: %d", a.Status)
		}
		// Apple comes back with a POST, cross-site and therefore without the cookie.
		b2 := f.browser()
		state = begin(b2).Get("state")
		form := url.Values{"state": {state}, "code": {"subject-2"}}
		a := f.browser().post(callbackPath, form)
		if a.Status != http.StatusSeeOther {
			t.Fatalf("%d", a.Status)
		}
		if q := b2.get(a.Header.Get("Location")).sentTo(t, redirect); q.Get("code") == "" {
			t.Errorf("%v", q)
		}
		// An attacker's state in a victim's browser signs nobody in (login CSRF).
		state = begin(f.browser()).Get("state")
		victim := f.browser()
		victim.get(authorizeURL(testApp.ID, redirect))
		if a := victim.get(callbackPath + "?" + url.Values{"state": {state}, "code": {"attacker"}}.Encode()); a.Status != 400 || a.Header.Get("Location") != "" {
			t.Errorf("%d to %s", a.Status, a.Header.Get("Location"))
		}
		// The user says no.
		b3 := f.browser()
		state = begin(b3).Get("state")
		if a := b3.get(callbackPath + "?" + url.Values{"state": {state}, "error": {"access_denied"}}.Encode()); a.Status != 400 || !strings.Contains(a.Raw, "did not sign you in") {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
		if a := b3.get(callbackPath); a.Status != 400 {
			t.Errorf("without state: %d", a.Status)
		}
	})
}

// TestFormsOfOthersAreRefused is CSRF: whoever can make the browser send a form
// lacks the cookie's other half.
func TestFormsOfOthersAreRefused(t *testing.T) {
	f := oauthFixture(t)
	const redirect = "https://partner.example/cb?x=1"
	b := f.browser()
	page := b.password(b.get(authorizeURL(partner, redirect)), "anna@example.com", "right")
	action, good := b.fields(page, "step", "allow")
	other := f.browser()
	_, foreign := other.fields(other.password(other.get(authorizeURL(partner, redirect)), "eve@example.com", "right"), "step", "allow")
	for name, change := range map[string]func(v url.Values){
		"no csrf":              func(v url.Values) { v.Del("csrf") },
		"another's csrf":       func(v url.Values) { v.Set("csrf", foreign.Get("csrf")) },
		"no ticket":            func(v url.Values) { v.Del("ticket") },
		"another's ticket":     func(v url.Values) { v.Set("ticket", foreign.Get("ticket")) },
		"a later ticket":       func(v url.Values) { v.Set("ticket", "9"+v.Get("ticket")) },
		"another request":      func(v url.Values) { v.Set("request", v.Get("request")+"&max_age=9") },
		"everything another's": func(v url.Values) { v.Set("csrf", foreign.Get("csrf")); v.Set("ticket", foreign.Get("ticket")) },
	} {
		v := url.Values{}
		for k := range good {
			v.Set(k, good.Get(k))
		}
		change(v)
		if a := b.post(action, v); a.Status != 400 || a.Header.Get("Location") != "" {
			t.Errorf("%s: %d to %s", name, a.Status, a.Header.Get("Location"))
		}
	}
	b.site = "cross-site"
	if a := b.post(action, good); a.Status != 400 || a.Header.Get("Location") != "" {
		t.Errorf("from another site: %d", a.Status)
	}
	b.site = "same-origin"
	// Somebody else's user id is not a way to be them.
	v := url.Values{}
	for k := range good {
		v.Set(k, good.Get(k))
	}
	v.Set("user", "usr_01h455vb4pex5vsknk084sn02q")
	if a := b.post(action, v); a.Header.Get("Location") != "" && strings.Contains(a.Header.Get("Location"), "usr_") {
		t.Errorf("%d to %s", a.Status, a.Header.Get("Location"))
	}
	if q := b.press(page, "step", "deny").sentTo(t, redirect); q.Get("error") != "access_denied" {
		t.Errorf("denied: %v", q)
	}
	f.clock.Advance(ticketLife)
	if a := b.post(action, good); a.Status != 400 || a.Header.Get("Location") != "" {
		t.Errorf("too late: %d", a.Status)
	}
}

// TestSessionFixation: a cookie from before the sign-in opens nothing after it.
func TestSessionFixation(t *testing.T) {
	oauthEngines(t, func(t *testing.T, f *fixture) {
		const redirect = "https://app.example.com/cb"
		b := f.browser()
		page := b.get(authorizeURL(testApp.ID, redirect))
		c := page.Header.Get("Set-Cookie")
		for _, want := range []string{"__Host-landline=", "HttpOnly", "Secure", "SameSite=Lax", "Path=/"} {
			if !strings.Contains(c, want) {
				t.Errorf("the cookie lacks %s: %s", want, c)
			}
		}
		if strings.Contains(c, "Domain") {
			t.Errorf("the cookie has a domain: %s", c)
		}
		planted := b.cookies[cookieSecure]
		b.press(page, "step", "send", "email", "anna@example.com") // the browser is an installation now
		b.password(page, "anna@example.com", "right").sentTo(t, redirect)
		thief := f.browser()
		thief.cookies[cookieSecure] = planted
		if q := thief.get(authorizeURL(testApp.ID, redirect, "prompt", "none")).sentTo(t, redirect); q.Get("error") != "login_required" {
			t.Errorf("the planted cookie: %v", q)
		}
		if q := b.get(authorizeURL(testApp.ID, redirect, "prompt", "none")).sentTo(t, redirect); q.Get("code") == "" {
			t.Errorf("the user's: %v", q)
		}
		f.clock.Advance(400 * 24 * time.Hour)
		if q := b.get(authorizeURL(testApp.ID, redirect, "prompt", "none")).sentTo(t, redirect); q.Get("error") != "login_required" {
			t.Errorf("after its end: %v", q)
		}
	})
}
