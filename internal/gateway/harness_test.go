package gateway

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"landline/internal/clock"
	"landline/internal/config"
	"landline/internal/module"
	"landline/internal/observe"
	"landline/internal/problem"
	"landline/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// house is a gateway on a real listener, and a client for it.
type house struct {
	*Gateway
	t        testing.TB
	url      string
	addr     string
	client   *http.Client
	settings *Settings
	registry *prometheus.Registry
}

type fakeAuth struct{}

func (fakeAuth) Authenticate(r *http.Request) (*module.Principal, error) {
	switch r.Header.Get("Authorization") {
	case "":
		return nil, nil
	case "Bearer good":
		return &module.Principal{UserID: "usr_1", InstallationID: "ins_1", SessionID: "ses_1"}, nil
	}
	return nil, problem.New(problem.TokenInvalid, "")
}

func (fakeAuth) UpstreamToken(p *module.Principal, upstream string) (string, error) {
	return "identity-of-" + p.UserID + "-for-" + upstream, nil
}

// open starts a gateway with the settings that change makes of the defaults.
func open(t testing.TB, change func(s *Settings), modules ...*module.Module) *house {
	t.Helper()
	return openWith(t, nil, change, modules...)
}

func openWith(t testing.TB, options func(*Options), change func(s *Settings), modules ...*module.Module) *house {
	t.Helper()
	registry := prometheus.NewRegistry()
	log := slog.New(slog.DiscardHandler)
	if test, ok := t.(*testing.T); ok {
		log = testkit.Logger(test)
	}
	o := Options{
		App: module.App{ID: "com.example.test", Name: "Test"}, Clock: clock.System, Log: log, Registry: registry,
		Tracer: observe.NewTracer(observe.TracerConfig{}, http.DefaultClient, log, registry), Auth: fakeAuth{}, Health: observe.NewHealth(),
	}
	if options != nil {
		options(&o)
	}
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	s := DefaultSettings()
	s.Overload.CPUWait = 0 // a machine that is busy with other tests must not have requests turned away
	if change != nil {
		change(s)
	}
	if err := g.Apply(s, modules); err != nil {
		t.Fatal(err)
	}
	srv := g.Server()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	transport := &http.Transport{DisableCompression: true}
	h := &house{Gateway: g, t: t, url: "http://" + l.Addr().String(), addr: l.Addr().String(),
		client:   &http.Client{Transport: transport, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		settings: s, registry: registry}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		g.Drain()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
			srv.Close()
		}
		if err := <-served; err != http.ErrServerClosed {
			t.Errorf("serve: %v", err)
		}
		g.Close()
	})
	return h
}

// upstreamAt is an upstream with one target.
func upstreamAt(url string) *UpstreamConfig {
	u := &UpstreamConfig{}
	u.Defaults()
	u.Targets = []TargetConfig{{URL: url, Weight: 1}}
	return u
}

// serve starts an upstream.
func serve(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

// proxy opens a gateway with one feature for everything under / at url.
func proxy(t testing.TB, url string, change ...func(s *Settings)) *house {
	t.Helper()
	return open(t, func(s *Settings) {
		s.Upstreams["up"] = upstreamAt(url)
		s.Features["all"] = &FeatureConfig{Auth: module.AuthNone, Timeout: config.Duration(10 * time.Second),
			Routes: []RouteConfig{{Match: "/{rest...}", Upstream: "up"}}}
		for _, c := range change {
			c(s)
		}
	})
}

func (h *house) do(req *http.Request) (*http.Response, string) {
	h.t.Helper()
	res, err := h.client.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		h.t.Fatalf("body: %v", err)
	}
	return res, string(body)
}

func (h *house) get(path string, header ...string) (*http.Response, string) {
	h.t.Helper()
	return h.do(h.request(http.MethodGet, path, nil, header...))
}

func (h *house) request(method, path string, body io.Reader, header ...string) *http.Request {
	h.t.Helper()
	req, err := http.NewRequest(method, h.url+path, body)
	if err != nil {
		h.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	return req
}

// dial opens a connection of raw bytes to the gateway.
func (h *house) dial() net.Conn {
	h.t.Helper()
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		h.t.Fatal(err)
	}
	return c
}

// until polls for a state that another goroutine brings about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("never happened: %s", what)
		case <-tick.C:
		}
	}
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}
