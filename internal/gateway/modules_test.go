package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/module"
	"landline/internal/problem"
)

type noteInput struct {
	ID   string `path:"id"`
	Body struct {
		Text string `json:"text" maxLength:"10"`
	}
}

type noteOutput struct {
	Body struct {
		Said string `json:"said"`
	}
}

func notes() *module.Module {
	return &module.Module{Features: []module.Feature{{
		Name: "notes", Owner: "team-notes", Priority: module.Critical, Timeout: 5 * time.Second,
		Routes: func(a huma.API) {
			huma.Register(a, huma.Operation{OperationID: "put-note", Method: http.MethodPut, Path: "/v1/notes/{id}", Security: module.Public},
				func(ctx context.Context, in *noteInput) (*noteOutput, error) {
					switch in.Body.Text {
					case "conflict":
						return nil, fmt.Errorf("put: %w", problem.New(problem.Conflict, "the note has changed"))
					case "boom":
						return nil, fmt.Errorf("secret detail of the database")
					case "panic":
						panic("at once")
					}
					out := &noteOutput{}
					out.Body.Said = in.ID + ":" + in.Body.Text
					return out, nil
				})
			huma.Register(a, huma.Operation{OperationID: "mine", Method: http.MethodGet, Path: "/v1/mine", Security: module.SignedIn},
				func(ctx context.Context, _ *struct{}) (*noteOutput, error) {
					out := &noteOutput{}
					out.Body.Said = module.PrincipalFrom(ctx).UserID
					return out, nil
				})
		},
		Handlers: []module.Handler{{Match: "POST /oauth/{what}", Auth: module.AuthNone, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "plain %s", r.PathValue("what"))
		})}},
	}}}
}

func TestModuleRoutes(t *testing.T) {
	h := open(t, nil, notes())
	put := func(path, body string) (*http.Response, string) {
		return h.do(h.request("PUT", path, strings.NewReader(body), "Content-Type", "application/json"))
	}
	if res, body := put("/v1/notes/a%2Fb", `{"text":"hi"}`); res.StatusCode != 200 || strings.TrimSpace(body) != `{"said":"a/b:hi"}` || res.Header.Get("Landline-Trace-Id") == "" {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	for _, c := range []struct {
		body   string
		status int
		code   string
	}{
		{`{"text":"hi","extra":"SECRET"}`, 400, "unknown_field"},
		{`{"text":"SECRETSECRETSECRET"}`, 400, "invalid_request"},
		{`{"text":5}`, 400, "invalid_request"},
		{`{"text":`, 400, "invalid_request"},
		{``, 400, "invalid_request"},
		{`{"text":"conflict"}`, 409, "conflict"},
		{`{"text":"boom"}`, 500, "internal"},
		{`{"text":"panic"}`, 500, "internal"},
	} {
		res, body := put("/v1/notes/1", c.body)
		if res.StatusCode != c.status || code(t, body) != c.code || res.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(body, res.Header.Get("Landline-Trace-Id")) {
			t.Errorf("%s: %d %s %v", c.body, res.StatusCode, body, res.Header)
		}
		if strings.Contains(body, "SECRET") || strings.Contains(body, "secret") {
			t.Errorf("%s is echoed: %s", c.body, body)
		}
	}
	if res, body := h.get("/v1/mine"); res.StatusCode != 401 || code(t, body) != "token_missing" {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if res, body := h.get("/v1/mine", "Authorization", "Bearer good"); res.StatusCode != 200 || !strings.Contains(body, "usr_1") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if res, body := put("/v1/notes/1", `{"text":"ok"}`); res.StatusCode != 200 {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if res, body := h.do(h.request("POST", "/oauth/token", strings.NewReader("x"))); res.StatusCode != 200 || body != "plain token" {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if res, body := h.get("/v1/notes/1"); res.StatusCode != 405 || res.Header.Get("Allow") != "OPTIONS, PUT" {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	for _, path := range []string{"/openapi.json", "/docs", "/schemas/x.json"} {
		if res, body := h.get(path); res.StatusCode != 404 || code(t, body) != "route_not_found" {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
	st := h.FeatureStatus()
	if len(st) != 1 || st[0].Name != "notes" || !st[0].BuiltIn || st[0].Owner != "team-notes" || len(st[0].Routes) != 3 {
		t.Errorf("%+v", st)
	}
	doc, err := json.Marshal(h.OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"/v1/notes/{id}"`, `"put-note"`, `"anonymous"`, `"account"`} {
		if !strings.Contains(string(doc), want) {
			t.Errorf("the OpenAPI document lacks %s", want)
		}
	}
}

func TestModulePolicyIsOverridden(t *testing.T) {
	h := open(t, func(s *Settings) {
		s.Features["notes"] = &FeatureConfig{Owner: "team-other", MaxBody: 20, ClientHeader: "required"}
	}, notes())
	if res, body := h.do(h.request("PUT", "/v1/notes/1", strings.NewReader(`{"text":"x"}`))); res.StatusCode != 400 || code(t, body) != "client_header_required" {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	client := []string{"Landline-Client", `app="com.example.test", version="1.0.0"`, "Content-Type", "application/json"}
	if res, body := h.do(h.request("PUT", "/v1/notes/1", strings.NewReader(`{"text":"x"}`), client...)); res.StatusCode != 200 {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if res, body := h.do(h.request("PUT", "/v1/notes/1", strings.NewReader(`{"text":"xxxxxxxxxxxxxxxxx"}`), client...)); res.StatusCode != 413 || code(t, body) != "body_too_large" {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if h.FeatureStatus()[0].Owner != "team-other" {
		t.Error("the owner is not overridden")
	}
}

func TestModulePolicyFaults(t *testing.T) {
	h := open(t, nil, notes())
	for name, c := range map[string]struct {
		feature string
		config  FeatureConfig
		want    string
	}{
		"unknown":    {"nots", FeatureConfig{}, "no built-in feature has this name"},
		"auth":       {"notes", FeatureConfig{Auth: module.AuthNone}, "remove auth"},
		"breaker":    {"notes", FeatureConfig{Breaker: &BreakerConfig{}}, "remove breaker"},
		"fallback":   {"notes", FeatureConfig{Fallback: &FallbackConfig{}}, "remove fallback"},
		"routes too": {"notes", FeatureConfig{Routes: []RouteConfig{{Match: "/x", Upstream: "up"}}}, "choose another"},
		"conflict":   {"other", FeatureConfig{Auth: module.AuthNone, Routes: []RouteConfig{{Match: "PUT /v1/notes/{x}", Upstream: "up"}}}, "matches the same requests"},
	} {
		s := DefaultSettings()
		s.Upstreams["up"] = upstreamAt("http://127.0.0.1:9")
		s.Features[c.feature] = &c.config
		err := h.Check(s, []*module.Module{notes()})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err := h.Apply(s, []*module.Module{notes()}); err == nil {
			t.Errorf("%s: applied", name)
		}
	}
	if res, _ := h.do(h.request("PUT", "/v1/notes/1", strings.NewReader(`{"text":"x"}`), "Content-Type", "application/json")); res.StatusCode != 200 {
		t.Errorf("a refused table took the place of the old one: %d", res.StatusCode)
	}
}
