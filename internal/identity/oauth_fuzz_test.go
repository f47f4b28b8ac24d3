package identity

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"landline/internal/sqldb"
)

// FuzzRedirectURI: what is allowed is one of the registered texts, or differs
// from one in the port of a loopback address alone.
func FuzzRedirectURI(f *testing.F) {
	registered := testClients[partner].RedirectURIs
	for _, s := range append(registered, "http://127.0.0.1:8080/cb", "https://partner.example/cb", "http://127.0.0.1:80@evil.example/cb", "com.partner.app:/cb#x", "http://[::1]:1/cb", "//evil", "") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !allowed(registered, s) {
			return
		}
		for _, one := range registered {
			if s == one {
				return
			}
		}
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" || u.Hostname() != "127.0.0.1" && u.Hostname() != "::1" || u.Path != "/cb" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			t.Errorf("%q is allowed", s)
		}
	})
}

// FuzzAuthorize: whatever is asked, the answer leads nowhere but to the client's
// own redirect URI, and nobody gets a code without signing in.
func FuzzAuthorize(f *testing.F) {
	var node *fixture
	for _, change := range [][]string{nil, {"prompt", "none"}, {"redirect_uri", "https://evil.example"}, {"scope", "app"}, {"max_age", "0"}, {"response_type", "token"},
		{"id_token_hint", "e30.e30.e30"}, {"request_uri", pushedPrefix + "x"}, {"state", "\r\nSet-Cookie: a=b"}} {
		_, query, _ := strings.Cut(authorizeURL(partner, "com.partner.app:/cb", change...), "?")
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		if node == nil {
			node = oauthFixture(t)
			node.service.store = emptyStore{} // the node's own ends with the first input's test
		}
		r := httptest.NewRequest(http.MethodGet, authorizePath, nil)
		r.URL.RawQuery = query
		w := httptest.NewRecorder()
		node.service.handleAuthorize(w, r)
		location := w.Header().Get("Location")
		if strings.ContainsAny(location, "\r\n") || strings.Contains(location, "code=") && !strings.Contains(location, "error") {
			t.Fatalf("%q leads to %q", query, location)
		}
		if location == "" {
			if w.Code != 200 && w.Code != 400 {
				t.Errorf("%q: %d", query, w.Code)
			}
			return
		}
		asked, _ := url.ParseQuery(query)
		c := node.service.clients[asked.Get("client_id")]
		if c == nil || !c.allows(asked.Get("redirect_uri")) || !strings.HasPrefix(location, asked.Get("redirect_uri")) {
			t.Errorf("%q leads to %q", query, location)
		}
	})
}

// FuzzClientAuthentication: no header and no form makes anybody a client without its secret.
func FuzzClientAuthentication(f *testing.F) {
	var node *fixture
	f.Add("Basic YmFja2VuZDp4", "client_id=backend")
	f.Add("", "client_id=backend&client_secret=x")
	f.Add("Basic "+"Og==", "client_assertion=a.b.c&client_assertion_type="+url.QueryEscape(assertionType))
	f.Add("Basic YmFja2VuZDo=", "")
	f.Fuzz(func(t *testing.T, header, body string) {
		if node == nil {
			node = oauthFixture(t)
			node.service.store = emptyStore{}
		}
		form, err := url.ParseQuery(body)
		if err != nil {
			return
		}
		r := httptest.NewRequest(http.MethodPost, tokenPath, nil)
		if header != "" {
			r.Header["Authorization"] = []string{header}
		}
		by, refused, err := node.service.callerOf(r, form)
		if err != nil {
			t.Fatal(err)
		}
		if refused == nil && (by.Proven || by.client != nil && by.client.Confidential()) {
			t.Errorf("%q and %q are %+v", header, body, by)
		}
	})
}

// emptyStore has nothing.
type emptyStore struct{ Store }

func (emptyStore) Challenge(context.Context, string) (Challenge, error) {
	return Challenge{}, sqldb.ErrNotFound
}

func (emptyStore) Browser(context.Context, string) (Browser, error) {
	return Browser{}, sqldb.ErrNotFound
}

func (emptyStore) Apply(context.Context, Change) (bool, error) { return true, nil }

// FuzzAsked: what a form of ours goes on with is a client's request or one of our
// own pages; the latter leads nowhere, and is read again as it was written.
func FuzzAsked(f *testing.F) {
	var node *fixture
	for _, seed := range []string{"own=account", "own=delete&lang=pl", "own=export&export=exp_01h455vb4pex5vsknk084sn02q", "own=export&export=x", "own=evil", "own=delete&redirect_uri=https%3A%2F%2Fevil.example", "own=account&own=delete", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if node == nil {
			node = oauthFixture(t)
			node.service.store = emptyStore{}
		}
		in, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		req, fault := node.service.asked(in)
		if fault != nil || req.own == "" {
			return
		}
		if req.redirect != "" || req.formTargets() != nil || req.client == nil {
			t.Fatalf("%q leads to %q", raw, req.redirect)
		}
		again, err := url.ParseQuery(req.raw)
		if err != nil {
			t.Fatal(err)
		}
		same, fault := node.service.asked(again)
		if fault != nil || same.own != req.own || same.export != req.export || same.raw != req.raw {
			t.Fatalf("%q is read again as %+v", raw, same)
		}
	})
}

// FuzzPlainForm: a form that is read plainly is what net/url makes of it, each
// parameter given once.
func FuzzPlainForm(f *testing.F) {
	for _, s := range []string{"", "&", "a", "=", "=x&b", "a=1&a=2", "grant_type=refresh_token&client_id=app&refresh_token=v1.ses_01.1.AA", "a=%20", "a=b+c", "a;b", "a==b&&c", "é=ü"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, plain := parsePlainForm(text)
		want, err := url.ParseQuery(text)
		switch {
		case !plain:
		case err != nil:
			t.Errorf("%q is read, and is not: %v", text, err)
		case len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want):
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	})
}
