package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"landline/internal/config"
	"landline/internal/module"
)

// crowd keeps requests waiting at an upstream until they are let go.
type crowd struct {
	t     testing.TB
	h     *house
	here  *atomic.Int64
	leave func()
	wg    sync.WaitGroup
}

func newCrowd(t testing.TB, change func(s *Settings)) *crowd {
	c := &crowd{t: t, here: new(atomic.Int64)}
	gate := make(chan struct{})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/wait":
			c.here.Add(1)
			defer c.here.Add(-1)
			select {
			case <-gate:
			case <-r.Context().Done():
			}
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "data: 1\n\n")
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		io.WriteString(w, "fine")
	})
	c.h = open(t, func(s *Settings) {
		s.Upstreams["up"] = upstreamAt(url)
		for _, p := range []string{"background", "interactive", "critical"} {
			s.Features[p] = &FeatureConfig{Auth: module.AuthNone, Priority: p, Timeout: config.Duration(20 * time.Second), Routes: []RouteConfig{{Match: "/" + p + "/{rest...}", Upstream: "up", Path: "/{rest...}"}}}
		}
		change(s)
	})
	c.leave = sync.OnceFunc(func() { close(gate); c.wg.Wait() })
	t.Cleanup(c.leave)
	return c
}

// come lets one more wait.
func (c *crowd) come(priority string) {
	c.t.Helper()
	n := c.here.Load()
	c.wg.Go(func() {
		res, err := c.h.client.Get(c.h.url + "/" + priority + "/wait")
		if err != nil {
			c.t.Error(err)
			return
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.StatusCode != 200 {
			c.t.Errorf("%s: %d", priority, res.StatusCode)
		}
	})
	until(c.t, "it waits", func() bool { return c.here.Load() == n+1 })
}

// admitted is which priorities get an answer now.
func (c *crowd) admitted() (s string) {
	for _, p := range []string{"background", "interactive", "critical"} {
		res, body := c.h.get("/" + p + "/x")
		switch res.StatusCode {
		case 200:
			s += p[:1]
		case 503:
			after, err := strconv.Atoi(res.Header.Get("Retry-After"))
			if code(c.t, body) != "overloaded" || err != nil || after < 2 || after > 4 {
				c.t.Errorf("%s: %s %v", p, body, res.Header)
			}
		default:
			c.t.Errorf("%s: %d %s", p, res.StatusCode, body)
		}
	}
	return s
}

func TestSheddingOrder(t *testing.T) {
	c := newCrowd(t, func(s *Settings) { s.Overload.MaxInFlight = 10 })
	want := func(n int, admitted string) {
		t.Helper()
		if got := c.admitted(); got != admitted {
			t.Errorf("with %d of 10 under way: %q, want %q", n, got, admitted)
		}
	}
	for n := range 10 {
		switch {
		case n < 7:
			want(n, "bic")
		case n < 9:
			want(n, "ic")
		default:
			want(n, "c")
		}
		c.come("critical")
	}
	want(10, "")
	if res, _ := c.h.get("/healthz"); res.StatusCode != 200 {
		t.Error("health is not for shedding")
	}
	if res, _ := c.h.get("/nothing-here"); res.StatusCode != 404 {
		t.Error(res.StatusCode)
	}
	c.leave()
	until(t, "all are gone", func() bool { return c.h.guard.State().InFlight == 0 })
	want(0, "bic")
	counts := samples(t, c.h, "landline_gateway_shed_total")
	if counts["background"] == 0 || counts["background"] < counts["interactive"] || counts["interactive"] < counts["critical"] {
		t.Errorf("%v", counts)
	}
}

// samples sums a counter by priority.
func samples(t testing.TB, h *house, name string) map[string]float64 {
	families, err := h.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "priority" {
					sums[l.GetValue()] += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sums
}

func TestStreamsAreNotInFlight(t *testing.T) {
	c := newCrowd(t, func(s *Settings) { s.Overload.MaxInFlight = 3 })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 6 {
		req := c.h.request("GET", "/critical/events", nil).WithContext(ctx)
		res, err := c.h.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != 200 {
			t.Fatal(res.StatusCode)
		}
		expect(t, res.Body, "data: 1\n\n")
	}
	until(t, "streams have left the count", func() bool { return c.h.guard.State().InFlight == 0 })
	if got := c.admitted(); got != "bic" {
		t.Errorf("%q", got)
	}
}

func TestBulkheadOfOneFeatureLeavesOthersAlone(t *testing.T) {
	c := newCrowd(t, func(s *Settings) {
		s.Features["background"].Bulkhead = &BulkheadConfig{MaxConcurrent: 2, MaxWait: config.Duration(50 * time.Millisecond)}
	})
	c.come("background")
	c.come("background")
	began := time.Now()
	if got := c.admitted(); got != "ic" || time.Since(began) < 50*time.Millisecond {
		t.Errorf("%q after %s", got, time.Since(began))
	}
	if err := c.h.Apply(c.h.settings, nil); err != nil {
		t.Fatal(err)
	}
	if got := c.admitted(); got != "ic" {
		t.Errorf("a reload emptied the bulkhead: %q", got)
	}
	c.leave()
	if got := c.admitted(); got != "bic" {
		t.Errorf("afterwards: %q", got)
	}
}

func TestUpstreamsLimitKeepsPlacesForTheImportant(t *testing.T) {
	c := newCrowd(t, func(s *Settings) {
		s.Upstreams["up"].Concurrency = &ConcurrencyConfig{Min: 10, Initial: 10, Max: 10}
	})
	for range 9 {
		c.come("critical")
	}
	if got := c.admitted(); got != "c" {
		t.Errorf("%q", got)
	}
	if st := c.h.UpstreamStatus()[0]; st.Limit != 10 || st.InFlight != 9 {
		t.Errorf("%+v", st)
	}
	limiter := c.h.table.Load().upstreams["up"].limiter
	if err := c.h.Apply(c.h.settings, nil); err != nil {
		t.Fatal(err)
	}
	if c.h.table.Load().upstreams["up"].limiter != limiter {
		t.Error("a reload forgot the limit")
	}
	c.leave()
	until(t, "all places are free", func() bool { return limiter.InFlight() == 0 })
}

// What takes long by its nature does not pull the limit down, and what is slow does.
func TestOnlyWorkCountsAsLatency(t *testing.T) {
	answer := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/events" {
			w.Header().Set("Content-Type", "text/event-stream")
		}
		io.WriteString(w, "fine")
	}
	url := serve(t, answer)
	h := open(t, func(s *Settings) {
		s.Upstreams["up"] = upstreamAt(url)
		s.Upstreams["up"].Concurrency = &ConcurrencyConfig{Min: 1, Initial: 10, Max: 1000}
		s.Features["f"] = &FeatureConfig{Auth: module.AuthNone, Routes: []RouteConfig{{Match: "/{rest...}", Upstream: "up"}}}
		s.Features["poll"] = &FeatureConfig{Auth: module.AuthNone, LongPoll: true, Routes: []RouteConfig{{Match: "/poll", Upstream: "up"}}}
	})
	limiter := h.table.Load().upstreams["up"].limiter
	long := strings.Repeat("x", longBody+1)
	for range 120 { // the limit moves after 50 samples
		for _, req := range []*http.Request{h.request("GET", "/poll", nil), h.request("GET", "/events", nil), h.request("POST", "/upload", strings.NewReader(long))} {
			if res, _ := h.do(req); res.StatusCode != 200 {
				t.Fatal(res.StatusCode)
			}
		}
	}
	if limiter.Limit() != 10 {
		t.Errorf("the limit moved to %d", limiter.Limit())
	}
	until(t, "the limit moves with work", func() bool { h.get("/x"); return limiter.Limit() != 10 })
	if limiter.InFlight() != 0 {
		t.Errorf("%d places are taken", limiter.InFlight())
	}
}

func TestOverloadConfiguration(t *testing.T) {
	for text, want := range map[string]string{
		"overload: {background: 0.9, interactive: 0.5}":                                                                        "must not be above interactive",
		"overload: {memory: {background: 0.95}}":                                                                               "must not be above interactive",
		"overload: {adaptive: {min: 5, initial: 1}}":                                                                           "min ≤ initial ≤ max",
		"overload: {max_in_flight: -1}":                                                                                        "overload.max_in_flight",
		"upstreams: {up: {targets: [{url: 'http://127.0.0.1:1'}], health: {path: healthz}}}":                                   "must begin with /",
		"upstreams: {up: {targets: [{url: 'http://127.0.0.1:1'}], health: {statuses: ['299-200']}}}":                           "not a status",
		"upstreams: {up: {targets: [{url: 'http://127.0.0.1:1'}], health: {statuses: []}}}":                                    "no status is good",
		"upstreams: {up: {targets: [{url: 'http://127.0.0.1:1'}], outlier: {failures: 0, failure_ratio: 0}}}":                  "nothing ejects",
		"upstreams: {up: {targets: [{url: 'http://127.0.0.1:1'}], outlier: {ejection: 10m}}}":                                  "must not be shorter",
		"upstreams: {up: {targets: [{url: 'http://127.0.0.1:1'}], balance: random}}":                                           "balance",
		"features: {f: {retry: {attempts: 99}}}":                                                                               "retry.attempts",
		"features: {f: {retry: {on: [sometimes]}}}":                                                                            "retry.on",
		"features: {f: {hedge: {after: 0s}}}":                                                                                  "hedge.after",
		"features: {f: {hedge: {}}}":                                                                                           "no hedge to set",
		"features: {f: {bulkhead: {max_concurrent: 0}}}":                                                                       "bulkhead.max_concurrent",
		"upstreams: {up: {targets: [{url: 'http://127.0.0.1:1'}], tls: {key: in-clear}}}":                                      "key",
		"upstreams: {up: {targets: [{url: 'http://127.0.0.1:1'}], concurrency: {}, health: {}, outlier: {}, slow_start: 30s}}": "",
	} {
		env := config.Env{Lookup: func(string) (string, bool) { return "", false }}
		err := config.LoadBytes("landline.yaml", []byte(text), Sections(DefaultSettings()), env)
		if got := fmt.Sprint(err); want == "" && err != nil || !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %q", text, got, want)
		}
	}
}

// A full bulkhead is the feature's own trouble, so its stock answer stands in.
func TestFallbackStandsInForAFullBulkhead(t *testing.T) {
	c := newCrowd(t, func(s *Settings) {
		s.Features["interactive"].Bulkhead = &BulkheadConfig{MaxConcurrent: 1}
		s.Features["interactive"].Fallback = &FallbackConfig{Status: 200, Body: config.Raw(`{"stock":true}`)}
	})
	c.come("interactive")
	res, body := c.h.get("/interactive/now")
	if res.StatusCode != 200 || body != `{"stock":true}` || res.Header.Get("Landline-Degraded") != "fallback" {
		t.Errorf("%d %s %v", res.StatusCode, body, res.Header)
	}
	c.leave()
	if res, body := c.h.get("/interactive/now"); res.StatusCode != 200 || body != "fine" {
		t.Errorf("afterwards: %d %s", res.StatusCode, body)
	}
}
