package admin_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/admin"
	"landline/internal/bus"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/secret"
	"landline/internal/testkit"
)

func TestEveryOperationNeedsItsRole(t *testing.T) {
	w := newWorld(t, testkit.SQLite)
	s, err := admin.New(w.options)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for path, item := range s.OpenAPI().Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op == nil {
				continue
			}
			n++
			target, least := strings.ReplaceAll(path, "{id}", "424242"), module.RoleOf(op)
			want(t, w.call("", op.Method, target, ""), 401, problem.TokenMissing)
			for role := range w.tokens {
				if !role.Allows(least) {
					want(t, w.as(role, op.Method, target, ""), 403, problem.Forbidden)
				}
			}
		}
	}
	if n < 18 {
		t.Errorf("only %d operations", n)
	}
	want(t, w.as(module.Operator, "GET", "/admin/v1/undeclared", ""), 403, problem.Forbidden)
	want(t, w.as(module.Owner, "GET", "/admin/v1/undeclared", ""), 204, "")
}

func TestBadTokens(t *testing.T) {
	w := newWorld(t, testkit.SQLite)
	good := w.tokens[module.Owner]
	other := admin.TokenPrefix + base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	for name, header := range map[string][]string{
		"another token":      {"Authorization", "Bearer " + other},
		"no prefix":          {"Authorization", "Bearer " + good[4:]},
		"cut":                {"Authorization", "Bearer " + good[:len(good)-1]},
		"longer":             {"Authorization", "Bearer " + good + "A"},
		"another scheme":     {"Authorization", "Basic " + good},
		"no scheme":          {"Authorization", good},
		"empty":              {"Authorization", ""},
		"two headers":        {"Authorization", "Bearer " + good, "Authorization", "Bearer " + good},
		"two spaces":         {"Authorization", "Bearer  " + good},
		"not base64url":      {"Authorization", "Bearer " + admin.TokenPrefix + strings.Repeat("!", 43)},
		"a token in a query": {"X", "y"},
	} {
		t.Run(name, func(t *testing.T) {
			code, path := problem.TokenInvalid, "/admin/v1/status"
			if header[0] == "X" {
				code, path = problem.TokenMissing, "/admin/v1/status?access_token="+good
			}
			a := want(t, w.call("", "GET", path, "", header...), 401, code)
			if strings.Contains(a.raw, good[4:]) || a.header.Get("WWW-Authenticate") == "" {
				t.Errorf("the answer repeats the token or has no challenge: %s %v", a.raw, a.header)
			}
			w.clock.Advance(time.Minute)
		})
	}
	if a := w.call("", "GET", "/admin/v1/status", "", "Authorization", "bearer "+good); a.status != 200 {
		t.Errorf("the scheme's case matters: %d", a.status)
	}
	if strings.Contains(w.logs.String(), good[4:]) {
		t.Error("a token is in the log")
	}
}

// A bad token is refused where none is needed, too.
func TestABadTokenIsRefusedEverywhere(t *testing.T) {
	w := newWorld(t, testkit.SQLite)
	bad := admin.TokenPrefix + base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	want(t, w.call(bad, "GET", "/metrics", ""), 401, problem.TokenInvalid)
	want(t, w.call(bad, "GET", "/healthz", ""), 401, problem.TokenInvalid)
}

func TestAnAddressWithTooManyBadTokensIsTurnedAway(t *testing.T) {
	w := newWorld(t, testkit.SQLite)
	bad := admin.TokenPrefix + strings.Repeat("A", 43)
	for range 20 {
		want(t, w.call(bad, "GET", "/admin/v1/status", ""), 401, problem.TokenInvalid)
	}
	a := want(t, w.call(bad, "GET", "/admin/v1/status", ""), 429, problem.RateLimited)
	if a.header.Get("Retry-After") != "6" {
		t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
	}
	want(t, w.call("not even a token", "GET", "/admin/v1/status", ""), 429, problem.RateLimited)
	w.clock.Advance(6 * time.Second)
	want(t, w.call(bad, "GET", "/admin/v1/status", ""), 401, problem.TokenInvalid)
	want(t, w.call(bad, "GET", "/admin/v1/status", ""), 429, problem.RateLimited)
}

// Operators who share an address with whoever sends bad tokens go on working,
// those too whom this node has not seen yet; removed ones do not.
func TestBadTokensDoNotShutOutGoodOnes(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		removed := want(t, w.as(module.Owner, "POST", "/admin/v1/operators", `{"name":"leaver","role":"viewer"}`), 201, "")
		leaver := removed.body["token"].(string)
		leaverID := removed.body["operator"].(map[string]any)["id"].(string)
		bad := admin.TokenPrefix + strings.Repeat("A", 43)
		for range 30 {
			w.call(bad, "GET", "/admin/v1/status", "")
		}
		want(t, w.call(bad, "GET", "/admin/v1/status", ""), 429, problem.RateLimited)
		for _, role := range []module.Role{module.Viewer, module.Support, module.Operator, module.Owner} {
			want(t, w.as(role, "GET", "/admin/v1/status", ""), 200, "")
		}
		want(t, w.call(leaver, "GET", "/admin/v1/status", ""), 200, "")
		added := want(t, w.as(module.Owner, "POST", "/admin/v1/operators", `{"name":"newcomer","role":"viewer"}`), 201, "")
		want(t, w.as(module.Owner, "DELETE", "/admin/v1/operators/"+leaverID, ""), 204, "")
		want(t, w.call(leaver, "GET", "/admin/v1/status", ""), 401, problem.TokenInvalid) // found out by the database, which was asked
		w.clock.Advance(10 * time.Second)
		for range 30 {
			w.call(bad, "GET", "/admin/v1/status", "")
		}
		want(t, w.call(added.body["token"].(string), "GET", "/admin/v1/status", ""), 200, "")
		want(t, w.call(leaver, "GET", "/admin/v1/status", ""), 429, problem.RateLimited)
	})
}

func TestBrowsersAndForeignNamesAreNoWayIn(t *testing.T) {
	w := newWorld(t, testkit.SQLite)
	for name, c := range map[string]struct {
		header []string
		status int
	}{
		"localhost":                {[]string{"Host", "localhost:8081"}, 200},
		"an IPv4 address":          {[]string{"Host", "10.0.0.7:8081"}, 200},
		"an IPv6 address":          {[]string{"Host", "[fd00::1]:8081"}, 200},
		"a configured name":        {[]string{"Host", "ADMIN.example"}, 200},
		"a rebound name":           {[]string{"Host", "evil.example:8081"}, 403},
		"a name with localhost in": {[]string{"Host", "localhost.evil.example"}, 403},
	} {
		a := w.as(module.Viewer, "GET", "/admin/v1/status", "", c.header...)
		if a.status != c.status {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
		if a := w.call("", "GET", "/metrics", "", c.header...); a.status != c.status {
			t.Errorf("%s, metrics: %d", name, a.status)
		}
	}
	want(t, w.as(module.Operator, "POST", "/admin/v1/config/reload", "", "Origin", "https://evil.example"), 403, problem.Forbidden)
	want(t, w.as(module.Operator, "POST", "/admin/v1/config/reload", "", "Sec-Fetch-Site", "cross-site"), 403, problem.Forbidden)
	a := w.as(module.Viewer, "OPTIONS", "/admin/v1/status", "", "Origin", "https://evil.example", "Access-Control-Request-Method", "GET")
	for name := range a.header {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("CORS header %s", name)
		}
	}
}

func TestLoopbackReadsMetricsAndHealthWithoutAToken(t *testing.T) {
	w := newWorld(t, testkit.SQLite)
	w.health.SetReady(true)
	for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
		if a := w.call("", "GET", path, ""); a.status != 200 {
			t.Errorf("%s from loopback: %d %s", path, a.status, a.raw)
		}
		for _, proxy := range []string{"X-Forwarded-For", "Forwarded", "Via", "X-Real-Ip"} {
			want(t, w.call("", "GET", path, "", proxy, "192.0.2.1"), 401, problem.TokenMissing)
		}
		want(t, w.call("", "POST", path, ""), 401, problem.TokenMissing)
		if a := w.as(module.Viewer, "GET", path, "", "X-Forwarded-For", "192.0.2.1"); a.status != 200 {
			t.Errorf("%s with a token: %d", path, a.status)
		}
	}
	if a := w.call("", "GET", "/metrics", ""); !strings.Contains(a.raw, "landline_admin_requests_total") {
		t.Error("the registry's metrics are not served")
	}
	s, err := admin.New(w.options)
	if err != nil {
		t.Fatal(err)
	}
	for remote, status := range map[string]int{"127.0.0.1:1": 200, "[::1]:1": 200, "[::ffff:127.0.0.1]:1": 200, "10.1.2.3:1": 401, "[fd00::2]:1": 401, "junk": 401} {
		r := httptest.NewRequest(http.MethodGet, "http://localhost/metrics", nil)
		r.RemoteAddr = remote
		rec := httptest.NewRecorder()
		s.Handler().ServeHTTP(rec, r)
		if rec.Code != status {
			t.Errorf("metrics from %s: %d, want %d", remote, rec.Code, status)
		}
	}
}

func TestProfiles(t *testing.T) {
	production := newWorld(t, testkit.SQLite)
	want(t, production.call("", "GET", "/debug/pprof/", ""), 401, problem.TokenMissing)
	want(t, production.as(module.Support, "GET", "/debug/pprof/heap", ""), 403, problem.Forbidden)
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/goroutine?debug=1", "/debug/pprof/cmdline"} {
		if a := production.as(module.Operator, "GET", path, ""); a.status != 200 || len(a.raw) == 0 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	want(t, production.as(module.Operator, "GET", "/debug/pprof/nothing", ""), 404, problem.NotFound)
	for _, seconds := range []string{"0", "-1", "121", "x", "NaN", "1e9"} {
		want(t, production.as(module.Operator, "GET", "/debug/pprof/profile?seconds="+seconds, ""), 400, problem.InvalidRequest)
	}
	development := newWorld(t, testkit.SQLite, func(o *admin.Options) { o.Development = true })
	if a := development.call("", "GET", "/debug/pprof/", ""); a.status != 200 {
		t.Errorf("development from loopback: %d", a.status)
	}
	want(t, development.call("", "GET", "/debug/pprof/", "", "X-Forwarded-For", "192.0.2.1"), 401, problem.TokenMissing)
	want(t, development.call("", "GET", "/admin/v1/status", ""), 401, problem.TokenMissing)
}

func TestPathsAndMethodsThatAreNotThere(t *testing.T) {
	w := newWorld(t, testkit.SQLite)
	want(t, w.call("", "GET", "/admin/v1/nothing", ""), 401, problem.TokenMissing)
	want(t, w.as(module.Viewer, "GET", "/admin/v1/nothing", ""), 404, problem.RouteNotFound)
	want(t, w.as(module.Viewer, "GET", "/", ""), 404, problem.RouteNotFound)
	want(t, w.as(module.Viewer, "GET", "//", ""), 404, problem.RouteNotFound)
	want(t, w.as(module.Viewer, "GET", "/admin//v1/status", ""), 404, problem.RouteNotFound)
	want(t, w.as(module.Viewer, "GET", "/admin/v1/x/../status", ""), 404, problem.RouteNotFound)
	want(t, w.as(module.Viewer, "GET", "/admin/v1/status/", ""), 404, problem.RouteNotFound)
	a := want(t, w.as(module.Viewer, "DELETE", "/admin/v1/status", ""), 405, problem.MethodNotAllowed)
	if a.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("Allow: %q", a.header.Get("Allow"))
	}
	want(t, w.as(module.Viewer, "GET", "/admin/v1/status?nope=1", ""), 400, problem.UnknownField)
	if a := w.as(module.Viewer, "HEAD", "/admin/v1/status", ""); a.status != 200 || a.raw != "" {
		t.Errorf("HEAD: %d %q", a.status, a.raw)
	}
}

func TestAPanicIsAnAnswer(t *testing.T) {
	w := newWorld(t, testkit.SQLite)
	a := want(t, w.as(module.Viewer, "GET", "/admin/v1/panics", ""), 500, problem.Internal)
	if strings.Contains(a.raw, "hunter2") {
		t.Errorf("the cause is shown: %s", a.raw)
	}
	if !strings.Contains(w.logs.String(), "hunter2") || !strings.Contains(w.logs.String(), "access_test.go") && !strings.Contains(w.logs.String(), "harness_test.go") {
		t.Error("the log has neither the cause nor the stack")
	}
}

func TestTokensOutliveKeyRotations(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		for range 3 {
			want(t, w.as(module.Owner, "POST", "/admin/v1/keys/rotate", `{"purpose":"operator-token"}`), 200, "")
			for role := range w.tokens {
				want(t, w.as(role, "GET", "/admin/v1/operators/me", ""), 200, "")
			}
			w.clock.Advance(time.Hour)
		}
		// Used tokens have moved to the current key, so that old keys can be dropped.
		for role := range w.tokens {
			want(t, w.as(role, "GET", "/admin/v1/operators/me", ""), 200, "")
		}
		for _, k := range w.ring.Keys() {
			if k.Purpose == "operator-token" && k.State == secret.Previous && k.Version > 1 {
				want(t, w.as(module.Owner, "DELETE", "/admin/v1/keys/"+k.ID, ""), 204, "")
			}
		}
		for role := range w.tokens {
			want(t, w.as(role, "GET", "/admin/v1/operators/me", ""), 200, "")
		}
	})
}

// When the database is away, whoever has read metrics lately still can; the API cannot.
func TestMetricsStayReadableWithoutTheDatabase(t *testing.T) {
	cable, open := overCable(t)
	w := newWorld(t, open)
	far := []string{"X-Forwarded-For", "192.0.2.1"}
	want(t, w.as(module.Viewer, "GET", "/metrics", "", far...), 200, "")
	cable.cut()
	want(t, w.as(module.Viewer, "GET", "/metrics", "", far...), 200, "")
	a := w.as(module.Viewer, "GET", "/admin/v1/status", "")
	want(t, a, 503, problem.StorageUnavailable)
	want(t, w.as(module.Support, "GET", "/metrics", "", far...), 503, problem.StorageUnavailable)
	w.clock.Advance(5*time.Minute + time.Second)
	want(t, w.as(module.Viewer, "GET", "/metrics", "", far...), 503, problem.StorageUnavailable)
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

// While the database is away for a node, the news that an operator was removed
// by another one still reaches it; so does the news that news may be missing.
func TestARemovedOperatorIsForgottenWithoutTheDatabase(t *testing.T) {
	far := []string{"X-Forwarded-For", "192.0.2.1"}
	for name, tell := range map[string]func(*world, bus.Bus, string){
		"the operator changed": func(w *world, b bus.Bus, id string) {
			if err := b.Publish(w.t.Context(), "admin.operator", []byte(`{"id":"`+id+`"}`)); err != nil {
				w.t.Fatal(err)
			}
		},
		"messages were missed": func(w *world, b bus.Bus, _ string) { // one that cannot be read counts as missed
			if err := b.Publish(w.t.Context(), "admin.operator", []byte(`{`)); err != nil {
				w.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			cable, open := overCable(t)
			b := bus.NewMemory()
			defer b.Close()
			w := newWorld(t, open, func(o *admin.Options) { o.Bus = b })
			id := want(t, w.as(module.Viewer, "GET", "/admin/v1/operators/me", ""), 200, "").body["id"].(string)
			want(t, w.as(module.Viewer, "GET", "/metrics", "", far...), 200, "")
			cable.cut()
			want(t, w.as(module.Viewer, "GET", "/metrics", "", far...), 200, "")
			heard := make(chan struct{}, 1)
			news := func() {
				select {
				case heard <- struct{}{}:
				default:
				}
			}
			defer b.Subscribe("admin.operator", func([]byte) { news() })()
			defer b.OnGap(news)()
			tell(w, b, id)
			<-heard
			for range 100 { // each subscriber has a goroutine of its own: the node may hear a moment later
				if w.as(module.Viewer, "GET", "/metrics", "", far...).status == 503 {
					return
				}
			}
			t.Error("the operator is still known")
		})
	}
}

// The node that removes an operator tells the others.
func TestAChangeOfAnOperatorIsPublished(t *testing.T) {
	b := bus.NewMemory()
	defer b.Close()
	w := newWorld(t, testkit.SQLite, func(o *admin.Options) { o.Bus = b })
	news := make(chan string, 10)
	defer b.Subscribe("admin.operator", func(payload []byte) { news <- string(payload) })()
	id := want(t, w.as(module.Viewer, "GET", "/admin/v1/operators/me", ""), 200, "").body["id"].(string)
	want(t, w.as(module.Owner, "DELETE", "/admin/v1/operators/"+id, ""), 204, "")
	if got := <-news; got != `{"id":"`+id+`"}` {
		t.Errorf("published is %s", got)
	}
}
