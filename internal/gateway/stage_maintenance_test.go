package gateway

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"landline/internal/audit"
	"landline/internal/bus"
	"landline/internal/clock"
	"landline/internal/gateway/maintenance"
	"landline/internal/module"
	"landline/internal/testkit"
)

// signIn is a built-in feature that must outlive the app's maintenance.
func signIn() *module.Module {
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	return &module.Module{Features: []module.Feature{
		{Name: "tokens", Priority: module.Critical, Handlers: []module.Handler{{Match: "POST /oauth/token", Auth: module.AuthNone, Handler: ok}}},
		{Name: "inbox", Handlers: []module.Handler{{Match: "GET /v1/inbox", Auth: module.AuthNone, Handler: ok}}},
	}}
}

func maintained(t *testing.T, options func(*Options), change func(*Settings)) *house {
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	return openWith(t, options, func(s *Settings) {
		s.Upstreams["up"] = upstreamAt(url)
		for _, name := range []string{"search", "trips", "emergency"} {
			s.Features[name] = &FeatureConfig{Auth: module.AuthNone, Priority: "critical", Routes: []RouteConfig{{Match: "/v1/" + name, Upstream: "up"}}}
		}
		if change != nil {
			change(s)
		}
	}, signIn())
}

// reachable lists which of the paths answer 204; every other must be maintenance.
func (h *house) reachable() string {
	h.t.Helper()
	var open []string
	for _, path := range []string{"/v1/search", "/v1/trips", "/v1/emergency", "/v1/inbox", "/oauth/token"} {
		method := http.MethodGet
		if path == "/oauth/token" {
			method = http.MethodPost
		}
		res, body := h.do(h.request(method, path, nil))
		switch {
		case res.StatusCode == http.StatusNoContent:
			open = append(open, path)
		case res.StatusCode != 503 || !strings.Contains(body, `"code":"maintenance"`) || res.Header.Get("Retry-After") == "":
			h.t.Fatalf("%s: %d %s", path, res.StatusCode, body)
		}
	}
	if res, _ := h.get("/healthz"); res.StatusCode != 200 {
		h.t.Errorf("healthz: %d", res.StatusCode)
	}
	return strings.Join(open, " ")
}

const everything = "/v1/search /v1/trips /v1/emergency /v1/inbox /oauth/token"

func TestMaintenanceByConfiguration(t *testing.T) {
	clk := clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	held := func(o *Options) { o.Clock = clk }
	t.Run("one feature, for an hour", func(t *testing.T) {
		h := maintained(t, held, func(s *Settings) {
			s.Features["search"].Maintenance = &MaintenanceConfig{Enabled: true, Title: "Back at one", Message: "New index.", Until: "2026-03-01T14:00:00+01:00"}
			s.Features["trips"].Maintenance = &MaintenanceConfig{Enabled: true, From: "2026-03-01T13:00:00Z"}
			s.Features["emergency"].Maintenance = &MaintenanceConfig{Title: "not now"}
		})
		if got := h.reachable(); got != "/v1/trips /v1/emergency /v1/inbox /oauth/token" {
			t.Errorf("reachable: %s", got)
		}
		_, body := h.get("/v1/search")
		var p struct {
			Action      string
			RetryAfter  int `json:"retry_after"`
			Maintenance struct{ Title, Message, Until string }
		}
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Fatal(err)
		}
		if m := p.Maintenance; m.Title != "Back at one" || m.Message != "New index." || m.Until != "2026-03-01T13:00:00Z" || p.Action != "retry" || p.RetryAfter < 3600 || p.RetryAfter > 3630 {
			t.Errorf("%+v", p)
		}
		clk.Advance(time.Hour)
		if got := h.reachable(); got != "/v1/search /v1/emergency /v1/inbox /oauth/token" {
			t.Errorf("an hour later: %s", got)
		}
	})
	t.Run("the app", func(t *testing.T) {
		h := maintained(t, held, func(s *Settings) {
			s.Maintenance = AppMaintenanceConfig{MaintenanceConfig: MaintenanceConfig{Enabled: true}, Allow: []string{"emergency"}}
		})
		if got := h.reachable(); got != "/v1/emergency /oauth/token" {
			t.Errorf("reachable: %s", got)
		}
	})
	t.Run("sign-in by name", func(t *testing.T) {
		h := maintained(t, held, func(s *Settings) {
			s.Features["tokens"] = &FeatureConfig{Maintenance: &MaintenanceConfig{Enabled: true}}
		})
		if got := h.reachable(); got != "/v1/search /v1/trips /v1/emergency /v1/inbox" {
			t.Errorf("reachable: %s", got)
		}
	})
}

func TestMaintenanceBySwitch(t *testing.T) {
	db, news := testkit.SQLite(t, audit.Migrations, maintenance.Migrations), bus.NewMemory()
	t.Cleanup(func() { news.Close() })
	board := maintenance.New(maintenance.Options{DB: db, Bus: news, Audit: audit.New(db, clock.System), Clock: clock.System, Log: testkit.Logger(t)})
	if err := board.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := board.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
	h := maintained(t, func(o *Options) { o.Maintenance = board }, func(s *Settings) {
		s.Features["search"].Maintenance = &MaintenanceConfig{Enabled: true, Message: "by the file"}
	})
	set := func(feature string, n maintenance.Notice) {
		t.Helper()
		if _, err := board.Set(t.Context(), feature, n, ""); err != nil {
			t.Fatal(err)
		}
	}
	set("", maintenance.Notice{Message: "by an operator", Allow: []string{"trips"}})
	if got := h.reachable(); got != "/v1/trips /oauth/token" {
		t.Errorf("the app: %s", got)
	}
	if _, body := h.get("/v1/search"); !strings.Contains(body, "by the file") {
		t.Errorf("what names the feature goes first: %s", body)
	}
	set("search", maintenance.Notice{Message: "by name"})
	set("tokens", maintenance.Notice{})
	if got := h.reachable(); got != "/v1/trips" {
		t.Errorf("sign-in by name: %s", got)
	}
	if _, body := h.get("/v1/search"); !strings.Contains(body, "by name") {
		t.Errorf("an operator goes before the file: %s", body)
	}
	set("", maintenance.Notice{Until: time.Now().Add(-time.Second)})
	for _, name := range []string{"search", "tokens"} {
		if err := board.Clear(t.Context(), name, ""); err != nil {
			t.Fatal(err)
		}
	}
	if got := h.reachable(); got != strings.TrimPrefix(everything, "/v1/search ") {
		t.Errorf("an app's notice that has ended, and the file's: %s", got)
	}
}

func TestMaintenanceThatIsRefused(t *testing.T) {
	for want, text := range map[string]string{
		"not a time in RFC 3339": "maintenance: {enabled: true, until: tomorrow}",
		"until must be after":    `maintenance: {enabled: true, from: "2026-03-02T00:00:00Z", until: "2026-03-01T00:00:00Z"}`,
		"between 1s and 1d":      "maintenance: {enabled: true, retry_after: 1ms}",
		"more than 200":          "maintenance: {enabled: true, title: " + strings.Repeat("x", 201) + "}",
	} {
		t.Run(want, func(t *testing.T) {
			refusedFeature(t, text, want)
			if err := loadText(text + "\n"); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("at the top: %v", err)
			}
		})
	}
	if err := loadText("maintenance: {allow: [Emergency]}\n"); err == nil || !strings.Contains(err.Error(), "cannot be a name") {
		t.Errorf("got %v", err)
	}
}
