package identity

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"landline/internal/config"
)

func TestConfigIsChecked(t *testing.T) {
	load := func(yaml string) (Config, error) {
		c := defaultConfig()
		err := config.LoadBytes("landline.yaml", []byte(yaml), []config.Section{{Key: "identity", Ptr: &c, Doc: "…"}}, config.SystemEnv())
		return c, err
	}
	if c, err := load("identity: {access_token_lifetime: 20m, refresh: {idle: 30d}, clients: {com.example.web: {name: Web}}}"); err != nil ||
		c.AccessTokenLifetime.D() != 20*time.Minute || c.Refresh.Idle.D() != 30*24*time.Hour || c.Clients["com.example.web"].Name != "Web" || c.Refresh.Grace.D() != 30*time.Second {
		t.Errorf("%+v, %v", c, err)
	}
	for yaml, want := range map[string]string{
		"access_token_lifetime: 1m":           "identity.access_token_lifetime",
		"access_token_lifetime: 61m":          "identity.access_token_lifetime",
		"refresh: {idle: 1h}":                 "identity.refresh.idle",
		"refresh: {idle: 60d, absolute: 30d}": "identity.refresh.absolute",
		"refresh: {grace: 0s}":                "identity.refresh.grace",
		"bootstrap_key_keep: 31d":             "identity.bootstrap_key_keep",
		"verified_tokens: 1":                  "identity.verified_tokens",
		"clients: {'a b': {name: X}}":         "identity.clients",
		"deletion: {kept: {pl: [Faktury]}}":   "identity.deletion.kept",
		"deletion: {erased: {en: ['']}}":      "identity.deletion.erased.en[0]",
		"pages: {texts: nowhere}":             "identity.pages.texts",
	} {
		if _, err := load("identity: {" + yaml + "}"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", yaml, err)
		}
	}
}

// A language with a gap stops the start, and says where.
func TestTextsOfPagesAreRead(t *testing.T) {
	dir := t.TempDir()
	load := func() (Config, error) {
		c := defaultConfig()
		err := config.LoadBytes(filepath.Join(dir, "landline.yaml"), []byte("identity: {pages: {texts: texts}}"), []config.Section{{Key: "identity", Ptr: &c, Doc: "…"}}, config.SystemEnv())
		return c, err
	}
	if err := os.Mkdir(filepath.Join(dir, "texts"), 0o700); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "texts", "de.json")
	if err := os.WriteFile(name, []byte(`{"back": "Zurück"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := load(); err == nil || !strings.Contains(err.Error(), `"choose.title" is missing; in English it is "Go on as"`) {
		t.Errorf("%v", err)
	}
	if err := os.Rename(name, filepath.Join(dir, "texts", "pl.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "texts", "pl.json"), []byte(`{"back": "Cofnij"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := load(); err != nil || c.Pages.Texts != filepath.Join(dir, "texts") {
		t.Errorf("%q, %v", c.Pages.Texts, err)
	}
}

func TestClientsAreChecked(t *testing.T) {
	t.Setenv("SECRET", "0123456789abcdef0123456789abcdef")
	t.Setenv("SHORT", "secret")
	load := func(yaml string) (Config, error) {
		c := defaultConfig()
		err := config.LoadBytes("landline.yaml", []byte("identity: {clients: {web: {"+yaml+"}}}"), []config.Section{{Key: "identity", Ptr: &c, Doc: "…"}}, config.SystemEnv())
		return c, err
	}
	for _, good := range []string{
		`name: Web`,
		`redirect_uris: ["https://a.example/cb?x=1", "com.example.app:/cb", "http://127.0.0.1/cb", "http://[::1]:80/", "http://127.0.0.1"]`,
		`kind: third_party, scopes: [openid, flights.read, "urn:x:y"]`,
		`client_secret: "${SECRET}", id_token_alg: ES256, dpop: true`,
		`access_token_lifetime: 15m, session_lifetime: 30d`,
		`public_keys: ['{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","kid":"k","alg":"ES256"}']`,
	} {
		if c, err := load(good); err != nil {
			t.Errorf("%s: %v", good, err)
		} else if all := newClients(testApp, c); all["web"] == nil || all[testApp.ID] == nil {
			t.Errorf("%s: %v", good, all)
		}
	}
	for bad, want := range map[string]string{
		`kind: second_party`:                                                "clients.web.kind",
		`redirect_uris: ["http://a.example/cb"]`:                            "plain http",
		`redirect_uris: ["http://localhost/cb"]`:                            "plain http",
		`redirect_uris: ["https://a.example/cb#x"]`:                         "fragment",
		`redirect_uris: ["https://*.example/cb"]`:                           "character",
		`redirect_uris: ["https://u@a.example/cb"]`:                         "user name",
		`redirect_uris: ["https:///cb"]`:                                    "no host",
		`redirect_uris: ["javascript:alert(1)"]`:                            "others may have",
		`redirect_uris: ["myapp:/cb"]`:                                      "others may have",
		`redirect_uris: ["HTTPS://a.example"]`:                              "lower case",
		`redirect_uris: ["/cb"]`:                                            "no scheme",
		`redirect_uris: [""]`:                                               "empty",
		`post_logout_redirect_uris: ["http://a.example"]`:                   "post_logout_redirect_uris",
		`scopes: ["a b"]`:                                                   "no scope",
		`client_secret: "${SHORT}"`:                                         "at least 32",
		`access_token_lifetime: 5m`:                                         "clients.web.access_token_lifetime",
		`session_lifetime: 366d`:                                            "clients.web.session_lifetime",
		`id_token_alg: none`:                                                "id_token_alg",
		`public_keys: [x]`:                                                  "is not a JWK",
		`public_keys: ['{"kty":"oct","k":"AAAA","kid":"k","alg":"HS256"}']`: "not a public key",
	} {
		if _, err := load(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
