package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"landline/internal/config"
	"landline/internal/module"
)

func TestFallbackToAnotherWay(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/fail"):
			w.Header().Set("X-Failed", "yes")
			w.WriteHeader(500)
		default:
			io.WriteString(w, "at "+r.URL.Path+"?"+r.URL.RawQuery)
		}
	})
	h := open(t, func(s *Settings) {
		s.Upstreams["up"], s.Upstreams["gone"] = upstreamAt(url), upstreamAt("http://127.0.0.1:1")
		feature := func(name, match, upstream, path string, fb *FallbackConfig) {
			s.Features[name] = &FeatureConfig{Auth: module.AuthNone, Fallback: fb, Routes: []RouteConfig{{Match: match, Upstream: upstream, Path: path}}}
		}
		feature("basic", "GET /basic/{id}/{kind}", "up", "/b/{kind}/{id}", nil)
		feature("rich", "GET /rich/{kind}/{id}", "up", "/fail/{id}", &FallbackConfig{Route: "GET /basic/{id}/{kind}"})
		feature("chain", "GET /chain/{kind}/{id}", "gone", "", &FallbackConfig{Route: "GET /rich/{kind}/{id}"})
		feature("replica", "/replica/{id}", "gone", "", &FallbackConfig{Upstream: "up", Path: "/r/{id}"})
		feature("both", "GET /both", "gone", "", &FallbackConfig{Upstream: "up", Path: "/fail", Body: config.Raw(`{"stock":true}`)})
		feature("neither", "GET /neither", "gone", "", &FallbackConfig{Upstream: "up", Path: "/fail"})
		feature("lost", "GET /lost", "up", "/fail", &FallbackConfig{Upstream: "gone"})
	})
	for path, c := range map[string]struct {
		status   int
		body     string
		degraded string
	}{
		"/rich/gate/7?q=1": {200, "at /b/gate/7?q=1", "fallback"},
		"/chain/gate/7":    {200, "at /b/gate/7?", "fallback"},
		"/replica/9":       {200, "at /r/9?", "fallback"},
		"/both":            {200, `{"stock":true}`, "fallback"},
		"/neither":         {500, "", "fallback"},
		"/lost":            {502, "upstream_invalid", ""},
		"/basic/7/gate":    {200, "at /b/gate/7?", ""},
	} {
		res, body := h.get(path)
		if res.StatusCode != c.status || !strings.Contains(body, c.body) || res.Header.Get("Landline-Degraded") != c.degraded {
			t.Errorf("%s: %d %q %q, want %+v", path, res.StatusCode, body, res.Header.Get("Landline-Degraded"), c)
		}
	}
	if res, _ := h.do(h.request(http.MethodPost, "/replica/9", strings.NewReader("x"))); res.StatusCode != 502 || res.Header.Get("Landline-Degraded") != "" {
		t.Errorf("a write is asked elsewhere: %d", res.StatusCode)
	}
}

func TestFallbacksThatAreRefused(t *testing.T) {
	load := func(features string) error {
		return loadText("upstreams: {up: {targets: [{url: \"http://127.0.0.1:1\"}]}}\nfeatures:\n" + features)
	}
	for want, features := range map[string]string{
		"fallbacks go in a circle: a → b → a": "  a: {routes: [{match: GET /a, upstream: up}], fallback: {route: GET /b}}\n  b: {routes: [{match: GET /b, upstream: up}], fallback: {route: GET /a}}\n",
		"fallbacks go in a circle: a → a":     "  a: {routes: [{match: GET /a, upstream: up}], fallback: {route: GET /a}}\n",
		"no feature has the route":            "  a: {routes: [{match: GET /a, upstream: up}], fallback: {route: GET /b}}\n",
		"there is no upstream":                "  a: {routes: [{match: GET /a, upstream: up}], fallback: {upstream: down}}\n",
		"has no wildcard {id}":                "  a: {routes: [{match: GET /a, upstream: up}], fallback: {route: \"GET /b/{id}\"}}\n  b: {routes: [{match: \"GET /b/{id}\", upstream: up}]}\n",
		"asks more of its callers":            "  a: {auth: none, routes: [{match: GET /a, upstream: up}], fallback: {route: GET /b}}\n  b: {auth: account, routes: [{match: GET /b, upstream: up}]}\n",
		"only GET and HEAD can be asked":      "  a: {routes: [{match: /a, upstream: up}], fallback: {upstream: up, methods: [POST]}}\n",
		"only a route for GET":                "  a: {routes: [{match: GET /a, upstream: up}], fallback: {route: POST /b}}\n",
		"route and upstream are two ways":     "  a: {routes: [{match: GET /a, upstream: up}], fallback: {route: GET /b, upstream: up}}\n",
	} {
		if err := load(features); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
