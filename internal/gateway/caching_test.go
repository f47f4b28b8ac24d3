package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"landline/internal/bus"
	"landline/internal/clock"
	"landline/internal/config"
	"landline/internal/kv"
	"landline/internal/module"
	"landline/internal/problem"
)

// library is an upstream that counts, whose answers a test can change.
type library struct {
	url   string
	calls atomic.Int64
	mu    sync.Mutex
	text  string
	wait  chan struct{} // nil, or what an answer waits for
}

func newLibrary(t *testing.T) *library {
	l := &library{text: "one"}
	l.url = serve(t, func(w http.ResponseWriter, r *http.Request) {
		l.calls.Add(1)
		l.mu.Lock()
		text, wait := l.text, l.wait
		l.mu.Unlock()
		if r.Method == http.MethodPost || r.Method == http.MethodDelete {
			io.Copy(io.Discard, r.Body) //nolint:errcheck // the client is the gateway
			if status := r.Header.Get("X-Status"); status != "" {
				w.WriteHeader(503)
				return
			}
			w.Header().Set("Location", "/v1/books/7")
			w.WriteHeader(http.StatusCreated)
			return
		}
		if wait != nil {
			<-wait
		}
		w.Header().Set("Surrogate-Key", "shelf-1 "+strings.ReplaceAll(r.URL.Path[1:], "/", "-"))
		fmt.Fprint(w, text)
	})
	return l
}

func (l *library) set(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = text
}

func (l *library) settings(s *Settings) {
	s.Upstreams["up"] = upstreamAt(l.url)
	c := CacheConfig{}
	c.Defaults()
	c.TTL = config.Duration(time.Hour)
	s.Features["books"] = &FeatureConfig{Auth: module.AuthNone, Cache: &c, Routes: []RouteConfig{{Match: "GET /v1/books", Upstream: "up"}, {Match: "GET /v1/books/{id...}", Upstream: "up"}}}
	s.Features["writes"] = &FeatureConfig{Auth: module.AuthNone, Routes: []RouteConfig{
		{Match: "POST /v1/books", Upstream: "up"}, {Match: "POST /v1/books/{id...}", Upstream: "up"}, {Match: "DELETE /v1/books/{id...}", Upstream: "up"}, {Match: "POST /v1/orders", Upstream: "up"},
	}}
}

func (h *house) want(path, body string) {
	h.t.Helper()
	if res, got := h.get(path); got != body {
		h.t.Errorf("%s: %q, want %q (%s)", path, got, body, res.Header.Get("Cache-Status"))
	}
}

func TestCacheThroughTheGateway(t *testing.T) {
	l := newLibrary(t)
	h := open(t, l.settings)
	h.want("/v1/books/1", "one")
	l.set("two")
	h.want("/v1/books/1", "one")
	res, _ := h.get("/v1/books/1")
	if res.Header.Get("Surrogate-Key") != "" || res.Header.Get("Age") == "" || !strings.HasPrefix(res.Header.Get("Cache-Status"), "Landline; hit; ttl=3") || len(res.Header.Values("Server-Timing")) == 0 {
		t.Errorf("%v", res.Header)
	}
	for outcome, want := range map[string]float64{"hit": 2, "miss": 1} {
		if got := h.counted("landline_cache_requests_total", "books", outcome); got != want {
			t.Errorf("%s: %v, want %v", outcome, got, want)
		}
	}
	if h.counted("landline_cache_saved_upstream_seconds_total", "books") <= 0 {
		t.Error("no time of the upstream was saved")
	}
}

func TestWritesInvalidateWhatIsStored(t *testing.T) {
	l := newLibrary(t)
	h := open(t, l.settings)
	fill := func() {
		l.set("one")
		for _, path := range []string{"/v1/books", "/v1/books?page=2", "/v1/books/7", "/v1/books/8"} {
			h.want(path, "one")
		}
		l.set("two")
	}
	fill()
	h.do(h.request(http.MethodPost, "/v1/books", strings.NewReader("new")))
	h.want("/v1/books", "two")        // RFC 9111 §4.4: the target
	h.want("/v1/books?page=2", "two") // and its other queries, which are views of it
	h.want("/v1/books/7", "two")      // Location
	h.want("/v1/books/8", "one")
	if _, err := h.PurgeCache(t.Context(), "books", "", ""); err != nil {
		t.Fatal(err)
	}
	fill()
	h.do(h.request(http.MethodPost, "/v1/books", nil, "X-Status", "503"))
	h.want("/v1/books", "one") // a write that failed changes nothing
	h.do(h.request(http.MethodPost, "/v1/orders", nil))
	h.want("/v1/books", "one") // nor does one elsewhere, but Location is followed
	h.want("/v1/books/7", "two")
}

func TestAFillThatBeganBeforeAWriteIsNotStored(t *testing.T) {
	l := newLibrary(t)
	h := open(t, l.settings)
	l.wait = make(chan struct{})
	done := make(chan string)
	go func() {
		_, body := h.get("/v1/books/1")
		done <- body
	}()
	until(t, "the fill reaches the upstream", func() bool { return l.calls.Load() == 1 })
	h.do(h.request(http.MethodPost, "/v1/books/1", nil))
	l.set("two")
	close(l.wait)
	if body := <-done; body != "one" {
		t.Errorf("%q", body)
	}
	l.mu.Lock()
	l.wait = nil
	l.mu.Unlock()
	h.want("/v1/books/1", "two")
}

func TestPurgeCache(t *testing.T) {
	l := newLibrary(t)
	h := open(t, l.settings)
	for _, row := range []struct {
		name, key, url string
		removed        int
		one            string // what /v1/books/1 is afterwards
	}{
		{"all", "", "", 2, "two"}, {"a key of both", "shelf-1", "", 2, "two"}, {"a key of one", "v1-books-1", "", 1, "two"}, {"a key of none", "shelf-2", "", 0, "one"},
		{"path", "", "/v1/books/1", 1, "two"}, {"URL", "", "https://api.example.com/v1/books/1?x=y", 1, "two"}, {"another path", "", "/v1/books/3", 0, "one"},
	} {
		if _, err := h.PurgeCache(t.Context(), "books", "", ""); err != nil {
			t.Fatal(err)
		}
		l.set("one")
		h.want("/v1/books/1", "one")
		h.want("/v1/books/2", "one")
		l.set("two")
		n, err := h.PurgeCache(t.Context(), "books", row.key, row.url)
		if err != nil || n != row.removed {
			t.Errorf("%s: %d, %v", row.name, n, err)
		}
		h.want("/v1/books/1", row.one)
	}
	for _, feature := range []string{"nothing", "writes"} {
		if _, err := h.PurgeCache(t.Context(), feature, "", ""); problem.From(err).Code != problem.NotFound {
			t.Errorf("%s: %v", feature, err)
		}
	}
	if _, err := h.PurgeCache(t.Context(), "books", "", "books/1"); problem.From(err).Code != problem.InvalidRequest {
		t.Errorf("%v", err)
	}
}

func TestCacheOverAReload(t *testing.T) {
	l := newLibrary(t)
	h := open(t, l.settings)
	h.want("/v1/books/1", "one")
	l.set("two")
	apply := func(change func(*Settings)) {
		t.Helper()
		s := DefaultSettings()
		l.settings(s)
		if change != nil {
			change(s)
		}
		if err := h.Apply(s, nil); err != nil {
			t.Fatal(err)
		}
	}
	apply(func(s *Settings) { s.Features["writes"].Timeout = config.Duration(time.Second) })
	h.want("/v1/books/1", "one") // its policy did not change
	apply(func(s *Settings) { s.Features["books"].Cache.StaleIfError = config.Duration(time.Second) })
	if n := h.cache.store.Load().Stats().Entries; n != 0 {
		t.Errorf("%d entries of a policy that is gone", n)
	}
	h.want("/v1/books/1", "two")
	apply(func(s *Settings) { s.Features["books"].Cache = nil })
	if h.cache.store.Load() != nil {
		t.Error("no feature has a cache, and its memory is kept")
	}
	l.set("three")
	h.want("/v1/books/1", "three")
}

// counted reads a counter by its label values, in any order.
func (h *house) counted(name string, values ...string) float64 {
	h.t.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			found := family.GetName() == name
			for _, label := range m.GetLabel() {
				found = found && slices.Contains(values, label.GetValue())
			}
			if found {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// pair is two gateways that share a bus and a store.
func pair(t *testing.T, l *library, store kv.Store, redis bool) (a, b *house, news bus.Bus) {
	t.Helper()
	news = bus.NewMemory()
	t.Cleanup(func() {
		if err := news.Close(); err != nil {
			t.Error(err)
		}
	})
	make := func() *house {
		return openWith(t, func(o *Options) { o.Shared, o.Bus, o.KV = true, news, store }, func(s *Settings) {
			l.settings(s)
			s.Cache.Redis = redis
		})
	}
	return make(), make(), news
}

func TestTwoNodesPurgeAndWrite(t *testing.T) {
	for _, redis := range []bool{false, true} {
		t.Run(fmt.Sprint("redis=", redis), func(t *testing.T) {
			l := newLibrary(t)
			store := kv.NewMemory(clock.System, 1000)
			a, b, _ := pair(t, l, store, redis)
			both := func(path, body string) {
				t.Helper()
				until(t, path+" is "+body+" on both nodes", func() bool {
					_, one := a.get(path)
					_, two := b.get(path)
					return one == body && two == body
				})
			}
			both("/v1/books/1", "one")
			l.set("two")
			both("/v1/books/1", "one")
			if _, err := a.PurgeCache(t.Context(), "books", "shelf-1", ""); err != nil {
				t.Fatal(err)
			}
			both("/v1/books/1", "two")
			l.set("three")
			b.do(b.request(http.MethodDelete, "/v1/books/1", nil))
			b.want("/v1/books/1", "three")
			both("/v1/books/1", "three")
		})
	}
}

func TestTwoNodesFillOneAnothersCaches(t *testing.T) {
	l := newLibrary(t)
	a, b, _ := pair(t, l, kv.NewMemory(clock.System, 1000), true)
	get := func(h *house) (*http.Response, string) {
		r := h.request(http.MethodGet, "/v1/books/1", nil)
		r.Host = "api.example.com" // what a balancer before both would leave
		return h.do(r)
	}
	get(a)
	until(t, "the answer reaches the shared store", func() bool {
		return a.counted("landline_cache_shared_total", "stored") == 1
	})
	res, body := get(b)
	if body != "one" || l.calls.Load() != 1 || !strings.HasSuffix(res.Header.Get("Cache-Status"), "detail=shared") {
		t.Errorf("%q after %d calls: %v", body, l.calls.Load(), res.Header)
	}
	get(b)
	if n := b.counted("landline_cache_requests_total", "books", "hit"); n != 1 {
		t.Errorf("%v hits in memory after one in the shared store", n)
	}
}

// gap is a bus that can lose messages.
type gap struct {
	bus.Bus
	lost []func()
}

func (g *gap) OnGap(fn func()) func() {
	g.lost = append(g.lost, fn)
	return g.Bus.OnGap(fn)
}

func TestLostNewsEmptiesTheCache(t *testing.T) {
	l := newLibrary(t)
	news := &gap{Bus: bus.NewMemory()}
	t.Cleanup(func() { news.Close() })
	h := openWith(t, func(o *Options) { o.Shared, o.Bus, o.KV = true, news, kv.NewMemory(clock.System, 10) }, l.settings)
	h.want("/v1/books/1", "one")
	l.set("two")
	for _, fn := range news.lost {
		fn()
	}
	h.want("/v1/books/1", "two")
}

// dead is a store that never answers.
type dead struct{ kv.Store }

func (dead) Get(ctx context.Context, _ string) ([]byte, error) {
	<-ctx.Done()
	return nil, kv.ErrUnavailable
}

func (dead) SetNX(ctx context.Context, _ string, _ []byte, _ time.Duration) (bool, error) {
	<-ctx.Done()
	return false, kv.ErrUnavailable
}

func (dead) Set(ctx context.Context, _ string, _ []byte, _ time.Duration) error {
	<-ctx.Done()
	return kv.ErrUnavailable
}

func TestCacheGoesOnWithoutRedis(t *testing.T) {
	l := newLibrary(t)
	a, _, _ := pair(t, l, dead{kv.NewMemory(clock.System, 10)}, true)
	for i := range 50 {
		a.want(fmt.Sprint("/v1/books/", i), "one")
		a.want(fmt.Sprint("/v1/books/", i), "one")
	}
	if n := l.calls.Load(); n != 50 {
		t.Errorf("%d calls", n)
	}
	if n := a.counted("landline_cache_shared_total", "error"); n < 1 || n > 5 {
		t.Errorf("asked a dead store %v times", n)
	}
	if _, err := a.PurgeCache(t.Context(), "books", "", ""); problem.From(err).Code != problem.StorageUnavailable {
		t.Errorf("a purge that other nodes may not know of: %v", err)
	}
	l.set("two")
	a.want("/v1/books/1", "two")
}

func TestCacheKeepsTimeoutsAndStreamsOfTheUpstream(t *testing.T) {
	release := make(chan struct{})
	var down atomic.Bool
	up := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v1/books/slow" && down.Load():
			<-r.Context().Done()
		case r.URL.Path == "/v1/books/cut" && down.Load():
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "half") //nolint:errcheck // the client is the gateway
		case r.URL.Path == "/v1/books/events":
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "data: one\n\n") //nolint:errcheck // the client is the gateway
			w.(http.Flusher).Flush()
			<-release
		default:
			w.Header().Set("Cache-Control", "max-age=0, stale-if-error=60")
			io.WriteString(w, "good") //nolint:errcheck // the client is the gateway
		}
	})
	h := open(t, func(s *Settings) {
		(&library{url: up}).settings(s)
		s.Features["books"].Timeout = config.Duration(100 * time.Millisecond)
	})
	h.want("/v1/books/slow", "good")
	h.want("/v1/books/cut", "good")
	down.Store(true)
	for _, path := range []string{"/v1/books/slow", "/v1/books/cut"} {
		if res, body := h.get(path); body != "good" || res.Header.Get("Landline-Degraded") != "stale" {
			t.Errorf("%s: %q %v", path, body, res.Header)
		}
	}
	res, err := h.client.Get(h.url + "/v1/books/events")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	buf := make([]byte, 11)
	if _, err := io.ReadFull(res.Body, buf); err != nil || string(buf) != "data: one\n\n" {
		t.Errorf("an event is held back: %q %v", buf, err)
	}
	close(release)
}

func TestCacheConfigFaults(t *testing.T) {
	const base = `
upstreams: {up: {targets: [{url: "http://127.0.0.1:1"}]}}
cache: {memory: 8MiB}
features:
  f: {auth: none, routes: [{match: "GET /a", upstream: up}], `
	for text, want := range map[string]string{
		"cache: {ttl: 30s, vary_by: [user, \"header:X-A\"], statuses: [200, 404]}}": "",
		"cache: {}}":                             "",
		"cache: {ttl: -1s}}":                     "features.f.cache.ttl",
		"cache: {ttl: 1s, methods: [POST]}}":     "features.f.cache.methods",
		"cache: {ttl: 1s, statuses: [206]}}":     "features.f.cache.statuses",
		"cache: {ttl: 1s, vary_by: [everyone]}}": "features.f.cache.vary_by",
		"cache: {ttl: 1s, max_body: 1GiB}}":      "features.f.cache.max_body",
		"cache: {ttl: 1s}, headers: {request: {set: {X-User: \"{user_id}\"}}}}":                                                           "add user to vary_by",
		"cache: {ttl: 1s, vary_by: [installation]}, headers: {request: {set: {X-User: \"{user_id}\"}}}}":                                  "",
		"cache: {ttl: 1s, vary_by: [client_version]}, headers: {request: {add: {X-V: \"{client.version}\"}, set: {X-F: \"{feature}\"}}}}": "",
	} {
		s := DefaultSettings()
		err := config.LoadBytes("test.yaml", []byte(base+text), Sections(s), config.Env{})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func BenchmarkCacheHit(b *testing.B) {
	c := newCached(b, nil)
	c.answer = func(_ int, _ *Exchange, w http.ResponseWriter, _ *http.Request) error {
		said(w, 200, strings.Repeat("x", 1024), "Content-Type", "application/json", "Cache-Control", "max-age=3600", "ETag", `"1"`)
		return nil
	}
	r, err := http.NewRequest(http.MethodGet, "http://api.example.com/v1/flights/7?lang=de", nil)
	if err != nil {
		b.Fatal(err)
	}
	w := &discarding{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		if err := c.handler(&Exchange{Route: c.rt, path: "/v1/flights/7"}, w, r); err != nil {
			b.Fatal(err)
		}
	}
	if c.calls.Load() != 1 {
		b.Errorf("%d calls", c.calls.Load())
	}
}

type discarding struct{ header http.Header }

func (d *discarding) Header() http.Header         { return d.header }
func (d *discarding) Write(b []byte) (int, error) { return len(b), nil }
func (d *discarding) WriteHeader(int)             {}
