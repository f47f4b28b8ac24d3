package identity

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"landline/internal/audit"
	"landline/internal/bus"
	"landline/internal/clock"
	"landline/internal/kv"
	"landline/internal/limit"
	"landline/internal/module"
	"landline/internal/queue"
	"landline/internal/secret"
	"landline/internal/testkit"
	"landline/internal/webhook"
)

// TestCapability builds the module as the app does, and stops it without a trace.
func TestCapability(t *testing.T) {
	c := Capability()
	db := testkit.SQLite(t, secret.Migrations, audit.Migrations, c.Migrations)
	log := testkit.Logger(t)
	ring, err := secret.Open(t.Context(), db, secret.Options{Dir: t.TempDir(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := queue.New(db, queue.Options{Log: log, Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	hub, err := webhook.New(webhook.Options{DB: db, Queue: jobs, Audit: audit.New(db, clock.System), Clock: clock.System, Log: log, Metrics: prometheus.NewRegistry()}, webhook.DefaultSettings())
	if err != nil {
		t.Fatal(err)
	}
	news := bus.NewMemory()
	t.Cleanup(func() { news.Close() })
	deps := module.Deps{People: &module.People{}, Webhooks: hub, DataDir: t.TempDir(), App: testApp, DB: db, KV: kv.NewMemory(clock.System, 100), Bus: news, Queue: jobs, Keys: ring,
		Audit: audit.New(db, clock.System), Clock: clock.System, Log: log, Metrics: prometheus.NewRegistry(), Limits: limit.NewShared(limit.New(clock.System), nil, 0, log, nil)}
	m, err := c.Build(deps)
	if err != nil {
		t.Fatal(err)
	}
	var routes []string
	for _, f := range m.Features {
		if f.Name == "tokens" && f.Priority != module.Critical {
			t.Error("tokens are not critical")
		}
		for _, h := range f.Handlers {
			if f.Name != "tokens" {
				continue
			}
			routes = append(routes, h.Match)
			if h.Auth != module.AuthNone && h.Auth != module.AuthOwn {
				t.Errorf("%s needs a token", h.Match)
			}
		}
	}
	slices.Sort(routes)
	if want := []string{"GET /.well-known/jwks.json", "GET /.well-known/oauth-authorization-server", "GET /.well-known/openid-configuration",
		"GET /oauth/userinfo", "POST /oauth/introspect", "POST /oauth/revoke", "POST /oauth/token", "POST /oauth/userinfo"}; !slices.Equal(routes, want) {
		t.Errorf("routes: %v", routes)
	}
	ignore := goleak.IgnoreCurrent()
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p, err := m.Authenticator.Authenticate(httptest.NewRequest(http.MethodGet, "/", nil)); p != nil || err != nil {
		t.Errorf("%v, %v", p, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := m.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, ignore)
}

// TestClientsNeedHTTPS: nobody takes tokens of an issuer that anybody on the way could be.
func TestClientsNeedHTTPS(t *testing.T) {
	f := sqliteFixture(t)
	cfg := defaultConfig()
	cfg.Clients["web"] = ClientConfig{RedirectURIs: []string{"https://app.example.com/cb"}}
	deps := module.Deps{App: module.App{ID: "com.example.flights", PublicURL: "http://api.example.com"}, DB: f.db, Keys: f.ring, Clock: f.clock, KV: kv.NewMemory(f.clock, 10),
		People: &module.People{}, Bus: f.bus, Queue: f.queue, Audit: f.audit, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
		Limits: limit.NewShared(limit.New(f.clock), nil, 0, nil, nil), DataDir: t.TempDir()}
	if _, _, err := newService(deps, cfg, f.service.store); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("got %v", err)
	}
}
