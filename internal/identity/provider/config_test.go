package provider

import (
	"crypto/elliptic"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"landline/internal/config"
)

// section is as identity's.
type section struct {
	Providers Config `yaml:"providers" doc:"How people sign in."`
}

func load(t *testing.T, yaml string) (Config, error) {
	t.Helper()
	key, text := newAppleKey(t)
	if key.Curve != elliptic.P256() {
		t.Fatal("no P-256 key")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "apple.p8"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	set := staticKeysText(t)
	if err := os.WriteFile(filepath.Join(dir, "accounts.pem"), []byte(set), 0o600); err != nil {
		t.Fatal(err)
	}
	s := section{Providers: DefaultConfig()}
	env := config.SystemEnv()
	env.Lookup = func(name string) (string, bool) { return "secret-" + name, strings.HasSuffix(name, "_SECRET") }
	err := config.LoadBytes(filepath.Join(dir, "landline.yaml"), []byte(yaml), []config.Section{{Key: "identity", Ptr: &s, Doc: "…"}}, env)
	return s.Providers, err
}

func staticKeysText(t *testing.T) string {
	t.Helper()
	return `{"kty":"EC","crv":"P-256","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"}`
}

// Every fault is told at once, with the key that it is in.
func TestConfigIsChecked(t *testing.T) {
	for yaml, wants := range map[string][]string{
		"max_stale: 10m":   {"providers.max_stale"},
		"apple: {}":        {"providers.apple.client_ids"},
		"google: {}":       {"providers.google.client_ids"},
		"oidc: {acme: {}}": {"oidc.acme.issuer", "oidc.acme.client_ids"},
		"apple: {client_ids: [a], team_id: ABCDE12345}":                                                                                          {"team_id, key_id and private_key belong together"},
		"apple: {client_ids: [a], web_client_id: b}":                                                                                             {"is not one of client_ids", "exchanges codes"},
		"apple: {client_ids: [a], team_id: A, key_id: B, private_key: \"${APPLE_SECRET}\"}":                                                      {"apple.private_key: is not PEM"},
		"apple: {client_ids: [a, a, ''], stand_in: 'http://10.0.0.1/'}":                                                                          {"client_ids[1]", "client_ids[2]", "stand_in"},
		"google: {client_ids: [a], web_client_id: a}":                                                                                            {"belong together"},
		"google: {client_ids: [a], hosted_domains: [Example.com, 'a@b']}":                                                                        {"hosted_domains[0]", "hosted_domains[1]"},
		"oidc: {Acme: {issuer: 'https://a.example', client_ids: [a]}}":                                                                           {"a name has"},
		"oidc: {acme: {issuer: 'http://a.example', client_ids: [a]}}":                                                                            {"must begin with https"},
		"oidc: {acme: {issuer: 'https://a.example?x=1', client_ids: [a]}}":                                                                       {"without user, query and fragment"},
		"oidc: {acme: {issuer: 'https://u:p@a.example', client_ids: [a]}}":                                                                       {"without user, query and fragment"},
		"oidc: {acme: {issuer: 'https://a.example', client_ids: [a], scopes: [email], algorithms: [HS256]}}":                                     {"acme.algorithms[0]"},
		"oidc: {acme: {issuer: 'https://a.example', client_ids: [a], scopes: [email], algorithms: []}}":                                          {"add openid", "no algorithm"},
		"oidc: {acme: {issuer: 'https://a.example', client_ids: [a], client_secret: clear}}":                                                     {"client_secret"},
		"oidc: {acme: {issuer: 'https://a.example', client_ids: [a], redirect_uris: ['/x', 'http://a.example/', 'flights:/x', 'https://a/#x']}}": {"redirect_uris[0]", "redirect_uris[1]", "redirect_uris[2]", "redirect_uris[3]"},
		"oidc: {acme: {issuer: 'https://a.example', client_ids: [a], trusted_hosts: ['https://x', 'a/b']}}":                                      {"trusted_hosts[0]", "trusted_hosts[1]"},
		"oidc: {a: {issuer: 'https://a.example', client_ids: [a]}, b: {issuer: 'https://a.example', client_ids: [b]}}":                           {"is the issuer of oidc.a too"},
		"google: {client_ids: [a]}\n    oidc: {a: {issuer: 'https://accounts.google.com', client_ids: [a]}}":                                     {"is the issuer of google too"},
		"external: {team: {issuer: x, audiences: [a]}}":                                                                                          {"either jwks_url or keys"},
		"external: {team: {issuer: x, audiences: [a], keys: rubbish}}":                                                                           {"team.keys"},
		"external: {team: {issuer: x, audiences: [a], jwks_url: 'http://a.example'}}":                                                            {"jwks_url: must begin with https"},
		"external: {team: {issuer: x, audiences: [a], jwks_url: 'https://a.example', max_age: 25h, subject_claim: '', types: []}}":               {"max_age", "subject_claim", "types"},
	} {
		_, err := load(t, "identity:\n  providers:\n    "+yaml)
		for _, want := range wants {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %s", yaml, err, want)
			}
		}
		if err != nil && strings.Contains(err.Error(), "secret-") {
			t.Errorf("%s: a secret is told: %v", yaml, err)
		}
	}
}

// What the reference shows is accepted, and makes providers.
func TestTheReferencesExamples(t *testing.T) {
	page, err := os.ReadFile("../../../docs/reference/sign-in-providers.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) == 0 {
		t.Fatal("there are no examples")
	}
	for _, block := range blocks {
		c, err := load(t, block[1])
		if err != nil {
			t.Errorf("%v\n%s", err, block[1])
			continue
		}
		s, err := New(c, Options{})
		if err != nil {
			t.Errorf("%v\n%s", err, block[1])
			continue
		}
		if len(s.All()) == 0 {
			t.Errorf("no provider in\n%s", block[1])
		}
		s.Close()
	}
}

// The generated pages show every key, and no secret is printed.
func TestConfigIsDocumented(t *testing.T) {
	c, err := load(t, "identity: {providers: {google: {client_ids: [a], web_client_id: a, client_secret: \"${GOOGLE_SECRET}\"}, oidc: {acme: {issuer: 'https://a.example', client_ids: [a]}}, external: {team: {issuer: x, audiences: [a], jwks_url: 'https://a.example'}}}}")
	if err != nil {
		t.Fatal(err)
	}
	s := section{Providers: c}
	sections := []config.Section{{Key: "identity", Ptr: &s, Doc: "People."}}
	var reference, printed, commented strings.Builder
	if err := errors.Join(config.Reference(&reference, sections), config.Print(&printed, sections), config.Commented(&commented, sections)); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"providers.apple.private_key", "providers.google.hosted_domains", "trusted_hosts", "max_age", "providers.max_stale"} {
		if !strings.Contains(reference.String(), key) {
			t.Errorf("the reference lacks %s:\n%s", key, reference.String())
		}
	}
	for name, page := range map[string]string{"printed": printed.String(), "commented": commented.String(), "reference": reference.String()} {
		if strings.Contains(page, "secret-") || !strings.Contains(page, "max_stale") {
			t.Errorf("%s:\n%s", name, page)
		}
	}
}

func TestStandInsAreNamed(t *testing.T) {
	c := Config{Apple: &AppleConfig{StandIn: "http://127.0.0.1:1"}, Google: &GoogleConfig{StandIn: "http://127.0.0.1:2"}}
	if got := fmt.Sprint(c.StandIns()); got != "[apple.stand_in google.stand_in]" {
		t.Error(got)
	}
	if got := DefaultConfig(); len(got.StandIns()) != 0 {
		t.Error(got.StandIns())
	}
}

// A Set that was made without stand-ins knows Apple and Google by their real addresses.
func TestRealAddresses(t *testing.T) {
	c, err := load(t, "identity: {providers: {apple: {client_ids: [a]}, google: {client_ids: [a]}}}")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for name, issuer := range map[string]string{"apple": "https://appleid.apple.com", "google": "https://accounts.google.com"} {
		p, ok := s.Get(name)
		if !ok || p.Issuer() != issuer || p.TakesCodes() || p.TakesRedirects() || !p.TakesNotices() || p.Name() != name {
			t.Errorf("%s: %+v", name, p)
		}
		m, err := p.source.metadata(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, endpoint := range []string{m.authorize, m.token, m.keys, m.revoke} {
			if client, err := p.call.client(endpoint); err != nil || client != s.clients.trusted {
				t.Errorf("%s: %s is not trusted: %v", name, endpoint, err)
			}
		}
	}
}
