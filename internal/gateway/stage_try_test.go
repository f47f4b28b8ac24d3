package gateway

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"landline/internal/config"
	"landline/internal/gateway/idem"
	"landline/internal/module"
	"landline/internal/testkit"
)

// replica is a target whose manners a test can change.
type replica struct {
	url    string
	asked  atomic.Int64
	answer atomic.Pointer[http.HandlerFunc]

	mu     sync.Mutex
	bodies []string
}

func newReplica(t testing.TB, answer http.HandlerFunc) *replica {
	p := &replica{}
	p.answer.Store(&answer)
	p.url = serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			p.asked.Add(1)
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			p.mu.Lock()
			p.bodies = append(p.bodies, string(body))
			p.mu.Unlock()
		}
		(*p.answer.Load())(w, r)
	})
	return p
}

func (p *replica) set(answer http.HandlerFunc) { p.answer.Store(&answer) }

func fine(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "fine") }

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		io.WriteString(w, "status")
	}
}

// reset closes the connection instead of answering.
func reset(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// stuck answers when the caller has lost patience.
func stuck(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// fleet is an upstream with these targets, each of weight 1.
func fleet(urls ...string) *UpstreamConfig {
	u := upstreamAt(urls[0])
	u.Targets = nil
	for i, url := range urls {
		u.Targets = append(u.Targets, TargetConfig{Name: fmt.Sprintf("t%d", i+1), URL: url, Weight: 1})
	}
	return u
}

func retryConfig(change ...func(*RetryConfig)) *RetryConfig {
	var c RetryConfig
	c.Defaults()
	c.Backoff = config.Duration(time.Millisecond)
	for _, f := range change {
		f(&c)
	}
	return &c
}

// balanced opens a gateway with one feature for everything at up.
func balanced(t testing.TB, up *UpstreamConfig, change ...func(f *FeatureConfig)) *house {
	t.Helper()
	db := testkit.SQLite(t.(*testing.T), idem.Migrations)
	return openWith(t, func(o *Options) { o.DB = db }, func(s *Settings) {
		s.Upstreams["up"] = up
		f := &FeatureConfig{Auth: module.AuthNone, Timeout: config.Duration(5 * time.Second), Routes: []RouteConfig{{Match: "/{rest...}", Upstream: "up"}}}
		for _, c := range change {
			c(f)
		}
		s.Features["all"] = f
	})
}

func TestWhatIsTriedAgain(t *testing.T) {
	keyed := []string{"Idempotency-Key", "k"}
	forward, conflict := &IdempotencyConfig{UnknownOutcome: OutcomeForward}, &IdempotencyConfig{UnknownOutcome: OutcomeConflict}
	big := strings.Repeat("x", 100<<10)
	for _, c := range []struct {
		name        string
		method      string
		fault       http.HandlerFunc // nil = nobody listens
		retry       *RetryConfig
		idempotency *IdempotencyConfig
		header      []string
		body        string
		want        int // status that the client gets
		tries       int64
	}{
		{name: "GET, connection refused", method: "GET", want: 200},
		{name: "POST, connection refused: nothing was sent", method: "POST", body: "{}", want: 200},
		{name: "a long POST, connection refused: nothing was read", method: "POST", body: big, want: 200},
		{name: "GET, reset", method: "GET", fault: reset, want: 200, tries: 1},
		{name: "POST, reset", method: "POST", body: "{}", fault: reset, want: 502, tries: 1},
		{name: "POST, 503", method: "POST", body: "{}", fault: status(503), want: 503, tries: 1},
		{name: "PUT, reset", method: "PUT", body: "{}", fault: reset, want: 200, tries: 1},
		{name: "a long PUT, 503", method: "PUT", body: big, fault: status(503), want: 503, tries: 1},
		{name: "DELETE, 502", method: "DELETE", fault: status(502), want: 200, tries: 1},
		{name: "PATCH, 503", method: "PATCH", body: "{}", fault: status(503), want: 503, tries: 1},
		{name: "GET, 503", method: "GET", fault: status(503), want: 200, tries: 1},
		{name: "GET, 503 with Retry-After", method: "GET", fault: status(503, "Retry-After", "7"), want: 503, tries: 1},
		{name: "GET, 500 is an answer", method: "GET", fault: status(500), want: 500, tries: 1},
		{name: "GET, 500 and on: 5xx", method: "GET", fault: status(500), retry: retryConfig(func(c *RetryConfig) { c.On = []string{retry5xx} }), want: 200, tries: 1},
		{name: "GET, 404", method: "GET", fault: status(404), want: 404, tries: 1},
		{name: "GET, reset, not asked for", method: "GET", fault: reset, retry: retryConfig(func(c *RetryConfig) { c.On = []string{retryUnreachable} }), want: 502, tries: 1},
		{name: "GET, stuck", method: "GET", fault: stuck, retry: retryConfig(func(c *RetryConfig) { c.PerTryTimeout = config.Duration(50 * time.Millisecond) }), want: 200, tries: 1},
		{name: "POST, stuck", method: "POST", body: "{}", fault: stuck, retry: retryConfig(func(c *RetryConfig) { c.PerTryTimeout = config.Duration(50 * time.Millisecond) }), want: 504, tries: 1},
		{name: "keyed POST that the service honours", method: "POST", body: "{}", fault: status(503), idempotency: forward, header: keyed, want: 200, tries: 1},
		{name: "keyed POST, reset", method: "POST", body: "{}", fault: reset, idempotency: forward, header: keyed, want: 200, tries: 1},
		{name: "keyed POST that must not run twice", method: "POST", body: "{}", fault: reset, idempotency: conflict, header: keyed, want: 502, tries: 1},
		{name: "keyed PUT that must not run twice", method: "PUT", body: "{}", fault: status(503), idempotency: conflict, header: keyed, want: 503, tries: 1},
		{name: "keyed POST that never arrived", method: "POST", body: "{}", idempotency: conflict, header: keyed, want: 200},
		{name: "one attempt", method: "GET", fault: reset, retry: retryConfig(func(c *RetryConfig) { c.Attempts = 1 }), want: 502, tries: 1},
		{name: "off", method: "GET", fault: reset, retry: &RetryConfig{}, want: 502, tries: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			good := newReplica(t, fine)
			bad, url := &replica{}, closedPort(t)
			if c.fault != nil {
				bad = newReplica(t, c.fault)
				url = bad.url
			}
			up := fleet(url, good.url)
			up.Targets[0].Weight = 1_000_000 // so that it is asked first
			h := balanced(t, up, func(f *FeatureConfig) {
				f.Retry, f.Idempotency = c.retry, c.idempotency
				if c.retry == nil {
					f.Retry = retryConfig()
				}
			})
			var body io.Reader
			if c.body != "" {
				body = strings.NewReader(c.body)
			}
			res, got := h.do(h.request(c.method, "/x", body, c.header...))
			if res.StatusCode != c.want || bad.asked.Load() != c.tries {
				t.Fatalf("%d %q after %d tries of the bad target, want %d after %d", res.StatusCode, got, bad.asked.Load(), c.want, c.tries)
			}
			good.mu.Lock()
			defer good.mu.Unlock()
			switch again := len(good.bodies); {
			case c.want == 200 && (again != 1 || good.bodies[0] != c.body):
				t.Fatalf("the good target was asked %d times with %.40q", again, good.bodies)
			case c.want != 200 && again != 0:
				t.Fatal("the good target was asked")
			}
		})
	}
}

func TestNothingIsTriedAgainOnceTheClientHasBytes(t *testing.T) {
	p := newReplica(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(2*heldBack))
		io.WriteString(w, strings.Repeat("x", heldBack))
		http.NewResponseController(w).Flush()
		reset(w, r)
	})
	h := balanced(t, fleet(p.url), func(f *FeatureConfig) { f.Retry = retryConfig() })
	res, err := h.client.Do(h.request("GET", "/x", nil))
	if err == nil {
		defer res.Body.Close()
		_, err = io.ReadAll(res.Body)
	}
	if err == nil || p.asked.Load() != 1 {
		t.Errorf("%v after %d tries", err, p.asked.Load())
	}
}

// An answer of which the client has seen nothing is a failure like any other.
func TestABrokenAnswerIsTriedAgain(t *testing.T) {
	for name, write := range map[string]func(w http.ResponseWriter){
		"shorter than announced": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, "half of")
			http.NewResponseController(w).Flush()
		},
		"no piece of an unknown length": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusOK)
			http.NewResponseController(w).Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bad := newReplica(t, func(w http.ResponseWriter, _ *http.Request) {
				write(w)
				panic(http.ErrAbortHandler)
			})
			good := newReplica(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "whole") })
			h := balanced(t, fleet(bad.url, good.url), func(f *FeatureConfig) {
				f.Retry = retryConfig()
				var b BreakerConfig
				b.Defaults()
				f.Breaker = &b
			})
			until(t, "the broken one was asked first", func() bool {
				res, body := h.get("/x")
				if res.StatusCode != 200 || body != "whole" {
					t.Fatalf("%d %q", res.StatusCode, body)
				}
				return bad.asked.Load() > 0
			})
		})
	}
}

func TestTriesEndWithTheFeaturesTimeout(t *testing.T) {
	p := newReplica(t, stuck)
	h := balanced(t, fleet(p.url), func(f *FeatureConfig) {
		f.Timeout = config.Duration(250 * time.Millisecond)
		f.Retry = retryConfig(func(c *RetryConfig) { c.Attempts, c.PerTryTimeout = 10, config.Duration(100*time.Millisecond) })
	})
	began := time.Now()
	res, body := h.get("/x")
	if took := time.Since(began); res.StatusCode != 504 || code(t, body) != "upstream_timeout" || took < 240*time.Millisecond || took > 2*time.Second || p.asked.Load() < 2 || p.asked.Load() > 3 {
		t.Errorf("%d %s after %s, %d tries", res.StatusCode, body, took, p.asked.Load())
	}
}

func TestASlowUploadIsNoSlowTry(t *testing.T) {
	p := newReplica(t, fine)
	h := balanced(t, fleet(p.url), func(f *FeatureConfig) {
		f.Retry = retryConfig(func(c *RetryConfig) { c.PerTryTimeout = config.Duration(100 * time.Millisecond) })
	})
	c := h.dial()
	fmt.Fprintf(c, "PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\n")
	pause := time.NewTicker(120 * time.Millisecond)
	defer pause.Stop()
	for _, piece := range []string{"a", "b", "c"} {
		<-pause.C
		io.WriteString(c, piece)
	}
	answer, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200") || p.asked.Load() != 1 {
		t.Errorf("%q %v, %d tries", answer, err, p.asked.Load())
	}
}

// However much fails, the service's load grows by no more than the budget.
func TestRetryBudgetUnderFailure(t *testing.T) {
	for name, fault := range map[string]http.HandlerFunc{"all fail": status(503), "half fail": func(w http.ResponseWriter, r *http.Request) {
		if rand.IntN(2) == 0 {
			status(503)(w, r)
		} else {
			fine(w, r)
		}
	}} {
		t.Run(name, func(t *testing.T) {
			a, b := newReplica(t, fault), newReplica(t, fault)
			h := balanced(t, fleet(a.url, b.url), func(f *FeatureConfig) {
				f.Retry = retryConfig(func(c *RetryConfig) { c.Attempts = 5 })
			})
			const requests = 1000
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					for range requests / 20 {
						res, err := h.client.Get(h.url + "/x")
						if err != nil {
							t.Error(err)
							return
						}
						io.Copy(io.Discard, res.Body)
						res.Body.Close()
					}
				})
			}
			wg.Wait()
			load := a.asked.Load() + b.asked.Load()
			t.Logf("%d requests were %d tries", requests, load)
			if float64(load) > 1.2*requests+3 || load < 1.1*requests {
				t.Errorf("%d requests were %d tries, want at most 1.2 × + 3", requests, load)
			}
		})
	}
}

// Every try is a verdict for its own target.
func TestTriesTellTheirTargetsBreaker(t *testing.T) {
	good, bad := newReplica(t, fine), newReplica(t, status(503))
	up := fleet(bad.url, good.url)
	up.RetryBudget.Share = 1
	h := balanced(t, up, func(f *FeatureConfig) {
		b := breakerConfig()
		f.Breaker, f.Retry = &b, retryConfig()
	})
	for range 60 {
		if res, _ := h.get("/x"); res.StatusCode != 200 {
			t.Fatal(res.StatusCode)
		}
	}
	if n := bad.asked.Load(); n != 4 {
		t.Errorf("the bad target was asked %d times, its breaker opens after 4", n)
	}
	if st := h.UpstreamStatus()[0].Targets; st[0].Healthy || st[0].State != "unhealthy" || !st[1].Healthy {
		t.Errorf("%+v", st)
	}
}

func TestHedging(t *testing.T) {
	hedged := func(t *testing.T, after time.Duration, answers ...http.HandlerFunc) (*house, []*replica) {
		var urls []string
		var list []*replica
		for _, a := range answers {
			p := newReplica(t, a)
			list, urls = append(list, p), append(urls, p.url)
		}
		up := fleet(urls...)
		return balanced(t, up, func(f *FeatureConfig) { f.Hedge = &HedgeConfig{After: config.Duration(after)} }), list
	}
	t.Run("the tail", func(t *testing.T) {
		var n atomic.Int64
		slow := func(w http.ResponseWriter, r *http.Request) { // one in ten takes very long
			if n.Add(1)%10 == 0 {
				select {
				case <-r.Context().Done():
					return
				case <-time.After(3 * time.Second):
				}
			}
			fine(w, r)
		}
		h, list := hedged(t, 30*time.Millisecond, slow, slow)
		var worst time.Duration
		const requests = 300
		for range requests {
			began := time.Now()
			if res, _ := h.get("/x"); res.StatusCode != 200 {
				t.Fatal(res.StatusCode)
			}
			worst = max(worst, time.Since(began))
		}
		load := list[0].asked.Load() + list[1].asked.Load()
		t.Logf("one in ten takes 3 s: the slowest of %d took %s, with %d calls", requests, worst, load)
		if worst > time.Second || float64(load) > 1.2*requests+3 {
			t.Errorf("the slowest took %s, with %d calls", worst, load)
		}
	})
	t.Run("a stuck target costs the delay", func(t *testing.T) {
		gone := make(chan struct{}, 100)
		h, list := hedged(t, 20*time.Millisecond, fine, func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			gone <- struct{}{}
		})
		for list[1].asked.Load() < 2 {
			began := time.Now()
			if res, body := h.get("/x"); res.StatusCode != 200 || body != "fine" || time.Since(began) > 2*time.Second {
				t.Fatalf("%d %s after %s", res.StatusCode, body, time.Since(began))
			}
		}
		<-gone // the loser is cut off
		<-gone
		until(t, "nothing in flight", func() bool { return h.UpstreamStatus()[0].InFlight == 0 })
	})
	t.Run("writes are not sent twice", func(t *testing.T) {
		h, list := hedged(t, time.Millisecond, func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(60 * time.Millisecond):
			case <-r.Context().Done():
			}
			fine(w, r)
		})
		for _, m := range []string{"POST", "PUT", "DELETE"} {
			before := list[0].asked.Load()
			if res, _ := h.do(h.request(m, "/x", strings.NewReader("{}"))); res.StatusCode != 200 || list[0].asked.Load() != before+1 {
				t.Errorf("%s: %d, sent %d times", m, res.StatusCode, list[0].asked.Load()-before)
			}
		}
	})
	t.Run("both fail", func(t *testing.T) {
		late := func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(30 * time.Millisecond):
			case <-r.Context().Done():
			}
			w.WriteHeader(500)
		}
		h, _ := hedged(t, time.Millisecond, late, late)
		if res, _ := h.get("/x"); res.StatusCode != 500 {
			t.Error(res.StatusCode)
		}
		until(t, "nothing in flight", func() bool { return h.UpstreamStatus()[0].InFlight == 0 })
	})
	t.Run("the first fails before the delay", func(t *testing.T) {
		h, list := hedged(t, time.Hour, status(500))
		if res, _ := h.get("/x"); res.StatusCode != 500 || list[0].asked.Load() != 1 {
			t.Error(res.StatusCode, list[0].asked.Load())
		}
	})
	t.Run("a client that leaves ends both", func(t *testing.T) {
		h, list := hedged(t, time.Millisecond, stuck, stuck)
		c := h.dial()
		io.WriteString(c, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
		until(t, "both are asked", func() bool { return list[0].asked.Load()+list[1].asked.Load() == 2 })
		c.Close()
		until(t, "nothing in flight", func() bool { return h.UpstreamStatus()[0].InFlight == 0 })
	})
}

// The delay settles where the configured share of requests is faster, and follows a change.
func TestHedgeDelayFollowsTheQuantile(t *testing.T) {
	h := newHedge(HedgeConfig{After: config.Duration(10 * time.Second), Quantile: 0.95})
	if h.delay() != 10*time.Second {
		t.Fatalf("at the start: %s", h.delay())
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, scale := range []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, 50 * time.Millisecond} {
		for range 5000 {
			h.observe(time.Duration(r.Float64() * float64(scale))) // uniform: the 95th percentile is 0.95 × scale
		}
		if got := float64(h.delay()) / float64(scale); got < 0.8 || got > 1.1 {
			t.Errorf("scale %s: %.2f of it, want about 0.95", scale, got)
		}
	}
	fixed := newHedge(HedgeConfig{After: config.Duration(time.Second)})
	fixed.observe(time.Hour)
	if fixed.delay() != time.Second {
		t.Error(fixed.delay())
	}
}
