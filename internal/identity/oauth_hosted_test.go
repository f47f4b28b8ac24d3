package identity

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"landline/internal/identity/provider/providertest"
)

// TestHostedPagesWithConfiguredProviders signs people in with a stand-in for a
// provider, a code by e-mail and a password, as the configuration offers them.
func TestHostedPagesWithConfiguredProviders(t *testing.T) {
	withCredentials(t, func(t *testing.T, f *fixture, idp *providertest.Issuer, box *outbox) {
		acme := f.config.Providers.OIDC["acme"]
		acme.RedirectURIs = append(acme.RedirectURIs, testApp.PublicURL+callbackPath)
		f.config.Providers.OIDC["acme"] = acme
		f.config.Clients[testApp.ID] = testClients[testApp.ID]
		f.start(nil)
		b := f.browser()
		page := b.get(authorizeURL(testApp.ID, appRedirect))
		links := linkPattern.FindStringSubmatch(page.Raw)
		if links == nil || !strings.Contains(page.Raw, ">Sign in with acme</a>") || !strings.Contains(page.Raw, `value="send"`) || !strings.Contains(page.Raw, `value="password"`) {
			t.Fatalf("not all ways are offered: %s", page.Raw)
		}
		away := b.get(strings.ReplaceAll(links[1], "&amp;", "&"))
		if away.Status != http.StatusFound || !strings.HasPrefix(away.Header.Get("Location"), idp.URL()) {
			t.Fatalf("%d to %s: %s", away.Status, away.Header.Get("Location"), away.Raw)
		}
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		res, err := client.Get(away.Header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		back, ok := strings.CutPrefix(res.Header.Get("Location"), testApp.PublicURL)
		if !ok {
			t.Fatalf("the provider sends the user to %q", res.Header.Get("Location"))
		}
		q := b.get(back).sentTo(t, appRedirect)
		a := f.redeem(testApp.ID, appRedirect, q.Get("code"))
		if a.Status != 200 || a.str("id_token") == "" {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		// The user says no at the provider.
		idp.Deny("access_denied")
		denied := f.browser()
		page = denied.get(authorizeURL(testApp.ID, appRedirect))
		links = linkPattern.FindStringSubmatch(page.Raw)
		to, err := url.Parse(denied.get(strings.ReplaceAll(links[1], "&amp;", "&")).Header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		no := callbackPath + "?" + url.Values{"error": {"access_denied"}, "state": {to.Query().Get("state")}, "iss": {idp.URL()}}.Encode()
		if x := denied.get(no); x.Status != 400 || !strings.Contains(x.Raw, "did not sign you in") {
			t.Errorf("%d %s", x.Status, x.Raw)
		}
		// A code by e-mail.
		mailed := f.browser()
		page = mailed.press(mailed.get(authorizeURL(testApp.ID, appRedirect)), "step", "send", "email", "ben@example.com")
		if page.Status != 200 {
			t.Fatalf("%d %s", page.Status, page.Raw)
		}
		if q := mailed.press(page, "step", "code", "code", f.deliver(box)).sentTo(t, appRedirect); q.Get("code") == "" {
			t.Errorf("%v", q)
		}
		// A password that is wrong, of somebody who has none.
		guess := f.browser()
		if x := guess.password(guess.get(authorizeURL(testApp.ID, appRedirect)), "ben@example.com", "guess"); x.Status != 400 || !strings.Contains(x.Raw, "is not right") {
			t.Errorf("%d %s", x.Status, x.Raw)
		}
	})
}
