package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"landline/internal/config"
)

// aggregated opens a gateway with one aggregated route, whose yaml is the block
// aggregate; up is the upstream.
func aggregated(t testing.TB, url, match, block string, feature ...string) *house {
	t.Helper()
	text := fmt.Sprintf("upstreams:\n  up: {targets: [{url: %q}]}\n  gone: {targets: [{url: \"http://127.0.0.1:1\"}]}\nfeatures:\n  home:\n    auth: none\n    timeout: 5s\n%s    routes:\n      - match: %q\n%s",
		url, indent(strings.Join(feature, "\n"), 4), match, indent(block, 8))
	s := DefaultSettings()
	if err := config.LoadBytes("landline.yaml", []byte(text), Sections(s), config.Env{}); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return open(t, func(to *Settings) { *to = *s })
}

func indent(s string, by int) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString(strings.Repeat(" ", by) + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}

func jsonReply(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, body)
	}
}

// airline is the upstream of most tests.
func airline(change func(mux *http.ServeMux)) http.HandlerFunc {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /airports/{iata}", jsonReply(`{"iata":"WAW","latitude":52.1657,"longitude":20.9671,"name":"Warsaw"}`))
	mux.HandleFunc("GET /airports/{iata}/departures", jsonReply(`{"data":[{"flight":"LO1","gate":"A1"},{"flight":"LO2","gate":"A2"}],"page":{"next":null}}`))
	mux.HandleFunc("GET /at/{place}", func(w http.ResponseWriter, r *http.Request) {
		jsonReply(fmt.Sprintf(`{"now":{"place":%q,"c":7.50}}`, r.PathValue("place")))(w, r)
	})
	if change != nil {
		change(mux)
	}
	return mux.ServeHTTP
}

const homeBlock = `aggregate:
  calls:
    airport:    {upstream: up, path: "/airports/{airport}", required: true, timeout: 3s}
    departures: {upstream: up, path: "/airports/{airport}/departures", timeout: 500ms, fallback: {body: {data: []}}, pick: [data.flight]}
    weather:    {upstream: up, path: "/at/{airport.latitude},{airport.longitude}"}
  answer: {airport: airport, board: departures.data, weather: weather.now}
`

func TestAggregate(t *testing.T) {
	h := aggregated(t, serve(t, airline(nil)), "GET /v1/home/{airport}", homeBlock)
	const whole = `{"airport":{"iata":"WAW","latitude":52.1657,"longitude":20.9671,"name":"Warsaw"},"board":[{"flight":"LO1"},{"flight":"LO2"}],"weather":{"place":"52.1657,20.9671","c":7.50}}`
	res, body := h.get("/v1/home/WAW")
	if res.StatusCode != 200 || body != whole || res.Header.Get("Content-Type") != "application/json" || res.Header.Get("Landline-Partial") != "" {
		t.Errorf("%d %v %s", res.StatusCode, res.Header, body)
	}
	for query, want := range map[string]string{
		"?fields=board":                     `{"board":[{"flight":"LO1"},{"flight":"LO2"}]}`,
		"?fields=weather.c,airport.name":    `{"airport":{"name":"Warsaw"},"weather":{"c":7.50}}`,
		"?fields=airport.nothing":           `{"airport":{}}`,
		"?other=1":                          whole,
		"?fields=airport.name,airport.iata": `{"airport":{"iata":"WAW","name":"Warsaw"}}`,
	} {
		if res, body := h.get("/v1/home/WAW" + query); res.StatusCode != 200 || body != want {
			t.Errorf("%s: %d %s", query, res.StatusCode, body)
		}
	}
	for _, query := range []string{"?fields=nothing", "?fields=", "?fields=a..b", "?fields=airport&fields=board"} {
		if res, body := h.get("/v1/home/WAW" + query); res.StatusCode != 400 || !strings.Contains(body, `"invalid_request"`) {
			t.Errorf("%s: %d %s", query, res.StatusCode, body)
		}
	}
	res, body = h.do(h.request(http.MethodHead, "/v1/home/WAW", nil))
	if res.StatusCode != 200 || body != "" || res.ContentLength != int64(len(whole)) {
		t.Errorf("HEAD: %d %d %q", res.StatusCode, res.ContentLength, body)
	}
}

func TestAggregatePartial(t *testing.T) {
	broken := func(pattern string, h http.HandlerFunc) http.HandlerFunc {
		good := airline(nil)
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, pattern) && strings.HasSuffix(r.URL.Path, "departures") == strings.HasSuffix(pattern, "departures") {
				h(w, r)
				return
			}
			good(w, r)
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code); io.WriteString(w, "<html>") }
	}
	abort := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	typed := func(kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			io.WriteString(w, body)
		}
	}
	const airport = `{"airport":{"iata":"WAW","latitude":52.1657,"longitude":20.9671,"name":"Warsaw"},`
	const board = `"board":[{"flight":"LO1"},{"flight":"LO2"}],`
	const weather = `"weather":{"place":"52.1657,20.9671","c":7.50}`
	for _, c := range []struct {
		name, path string
		how        http.HandlerFunc
		status     int
		partial    string
		body       string // of a 200, else what the problem contains
	}{
		{"optional, status", "/at/", status(500), 200, "weather;reason=status;status=500", airport + board + `"weather":null,"missing":[{"call":"weather","code":"upstream_invalid","status":500}]}`},
		{"optional, not found", "/at/", status(404), 200, "weather;reason=status;status=404", airport + board + `"weather":null,"missing":[{"call":"weather","code":"not_found","status":404}]}`},
		{"optional, cut", "/at/", abort, 200, "weather;reason=invalid", airport + board + `"weather":null,"missing":[{"call":"weather","code":"upstream_invalid"}]}`},
		{"optional, no JSON", "/at/", typed("application/json", `{"now":`), 200, "weather;reason=invalid", airport + board + `"weather":null,"missing":[{"call":"weather","code":"upstream_invalid"}]}`},
		{"optional, a page", "/at/", typed("text/html", `{"now":{}}`), 200, "weather;reason=invalid", airport + board + `"weather":null,"missing":[{"call":"weather","code":"upstream_invalid"}]}`},
		{"optional, empty", "/at/", typed("application/json", ``), 200, "weather;reason=invalid", airport + board + `"weather":null,"missing":[{"call":"weather","code":"upstream_invalid"}]}`},
		{"optional, huge", "/at/", typed("application/json", `"`+strings.Repeat("x", 2<<20)+`"`), 200, "weather;reason=invalid", airport + board + `"weather":null,"missing":[{"call":"weather","code":"upstream_invalid"}]}`},
		{"optional, absent", "/at/", typed("application/json", `{"later":{}}`), 200, "weather;reason=absent", airport + board + `"weather":null,"missing":[{"call":"weather","code":"absent","path":"now"}]}`},
		{"optional, no content", "/at/", status(204), 200, "weather;reason=absent", airport + board + `"weather":null,"missing":[{"call":"weather","code":"absent","path":"now"}]}`},
		{"optional, an endless stream", "/at/", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, 200, "weather;reason=invalid", airport + board + `"weather":null,"missing":[{"call":"weather","code":"upstream_invalid"}]}`},
		{"fallback", "/airports/WAW/departures", status(503), 200, "departures;reason=status;status=503;fallback", airport + `"board":[],` + weather + `,"missing":[{"call":"departures","code":"feature_unavailable","status":503,"fallback":true}]}`},
		{"fallback, slow", "/airports/WAW/departures", hang, 200, "departures;reason=timeout;fallback", airport + `"board":[],` + weather + `,"missing":[{"call":"departures","code":"upstream_timeout","fallback":true}]}`},
		{"required, 500", "/airports/WAW", status(500), 502, "", `"code":"upstream_invalid"`},
		{"required, 503", "/airports/WAW", status(503), 503, "", `"code":"feature_unavailable"`},
		{"required, 404", "/airports/WAW", status(404), 404, "", `"code":"not_found"`},
		{"required, 401", "/airports/WAW", status(401), 502, "", `"code":"upstream_invalid"`},
		{"required, cut", "/airports/WAW", abort, 502, "", `"call":"airport"`},
		{"required, no JSON", "/airports/WAW", typed("application/json", `nope`), 502, "", `"call":"airport"`},
		{"required, a value that the next needs is missing", "/airports/WAW", typed("application/json", `{"latitude":1,"longitude":null}`), 200, "weather;reason=value",
			`{"airport":{"latitude":1,"longitude":null},` + board + `"weather":null,"missing":[{"call":"weather","code":"upstream_invalid"}]}`},
		{"required, an odd value", "/airports/WAW", typed("application/json", `{"latitude":"../..","longitude":{"a":1}}`), 200, "weather;reason=value",
			`{"airport":{"latitude":"../..","longitude":{"a":1}},` + board + `"weather":null,"missing":[{"call":"weather","code":"upstream_invalid"}]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := aggregated(t, serve(t, broken(c.path, c.how)), "GET /v1/home/{airport}", homeBlock)
			res, body := h.get("/v1/home/WAW")
			if res.StatusCode != c.status || res.Header.Get("Landline-Partial") != c.partial {
				t.Errorf("%d, Landline-Partial %q: %s", res.StatusCode, res.Header.Get("Landline-Partial"), body)
			}
			if c.status == 200 && body != c.body || !strings.Contains(body, c.body) {
				t.Errorf("body %s\nwant %s", body, c.body)
			}
			if c.status != 200 && !strings.Contains(body, `"call":"airport"`) {
				t.Errorf("the problem does not name the call: %s", body)
			}
			if c.partial != "" && res.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("a partial answer may be kept: %q", res.Header.Get("Cache-Control"))
			}
		})
	}
}

func TestAggregateUnreachableAndBreaker(t *testing.T) {
	h := aggregated(t, serve(t, airline(nil)), "GET /v1/home", `aggregate:
  calls:
    airport: {upstream: up, path: /airports/WAW, required: true}
    lost: {upstream: gone, path: /}
`, "breaker: {failure_ratio: 0.5, min_requests: 2, window: 1m, open: 1h}")
	want := []string{"lost;reason=unreachable", "lost;reason=unreachable", "lost;reason=breaker_open"}
	for i, partial := range want {
		res, body := h.get("/v1/home")
		if res.StatusCode != 200 || res.Header.Get("Landline-Partial") != partial {
			t.Errorf("%d: %d %q %s", i, res.StatusCode, res.Header.Get("Landline-Partial"), body)
		}
	}
	if up := h.UpstreamStatus(); up[1].Name != "up" || !up[1].Targets[0].Healthy {
		t.Errorf("the other upstream suffers: %+v", up)
	}
}

func TestGarbageCountsForTheBreaker(t *testing.T) {
	h := aggregated(t, serve(t, jsonReply(`{`)), "GET /v1/home", "aggregate:\n  calls:\n    a: {upstream: up, path: /a, required: true}\n",
		"breaker: {failure_ratio: 0.5, min_requests: 2, window: 1m, open: 1h}")
	for i, want := range []int{502, 502, 503} {
		if res, body := h.get("/v1/home"); res.StatusCode != want {
			t.Errorf("%d: %d %s", i, res.StatusCode, body)
		}
	}
}

// A client that leaves takes all its calls with it.
func TestAggregateCancellation(t *testing.T) {
	var asked, ended atomic.Int32
	h := aggregated(t, serve(t, func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		<-r.Context().Done()
		ended.Add(1)
	}), "GET /v1/home", "aggregate:\n  calls:\n    a: {upstream: up, path: /a, required: true}\n    b: {upstream: up, path: /b}\n    c: {upstream: up, path: /c}\n")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := h.client.Do(h.request(http.MethodGet, "/v1/home", nil).WithContext(ctx))
		done <- err
	}()
	until(t, "three calls", func() bool { return asked.Load() == 3 })
	cancel()
	if err := <-done; err == nil {
		t.Error("the client got an answer")
	}
	until(t, "the end of three calls", func() bool { return ended.Load() == 3 })
	until(t, "the end of the request", func() bool { return h.FeatureStatus()[0].InFlight == 0 })
}

// A required call that fails ends the reads beside it.
func TestRequiredFailureCancelsReads(t *testing.T) {
	var ended atomic.Bool
	waiting := make(chan struct{})
	h := aggregated(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(waiting)
			<-r.Context().Done()
			ended.Store(true)
			return
		}
		<-waiting
		w.WriteHeader(500)
	}), "GET /v1/home", "aggregate:\n  calls:\n    bad: {upstream: up, path: /bad, required: true}\n    slow: {upstream: up, path: /slow}\n")
	began := time.Now()
	if res, body := h.get("/v1/home"); res.StatusCode != 502 || !strings.Contains(body, `"call":"bad"`) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it waited for the slow call: %s", took)
	}
	until(t, "the slow call's end", ended.Load)
}

func TestAggregateDeadline(t *testing.T) {
	hang := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/good" {
			jsonReply(`{"ok":true}`)(w, r)
			return
		}
		<-r.Context().Done()
	}
	h := aggregated(t, serve(t, hang), "GET /v1/home", "aggregate:\n  calls:\n    good: {upstream: up, path: /good, required: true}\n    bad: {upstream: up, path: /bad}\n    next: {upstream: up, path: \"/x/{bad.id}\"}\n")
	f := *h.settings.Features["home"]
	f.Timeout = config.Duration(150 * time.Millisecond)
	next := *h.settings
	next.Features = map[string]*FeatureConfig{"home": &f}
	if err := h.Apply(&next, nil); err != nil {
		t.Fatal(err)
	}
	res, body := h.get("/v1/home")
	if res.StatusCode != 200 || res.Header.Get("Landline-Partial") != "bad;reason=timeout, next;reason=timeout;after=bad" ||
		body != `{"bad":null,"good":{"ok":true},"next":null,"missing":[{"call":"bad","code":"upstream_timeout"},{"call":"next","code":"upstream_timeout","after":"bad"}]}` {
		t.Errorf("%d %q %s", res.StatusCode, res.Header.Get("Landline-Partial"), body)
	}
	c := *f.Routes[0].Aggregate.Calls["bad"]
	c.Required = true
	f.Routes = []RouteConfig{f.Routes[0]}
	agg := *f.Routes[0].Aggregate
	agg.Calls = map[string]*CallConfig{"good": agg.Calls["good"], "bad": &c}
	f.Routes[0].Aggregate = &agg
	if err := h.Apply(&next, nil); err != nil {
		t.Fatal(err)
	}
	if res, body := h.get("/v1/home"); res.StatusCode != 504 || !strings.Contains(body, `"call":"bad"`) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

// What the services see: the caller's identity and trace, not what concerns
// the client's own request.
func TestAggregateHeaders(t *testing.T) {
	seen := make(chan http.Header, 2)
	h := aggregated(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
		jsonReply(`{}`)(w, r)
	}), "GET /v1/home", "aggregate:\n  calls:\n    a: {upstream: up, path: \"/u/{user.id}\", required: true}\n")
	res, body := h.get("/v1/home", "Authorization", "Bearer good", "Accept-Encoding", "gzip", "If-None-Match", `"x"`, "Range", "bytes=0-1", "Idempotency-Key", "k", "Accept-Language", "pl",
		"Landline-Identity", "forged", "Traceparent", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")
	if res.StatusCode != 200 {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	got := <-seen
	if got.Get("Landline-Identity") != "identity-of-usr_1-for-up" || got.Get("Accept-Language") != "pl" || got.Get("Accept") != "application/json" ||
		!strings.HasPrefix(got.Get("Traceparent"), "00-0123456789abcdef0123456789abcdef-") {
		t.Errorf("%v", got)
	}
	for _, name := range []string{"Accept-Encoding", "If-None-Match", "Range", "Idempotency-Key", "Authorization"} {
		if got.Get(name) != "" {
			t.Errorf("%s: %q", name, got.Get(name))
		}
	}
	if res, body := h.get("/v1/home"); res.StatusCode != 401 || !strings.Contains(body, "token_missing") {
		t.Errorf("without a user: %d %s", res.StatusCode, body)
	}
}

func TestAggregateCacheControl(t *testing.T) {
	h := aggregated(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		if v := r.URL.Query().Get("cc"); v != "" {
			w.Header().Set("Cache-Control", v)
		}
		jsonReply(`{}`)(w, r)
	}), "GET /v1/home", "aggregate:\n  calls:\n    a: {upstream: up, path: \"/?cc={query.a?}\"}\n    b: {upstream: up, path: \"/?cc={query.b?}\"}\n")
	for query, want := range map[string]string{
		"?a=max-age%3D60&b=max-age%3D30":                    "max-age=30",
		"?a=max-age%3D60&b=private,%20max-age%3D90":         "private, max-age=60",
		"?a=max-age%3D60&b=no-store":                        "",
		"?a=max-age%3D60":                                   "",
		"?a=max-age%3D0&b=max-age%3D99":                     "max-age=0",
		"?a=max-age%3Dx&b=max-age%3D99":                     "",
		"?a=public,max-age%3D99&b=s-maxage%3D1,max-age%3D5": "max-age=5",
	} {
		if res, _ := h.get("/v1/home" + query); res.Header.Get("Cache-Control") != want {
			t.Errorf("%s: %q, want %q", query, res.Header.Get("Cache-Control"), want)
		}
	}
}

func TestCallCache(t *testing.T) {
	var asked atomic.Int32
	h := aggregated(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		n := asked.Add(1)
		if r.URL.Query().Get("bad") != "" {
			jsonReply(`{`)(w, r)
			return
		}
		jsonReply(fmt.Sprintf(`{"n":%d}`, n))(w, r)
	}), "GET /v1/home/{id}", "aggregate:\n  calls:\n    a: {upstream: up, path: \"/x/{id}?bad={query.bad?}\", cache: {ttl: 1m}}\n  answer: {n: a.n}\n")
	for i, c := range []struct{ path, body string }{
		{"/v1/home/1", `{"n":1}`}, {"/v1/home/1", `{"n":1}`}, {"/v1/home/2", `{"n":2}`}, {"/v1/home/1", `{"n":1}`},
	} {
		if res, body := h.get(c.path); res.StatusCode != 200 || body != c.body {
			t.Errorf("%d: %d %s", i, res.StatusCode, body)
		}
	}
	for range 2 { // garbage is not kept
		if res, _ := h.get("/v1/home/1?bad=1"); res.Header.Get("Landline-Partial") != "a;reason=invalid" {
			t.Errorf("%v", res.Header)
		}
	}
	if n := asked.Load(); n != 4 {
		t.Errorf("the upstream was asked %d times, want 4", n)
	}
}

func TestAggregateWrites(t *testing.T) {
	type request struct{ method, path, body, key string }
	seen := make(chan request, 8)
	block := `aggregate:
  calls:
    quote: {upstream: up, path: "/quote/{body.flight}", required: true}
    book:  {upstream: up, method: POST, path: /book, after: quote, required: true, body: {flight: "{body.flight}", seats: "{body.seats}", price: "{quote.price}", note: "{body.note?}", for: "u-{query.who}"}}
    mail:  {upstream: up, method: POST, path: /mail, body: {trip: "{book.id}"}}
  answer: {trip: book, mailed: mail.ok}
`
	h := aggregated(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		seen <- request{r.Method, r.URL.Path, string(b), r.Header.Get("Idempotency-Key")}
		jsonReply(map[string]string{"/book": `{"id":"t1"}`, "/mail": `{"ok":true}`}[r.URL.Path]+map[bool]string{true: `{"price":12.50}`}[strings.HasPrefix(r.URL.Path, "/quote")])(w, r)
	}), "POST /v1/book", block)
	res, body := h.do(h.request("POST", "/v1/book?who=me", strings.NewReader(`{"flight":"LO 1/2","seats":[1,2]}`), "Content-Type", "application/json", "Idempotency-Key", `"k1"`))
	if res.StatusCode != 200 || body != `{"trip":{"id":"t1"},"mailed":true}` {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	quote, book, mail := <-seen, <-seen, <-seen
	if quote != (request{"GET", "/quote/LO 1/2", "", ""}) {
		t.Errorf("%+v", quote)
	}
	if book.body != `{"flight":"LO 1/2","seats":[1,2],"price":12.50,"for":"u-me"}` || mail.body != `{"trip":"t1"}` {
		t.Errorf("%+v %+v", book, mail)
	}
	if !strings.HasPrefix(book.key, "book-") || !strings.HasPrefix(mail.key, "mail-") || book.key[5:] == mail.key[5:] {
		t.Errorf("keys %q %q", book.key, mail.key)
	}
	for name, c := range map[string]struct {
		kind, body string
		status     int
	}{
		"no JSON":          {"application/json", `{`, 400},
		"a form":           {"application/x-www-form-urlencoded", `flight=LO1`, 415},
		"a missing member": {"application/json", `{"seats":1}`, 400},
		"an odd member":    {"application/json", `{"flight":{"a":1},"seats":1}`, 400},
		"a dot segment":    {"application/json", `{"flight":"..","seats":1}`, 400},
	} {
		if res, body := h.do(h.request("POST", "/v1/book?who=me", strings.NewReader(c.body), "Content-Type", c.kind)); res.StatusCode != c.status {
			t.Errorf("%s: %d %s", name, res.StatusCode, body)
		}
	}
	if len(seen) != 0 {
		t.Errorf("the services were asked: %+v", <-seen)
	}
}
