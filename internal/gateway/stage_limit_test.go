package gateway

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"

	"landline/internal/clock"
	"landline/internal/config"
	"landline/internal/module"
	"landline/internal/problem"
)

func limited(t *testing.T, policies ...RateLimitConfig) (*house, *clock.Fake) {
	t.Helper()
	clk := clock.NewFake(time.Now())
	url := serve(t, func(http.ResponseWriter, *http.Request) {})
	h := openWith(t, func(o *Options) { o.Clock = clk; o.TrustedProxies = prefixes("127.0.0.0/8") }, func(s *Settings) {
		s.Upstreams["up"] = upstreamAt(url)
		s.Features["f"] = &FeatureConfig{Auth: module.AuthNone, RateLimit: policies,
			Routes: []RouteConfig{{Match: "/a", Upstream: "up"}, {Match: "/b", Upstream: "up"}}}
	})
	return h, clk
}

const minute = config.Duration(time.Minute)

func TestRateLimitFields(t *testing.T) {
	h, clk := limited(t, RateLimitConfig{Key: "address", Limit: 100, Window: minute, Burst: 20}, RateLimitConfig{Key: "feature", Limit: 2, Window: minute, Name: "all"})
	for i, want := range []string{`"all";r=1;t=30, "address-1m";r=19;t=1`, `"all";r=0;t=30, "address-1m";r=18;t=2`} {
		res, _ := h.get([]string{"/a", "/b"}[i]) // routes of a feature count together
		if got := res.Header.Get("RateLimit"); got != want || res.StatusCode != 200 {
			t.Errorf("%d: %d %s, want %s", i, res.StatusCode, got, want)
		}
		if got := res.Header.Get("RateLimit-Policy"); got != `"all";q=2;w=60, "address-1m";q=100;w=60` {
			t.Errorf("policy %s", got)
		}
		for _, name := range []string{"RateLimit", "RateLimit-Policy"} {
			if _, err := httpsfv.UnmarshalList(res.Header.Values(name)); err != nil {
				t.Errorf("%s is no list of RFC 9651: %v", name, err)
			}
		}
	}
	clk.Advance(500 * time.Millisecond)
	res, text := h.get("/a")
	asReply(t, res, text).want(t, 429, problem.RateLimited, false)
	if res.Header.Get("Retry-After") != "30" || res.Header.Get("RateLimit") != `"all";r=0;t=30` {
		t.Errorf("Retry-After %s, RateLimit %s", res.Header.Get("Retry-After"), res.Header.Get("RateLimit"))
	}
	var body struct {
		Violated []string `json:"violated-policies"`
	}
	if err := json.Unmarshal([]byte(text), &body); err != nil || len(body.Violated) != 1 || body.Violated[0] != "all" {
		t.Errorf("%v in %s", err, text)
	}
	until(t, "the refusal is counted", func() bool { return value(t, h.metrics.limited.WithLabelValues("f", "all")) == 1 })
	clk.Advance(29500 * time.Millisecond)
	res, _ = h.get("/a")
	if got, want := res.Header.Get("RateLimit"), `"all";r=0;t=30, "address-1m";r=19;t=1`; res.StatusCode != 200 || got != want {
		t.Errorf("after the wait: %d %s, want %s (the refused request was charged)", res.StatusCode, got, want)
	}
}

func TestRateLimitKeys(t *testing.T) {
	one := func(key string) RateLimitConfig { return RateLimitConfig{Key: key, Limit: 1, Window: minute} }
	good := []string{"Authorization", "Bearer good"}
	from := func(ip string) []string { return []string{"X-Forwarded-For", ip} }
	for _, c := range []struct {
		key           string
		first, second []string
		together      bool
	}{
		{"feature", from("1.2.3.4"), from("5.6.7.8"), true},
		{"address", from("1.2.3.4"), from("1.2.3.4"), true},
		{"address", from("1.2.3.4"), from("1.2.3.5"), false},
		{"address", from("2001:db8:1:2::1"), from("2001:db8:1:2:ffff::9"), true},
		{"address", from("2001:db8:1:2::1"), from("2001:db8:1:3::1"), false},
		{"user", append(good, from("1.2.3.4")...), append(good, from("5.6.7.8")...), true},
		{"installation", append(good, from("1.2.3.4")...), append(good, from("5.6.7.8")...), true},
		{"installation", append(good, from("1.2.3.4")...), from("1.2.3.4"), false},
		{"installation", from("1.2.3.4"), from("1.2.3.4"), true},
	} {
		h, _ := limited(t, one(c.key))
		if res, _ := h.get("/a", c.first...); res.StatusCode != 200 {
			t.Errorf("%s: the first got %d", c.key, res.StatusCode)
		}
		res, _ := h.get("/a", c.second...)
		if (res.StatusCode == 429) != c.together {
			t.Errorf("%s: %v then %v: %d, counted together should be %v", c.key, c.first, c.second, res.StatusCode, c.together)
		}
	}
}

func TestBadTokensAreLimitedByAddress(t *testing.T) {
	h, _ := limited(t, RateLimitConfig{Key: "installation", Limit: 2, Window: minute})
	var got []int
	for range 3 {
		res, _ := h.get("/a", "Authorization", "Bearer bad")
		got = append(got, res.StatusCode)
	}
	if got[0] != 401 || got[1] != 401 || got[2] != 429 {
		t.Errorf("got %v", got)
	}
}

// F15: what 64 parallel clients get through is the burst, and no more.
func TestParallelClientsStayWithinTheBurst(t *testing.T) {
	h, clk := limited(t, RateLimitConfig{Key: "installation", Limit: 100, Window: minute, Burst: 20})
	var admitted atomic.Int64
	for round := range 2 {
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for range 3 {
					res, err := h.client.Do(h.request(http.MethodGet, "/a", nil, "Authorization", "Bearer good"))
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := io.Copy(io.Discard, res.Body); err != nil {
						t.Error(err)
					}
					res.Body.Close()
					if res.StatusCode == 200 {
						admitted.Add(1)
					} else if n, err := strconv.Atoi(res.Header.Get("Retry-After")); res.StatusCode != 429 || err != nil || n < 1 {
						t.Errorf("%d, Retry-After %q", res.StatusCode, res.Header.Get("Retry-After"))
					}
				}
			})
		}
		wg.Wait()
		if want := int64(20 + 10*round); admitted.Load() != want {
			t.Errorf("%d admitted, want %d", admitted.Load(), want)
		}
		clk.Advance(6 * time.Second)
	}
}

func TestReloadKeepsRateLimits(t *testing.T) {
	h, _ := limited(t, RateLimitConfig{Key: "feature", Limit: 1, Window: minute})
	h.get("/a")
	if err := h.Apply(h.settings, nil); err != nil {
		t.Fatal(err)
	}
	if res, _ := h.get("/a"); res.StatusCode != 429 {
		t.Errorf("after a reload without a change: %d", res.StatusCode)
	}
}
