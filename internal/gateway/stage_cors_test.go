package gateway

import (
	"net/http"
	"strings"
	"testing"

	"landline/internal/module"
)

func corsHouse(t *testing.T) *house {
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "https://evil.example")
		w.Header().Set("Access-Control-Allow-Private", "x")
		w.Header().Set("Vary", "Accept-Language")
		w.WriteHeader(http.StatusOK)
	})
	return open(t, func(s *Settings) {
		s.CORS = CORSConfig{Origins: []string{"https://app.example.com", "https://*.preview.example.com"}, Headers: []string{"X-Own"}, Expose: []string{"X-Total"}, Credentials: true}
		s.Upstreams["up"] = upstreamAt(url)
		s.Features["all"] = &FeatureConfig{Auth: module.AuthAccount, ClientHeader: "required", Routes: []RouteConfig{{Match: "POST /v1/all", Upstream: "up"}}}
		s.Features["public"] = &FeatureConfig{Auth: module.AuthNone, CORS: &CORSConfig{Origins: []string{"*"}}, Routes: []RouteConfig{{Match: "/v1/public", Upstream: "up"}}}
		s.Features["closed"] = &FeatureConfig{Auth: module.AuthNone, CORS: &CORSConfig{}, Routes: []RouteConfig{{Match: "GET /v1/closed", Upstream: "up"}}}
		s.Features["open"] = &FeatureConfig{Auth: module.AuthNone, Routes: []RouteConfig{{Match: "GET /v1/open", Upstream: "up"}}}
	})
}

func (h *house) preflight(path, origin, method string) *http.Response {
	res, _ := h.do(h.request(http.MethodOptions, path, nil, "Origin", origin, "Access-Control-Request-Method", method, "Access-Control-Request-Headers", "authorization"))
	return res
}

func TestPreflightsAreAnsweredWithoutAuthentication(t *testing.T) {
	h := corsHouse(t)
	res := h.preflight("/v1/all", "https://app.example.com", "POST")
	if res.StatusCode != http.StatusNoContent {
		t.Fatalf("status %d", res.StatusCode)
	}
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin": "https://app.example.com", "Access-Control-Allow-Credentials": "true", "Access-Control-Max-Age": "600",
		"Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE", "Vary": "Origin,Access-Control-Request-Method,Access-Control-Request-Headers",
	} {
		if have := strings.Join(res.Header[name], ","); have != want {
			t.Errorf("%s: %q, want %q", name, have, want)
		}
	}
	for _, name := range []string{"Authorization", "Idempotency-Key", "Landline-Client", "X-Own"} {
		if !hasToken(res.Header["Access-Control-Allow-Headers"], name) {
			t.Errorf("%s is not allowed: %v", name, res.Header["Access-Control-Allow-Headers"])
		}
	}
	res = h.preflight("/v1/all", "https://evil.example", "POST")
	if res.StatusCode != 204 || res.Header.Get("Access-Control-Allow-Origin") != "" || res.Header.Get("Access-Control-Allow-Methods") != "" {
		t.Errorf("a stranger's preflight: %d %v", res.StatusCode, res.Header)
	}
	res = h.preflight("/v1/public", "https://evil.example", "POST")
	if res.Header.Get("Access-Control-Allow-Origin") != "*" || res.Header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("the feature's own block replaces the app's: %v", res.Header)
	}
	res = h.preflight("/v1/closed", "https://app.example.com", "GET")
	if res.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a feature without origins: %v", res.Header)
	}
	res = h.preflight("/v1/all", "https://app.example.com", "GET")
	if res.Header.Get("Access-Control-Allow-Methods") == "" {
		t.Errorf("a page could not read why its method is refused: %d %v", res.StatusCode, res.Header)
	}
}

func TestAnswersSayWhoMayReadThem(t *testing.T) {
	h := corsHouse(t)
	cases := map[string]struct {
		path, origin, allow, vary string
		status                    int
	}{
		"an allowed origin":               {"/v1/open", "https://app.example.com", "https://app.example.com", "Accept-Language,Origin", 200},
		"a subdomain":                     {"/v1/open", "https://pr-7.preview.example.com", "https://pr-7.preview.example.com", "Accept-Language,Origin", 200},
		"not the bare domain":             {"/v1/open", "https://preview.example.com", "", "Accept-Language,Origin", 200},
		"not a name that ends alike":      {"/v1/open", "https://evil.example/.preview.example.com", "", "Accept-Language,Origin", 200},
		"not another scheme":              {"/v1/open", "http://app.example.com", "", "Accept-Language,Origin", 200},
		"no origin":                       {"/v1/open", "", "", "Accept-Language,Origin", 200},
		"everybody":                       {"/v1/public", "https://evil.example", "*", "Accept-Language", 200},
		"off: the service speaks":         {"/v1/closed", "https://app.example.com", "https://evil.example", "Accept-Language", 200},
		"a problem can be read as well":   {"/v1/all", "https://app.example.com", "https://app.example.com", "Origin", 405},
		"and so can that of no route":     {"/v1/nothing", "https://app.example.com", "https://app.example.com", "Origin", 404},
		"but not by everyone who asks it": {"/v1/nothing", "https://evil.example", "", "Origin", 404},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			req := h.request(http.MethodGet, c.path, nil)
			if c.origin != "" {
				req.Header.Set("Origin", c.origin)
			}
			res, _ := h.do(req)
			if res.StatusCode != c.status || res.Header.Get("Access-Control-Allow-Origin") != c.allow || strings.Join(res.Header["Vary"], ",") != c.vary {
				t.Errorf("%d %v, want %+v", res.StatusCode, res.Header, c)
			}
			if c.allow != "" && c.path != "/v1/closed" && (!hasToken(res.Header["Access-Control-Expose-Headers"], "Landline-Trace-Id") || res.Header.Get("Access-Control-Allow-Private") != "") {
				t.Errorf("exposed: %v", res.Header)
			}
		})
	}
}

func TestCORSThatIsRefused(t *testing.T) {
	for want, text := range map[string]string{
		"credentials are refused with *": "cors: {origins: [\"*\"], credentials: true}",
		"no path":                        "cors: {origins: [\"https://a.example/\"]}",
		"scheme, host and port":          "cors: {origins: [a.example]}",
		"sandboxed":                      "cors: {origins: [\"null\"]}",
		"top-level domain":               "cors: {origins: [\"https://*.com\"]}",
		"first labels":                   "cors: {origins: [\"https://a.*.example.com\"]}",
		"lower case":                     "cors: {origins: [\"https://A.example\"]}",
		"own port":                       "cors: {origins: [\"https://a.example:443\"]}",
		"is not the name of a header":    "cors: {origins: [\"https://a.example\"], headers: [\"*\"]}",
		"is not a method":                "cors: {origins: [\"https://a.example\"], methods: [get]}",
	} {
		t.Run(want, func(t *testing.T) {
			refusedFeature(t, text, want)
			if err := loadText(text + "\n"); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("at the top: %v", err)
			}
		})
	}
}
