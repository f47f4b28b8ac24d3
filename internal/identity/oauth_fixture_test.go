package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"landline/internal/config"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/testkit"

	"landline/internal/audit"
	"landline/internal/queue"
	"landline/internal/secret"
	"landline/internal/sqldb"
)

const (
	partner       = "com.partner.app" // third party, public
	partnerServer = "partner-server"  // third party, confidential
	backend       = "backend"         // first party, confidential
	boundClient   = "com.example.bound"
	clientSecret  = "pa:ss word+%/" + "0123456789abcdef0123456789abcdef"
)

var testClients = map[string]ClientConfig{
	testApp.ID:    {Name: "Flights", RedirectURIs: []string{"com.example.flights:/cb", "https://app.example.com/cb"}, LogoutURIs: []string{"https://app.example.com/bye"}},
	partner:       {Name: "Partner", Kind: ThirdParty, RedirectURIs: []string{"com.partner.app:/cb", "http://127.0.0.1/cb", "http://[::1]:1/cb", "https://partner.example/cb?x=1"}, Scopes: []string{"openid", "email", "profile", "offline_access", "flights.read"}},
	partnerServer: {Name: "Partner's server", Kind: ThirdParty, RedirectURIs: []string{"https://server.example/cb"}, Secret: config.Secret(clientSecret), IDTokenAlg: "ES256"},
	backend:       {Name: "Backend", RedirectURIs: []string{"https://backend.example/cb"}, Secret: config.Secret(clientSecret), Audiences: []string{"https://reports.example.com"}},
	boundClient:   {Name: "Bound", RedirectURIs: []string{"https://bound.example/cb"}, DPoP: true},
	"no-redirect": {Name: "No redirect"},
}

// oauthEngines runs fn with a node that has clients and ways to sign in, on each engine.
func oauthEngines(t *testing.T, fn func(t *testing.T, f *fixture)) {
	t.Parallel()
	testkit.Engines(t, func(t *testing.T, open func(*testing.T, ...sqldb.Migrations) *sqldb.DB) {
		t.Parallel()
		fn(t, oauthOn(t, open(t, secret.Migrations, queue.Migrations, audit.Migrations, Migrations)))
	})
}

func oauthFixture(t *testing.T) *fixture {
	t.Helper()
	return oauthOn(t, testkit.SQLite(t, secret.Migrations, queue.Migrations, audit.Migrations, Migrations))
}

func oauthOn(t *testing.T, db *sqldb.DB) *fixture {
	t.Helper()
	f := newFixtureWith(t, db, func(c *Config) {
		for id, one := range testClients {
			c.Clients[id] = one
		}
		c.Scopes["flights.read"] = ScopeConfig{Text: map[string]string{"en": "see your flights"}}
	})
	f.host()
	return f
}

// host gives the node ways to sign in on the hosted pages.
func (f *fixture) host() {
	f.service.verifiers["password"], f.service.verifiers["email_code"], f.service.verifiers["passkey"] = formVerifier{"pwd"}, formVerifier{"otp"}, formVerifier{"hwk user"}
	f.service.offer(hostedProvider{Name: "fake", Label: "Fake & Co", Redirect: fakeRedirect{}})
	f.service.offer(hostedProvider{Name: "password", Password: true})
	f.service.offer(hostedProvider{Name: "email_code", Code: fakeSender{}})
}

// formVerifier accepts the password or code "right" for any address.
type formVerifier struct{ methods string }

func (v formVerifier) verify(_ context.Context, _ *module.Principal, c CredentialWire) (Proven, error) {
	switch {
	case c.Password == "locked":
		return Proven{}, problem.New(problem.AccountLocked, "")
	case c.Password == "slow":
		return Proven{}, problem.New(problem.RateLimited, "")
	case c.Password == "down":
		return Proven{}, problem.New(problem.StorageUnavailable, "")
	case c.Password != "right" && c.Password != "hardware" && c.Code != "right":
		return Proven{}, problem.New(problem.CredentialInvalid, "")
	}
	methods := v.methods
	if c.Password == "hardware" { // as if a passkey had been used
		methods = "hwk user"
	}
	return Proven{Provider: c.Provider, Profile: Profile{Issuer: "local", Subject: c.Email, Email: c.Email, Name: "Anna"}, EmailVerified: true, Methods: methods}, nil
}

type fakeSender struct{}

func (fakeSender) sendCode(_ context.Context, _ *module.Principal, email, _ string) (string, error) {
	if email == "none@example" {
		return "", problem.New(problem.InvalidRequest, "")
	}
	return "challenge-1", nil
}

// fakeRedirect is a provider whose code is the subject.
type fakeRedirect struct{}

func (fakeRedirect) begin(_ context.Context, redirectURI, _ string, _ []string) (string, string, []byte, error) {
	state := rand.Text()
	return "https://idp.example/authorize?" + url.Values{"state": {state}, "redirect_uri": {redirectURI}}.Encode(), state, []byte("kept"), nil
}

func (fakeRedirect) finish(_ context.Context, keep []byte, params url.Values) (CredentialWire, error) {
	if string(keep) != "kept" || params.Get("error") != "" {
		return CredentialWire{}, problem.New(problem.CredentialInvalid, "")
	}
	return CredentialWire{Provider: "fake", Code: params.Get("code"), Nonce: rand.Text()}, nil
}

// browser keeps cookies and reads pages as a person does.
type browser struct {
	f       *fixture
	cookies map[string]string
	site    string // Sec-Fetch-Site of forms
}

func (f *fixture) browser() *browser {
	return &browser{f: f, cookies: map[string]string{}, site: "same-origin"}
}

func (b *browser) do(r *http.Request) answer {
	b.f.t.Helper()
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	a := b.f.do(r)
	for _, c := range (&http.Response{Header: a.Header}).Cookies() {
		b.cookies[c.Name] = c.Value
	}
	return a
}

func (b *browser) get(path string) answer {
	b.f.t.Helper()
	return b.do(httptest.NewRequest(http.MethodGet, path, nil))
}

func (b *browser) post(path string, v url.Values) answer {
	b.f.t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(v.Encode()))
	r.Header.Set("Content-Type", formType)
	r.Header.Set("Sec-Fetch-Site", b.site)
	return b.do(r)
}

var (
	formPattern   = regexp.MustCompile(`(?s)<form method="post" action="([^"]*)">(.*?)</form>`)
	hiddenPattern = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	linkPattern   = regexp.MustCompile(`<a class="button other" href="([^"]*)">`)
	buttonPattern = regexp.MustCompile(`<button[^>]* name="([^"]*)" value="([^"]*)"`)
)

// fields finds the form of the page that has the button and returns what it carries.
func (b *browser) fields(page answer, name, value string) (action string, v url.Values) {
	b.f.t.Helper()
	for _, form := range formPattern.FindAllStringSubmatch(page.Raw, -1) {
		for _, button := range buttonPattern.FindAllStringSubmatch(form[2], -1) {
			if button[1] != name || value != "" && html.UnescapeString(button[2]) != value {
				continue
			}
			v = url.Values{}
			for _, h := range hiddenPattern.FindAllStringSubmatch(form[2], -1) {
				v.Set(html.UnescapeString(h[1]), html.UnescapeString(h[2]))
			}
			v.Set(name, html.UnescapeString(button[2]))
			return html.UnescapeString(form[1]), v
		}
	}
	b.f.t.Fatalf("the page has no button %s=%s: %d %s", name, value, page.Status, page.Raw)
	return "", nil
}

// press sends the form with the button, filled in with name, value pairs.
func (b *browser) press(page answer, name, value string, fill ...string) answer {
	b.f.t.Helper()
	action, v := b.fields(page, name, value)
	for i := 0; i < len(fill); i += 2 {
		v.Set(fill[i], fill[i+1])
	}
	return b.post(action, v)
}

func (b *browser) password(page answer, email, password string) answer {
	b.f.t.Helper()
	return b.press(page, "step", "password", "email", email, "password", password)
}

const testVerifier = "verifier-0123456789-abcdefghijklmnopqrstuvwxyz~"

func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// authorizeURL is a right request of the client, changed by name, value pairs;
// the value "-" leaves one out.
func authorizeURL(client, redirect string, change ...string) string {
	v := url.Values{"client_id": {client}, "redirect_uri": {redirect}, "response_type": {"code"}, "scope": {"openid email"}, "state": {"st&1"}, "nonce": {"n-1"},
		"code_challenge": {challengeOf(testVerifier)}, "code_challenge_method": {"S256"}}
	for i := 0; i < len(change); i += 2 {
		v.Set(change[i], change[i+1])
		if change[i+1] == "-" {
			v.Del(change[i])
		}
	}
	return authorizePath + "?" + v.Encode()
}

// sentTo reads where a redirect leads and what it carries; it must lead to want.
func (a answer) sentTo(t *testing.T, want string) url.Values {
	t.Helper()
	location := a.Header.Get("Location")
	rest, ok := strings.CutPrefix(location, want)
	if a.Status != http.StatusFound && a.Status != http.StatusSeeOther || !ok || rest == "" || rest[0] != '?' && rest[0] != '&' {
		t.Fatalf("%d to %q, want %s: %s", a.Status, location, want, a.Raw)
	}
	q, err := url.ParseQuery(rest[1:])
	if err != nil {
		t.Fatal(err)
	}
	if q.Get("iss") != testApp.PublicURL {
		t.Errorf("iss is %q", q.Get("iss"))
	}
	return q
}

// codeFor signs email in in a new browser and returns a code for the client.
func (f *fixture) codeFor(client, redirect, email string, change ...string) string {
	f.t.Helper()
	b := f.browser()
	page := b.password(b.get(authorizeURL(client, redirect, change...)), email, "right")
	if testClients[client].Kind == ThirdParty {
		page = b.press(page, "step", "allow")
	}
	q := page.sentTo(f.t, redirect)
	if q.Get("code") == "" || q.Get("state") != "st&1" {
		f.t.Fatalf("no code, or another state: %v", q)
	}
	return q.Get("code")
}

// redeem exchanges a code as a public client.
func (f *fixture) redeem(client, redirect, code string, more ...string) answer {
	f.t.Helper()
	return f.form(tokenPath, append([]string{"grant_type", "authorization_code", "client_id", client, "redirect_uri", redirect, "code", code, "code_verifier", testVerifier}, more...)...)
}

func wantOAuthError(t *testing.T, a answer, status int, code string) {
	t.Helper()
	if a.Status != status || a.str("error") != code || a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("Content-Type") != "application/json" {
		t.Errorf("got %d %s, want %d %s", a.Status, a.Raw, status, code)
	}
}
