package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"landline/internal/clock"
	"landline/internal/config"
	"landline/internal/module"
	"landline/internal/observe"
	"landline/internal/problem"
)

// cached is a cache stage before an upstream that the test plays.
type cached struct {
	g       *Gateway
	rt      *Route
	handler Handler
	calls   atomic.Int64
	answer  func(n int, x *Exchange, w http.ResponseWriter, r *http.Request) error
}

// newCached makes one; change may be nil. inner are stages behind the cache.
func newCached(t testing.TB, change func(f *FeatureConfig), inner ...Stage) *cached {
	t.Helper()
	log, registry := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	g, err := New(Options{
		App: module.App{ID: "com.example.test"}, Clock: clock.System, Log: log, Registry: registry,
		Tracer: observe.NewTracer(observe.TracerConfig{}, http.DefaultClient, log, registry), Health: observe.NewHealth(),
	})
	if err != nil {
		t.Fatal(err)
	}
	policy := &FeatureConfig{Cache: &CacheConfig{}}
	policy.Cache.Defaults()
	policy.Cache.TTL = config.Duration(time.Minute)
	if change != nil {
		change(policy)
	}
	c := &cached{g: g, rt: &Route{Feature: "f", Match: "GET /{rest...}", Auth: module.AuthNone, Policy: policy}}
	if policy.Auth != "" {
		c.rt.Auth = policy.Auth
	}
	c.answer = func(n int, _ *Exchange, w http.ResponseWriter, _ *http.Request) error {
		fmt.Fprintf(w, "answer %d", n)
		return nil
	}
	stages := append([]Stage{g.cacheStage(c.rt)}, inner...)
	c.handler = chain(stages, func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
		x.UpstreamTook, x.Sent = 10*time.Millisecond, true
		return c.answer(int(c.calls.Add(1)), x, w, r)
	})
	g.cache.apply(&table{settings: DefaultSettings(), features: []*feature{{name: "f", policy: policy, routes: []*Route{c.rt}}}})
	t.Cleanup(g.cache.close)
	return c
}

// user makes a request that of a signed-in user.
func user(name string) func(*Exchange) {
	return func(x *Exchange) {
		x.Principal = &module.Principal{UserID: name, InstallationID: "ins_of_" + name}
	}
}

func (c *cached) do(ctx context.Context, method, path string, header []string, change ...func(*Exchange)) (*httptest.ResponseRecorder, *Exchange, error) {
	r := httptest.NewRequest(method, path, nil).WithContext(ctx)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	x := &Exchange{Route: c.rt, Start: time.Now(), path: r.URL.EscapedPath()}
	for _, f := range change {
		f(x)
	}
	w := httptest.NewRecorder()
	err := c.handler(x, w, r)
	return w, x, err
}

func (c *cached) get(t testing.TB, path string, header ...string) (*httptest.ResponseRecorder, string) {
	t.Helper()
	w, _, err := c.do(t.Context(), http.MethodGet, path, header)
	if err != nil {
		t.Fatal(err)
	}
	return w, w.Body.String()
}

// said sets the header of an answer and writes a body.
func said(w http.ResponseWriter, status int, body string, header ...string) {
	for i := 0; i < len(header); i += 2 {
		w.Header().Add(header[i], header[i+1])
	}
	w.WriteHeader(status)
	io.WriteString(w, body) //nolint:errcheck // the client is the test
}

func TestCacheHitMissAndAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, nil)
		w, body := c.get(t, "/a")
		if body != "answer 1" || w.Header().Get("Cache-Status") != "Landline; fwd=miss; fwd-status=200; stored" {
			t.Fatalf("%q %v", body, w.Header())
		}
		time.Sleep(20 * time.Second)
		w, body = c.get(t, "/a")
		if body != "answer 1" || w.Header().Get("Age") != "20" || w.Header().Get("Cache-Status") != "Landline; hit; ttl=40" || w.Header().Get("Date") == "" || w.Header().Get("Content-Length") != "8" {
			t.Fatalf("%q %v", body, w.Header())
		}
		if _, body := c.get(t, "/a?x=1"); body != "answer 2" {
			t.Errorf("another query: %q", body)
		}
		if _, body := c.get(t, "/b"); body != "answer 3" {
			t.Errorf("another path: %q", body)
		}
		time.Sleep(40 * time.Second)
		if _, body := c.get(t, "/a"); body != "answer 4" {
			t.Errorf("after its lifetime: %q", body)
		}
	})
}

func TestCacheAnswersHeadRangesAndConditions(t *testing.T) {
	c := newCached(t, nil)
	modified := time.Unix(1700000000, 0).UTC().Format(http.TimeFormat)
	c.answer = func(_ int, _ *Exchange, w http.ResponseWriter, r *http.Request) error {
		for _, name := range []string{"If-None-Match", "If-Modified-Since", "Range", "If-Range"} {
			if r.Method == http.MethodGet && r.Header.Get("X-Direct") == "" && r.Header.Get(name) != "" {
				t.Errorf("the upstream of a fill sees %s", name)
			}
		}
		said(w, 200, "0123456789", "ETag", `"v1"`, "Last-Modified", modified, "Content-Type", "text/plain")
		return nil
	}
	if w, _, _ := c.do(t.Context(), "HEAD", "/a", nil); w.Header().Get("Cache-Status") != "Landline; fwd=miss" {
		t.Errorf("HEAD fills nothing: %v", w.Header())
	}
	if w, _, _ := c.do(t.Context(), "GET", "/a", []string{"Range", "bytes=0-1", "X-Direct", "1"}); w.Header().Get("Cache-Status") != "Landline; fwd=miss" {
		t.Errorf("a range fills nothing: %v", w.Header())
	}
	if w, body := c.get(t, "/a", "If-None-Match", `"v1"`); w.Code != 304 || body != "" || w.Header().Get("Etag") != `"v1"` || w.Header().Get("Content-Type") != "" {
		t.Errorf("a condition on a miss is judged by the new answer: %d %q %v", w.Code, body, w.Header())
	}
	calls := c.calls.Load()
	for _, row := range []struct {
		method string
		header []string
		status int
		body   string
		want   map[string]string
	}{
		{"GET", nil, 200, "0123456789", map[string]string{"Content-Length": "10", "Content-Type": "text/plain"}},
		{"HEAD", nil, 200, "", map[string]string{"Content-Length": "10"}},
		{"HEAD", []string{"Range", "bytes=0-1"}, 200, "", map[string]string{"Content-Length": "10"}},
		{"GET", []string{"Range", "bytes=2-4"}, 206, "234", map[string]string{"Content-Range": "bytes 2-4/10", "Content-Length": "3"}},
		{"GET", []string{"Range", "bytes=-2"}, 206, "89", map[string]string{"Content-Range": "bytes 8-9/10"}},
		{"GET", []string{"Range", "bytes=20-"}, 416, "", map[string]string{"Content-Range": "bytes */10"}},
		{"GET", []string{"Range", "bytes=0-1", "If-Range", `"v2"`}, 200, "0123456789", nil},
		{"GET", []string{"Range", "bytes=0-1", "If-None-Match", `"v1"`}, 304, "", nil},
		{"GET", []string{"If-None-Match", `"v2"`}, 200, "0123456789", nil},
		{"HEAD", []string{"If-Modified-Since", modified}, 304, "", map[string]string{"Last-Modified": modified}},
	} {
		w, _, err := c.do(t.Context(), row.method, "/a", row.header)
		if err != nil || w.Code != row.status || w.Body.String() != row.body || !strings.HasPrefix(w.Header().Get("Cache-Status"), "Landline; hit") {
			t.Errorf("%s %v: %d %q %v %v", row.method, row.header, w.Code, w.Body, w.Header(), err)
		}
		for name, want := range row.want {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s %v: %s is %q, want %q", row.method, row.header, name, got, want)
			}
		}
	}
	if n := c.calls.Load(); n != calls {
		t.Errorf("%d calls for stored answers", n-calls)
	}
	for _, name := range []string{"If-Match", "If-Unmodified-Since"} { // RFC 9111 §4.3.2: not for caches to judge
		if w, _ := c.get(t, "/a", name, `"v1"`, "X-Direct", "1"); w.Header().Get("Cache-Status") != "Landline; fwd=bypass" {
			t.Errorf("%s: %v", name, w.Header())
		}
	}
}

func TestCacheRevalidates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, nil)
		tag := `"v1"`
		c.answer = func(n int, _ *Exchange, w http.ResponseWriter, r *http.Request) error {
			if r.Header.Get("If-None-Match") == tag {
				said(w, 304, "", "ETag", tag, "X-Fresh", fmt.Sprint(n))
				return nil
			}
			said(w, 200, fmt.Sprint("body ", n), "ETag", tag, "X-Fresh", fmt.Sprint(n), "Surrogate-Key", "k")
			return nil
		}
		c.get(t, "/a")
		time.Sleep(time.Minute)
		w, body := c.get(t, "/a", "If-None-Match", `"client has another"`)
		if body != "body 1" || w.Code != 200 || w.Header().Get("X-Fresh") != "2" || w.Header().Get("Cache-Status") != "Landline; fwd=stale; fwd-status=304; stored" || w.Header().Get("Age") != "0" {
			t.Errorf("%d %q %v", w.Code, body, w.Header())
		}
		if w, body := c.get(t, "/a"); body != "body 1" || !strings.Contains(w.Header().Get("Cache-Status"), "hit; ttl=60") {
			t.Errorf("the 304 gives a new lifetime: %q %v", body, w.Header())
		}
		time.Sleep(time.Minute)
		if w, _, err := c.do(t.Context(), http.MethodHead, "/a", nil); err != nil || w.Header().Get("Content-Length") != "6" || c.calls.Load() != 3 {
			t.Errorf("HEAD on a stale copy validates it: %v %v", w.Header(), err)
		}
		tag = `"v2"`
		time.Sleep(time.Minute)
		if w, body := c.get(t, "/a"); body != "body 4" || w.Header().Get("Cache-Status") != "Landline; fwd=stale; fwd-status=200; stored" {
			t.Errorf("a new answer replaces the old one: %q %v", body, w.Header())
		}
		if n, err := c.g.cache.store.Load().Stats(), error(nil); n.Entries != 1 || err != nil {
			t.Errorf("%+v", n)
		}
	})
}

func TestCacheA304AboutAnotherAnswerIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, nil)
		c.answer = func(n int, _ *Exchange, w http.ResponseWriter, r *http.Request) error {
			if n == 2 {
				said(w, 304, "", "ETag", `"other"`)
				return nil
			}
			if n == 3 && r.Header.Get("If-None-Match") != "" {
				t.Error("asked with the same condition again")
			}
			said(w, 200, fmt.Sprint("body ", n), "ETag", `"v1"`)
			return nil
		}
		c.get(t, "/a")
		time.Sleep(time.Minute)
		if _, body := c.get(t, "/a"); body != "body 3" {
			t.Errorf("%q", body)
		}
	})
}

func TestCacheA304ThatForbidsStoring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, nil)
		c.answer = func(n int, _ *Exchange, w http.ResponseWriter, _ *http.Request) error {
			if n == 2 {
				said(w, 304, "", "ETag", `"v1"`, "Cache-Control", "no-store")
				return nil
			}
			said(w, 200, fmt.Sprint("body ", n), "ETag", `"v1"`)
			return nil
		}
		c.get(t, "/a")
		time.Sleep(time.Minute)
		if _, body := c.get(t, "/a"); body != "body 1" {
			t.Errorf("%q", body)
		}
		if _, body := c.get(t, "/a"); body != "body 3" {
			t.Errorf("kept against no-store: %q", body)
		}
	})
}

func TestCacheCollapsesParallelRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, nil)
		c.answer = func(n int, _ *Exchange, w http.ResponseWriter, _ *http.Request) error {
			time.Sleep(time.Second)
			fmt.Fprintf(w, "answer %d", n)
			return nil
		}
		var wg sync.WaitGroup
		var collapsed atomic.Int64
		for range 100 {
			wg.Go(func() {
				w, body := c.get(t, "/a")
				if body != "answer 1" {
					t.Errorf("%q", body)
				}
				if strings.Contains(w.Header().Get("Cache-Status"), "collapsed") {
					collapsed.Add(1)
				}
			})
		}
		wg.Wait()
		if c.calls.Load() != 1 || collapsed.Load() != 99 {
			t.Errorf("%d calls, %d collapsed", c.calls.Load(), collapsed.Load())
		}
	})
}

func TestCacheFillOutlivesItsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, nil)
		c.answer = func(n int, _ *Exchange, w http.ResponseWriter, r *http.Request) error {
			select {
			case <-time.After(time.Second):
				fmt.Fprintf(w, "answer %d", n)
				return nil
			case <-r.Context().Done():
				return errClientGone
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { c.do(ctx, http.MethodGet, "/a", nil) }) //nolint:errcheck // its client is gone
		synctest.Wait()
		wg.Go(func() {
			if _, body := c.get(t, "/a"); body != "answer 1" {
				t.Errorf("%q", body)
			}
		})
		gone, leave := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, _, err := c.do(gone, http.MethodGet, "/a", nil); !errors.Is(err, errClientGone) {
				t.Errorf("a client that leaves while it waits: %v", err)
			}
		})
		synctest.Wait()
		cancel()
		leave()
		wg.Wait()
		if c.calls.Load() != 1 {
			t.Errorf("%d calls", c.calls.Load())
		}
	})
}

func TestCacheFailedFillFailsThoseWhoWaitAndNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, nil)
		down := problem.New(problem.UpstreamUnreachable, "down")
		c.answer = func(n int, _ *Exchange, w http.ResponseWriter, _ *http.Request) error {
			time.Sleep(time.Second)
			if n == 1 {
				return down
			}
			fmt.Fprintf(w, "answer %d", n)
			return nil
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, _, err := c.do(t.Context(), http.MethodGet, "/a", nil); !errors.Is(err, down) {
					t.Errorf("%v", err)
				}
			})
		}
		wg.Wait()
		if _, body := c.get(t, "/a"); body != "answer 2" {
			t.Errorf("%q", body)
		}
	})
}

func TestCachePanickingFillFreesThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, nil)
		c.answer = func(n int, _ *Exchange, w http.ResponseWriter, _ *http.Request) error {
			time.Sleep(time.Second)
			if n == 1 {
				panic("a fault of ours")
			}
			fmt.Fprintf(w, "answer %d", n)
			return nil
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic is lost")
				}
			}()
			c.do(t.Context(), http.MethodGet, "/a", nil) //nolint:errcheck // it panics
		})
		synctest.Wait()
		wg.Go(func() {
			if _, body := c.get(t, "/a"); body != "answer 2" {
				t.Errorf("%q", body)
			}
		})
		wg.Wait()
	})
}

func TestCacheUnstorableAnswersDoNotQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, nil)
		c.answer = func(n int, _ *Exchange, w http.ResponseWriter, _ *http.Request) error {
			time.Sleep(time.Second)
			said(w, 200, fmt.Sprint("answer ", n), "Cache-Control", "no-store")
			return nil
		}
		began := time.Now()
		var bodies sync.Map
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { _, body := c.get(t, "/a"); bodies.Store(body, true) })
		}
		wg.Wait()
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("took %v: one waits for the first, then all go at once", took)
		}
		for range 20 {
			wg.Go(func() { _, body := c.get(t, "/a"); bodies.Store(body, true) })
		}
		wg.Wait()
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("took %v: nobody waits for an answer that is known not to be for sharing", took)
		}
		n := 0
		bodies.Range(func(any, any) bool { n++; return true })
		if n != 40 {
			t.Errorf("%d answers for 40 requests", n)
		}
	})
}

func TestCacheStaleWhileRevalidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, func(f *FeatureConfig) { f.Cache.StaleWhileRevalidate = config.Duration(time.Minute) })
		c.answer = func(n int, _ *Exchange, w http.ResponseWriter, _ *http.Request) error {
			time.Sleep(5 * time.Second)
			fmt.Fprintf(w, "answer %d", n)
			return nil
		}
		c.get(t, "/a")
		time.Sleep(70 * time.Second)
		began := time.Now()
		for range 10 {
			w, body := c.get(t, "/a")
			if body != "answer 1" || w.Header().Get("Cache-Status") != "Landline; hit; ttl=-15" || w.Header().Get("Landline-Degraded") != "" {
				t.Errorf("%q %v", body, w.Header())
			}
		}
		if time.Since(began) != 0 {
			t.Error("somebody waited")
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if _, body := c.get(t, "/a"); body != "answer 2" || c.calls.Load() != 2 {
			t.Errorf("%q after %d calls", body, c.calls.Load())
		}
		time.Sleep(121 * time.Second)
		if _, body := c.get(t, "/a"); body != "answer 3" {
			t.Errorf("beyond the window: %q", body)
		}
	})
}

func TestCacheBackgroundRefreshesAreBoundedAndEndWithTheGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, func(f *FeatureConfig) { f.Cache.StaleWhileRevalidate = config.Duration(time.Hour) })
		hang := false
		var running, most atomic.Int64
		c.answer = func(n int, _ *Exchange, w http.ResponseWriter, r *http.Request) error {
			if hang {
				most.Store(max(most.Load(), running.Add(1)))
				defer running.Add(-1)
				<-r.Context().Done()
				if n%2 == 0 {
					panic("a fault of ours")
				}
				return errClientGone
			}
			fmt.Fprintf(w, "answer %d", n)
			return nil
		}
		for i := range 200 {
			c.get(t, fmt.Sprint("/", i))
		}
		time.Sleep(time.Minute)
		hang = true
		for i := range 200 {
			c.get(t, fmt.Sprint("/", i))
			synctest.Wait()
		}
		if running.Load() != maxRefreshes {
			t.Errorf("%d refreshes at once, want %d", running.Load(), maxRefreshes)
		}
		c.g.cache.close()
		if running.Load() != 0 {
			t.Error("refreshes go on after the gateway has ended")
		}
	})
}

func TestCacheStaleIfError(t *testing.T) {
	failures := map[string]func(w http.ResponseWriter, r *http.Request) error{
		"503":          func(w http.ResponseWriter, _ *http.Request) error { said(w, 503, "broken"); return nil },
		"500":          func(w http.ResponseWriter, _ *http.Request) error { said(w, 500, "broken"); return nil },
		"unreachable":  func(http.ResponseWriter, *http.Request) error { return problem.New(problem.UpstreamUnreachable, "") },
		"timeout":      func(http.ResponseWriter, *http.Request) error { return problem.New(problem.UpstreamTimeout, "") },
		"breaker open": func(http.ResponseWriter, *http.Request) error { return problem.New(problem.FeatureUnavailable, "") },
		"cut short": func(w http.ResponseWriter, _ *http.Request) error {
			said(w, 200, "half an ans")
			return problem.New(problem.UpstreamInvalid, "cut short")
		},
	}
	for name, fail := range failures {
		for _, row := range []struct {
			rule   string
			header []string
			stale  bool
		}{
			{"policy", nil, true},
			{"of the service", []string{"Cache-Control", "max-age=60, stale-if-error=3600"}, true},
			{"must-revalidate", []string{"Cache-Control", "max-age=60, must-revalidate"}, false},
			{"proxy-revalidate", []string{"Cache-Control", "max-age=60, proxy-revalidate"}, false},
			{"s-maxage", []string{"Cache-Control", "s-maxage=60"}, false},
			{"no-cache", []string{"Cache-Control", "no-cache", "ETag", `"1"`}, false},
			{"zero of the service", []string{"Cache-Control", "max-age=60, stale-if-error=0"}, false},
		} {
			t.Run(name+", "+row.rule, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newCached(t, func(f *FeatureConfig) { f.Cache.StaleIfError = config.Duration(time.Hour) })
					c.answer = func(n int, _ *Exchange, w http.ResponseWriter, r *http.Request) error {
						if n == 1 {
							said(w, 200, "good", row.header...)
							return nil
						}
						return fail(w, r)
					}
					c.get(t, "/a")
					time.Sleep(10 * time.Minute)
					w, x, err := c.do(t.Context(), http.MethodGet, "/a", nil)
					if !row.stale {
						if err == nil && w.Code < 500 || x.Degraded != "" || strings.Contains(w.Body.String(), "good") {
							t.Errorf("given against the rule: %d %q %v", w.Code, w.Body, err)
						}
						return
					}
					if err != nil || w.Code != 200 || w.Body.String() != "good" || w.Header().Get("Landline-Degraded") != "stale" || x.Degraded != "stale" || x.Cause == nil ||
						w.Header().Get("Age") != "600" || !strings.Contains(w.Header().Get("Cache-Status"), "fwd=stale") {
						t.Errorf("%d %q %v %v", w.Code, w.Body, w.Header(), err)
					}
					time.Sleep(time.Hour)
					if w, _, err := c.do(t.Context(), http.MethodGet, "/a", nil); err == nil && w.Code < 500 {
						t.Errorf("given beyond its time: %d %q", w.Code, w.Body)
					}
				})
			})
		}
	}
}

func TestCacheStaleCopyBeforeStockAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *cached
		stockAnswer := func(next Handler) Handler { // as the fallback stage does
			return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
				if err := next(x, w, r); err != nil {
					x.Degraded, x.Cause, x.stock = "fallback", err, true
					said(w, 200, "stock", "Landline-Degraded", "fallback", "Cache-Control", "no-store")
				}
				return nil
			}
		}
		c = newCached(t, func(f *FeatureConfig) { f.Cache.StaleIfError = config.Duration(time.Hour) }, stockAnswer)
		down := false
		c.answer = func(_ int, _ *Exchange, w http.ResponseWriter, _ *http.Request) error {
			time.Sleep(time.Second)
			if down {
				return problem.New(problem.UpstreamTimeout, "")
			}
			said(w, 200, "good")
			return nil
		}
		c.get(t, "/a")
		time.Sleep(time.Minute)
		down = true
		w, x, err := c.do(t.Context(), http.MethodGet, "/a", nil)
		if err != nil || w.Body.String() != "good" || w.Header().Get("Landline-Degraded") != "stale" || x.Degraded != "stale" || w.Header().Get("Cache-Control") != "" {
			t.Errorf("%q %v %v", w.Body, w.Header(), err)
		}
		calls := c.calls.Load()
		var wg sync.WaitGroup
		for range 20 { // nothing stored: all get the stock answer of the first, which nobody stores
			wg.Go(func() {
				w, x, err := c.do(t.Context(), http.MethodGet, "/b", nil)
				if err != nil || w.Body.String() != "stock" || x.Degraded != "fallback" || w.Header().Get("Landline-Degraded") != "fallback" || w.Header().Get("Cache-Control") != "no-store" {
					t.Errorf("%q %v %v", w.Body, w.Header(), err)
				}
			})
		}
		wg.Wait()
		if n := c.calls.Load() - calls; n != 1 {
			t.Errorf("%d calls", n)
		}
		down = false
		if _, body := c.get(t, "/b"); body != "good" {
			t.Errorf("the stock answer was stored: %q", body)
		}
	})
}

func TestCachePassesOnWhatItMayNotStore(t *testing.T) {
	for name, header := range map[string][]string{
		"no-store": {"Cache-Control", "no-store"}, "private": {"Cache-Control", "private, max-age=60"}, "set-cookie": {"Set-Cookie", "a=b"},
		"vary": {"Vary", "*"}, "events": {"Content-Type", "text/event-stream"}, "large": {"Content-Length", "2000000"}, "streamed": {"X-Accel-Buffering", "no"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCached(t, nil)
				first := httptest.NewRecorder()
				c.answer = func(_ int, _ *Exchange, w http.ResponseWriter, r *http.Request) error {
					said(w, 200, "first", header...)
					if first.Body.String() != "first" && c.calls.Load() == 1 {
						t.Error("held back")
					}
					if name == "events" {
						<-r.Context().Done() // ends when the client leaves
						return errClientGone
					}
					io.WriteString(w, " second") //nolint:errcheck // the client is the test
					return nil
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 1)
				go func() {
					r := httptest.NewRequest(http.MethodGet, "/a", nil).WithContext(ctx)
					done <- c.handler(&Exchange{Route: c.rt, path: "/a"}, first, r)
				}()
				synctest.Wait()
				cancel()
				if err := <-done; err != nil && name != "events" {
					t.Error(err)
				}
				if st := c.g.cache.store.Load().Stats(); st.Entries != 0 {
					t.Errorf("stored: %+v", st)
				}
			})
		})
	}
}

func TestCacheAnswerAboveTheCapPassesThrough(t *testing.T) {
	c := newCached(t, func(f *FeatureConfig) { f.Cache.MaxBody = 1000 })
	c.answer = func(_ int, _ *Exchange, w http.ResponseWriter, _ *http.Request) error {
		for range 100 {
			if _, err := io.WriteString(w, strings.Repeat("x", 100)); err != nil {
				return err
			}
		}
		return nil
	}
	if _, body := c.get(t, "/a"); len(body) != 10_000 {
		t.Errorf("%d bytes", len(body))
	}
	if st := c.g.cache.store.Load().Stats(); st.Entries != 0 {
		t.Errorf("stored: %+v", st)
	}
}

func TestCacheClientDirectives(t *testing.T) {
	for _, honoured := range []bool{false, true} {
		c := newCached(t, func(f *FeatureConfig) { f.Cache.IgnoreClientNoCache = !honoured })
		if _, _, err := c.do(t.Context(), http.MethodGet, "/a", []string{"Cache-Control", "only-if-cached"}); problem.From(err).Status() != 504 {
			t.Errorf("only-if-cached: %v", err)
		}
		c.get(t, "/a", "Cache-Control", "no-store")
		if _, body := c.get(t, "/a"); body != "answer 2" {
			t.Errorf("the answer to a no-store request was stored: %q", body)
		}
		want := "answer 2"
		if honoured {
			want = "answer 3"
		}
		if _, body := c.get(t, "/a", "Cache-Control", "no-cache"); body != want {
			t.Errorf("honoured=%v: %q", honoured, body)
		}
		if w, body := c.get(t, "/a", "Cache-Control", "only-if-cached"); body != want {
			t.Errorf("honoured=%v: %q %v", honoured, body, w.Header())
		}
	}
}

func TestCacheTellsNobodyWhoAsksWhereTheAnswerIsForAll(t *testing.T) {
	c := newCached(t, nil)
	c.answer = func(_ int, x *Exchange, w http.ResponseWriter, r *http.Request) error {
		if x.Principal != nil || r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
			t.Error("the upstream is told who asks")
		}
		said(w, 200, "for all")
		return nil
	}
	for _, path := range []string{"/a", "/a"} {
		_, x, err := c.do(t.Context(), http.MethodGet, path, []string{"Authorization", "Bearer t", "Cookie", "a=b"}, user("u"))
		if err != nil || x.Principal == nil {
			t.Errorf("%v, and afterwards the gateway must still know", err)
		}
	}
	if c.calls.Load() != 1 {
		t.Errorf("%d calls", c.calls.Load())
	}
}

// TestCacheUsersNeverMix lets users and installations ask in any order, with
// any policy that keeps them apart or does not, while the upstream answers
// with all sorts of headers. Whoever gets an answer must be the one that it was
// made for, unless the upstream has said that it is for all.
func TestCacheUsersNeverMix(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		vary := rapid.SampledFrom([][]string{nil, {"user"}, {"installation"}, {"user", "locale"}, {"platform"}, {"header:X-Group"}}).Draw(rt, "vary_by")
		c := newCached(t, func(f *FeatureConfig) {
			f.Auth = module.AuthAnonymous
			f.Cache.VaryBy = vary
			f.Cache.RespectUpstream = rapid.Bool().Draw(rt, "respect")
			f.Cache.StaleWhileRevalidate, f.Cache.StaleIfError = config.Duration(time.Hour), config.Duration(time.Hour)
		})
		said := map[string]http.Header{}
		for _, path := range []string{"/a", "/b", "/c"} {
			h := http.Header{}
			for name, values := range map[string][]string{
				"Cache-Control": {"", "private", "max-age=60", "private, max-age=60", "public, max-age=60", "s-maxage=9", "must-revalidate, max-age=5", "no-cache", "max-age=0", "no-store"},
				"Vary":          {"", "Accept", "Landline-Identity", "Authorization", "X-Group", "Cookie"}, "Etag": {"", `"1"`}, "Set-Cookie": {"", "", "s=1"},
			} {
				if v := rapid.SampledFrom(values).Draw(rt, path+name); v != "" {
					h.Set(name, v)
				}
			}
			said[path] = h
		}
		c.answer = func(_ int, x *Exchange, w http.ResponseWriter, r *http.Request) error {
			for name, values := range said[r.URL.Path] {
				w.Header()[name] = values
			}
			if r.Header.Get("If-None-Match") == `"1"` { // the same tag for everyone: the worst that can be
				w.WriteHeader(http.StatusNotModified)
				return nil
			}
			io.WriteString(w, x.Principal.UserID) //nolint:errcheck // the client is the test
			return nil
		}
		for range rapid.IntRange(1, 40).Draw(rt, "requests") {
			who, device := rapid.SampledFrom([]string{"ann", "bob", "cat"}).Draw(rt, "who"), rapid.SampledFrom([]string{"phone", "tablet"}).Draw(rt, "device")
			path := rapid.SampledFrom([]string{"/a", "/b", "/c"}).Draw(rt, "path")
			header := []string{"Authorization", "Bearer " + who, "X-Group", rapid.SampledFrom([]string{"1", "2"}).Draw(rt, "group")}
			w, _, err := c.do(t.Context(), http.MethodGet, path, header, func(x *Exchange) {
				x.Principal = &module.Principal{UserID: who, InstallationID: device} // devices change hands
			})
			if err != nil {
				rt.Fatal(err)
			}
			control := said[path].Get("Cache-Control")
			forAll := strings.Contains(control, "public") || strings.Contains(control, "s-maxage") || strings.Contains(control, "must-revalidate") // RFC 9111 §3.5
			partitioned := c.rt.Policy.Cache.partitioned()
			if got := w.Body.String(); got != who && (partitioned || !forAll) {
				rt.Fatalf("%s got the answer for %s: vary_by %v, answer %v", who, got, vary, said[path])
			}
		}
	})
}
