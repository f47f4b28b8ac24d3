package provider

import (
	"net/http"
	"testing"
	"time"

	"landline/internal/identity/provider/providertest"
)

// Who may be called, and by which client: what a discovery document says is the
// provider's word.
func TestAddressesThatMayBeCalled(t *testing.T) {
	c := newClients(time.Second, nil, nil)
	defer c.close()
	far := newCaller(c, []string{"https://login.example.com/realm"}, []string{"keys.internal:8443"})
	near := newCaller(c, []string{"http://127.0.0.1:9400"}, nil)
	for name, k := range map[string]struct {
		from   *caller
		url    string
		client *http.Client // nil = refused
	}{
		"the issuer's origin":           {far, "https://login.example.com/keys", c.trusted},
		"in capitals, port written":     {far, "https://LOGIN.example.com:443/keys", c.trusted},
		"another port of the issuer":    {far, "https://login.example.com:6379/", c.public},
		"another host":                  {far, "https://keys.example.com/", c.public},
		"a trusted host":                {far, "https://keys.internal:8443/", c.trusted},
		"its other port":                {far, "https://keys.internal/", c.public},
		"http":                          {far, "http://login.example.com/keys", nil},
		"http on this machine":          {far, "http://127.0.0.1/keys", nil},
		"this machine":                  {far, "https://127.0.0.1/keys", c.public},
		"a user":                        {far, "https://u:p@login.example.com/keys", nil},
		"a fragment":                    {far, "https://login.example.com/keys#x", nil},
		"a file":                        {far, "file:///etc/passwd", nil},
		"gopher":                        {far, "gopher://login.example.com/", nil},
		"no host":                       {far, "https:///keys", nil},
		"relative":                      {far, "/keys", nil},
		"rubbish":                       {far, "https://[::1", nil},
		"near: its origin":              {near, "http://127.0.0.1:9400/keys", c.trusted},
		"near: another port":            {near, "http://127.0.0.1:9401/keys", c.local},
		"near: http elsewhere":          {near, "http://10.0.0.1/keys", nil},
		"near: a name of this machine":  {near, "http://localhost:9400/keys", c.local},
		"near: https elsewhere, public": {near, "https://keys.example.com/", c.local},
	} {
		got, err := k.from.client(k.url)
		if got != k.client || (err == nil) != (k.client != nil) {
			t.Errorf("%s: %p, %v", name, got, err)
		}
		if err != nil {
			wants(t, name, (&Provider{name: "x"}).from(err), Misconfigured, ReasonAddress)
		}
	}
}

// A provider cannot make us call what is not public: not at once, and not by a
// document that changes later.
func TestDiscoveryCannotLeadInside(t *testing.T) {
	for name, address := range map[string]string{
		"cloud metadata": "https://169.254.169.254/latest/meta-data", "a private network": "https://10.0.0.1/keys",
		"in an unusual form": "https://2852039166/keys", "without TLS": "http://10.0.0.1/keys", "no URL": "keys",
	} {
		f := newFixture(t)
		f.acme.SetMetadata("jwks_uri", address)
		_, err := f.verify("oidc:acme", f.token())
		wants(t, name, err, Misconfigured, ReasonAddress)
	}
	// An issuer elsewhere cannot lead to this machine either.
	near := newFixture(t)
	far := newCaller(near.clients, []string{"https://login.example.com"}, nil)
	for _, address := range []string{near.apple.URL() + "/keys", "https://127.0.0.1/keys", "https://[::1]/keys", "https://localhost/keys"} {
		_, _, err := fetchKeys(t.Context(), far, fixed{keys: address})
		wants(t, address, near.get("apple").from(err), Misconfigured, ReasonAddress)
	}
	if n := near.apple.Calls(providertest.Keys); n != 0 {
		t.Errorf("%d calls were made", n)
	}
}
