package identity

import (
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
	} {
		if _, err := load("identity: {" + yaml + "}"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", yaml, err)
		}
	}
}
