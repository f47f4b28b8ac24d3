package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"landline/internal/module"
)

func versionHouse(t *testing.T, c VersionsConfig) *house {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.URL.Path, r.Header.Get("Landline-Api-Version"))
	})
	return open(t, func(s *Settings) {
		s.Versions = c
		s.Upstreams["up"] = upstreamAt(url)
		s.Features["flights"] = &FeatureConfig{Auth: module.AuthNone, Routes: []RouteConfig{
			{Match: "GET /flights/{id}", Version: "v1", Upstream: "up", Path: "/one/{id}"},
			{Match: "GET /flights/{number}", Version: "v2", Upstream: "up", Path: "/two/{number}"},
			{Match: "GET /new", Version: "v2", Upstream: "up"},
			{Match: "GET /v1/flights", Upstream: "up"},
		}}
	})
}

func TestVersionByHeader(t *testing.T) {
	h := versionHouse(t, VersionsConfig{Header: DefaultVersionHeader, Accept: "version", Default: "v1"})
	for name, c := range map[string]struct {
		path, header, accept string
		status               int
		body                 string
	}{
		"the default":                       {"/flights/7", "", "", 200, "/one/7 v1"},
		"named":                             {"/flights/7", "v2", "", 200, "/two/7 v2"},
		"in short":                          {"/flights/7", " 2 ", "", 200, "/two/7 v2"},
		"by Accept":                         {"/flights/7", "", `text/html, application/json; version=2`, 200, "/two/7 v2"},
		"the header wins":                   {"/flights/7", "v1", `application/json; version=2`, 200, "/one/7 v1"},
		"unknown":                           {"/flights/7", "v9", "", 400, "it has v1, v2"},
		"the path has no such version":      {"/new", "v1", "", 400, "it has v2"},
		"nor the default one":               {"/new", "", "", 400, "it has v2"},
		"a path that names its own version": {"/v1/flights", "v9", "", 200, "/v1/flights "},
	} {
		t.Run(name, func(t *testing.T) {
			req := h.request(http.MethodGet, c.path, nil)
			if c.header != "" {
				req.Header.Set("Landline-Api-Version", c.header)
			}
			if c.accept != "" {
				req.Header.Set("Accept", c.accept)
			}
			res, body := h.do(req)
			if res.StatusCode != c.status || !strings.Contains(body, c.body) {
				t.Fatalf("%d %s, want %d %s", res.StatusCode, body, c.status, c.body)
			}
			if vary := strings.Join(res.Header["Vary"], ","); c.path != "/v1/flights" && vary != "Landline-Api-Version,Accept" {
				t.Errorf("Vary: %q", vary)
			}
			if got := res.Header.Get("Landline-Api-Version"); c.status == 200 && c.path == "/flights/7" && !strings.HasSuffix(c.body, got) {
				t.Errorf("the answer names the version %q", got)
			}
		})
	}
	if _, body := h.get("/flights/7", "Landline-Api-Version", "v3"); !strings.Contains(body, `"known_versions":["v1","v2"]`) || !strings.Contains(body, "invalid_request") {
		t.Error(body)
	}
}

func TestVersionWithoutADefault(t *testing.T) {
	h := versionHouse(t, VersionsConfig{Header: "X-Version"})
	if res, body := h.get("/flights/7"); res.StatusCode != 400 || !strings.Contains(body, "name an API version in X-Version") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if res, body := h.get("/new"); res.StatusCode != 200 {
		t.Errorf("a path with one version needs no name: %d %s", res.StatusCode, body)
	}
	if res, _ := h.get("/flights/7", "X-Version", "v2"); res.StatusCode != 200 || res.Header.Get("X-Version") != "v2" || res.Header.Get("Vary") != "X-Version" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
}

func TestVersionsThatAreRefused(t *testing.T) {
	const up = "upstreams: {up: {targets: [{url: \"http://127.0.0.1:1\"}]}}\n"
	routes := func(list ...string) string {
		return up + "features: {f: {routes: [" + strings.Join(list, ", ") + "]}}\n"
	}
	for want, text := range map[string]string{
		"matches the same requests":      routes(`{match: "GET /f", upstream: up, version: v1}`, `{match: "GET /f", upstream: up}`),
		"feature f":                      routes(`{match: "GET /f", upstream: up, version: v1}`, `{match: "GET /f", upstream: up, version: v1}`),
		"names the version v1 already":   routes(`{match: "GET /v1/f", upstream: up, version: v2}`),
		"cannot be the name of a":        routes(`{match: "GET /f", upstream: up, version: "V 2"}`),
		"no route has the version":       routes(`{match: "GET /f", upstream: up, version: v1}`) + "versions: {default: v3}\n",
		"means something else":           routes(`{match: "GET /f", upstream: up}`) + "versions: {header: Landline-Client}\n",
		"Host means something else":      routes(`{match: "GET /f", upstream: up}`) + "versions: {header: Host}\n",
		"Content-Length means something": routes(`{match: "GET /f", upstream: up}`) + "versions: {header: Content-Length}\n",
		"Expect means something else":    routes(`{match: "GET /f", upstream: up}`) + "versions: {header: Expect}\n",
		"TE means something else":        routes(`{match: "GET /f", upstream: up}`) + "versions: {header: TE}\n",
		"X-Forwarded-Host means someth":  routes(`{match: "GET /f", upstream: up}`) + "versions: {header: X-Forwarded-Host}\n",
		"Cookie means something else":    routes(`{match: "GET /f", upstream: up}`) + "versions: {header: Cookie}\n",
		"cannot be the parameter that n": routes(`{match: "GET /f", upstream: up}`) + "versions: {accept: q}\n",
	} {
		t.Run(want, func(t *testing.T) {
			if err := loadText(text); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v", err)
			}
		})
	}
}
