package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"landline/internal/config"
	"landline/internal/module"
)

// A target that cannot be reached takes nothing of the body: the next try sends it whole.
func TestGraphQLOperationIsTriedAgainWithItsBody(t *testing.T) {
	const document = `query A { a }`
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"data":{}}`)
	})
	h := open(t, func(s *Settings) {
		u := upstreamAt("http://127.0.0.1:1")
		u.Targets[0].Weight = 1000 // nearly always the first
		u.Targets = append(u.Targets, TargetConfig{URL: url, Weight: 1})
		s.Upstreams["up"] = u
		retry := &RetryConfig{}
		retry.Defaults()
		s.Features["g"] = &FeatureConfig{Auth: module.AuthNone, Timeout: config.Duration(5 * time.Second), Retry: retry,
			Routes: []RouteConfig{{Match: "/v1/graphql", GraphQL: &GraphQLConfig{Upstream: "up", Persisted: NameList{document}}}}}
	})
	for range 3 { // what the retry budget always allows
		res, body := h.do(h.request("POST", "/v1/graphql", strings.NewReader(`{"query":"`+document+`"}`), "Content-Type", "application/json"))
		if res.StatusCode != 200 {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	}
}

// Servers that make variables of fields cannot tell X_Real_IP from X-Real-IP.
func TestUnderscoredFieldsDoNotReachUpstreams(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			if strings.Contains(name, "_") {
				t.Errorf("%s reached the upstream", name)
			}
		}
		if r.Header.Get("X-Kept") != "1" {
			t.Error("X-Kept is gone")
		}
	})
	h := open(t, func(s *Settings) {
		s.Upstreams["up"] = upstreamAt(url)
		s.Features["f"] = &FeatureConfig{Auth: module.AuthNone, Routes: []RouteConfig{{Match: "/f", Upstream: "up"}}}
	})
	if res, body := h.do(h.request("GET", "/f", nil, "X_Real_IP", "1.2.3.4", "Landline_Identity", "forged", "X-Kept", "1")); res.StatusCode != 200 {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}
