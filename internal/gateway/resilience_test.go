package gateway

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"landline/internal/config"
	"landline/internal/module"
)

func breakerConfig(change ...func(*BreakerConfig)) BreakerConfig {
	c := BreakerConfig{FailureRatio: 0.5, MinRequests: 4, Window: config.Duration(10 * time.Second), Open: config.Duration(15 * time.Second), Probes: 2}
	for _, f := range change {
		f(&c)
	}
	return c
}

// pass sends one request with the outcome through b; false when it is refused.
func pass(b *breaker, o outcome) bool {
	permit, _, ok := b.acquire()
	if ok {
		b.release(permit, o)
	}
	return ok
}

func TestBreakerLifecycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var states []string
		b := newBreaker(breakerConfig(), func(s string) { states = append(states, s) })
		want := func(state string) {
			t.Helper()
			if got := b.state(); got != state {
				t.Fatalf("%s, want %s", got, state)
			}
		}
		for range 3 {
			pass(b, bad)
		}
		for range 50 {
			pass(b, unknown) // clients that went away
		}
		want("closed") // three are below min_requests
		time.Sleep(11 * time.Second)
		pass(b, bad)
		want("closed") // the others have left the window
		for range 3 {
			pass(b, good)
		}
		want("closed")
		straggler, _, _ := b.acquire()
		pass(b, bad)
		pass(b, bad)
		want("open") // 3 of 6
		if _, wait, ok := b.acquire(); ok || wait != 15*time.Second {
			t.Fatalf("open: %v %v", ok, wait)
		}
		b.release(straggler, good)
		time.Sleep(14 * time.Second)
		if _, wait, ok := b.acquire(); ok || wait != time.Second {
			t.Fatalf("still open: %v %v", ok, wait)
		}
		time.Sleep(time.Second)
		one, _, ok1 := b.acquire()
		two, _, ok2 := b.acquire()
		if _, _, third := b.acquire(); !ok1 || !ok2 || third {
			t.Fatalf("trial requests: %v %v %v", ok1, ok2, third)
		}
		want("half_open")
		b.release(one, good)
		want("half_open")
		b.release(two, bad)
		want("open")
		time.Sleep(15 * time.Second)
		pass(b, good)
		pass(b, good)
		want("closed")
		if got := strings.Join(states, " "); got != "open half_open open half_open closed" {
			t.Errorf("states: %s", got)
		}
	})
}

func TestBreakerTrialThatTellsNothingIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(breakerConfig(func(c *BreakerConfig) { c.Probes = 1 }), func(string) {})
		for range 4 {
			pass(b, bad)
		}
		time.Sleep(15 * time.Second)
		for range 10 {
			if !pass(b, unknown) {
				t.Fatal("a client that went away used the trial up for good")
			}
		}
		if !pass(b, good) || b.state() != "closed" {
			t.Errorf("state %s", b.state())
		}
	})
}

// flaky is an upstream whose answers are switched by the test.
type flaky struct {
	url   string
	fail  atomic.Bool
	asked atomic.Int64
}

func newFlaky(t testing.TB) *flaky {
	f := &flaky{}
	f.url = serve(t, func(w http.ResponseWriter, r *http.Request) {
		f.asked.Add(1)
		if f.fail.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			io.WriteString(w, "stack trace")
			return
		}
		if r.URL.Path == "/missing" {
			w.WriteHeader(http.StatusNotFound)
		}
		io.WriteString(w, "fine")
	})
	return f
}

func TestBreakerOfOneFeatureLeavesOthersAlone(t *testing.T) {
	f := newFlaky(t)
	h := open(t, func(s *Settings) {
		s.Upstreams["up"] = upstreamAt(f.url)
		b := breakerConfig(func(c *BreakerConfig) { c.Open = config.Duration(300 * time.Millisecond); c.Probes = 1 })
		s.Features["one"] = &FeatureConfig{Auth: module.AuthNone, Breaker: &b, Routes: []RouteConfig{{Match: "/v1/one", Upstream: "up"}, {Match: "/missing", Upstream: "up"}}}
		s.Features["two"] = &FeatureConfig{Auth: module.AuthNone, Routes: []RouteConfig{{Match: "/v1/two", Upstream: "up"}}}
	})
	for range 20 {
		if res, _ := h.get("/missing"); res.StatusCode != 404 {
			t.Fatalf("4xx opened the breaker: %d", res.StatusCode)
		}
	}
	f.fail.Store(true)
	for range 20 {
		if res, body := h.get("/v1/one"); res.StatusCode != 500 || body != "stack trace" {
			t.Fatalf("%d %s", res.StatusCode, body) // without a fallback, the upstream's own answer
		}
	}
	asked := f.asked.Load()
	res, body := h.get("/v1/one")
	if res.StatusCode != 503 || code(t, body) != "feature_unavailable" || res.Header.Get("Retry-After") != "1" || f.asked.Load() != asked {
		t.Fatalf("%d %s %v", res.StatusCode, body, res.Header)
	}
	if st := h.FeatureStatus(); st[0].Breaker != "open" || st[1].Breaker != "" {
		t.Errorf("%+v", st)
	}
	if st := h.UpstreamStatus(); len(st) != 1 || st[0].Targets[0].Healthy || st[0].Targets[0].Error == "" {
		t.Errorf("%+v", st)
	}
	f.fail.Store(false)
	if res, body := h.get("/v1/two"); res.StatusCode != 200 || body != "fine" {
		t.Fatalf("the other feature: %d %s", res.StatusCode, body)
	}
	until(t, "the breaker closes again", func() bool { res, _ := h.get("/v1/one"); return res.StatusCode == 200 })
	if st := h.FeatureStatus(); st[0].Breaker != "closed" {
		t.Errorf("%+v", st[0])
	}
}

func TestOpenBreakerMovesTrafficToTheOtherTarget(t *testing.T) {
	broken, fine := newFlaky(t), newFlaky(t)
	broken.fail.Store(true)
	h := open(t, func(s *Settings) {
		s.Upstreams["up"] = upstreamAt(broken.url)
		s.Upstreams["up"].Targets = []TargetConfig{{Name: "a", URL: broken.url, Weight: 1}, {Name: "b", URL: fine.url, Weight: 1}, {Name: "off", URL: closedPort(t), Weight: 0}}
		b := breakerConfig()
		s.Features["one"] = &FeatureConfig{Auth: module.AuthNone, Breaker: &b, Routes: []RouteConfig{{Match: "/x", Upstream: "up"}}}
	})
	until(t, "the broken target's breaker opens", func() bool { h.get("/x"); return h.FeatureStatus()[0].Breaker == "open" })
	for range 30 {
		if res, body := h.get("/x"); res.StatusCode != 200 {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
	}
}

func TestFallback(t *testing.T) {
	f := newFlaky(t)
	up := map[string]string{"5xx": f.url, "unreachable": closedPort(t), "timeout": rawUpstream(t, hang), "invalid": rawUpstream(t, says("what?\r\n\r\n"))}
	f.fail.Store(true)
	for on, url := range up {
		t.Run(on, func(t *testing.T) {
			fallback := &FallbackConfig{Status: 200, Headers: map[string]string{"X-Stock": "1"}, Body: config.Raw(`{"status":"unknown"}`)}
			h := proxy(t, url, func(s *Settings) {
				s.Features["all"].Timeout = config.Duration(100 * time.Millisecond)
				s.Features["all"].Fallback = fallback
				other := *s.Features["all"]
				other.Fallback = &FallbackConfig{Status: 203, On: []string{"breaker_open"}}
				other.Routes = []RouteConfig{{Match: "/other", Upstream: "up"}}
				s.Features["other"] = &other
			})
			res, body := h.get("/x")
			if res.StatusCode != 200 || body != `{"status":"unknown"}` || res.Header.Get("Landline-Degraded") != "fallback" ||
				res.Header.Get("Content-Type") != "application/json" || res.Header.Get("X-Stock") != "1" || res.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%d %s %v", res.StatusCode, body, res.Header)
			}
			if res, body := h.do(h.request("HEAD", "/x", nil)); res.StatusCode != 200 || body != "" || res.ContentLength != 20 {
				t.Errorf("HEAD: %d %q %d", res.StatusCode, body, res.ContentLength)
			}
			if res, _ := h.do(h.request("POST", "/x", strings.NewReader("{}"))); res.StatusCode < 500 || res.Header.Get("Landline-Degraded") != "" {
				t.Errorf("a write got a stock answer: %d", res.StatusCode)
			}
			if res, _ := h.get("/other"); res.StatusCode < 500 {
				t.Errorf("a fallback for something else answered: %d", res.StatusCode)
			}
		})
	}
	t.Run("breaker_open", func(t *testing.T) {
		h := proxy(t, f.url, func(s *Settings) {
			b := breakerConfig()
			s.Features["all"].Breaker, s.Features["all"].Fallback = &b, &FallbackConfig{Status: 200, On: []string{"breaker_open"}, Body: config.Raw(`[]`)}
		})
		for range 4 {
			if res, body := h.get("/x"); res.StatusCode != 500 || body != "stack trace" {
				t.Fatalf("%d %s", res.StatusCode, body)
			}
		}
		if res, body := h.get("/x"); res.StatusCode != 200 || body != "[]" || res.Header.Get("Landline-Degraded") != "fallback" {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	})
	t.Run("not for an answer that is there", func(t *testing.T) {
		f.fail.Store(false)
		h := proxy(t, f.url, func(s *Settings) { s.Features["all"].Fallback = &FallbackConfig{Status: 200} })
		if res, body := h.get("/missing"); res.StatusCode != 404 || body != "fine" || res.Header.Get("Landline-Degraded") != "" {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	})
}

func TestStatusIsJSON(t *testing.T) {
	h := proxy(t, newFlaky(t).url)
	b, err := json.Marshal(map[string]any{"features": h.FeatureStatus(), "upstreams": h.UpstreamStatus()})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"name":"all"`, `"match":"/{rest...}"`, `"auth":"none"`, `"upstream":"up"`, `"name":"stable"`, `"healthy":true`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%s lacks %s", b, want)
		}
	}
}
