package gateway

import (
	"strings"
	"testing"

	"landline/internal/config"
)

// Every fault of limits, quotas and API keys is told with its place.
func TestLimitAndQuotaFaults(t *testing.T) {
	for file, want := range map[string]string{
		"api_keys: {header: Authorization}\n":                                                                            "1:12: api_keys.header: cannot carry",
		"api_keys: {header: \"a b\"}\n":                                                                                  "1:12: api_keys.header: cannot carry",
		featureFile("quota: [{limit: 1}]"):                                                                               "quota[0]: a quota needs a key",
		featureFile("quota: [{key: user, limit: 1, time_zone: Nowhere/City}]"):                                           "unknown time zone",
		featureFile("quota: [{key: user, limit: 1, window: week}]"):                                                      "window",
		featureFile("quota: [{key: user, limit: 0}]"):                                                                    "limit",
		featureFile("quota: [{key: user, limit: 1, name: x}, {key: address, limit: 1, name: x}]"):                        "two limits of the feature are called \"x\"",
		featureFile("rate_limit: [{key: user, limit: 1, window: 1s, name: x}], quota: [{key: user, limit: 1, name: x}]"): "two limits of the feature are called \"x\"",
		featureFile("rate_limit: [{key: session, limit: 1, window: 1s}]"):                                                "rate_limit[0].key",
		featureFile("api_key: maybe"):                                                                                    "api_key",
		featureFile("idempotency: {lease: 2h}"):                                                                          "lease must be between",
		featureFile("idempotency: {memory: 1GiB}"):                                                                       "memory must be at most",
	} {
		err := config.LoadBytes("landline.yaml", []byte(file), Sections(DefaultSettings()), config.Env{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q, got %v", file, want, err)
		}
	}
	good := featureFile("api_key: required, rate_limit: [{key: api_key, limit: 5, window: 1s, shared: false}], quota: [{key: api_key, limit: 5, window: month, time_zone: Asia/Tokyo}]")
	s := DefaultSettings()
	if err := config.LoadBytes("landline.yaml", []byte(good), Sections(s), config.Env{}); err != nil {
		t.Error(err)
	}
	if shared := s.Features["f"].RateLimit[0].Shared; shared == nil || *shared {
		t.Error("shared: false was not read")
	}
}

func featureFile(policy string) string {
	return "upstreams: {up: {targets: [{url: \"http://127.0.0.1:1\"}]}}\nfeatures: {f: {routes: [{match: \"GET /x\", upstream: up}], " + policy + "}}\n"
}
