package gateway

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"landline/internal/clock"
	"landline/internal/config"
	"landline/internal/module"
	"landline/internal/observe"
)

// TestAllocationBudget bounds what each part of a proxied request's way may
// allocate. A part that needs more is either at fault or has a reason to be
// written down here with its new budget.
func TestAllocationBudget(t *testing.T) {
	h := openWith(t, func(o *Options) {
		o.Clock, o.Log = clock.System, observe.NewLogger(io.Discard, slog.LevelInfo, false)
	}, nil)
	rt := &Route{Feature: "f", Match: "GET /v1/x", Method: "GET", APIVersion: "v1", Auth: module.AuthNone, Upstream: "up", Policy: &FeatureConfig{
		RateLimit: []RateLimitConfig{{Key: "address", Limit: 1_000_000, Window: config.Duration(time.Second)}}}}
	limit, err := limitStage(&h.options, h.limits, rt)
	if err != nil {
		t.Fatal(err)
	}
	p, err := parsePattern("GET /v1/flights/{id}/status")
	if err != nil {
		t.Fatal(err)
	}
	routes := &router{}
	if err := routes.add(&Route{Method: "GET", pattern: p}); err != nil {
		t.Fatal(err)
	}
	request := func() *http.Request {
		r := httptest.NewRequest(http.MethodGet, "/v1/x", http.NoBody)
		r.Header.Set("Landline-Client", fullClient)
		r.Header.Set("Traceparent", traceparent)
		r.Header.Set("Accept-Encoding", "gzip, zstd")
		return r
	}
	answer := http.Header{"Content-Type": {"application/json"}, "Content-Length": {"2"}, "Etag": {`"1"`}, "Cache-Control": {"no-cache"}}
	up := &upstream{name: "up", config: &UpstreamConfig{}}
	nothing := func(_ *Exchange, w http.ResponseWriter, _ *http.Request) error { return nil }
	var params [maxParams]string
	var c call
	w := &discardWriter{header: http.Header{}}
	stage := func(s Stage) func(x *Exchange, r *http.Request) {
		handler := s(nothing)
		return func(x *Exchange, r *http.Request) {
			clear(w.header)
			if err := handler(x, w, r); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, part := range []struct {
		name   string
		budget float64
		do     func(x *Exchange, r *http.Request)
	}{
		{"check a path", 0, func(*Exchange, *http.Request) {
			if _, err := checkPath("/v1/flights/LO123/status"); err != nil {
				t.Fatal(err)
			}
		}},
		{"find a route", 0, func(*Exchange, *http.Request) {
			if routes.find("GET", "/v1/flights/LO123/status", &params) == nil {
				t.Fatal("no route")
			}
		}},
		{"locate the caller", 1, func(x *Exchange, r *http.Request) { h.locate(x, r) }},
		{"trace, metrics and access log", 4, stage(traceStage(&h.options, h.metrics, rt))},
		{"client header", 0, stage(clientStage(&h.options, h.metrics, rt))},
		{"rate limit", 1, stage(limit)},
		{"shed", 0, stage(shedStage(h.guard, h.overloadMetrics, rt))},
		{"authenticate", 0, stage(authenticateStage(&h.options, rt))},
		{"authorise", 0, stage(authoriseStage(&h.options, rt))},
		{"compress nothing", 0, stage(compressStage())},
		{"timeout", 3, stage(upstreamTimeoutStage(time.Minute))},
		{"header to the upstream", 5, func(x *Exchange, r *http.Request) {
			if _, err := h.outgoingHeader(x, r, up, false); err != nil {
				t.Fatal(err)
			}
		}},
		{"the same, edited while written", 2, func(x *Exchange, r *http.Request) {
			x.TraceID, x.SpanID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
			c.x, c.in, c.gateway, c.up, c.short = x, r, h.Gateway, up, true
			if plain, err := c.plainHeader(); !plain || err != nil {
				t.Fatal(plain, err)
			}
		}},
		{"header to the client", 0, func(*Exchange, *http.Request) { clear(w.header); copyAnswerHeader(w.header, answer) }},
		{"Server-Timing", 1, func(x *Exchange, _ *http.Request) {
			clear(w.header)
			(&responseWriter{ResponseWriter: w, x: x, headerAt: time.Now()}).addTiming()
		}},
	} {
		r := request()
		x := &Exchange{}
		n := testing.AllocsPerRun(200, func() {
			*x = Exchange{Route: rt, Start: time.Now(), ClientIP: "192.0.2.1", peer: netip.MustParseAddr("192.0.2.1")}
			part.do(x, r)
		})
		t.Logf("%-32s %3.0f of %2.0f", part.name, n, part.budget)
		if n > part.budget {
			t.Errorf("%s allocates %v times, its budget is %v", part.name, n, part.budget)
		}
	}
}

// TestAllocationBudgetOfTheWholeWay bounds a proxied GET with everything on,
// from the client's connection to the upstream's and back: what net/http's
// server allocates, some 18 times, and all of ours: 47 times, and a few more with
// the race detector, under which a sync.Pool forgets on purpose. A bare
// httputil.ReverseProxy allocates 77 times.
func TestAllocationBudgetOfTheWholeWay(t *testing.T) {
	const budget = 55
	ask := asker(t, everythingOn(t, plainService(t)).addr, everythingHeader)
	ask() // connects, and makes what is made once
	n := testing.AllocsPerRun(500, ask)
	t.Logf("%v of %d", n, budget)
	if n > budget {
		t.Errorf("a proxied GET with everything on allocates %v times, its budget is %d", n, budget)
	}
}
