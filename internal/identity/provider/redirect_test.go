package provider

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"landline/internal/egress"
	"landline/internal/identity/provider/providertest"
)

// follow is the user's browser: it returns what comes back to the redirect_uri.
func follow(t *testing.T, authorizeURL string) url.Values {
	t.Helper()
	browser := egress.New(egress.Options{})
	browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := browser.Get(authorizeURL)
	if err != nil {
		t.Fatal(err)
	}
	defer browser.CloseIdleConnections()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusFound {
		to, err := url.Parse(resp.Header.Get("Location"))
		if err != nil || !strings.HasPrefix(to.String(), callback+"?") {
			t.Fatalf("back to %v, %v", to, err)
		}
		return to.Query()
	}
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), `action="`+callback+`"`) {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	form := url.Values{}
	for _, m := range regexp.MustCompile(`name="([^"]+)" value="([^"]*)"`).FindAllStringSubmatch(string(body), -1) {
		form.Add(m[1], strings.NewReplacer("&#34;", `"`, "&#43;", "+", "&amp;", "&").Replace(m[2]))
	}
	return form
}

func TestSignInByRedirect(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	for _, name := range []string{"apple", "google", "oidc:acme"} {
		p := f.get(name)
		to, pending, err := p.Begin(ctx, Begin{RedirectURI: callback, LoginHint: "ada@example.com", Locales: []string{"pl", "en"}, Prompt: "select_account"})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		u, err := url.Parse(to)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		if q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") != challenge(pending.Verifier) || !validVerifier(pending.Verifier) ||
			q.Get("state") != pending.State || len(pending.State) < 26 || q.Get("nonce") != pending.Nonce || len(pending.Nonce) < 26 || q.Get("login_hint") == "" || q.Get("ui_locales") != "pl en" ||
			(q.Get("access_type") == "offline") != (name == "google") || (q.Get("response_mode") == "form_post") != (name == "apple") || pending.FormPost != (name == "apple") {
			t.Errorf("%s: %s, %+v", name, to, pending)
		}
		// It survives being stored.
		stored, err := json.Marshal(pending)
		if err != nil {
			t.Fatal(err)
		}
		var again Pending
		if err := json.Unmarshal(stored, &again); err != nil || cmp.Diff(pending, again) != "" {
			t.Errorf("%s: %v %s", name, err, cmp.Diff(pending, again))
		}
		params := follow(t, to)
		if state, err := StateOf(params); err != nil || state != pending.State {
			t.Errorf("%s: state %q, %v", name, state, err)
		}
		back, err := again.Complete(params, f.clock.Now())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want := map[bool]string{true: "Ada Lovelace"}[name == "apple"]; back.Name != want {
			t.Errorf("%s: name %q", name, back.Name)
		}
		claims, err := p.Exchange(ctx, back.Code)
		if err != nil || claims.Subject != "user-1" || !claims.NonceChecked || claims.ClientID != pending.ClientID {
			t.Errorf("%s: %+v, %v", name, claims, err)
		}
	}
}

func TestBeginIsRefused(t *testing.T) {
	f := newFixture(t, func(c *Config, _ *Options) { c.Apple.WebClientID = "" })
	ctx := context.Background()
	_, _, err := f.get("apple").Begin(ctx, Begin{RedirectURI: callback})
	wants(t, "no Services ID", err, Misconfigured, ReasonUnsupported)
	for _, uri := range []string{"", "https://evil.example/", callback + "?x=1", callback + "/"} {
		_, _, err = f.get("oidc:acme").Begin(ctx, Begin{RedirectURI: uri})
		wants(t, uri, err, Misconfigured, ReasonRedirectURI)
	}
	f.acme.Fail(providertest.Failure{Status: 503})
	f.clock.Advance(25 * time.Hour)
	_, _, err = f.get("oidc:acme").Begin(ctx, Begin{RedirectURI: callback})
	wants(t, "down", err, Unavailable, ReasonUnreachable)
	other := newFixture(t)
	other.acme.SetMetadata("authorization_endpoint", nil)
	_, _, err = other.get("oidc:acme").Begin(ctx, Begin{RedirectURI: callback})
	wants(t, "no endpoint", err, Misconfigured, ReasonUnsupported)
}

func TestCallbacksThatAreRefused(t *testing.T) {
	pending := Pending{
		Provider: "oidc:acme", ClientID: "flights", RedirectURI: callback, State: "state-1", Nonce: nonce, Verifier: verifier,
		Issuers: []string{"https://login.example.com"}, NeedsIssuer: true, ExpiresAt: t0.Add(pendingLifetime),
	}
	good := url.Values{"state": {"state-1"}, "iss": {"https://login.example.com"}, "code": {"c"}}
	with := func(name string, values ...string) url.Values {
		out := url.Values{}
		for k, v := range good {
			out[k] = v
		}
		if out[name] = values; values == nil {
			delete(out, name)
		}
		return out
	}
	if c, err := pending.Complete(good, t0); err != nil || c.Code != (Code{Code: "c", RedirectURI: callback, Verifier: verifier, ClientID: "flights", Nonce: nonce}) {
		t.Errorf("%+v, %v", c, err)
	}
	for name, c := range map[string]struct {
		params url.Values
		kind   Kind
		reason Reason
	}{
		"no state":             {with("state"), Refused, ReasonState},
		"another state":        {with("state", "state-2"), Refused, ReasonState},
		"two states":           {with("state", "state-1", "state-2"), Refused, ReasonMalformed},
		"no iss":               {with("iss"), Refused, ReasonIssuer},
		"another iss (mix-up)": {with("iss", "https://evil.example"), Refused, ReasonIssuer},
		"no code":              {with("code"), Refused, ReasonMissing},
		"two codes":            {with("code", "c", "d"), Refused, ReasonMalformed},
		"a long code":          {with("code", strings.Repeat("c", maxParameter+1)), Refused, ReasonTooLarge},
		"a code of controls":   {with("code", "\x00"), Refused, ReasonMissing},
		"cancelled":            {with("error", "access_denied"), Refused, ReasonCancelled},
		"cancelled at Apple":   {with("error", "user_cancelled_authorize"), Refused, ReasonCancelled},
		"in trouble":           {with("error", "temporarily_unavailable"), Unavailable, ReasonUnreachable},
		"our fault":            {with("error", "invalid_scope"), Misconfigured, ReasonRequestFaulty},
		"something else":       {with("error", "<script>"), Refused, ReasonProvider},
	} {
		got, err := pending.Complete(c.params, t0)
		wants(t, name, err, c.kind, c.reason)
		if got != nil || strings.Contains(err.Error(), "script") {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	_, err := pending.Complete(good, t0.Add(pendingLifetime))
	wants(t, "too late", err, Refused, ReasonTimeout)
	_, err = Pending{Provider: "x", ExpiresAt: t0.Add(time.Hour)}.Complete(url.Values{"code": {"c"}}, t0)
	wants(t, "an empty Pending", err, Refused, ReasonState)
	if _, err := StateOf(url.Values{}); err == nil {
		t.Error("no state is one")
	}
}
