package gateway

import (
	"net/url"
	"strings"
	"testing"
)

func TestParsePattern(t *testing.T) {
	for s, want := range map[string]string{
		"GET /v1/flights/{id}":  "GET /v1/flights/{id}",
		"GET    /x":             "GET /x",
		"/x/{rest...}":          " /x/{rest...}",
		"/":                     " /",
		"/a/":                   " /a/",
		"/caf\u00e9":            " /caf%C3%A9",
		"/a%2fb":                " /a%2Fb",
		"/%41":                  " /A",
		"/a b":                  " /a%20b",
		"M-SEARCH /x":           "M-SEARCH /x",
		"/@x:y;z=1,2!$&'()*+":   " /@x:y;z=1,2!$&'()*+",
		"/{a}/{b}/{c_1}/{D...}": " /{a}/{b}/{c_1}/{D...}",
	} {
		p, err := parsePattern(s)
		if err != nil {
			t.Errorf("%q: %v", s, err)
		} else if got := p.method + " " + p.path(); got != want {
			t.Errorf("%q is %q, want %q", s, got, want)
		}
	}
	for _, s := range []string{
		"", "x", "GET", "GET x", "get /x", "GET  ", "TRACE /x", "CONNECT /x", "/a//b", "//", "/.", "/a/../b", "/%2e%2e/x", "/a?b", "/a#b", "/a%", "/a%zz",
		"/{}", "/{a}{b}", "/x{a}", "/{a", "/a}", "/{a...}/x", "/{1a}", "/{a-b}", "/{a}/{a}", "/{a}/{a...}", "/{...}", "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}",
		"/" + strings.Repeat("a/", 100), "/{" + strings.Repeat("a", 33) + "}",
	} {
		if p, err := parsePattern(s); err == nil {
			t.Errorf("%q is taken as %q", s, p.path())
		}
	}
}

func TestCheckPath(t *testing.T) {
	for in, want := range map[string]string{
		"/a": "/a", "/%61": "/a", "/a%2fb": "/a%2Fb", "/a.b": "/a.b", "/...": "/...", "/a/.b": "/a/.b", "/a/..b/c": "/a/..b/c", "/a./b": "/a./b",
		"/%7Euser": "/~user", "/x%2F.y": "/x%2F.y", "/v1.2/x..": "/v1.2/x..",
		"/a%2Fb/{c}": "/a%2Fb/%7Bc%7D", "/caf\u00e9": "/caf%C3%A9", "/\xff": "/%FF", `/a"b\c`: "/a%22b%5Cc", "/[1];@:!$&'()*+,=": "/[1];@:!$&'()*+,=",
	} {
		if got, err := checkPath(in); err != nil || got != want {
			t.Errorf("%q: %q %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"/.", "/..", "/a/./b", "/a/../b", "/a/..", "/%2e%2e/x", "/a/%2E/x", "/a/.%2e", "/a%2f..%2fb", "/a%2F..", "/..%2Fx", "/a%5c..%5Cb", "/a%00b", "..", "/a/%2e%2e%2f", `/a\..\b`, `/..\b`, "/a%2", "/%", "/%0%61", "/%2%65"} {
		if got, err := checkPath(in); err == nil {
			t.Errorf("%q is let through as %q", in, got)
		}
	}
}

func FuzzCheckPath(f *testing.F) {
	f.Add("/a/%2e%2e/b")
	f.Add("/a%2f..%5cb%00")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := checkPath(s)
		if err != nil {
			return
		}
		again, err := checkPath(got)
		if err != nil || again != got {
			t.Fatalf("%q becomes %q, which becomes %q %v", s, got, again, err)
		}
		before, err1 := url.PathUnescape(s)
		after, err2 := url.PathUnescape(got)
		if (err1 == nil) != (err2 == nil) || err1 == nil && before != after {
			t.Fatalf("%q means %q, but %q means %q", s, before, got, after)
		}
		if err1 == nil {
			for seg := range strings.SplitSeq(strings.ReplaceAll(after, `\`, "/"), "/") {
				if seg == "." || seg == ".." {
					t.Fatalf("%q hides a dot segment", s)
				}
			}
		}
	})
}

func TestTemplate(t *testing.T) {
	for _, c := range []struct{ match, path, request, want string }{
		{"/v1/flights/{id}/status", "/internal/status/{id}", "/v1/flights/LO%2F1/status", "/base/internal/status/LO%2F1"},
		{"/v1/files/{rest...}", "/{rest...}", "/v1/files/a/b%20c", "/base/a/b%20c"},
		{"/v1/files/{rest...}", "/{rest...}", "/v1/files/", "/base/"},
		{"/v1/{a}/{b}", "/{b}.{a}/x-{a}", "/v1/1/2", "/base/2.1/x-1"},
		{"/v1/{a}", "/fixed path/\u00e9", "/v1/1", "/base/fixed%20path/%C3%A9"},
	} {
		p, err := parsePattern(c.match)
		if err != nil {
			t.Fatal(err)
		}
		tmpl, err := parseTemplate(c.path, p)
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		rt := &router{}
		if err := rt.add(&Route{pattern: p}); err != nil {
			t.Fatal(err)
		}
		var params [maxParams]string
		if rt.find("GET", c.request, &params) == nil {
			t.Fatalf("%s does not match %s", c.match, c.request)
		}
		if got := tmpl.expand("/base", params[:]); got != c.want {
			t.Errorf("%s: %q, want %q", c.path, got, c.want)
		}
	}
	p, err := parsePattern("/v1/{id}/{rest...}")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"", "x", "/{nope}", "/{rest}", "/{id...}", "/{id", "/id}", "/a?b={id}", "/a/../{id}", "/%zz", "/#", "/{rest...}/x", "/x{rest...}", "/{rest...}{id}", "/.."} {
		if _, err := parseTemplate(s, p); err == nil {
			t.Errorf("the template %q is taken", s)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add("/a/{id}/{rest...}", "x%2Fy", "p/q")
	f.Fuzz(func(t *testing.T, tmpl, id, rest string) {
		p, err := parsePattern("/{id}/{rest...}")
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := parseTemplate(tmpl, p)
		if err != nil {
			return
		}
		path, err := checkPath("/" + id + "/" + rest)
		if err != nil {
			return
		}
		if _, err := url.PathUnescape(path); err != nil || strings.ContainsAny(path, "?#") {
			return // net/http refuses these, or reads them as a query
		}
		rt := &router{}
		if err := rt.add(&Route{pattern: p}); err != nil {
			t.Fatal(err)
		}
		var params [maxParams]string
		if rt.find("GET", path, &params) == nil {
			return
		}
		out := parsed.expand("", params[:])
		if _, err := checkPath(out); err != nil && !parsed.mixed {
			t.Fatalf("%q makes %q: %v", tmpl, out, err)
		}
		if !strings.HasPrefix(out, "/") || strings.ContainsAny(out, "?#") {
			t.Fatalf("%q makes %q", tmpl, out)
		}
		if _, err := url.PathUnescape(out); err != nil {
			t.Fatalf("%q makes %q: %v", tmpl, out, err)
		}
	})
}
