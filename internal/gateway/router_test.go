package gateway

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func routerOf(t testing.TB, matches ...string) *router {
	t.Helper()
	rt := &router{}
	for _, m := range matches {
		p, err := parsePattern(m)
		if err != nil {
			t.Fatalf("%s: %v", m, err)
		}
		if err := rt.add(&Route{Match: m, Method: p.method, ParamNames: p.paramNames(), pattern: p}); err != nil {
			t.Fatal(err)
		}
	}
	return rt
}

func TestRouterFindsTheMostSpecific(t *testing.T) {
	rt := routerOf(t,
		"GET /v1/flights", "POST /v1/flights", "GET /v1/flights/{id}", "GET /v1/flights/{id}/status", "GET /v1/flights/latest",
		"GET /v1/flights/{id}/seats/{seat}", "/v1/flights/latest/{rest...}", "GET /v1/files/{rest...}", "PUT /v1/files/{rest...}", "HEAD /v1/probe", "GET /v1/probe",
		"/v1/any", "GET /v1/any", "GET /v1/tree/{a}/x", "POST /v1/tree/{a...}", "GET /", "GET /v1/slash/", "GET /v1/a%2Fb", "DELETE /v1/flights/latest/{rest...}")
	for _, c := range []struct{ method, path, match, params string }{
		{"GET", "/v1/flights", "GET /v1/flights", ""},
		{"POST", "/v1/flights", "POST /v1/flights", ""},
		{"HEAD", "/v1/flights", "GET /v1/flights", ""},
		{"HEAD", "/v1/probe", "HEAD /v1/probe", ""},
		{"PUT", "/v1/flights", "", ""},
		{"GET", "/v1/flights/", "", ""},
		{"GET", "/v1/flights/LO123", "GET /v1/flights/{id}", "LO123"},
		{"GET", "/v1/flights/latest", "GET /v1/flights/latest", ""},
		{"GET", "/v1/flights/LO123/status", "GET /v1/flights/{id}/status", "LO123"},
		{"GET", "/v1/flights/latest/status", "/v1/flights/latest/{rest...}", "status"},
		{"DELETE", "/v1/flights/latest/status", "DELETE /v1/flights/latest/{rest...}", "status"},
		{"GET", "/v1/flights/a%2Fb", "GET /v1/flights/{id}", "a%2Fb"},
		{"GET", "/v1/flights/a/seats/12F", "GET /v1/flights/{id}/seats/{seat}", "a,12F"},
		{"GET", "/v1/files/", "GET /v1/files/{rest...}", ""},
		{"GET", "/v1/files", "", ""},
		{"GET", "/v1/files/a//b/", "GET /v1/files/{rest...}", "a//b/"},
		{"PUT", "/v1/files/a", "PUT /v1/files/{rest...}", "a"},
		{"DELETE", "/v1/any", "/v1/any", ""},
		{"GET", "/v1/any", "GET /v1/any", ""},
		{"HEAD", "/v1/any", "GET /v1/any", ""},
		{"GET", "/v1/tree/q/x", "GET /v1/tree/{a}/x", "q"},
		{"POST", "/v1/tree/q/x", "POST /v1/tree/{a...}", "q/x"}, // backtracks: the specific branch has no POST
		{"GET", "/v1/tree/q/y", "", ""},
		{"GET", "/", "GET /", ""},
		{"GET", "/v1/slash/", "GET /v1/slash/", ""},
		{"GET", "/v1/slash", "", ""},
		{"GET", "/v1/a%2Fb", "GET /v1/a%2Fb", ""},
		{"GET", "/v1/a/b", "", ""},
		{"GET", "//v1/flights", "", ""},
		{"GET", "/v1//status", "", ""},
		{"GET", "*", "", ""},
		{"GET", "", "", ""},
	} {
		var params [maxParams]string
		r := rt.find(c.method, c.path, &params)
		got := ""
		if r != nil {
			got = r.Match
		}
		if got != c.match {
			t.Errorf("%s %s: found %q, want %q", c.method, c.path, got, c.match)
			continue
		}
		if r != nil {
			if p := strings.Join(params[:len(r.ParamNames)], ","); p != c.params {
				t.Errorf("%s %s: params %q, want %q", c.method, c.path, p, c.params)
			}
		}
	}
}

func TestRouterAllowed(t *testing.T) {
	rt := routerOf(t, "GET /v1/x", "DELETE /v1/{id}", "PUT /{all...}")
	for path, want := range map[string]string{
		"/v1/x": "DELETE,GET,HEAD,OPTIONS,PUT",
		"/v1/y": "DELETE,OPTIONS,PUT",
		"/zzz":  "OPTIONS,PUT",
	} {
		if got := strings.Join(rt.allowed(path), ","); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	if got := routerOf(t, "GET /v1/x").allowed("/v2"); got != nil {
		t.Errorf("a path without routes allows %v", got)
	}
}

func TestRouterRefusesConflicts(t *testing.T) {
	rt := routerOf(t, "GET /v1/{id}/x", "GET /v1/{rest...}", "/v1/{id}/x")
	for _, m := range []string{"GET /v1/{other}/x", "GET /v1/{r...}", "/v1/{z}/x"} {
		p, err := parsePattern(m)
		if err != nil {
			t.Fatal(err)
		}
		var conflict *conflictError
		if err := rt.add(&Route{Match: m, Method: p.method, pattern: p}); !errors.As(err, &conflict) {
			t.Errorf("%s: %v", m, err)
		}
	}
}

// slowFind is the rule of the router said in another way: of all routes that
// match, the one whose segments are first more specific, then its method.
func slowFind(routes []*Route, method, path string) *Route {
	segs := strings.Split(strings.TrimPrefix(path, "/"), "/")
	var best *Route
	for _, r := range routes {
		if r.Method != method && r.Method != "" && (r.Method != "GET" || method != "HEAD") || !slowMatch(r.pattern.segments, segs) {
			continue
		}
		if best == nil || slowLess(r, best, method) {
			best = r
		}
	}
	return best
}

func slowMatch(pattern []segment, segs []string) bool {
	for i, s := range pattern {
		if s.kind == tail {
			return len(segs) > i
		}
		if i >= len(segs) || s.kind == static && s.text != segs[i] || s.kind == param && segs[i] == "" {
			return false
		}
	}
	return len(pattern) == len(segs)
}

func slowLess(a, b *Route, method string) bool {
	for i := range min(len(a.pattern.segments), len(b.pattern.segments)) {
		if x, y := a.pattern.segments[i].kind, b.pattern.segments[i].kind; x != y {
			return x < y
		}
	}
	rank := func(r *Route) int { return slices.Index([]string{method, "GET", ""}, r.Method) }
	return rank(a) < rank(b)
}

func FuzzRouter(f *testing.F) {
	f.Add("GET /a/{b}|/a/{c...}|POST /a/x", "POST", "/a/x")
	f.Add("/{r...}|GET /|HEAD /{a}/{b}|GET /{a}/b", "HEAD", "/q/b")
	f.Fuzz(func(t *testing.T, patterns, method, path string) {
		rt := &router{}
		var routes []*Route
		for _, m := range strings.Split(patterns, "|") {
			p, err := parsePattern(m)
			if err != nil {
				continue
			}
			r := &Route{Match: m, Method: p.method, ParamNames: p.paramNames(), pattern: p}
			if rt.add(r) == nil {
				routes = append(routes, r)
			}
		}
		path, err := checkPath(path)
		if err != nil || !strings.HasPrefix(path, "/") || strings.Count(path, "/") > 200 {
			return
		}
		var params [maxParams]string
		got, want := rt.find(method, path, &params), slowFind(routes, method, path)
		if got != want {
			t.Fatalf("%s %s among %q: %v, want %v", method, path, patterns, got, want)
		}
		if got != nil && method != "" { // the template of the same shape gives the path back
			tmpl, err := parseTemplate(got.pattern.path(), got.pattern)
			if err != nil {
				t.Fatalf("%s: %v", got.Match, err)
			}
			if back := tmpl.expand("", params[:]); back != path {
				t.Fatalf("%s matched %q but expands to %q", got.Match, path, back)
			}
		}
	})
}

func manyRoutes(t testing.TB, n int) *router {
	var list []string
	for i := range n {
		switch i % 4 {
		case 0:
			list = append(list, fmt.Sprintf("GET /v1/feature-%d", i))
		case 1:
			list = append(list, fmt.Sprintf("GET /v1/feature-%d/{id}", i))
		case 2:
			list = append(list, fmt.Sprintf("POST /v2/group-%d/{id}/items/{item}", i))
		case 3:
			list = append(list, fmt.Sprintf("/v1/files-%d/{rest...}", i))
		}
	}
	return routerOf(t, list...)
}

func TestRouterLookupAllocatesNothing(t *testing.T) {
	rt := manyRoutes(t, 1000)
	var params [maxParams]string
	if n := testing.AllocsPerRun(100, func() {
		if rt.find("POST", "/v2/group-2/abc/items/9", &params) == nil {
			t.Fatal("not found")
		}
	}); n != 0 {
		t.Errorf("a lookup makes %v allocations", n)
	}
}

func BenchmarkRouter(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		rt := manyRoutes(b, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			var params [maxParams]string
			for b.Loop() {
				if rt.find("POST", "/v2/group-2/abc/items/9", &params) == nil {
					b.Fatal("not found")
				}
			}
		})
	}
}
