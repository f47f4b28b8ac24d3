package aggregate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"landline/internal/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func compile(t fataler, s Spec) *Plan {
	t.Helper()
	p, faults := Compile(s)
	if len(faults) > 0 {
		t.Fatalf("%v", faults[0])
	}
	return p
}

func input(query string) *Input {
	values, err := url.ParseQuery(query)
	if err != nil {
		panic(err)
	}
	return &Input{Query: func(name string) (string, bool) {
		list := values[name]
		return strings.Join(list, "|"), len(list) > 0
	}}
}

// outcomeOf is what a call of the model comes to.
type outcomeOf struct {
	document any
	fails    bool
}

// Any plan of calls with one member each gives what a naive merge gives,
// whatever depends on what and whatever fails.
func TestRunLikeTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "calls")
		spec := Spec{Method: "GET", Calls: map[string]CallSpec{}}
		outcomes := make([]outcomeOf, n)
		after := make([][]int, n)
		for i := range n {
			c := CallSpec{Path: fmt.Sprintf("/%d", i), Required: rapid.IntRange(0, 9).Draw(t, "required") == 0}
			for j := range i {
				if rapid.IntRange(0, 3).Draw(t, "after") == 0 {
					c.After = append(c.After, fmt.Sprintf("c%d", j))
					after[i] = append(after[i], j)
				}
			}
			if rapid.IntRange(0, 3).Draw(t, "fallback") == 0 {
				c.Fallback = []byte(`{"stock":true}`)
			}
			outcomes[i] = outcomeOf{genJSON(2).Draw(t, "document"), rapid.IntRange(0, 2).Draw(t, "fails") == 0}
			spec.Calls[fmt.Sprintf("c%d", i)] = c
		}
		p := compile(t, spec)
		asked, has := make([]bool, n), make([]bool, n) // who must be asked, who has an answer
		for i := range n {
			asked[i] = true
			for _, j := range after[i] {
				asked[i] = asked[i] && has[j]
			}
			has[i] = asked[i] && !outcomes[i].fails || spec.Calls[fmt.Sprintf("c%d", i)].Fallback != nil
		}
		var mu sync.Mutex
		finished := map[int]bool{}
		res, err := p.Run(context.Background(), input(""), nil, func(_ context.Context, i int, r *Request) Answer {
			mu.Lock()
			defer mu.Unlock()
			for _, j := range after[i] {
				if asked[j] && !finished[j] {
					return Answer{Failure: InvalidFailure(errors.New("too early"))}
				}
			}
			if finished[i] || !asked[i] || r.Path != fmt.Sprintf("/%d", i) {
				return Answer{Failure: InvalidFailure(errors.New("twice"))}
			}
			finished[i] = true
			if outcomes[i].fails {
				return Answer{Failure: StatusFailure(500, 0)}
			}
			return Answer{JSON: []byte(encoded(t, outcomes[i].document))}
		})
		if err != nil {
			t.Fatal(err)
		}
		// The model goes through the calls in their order, which is one of the possible ones.
		want, there, failed, missing := map[string]any{}, make([]bool, n), false, map[string]bool{}
		for i := range n {
			name := fmt.Sprintf("c%d", i)
			ok := !outcomes[i].fails
			for _, j := range after[i] {
				ok = ok && there[j]
			}
			c := spec.Calls[name]
			switch {
			case ok:
				want[name], there[i] = outcomes[i].document, true
			case c.Fallback != nil:
				want[name], there[i] = map[string]any{"stock": true}, true
				missing[name] = true
			default:
				want[name] = nil
				missing[name] = true
				failed = failed || c.Required
			}
		}
		if failed != (res.Failed != nil) {
			t.Fatalf("failed %v, want %v", res.Failed, failed)
		}
		if failed {
			if c := spec.Calls[res.Failed.Call]; !c.Required {
				t.Fatalf("%s is not required", res.Failed.Call)
			}
			return
		}
		got, _ := decoded(t, res.Body).(map[string]any)
		told := map[string]bool{}
		if list, there := got["missing"].([]any); there {
			for _, m := range list {
				entry, _ := m.(map[string]any)
				name, _ := entry["call"].(string)
				told[name] = true
			}
		}
		delete(got, "missing")
		if encoded(t, got) != encoded(t, want) || !maps.Equal(told, missing) || (res.Partial != "") != (len(missing) > 0) {
			t.Fatalf("got %s, %v, %q\nwant %s, %v", res.Body, told, res.Partial, encoded(t, want), missing)
		}
		for name := range missing {
			if !strings.Contains(", "+res.Partial, ", "+name+";reason=") {
				t.Fatalf("%s is not in %q", name, res.Partial)
			}
		}
	})
}

// What fields ask for is what picking from the whole answer gives, and no call is
// made for nothing.
func TestFieldsLikePickingFromTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		documents := []any{genJSON(3).Draw(t, "a"), genJSON(3).Draw(t, "b")}
		spec := Spec{Method: "GET", Fields: true, Calls: map[string]CallSpec{"x": {Path: "/x"}, "y": {Path: "/y"}}, Answer: []byte(`{"a":"x","b":{"c":"y","d":7}}`)}
		p := compile(t, spec)
		paths := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "a.a", "a.b.c", "b.c", "b.c.a", "b.d", "b.c.d"}), 1, 4, rapid.ID).Draw(t, "fields")
		f, err := ParseFields(strings.Join(paths, ","))
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		asked := map[int]bool{}
		do := func(_ context.Context, i int, _ *Request) Answer {
			mu.Lock()
			defer mu.Unlock()
			asked[i] = true
			return Answer{JSON: []byte(encoded(t, documents[i]))}
		}
		whole, err := p.Run(context.Background(), input(""), nil, do)
		if err != nil {
			t.Fatal(err)
		}
		clear(asked)
		part, err := p.Run(context.Background(), input(""), f, do)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := naivePick(decoded(t, whole.Body), split(paths))
		if encoded(t, decoded(t, part.Body)) != encoded(t, want) {
			t.Fatalf("fields %q of %s: %s, want %s", paths, whole.Body, part.Body, encoded(t, want))
		}
		needsX := slices.ContainsFunc(paths, func(p string) bool { return p[0] == 'a' })
		needsY := slices.ContainsFunc(paths, func(p string) bool { return p == "b" || strings.HasPrefix(p, "b.c") })
		if asked[0] != needsX || asked[1] != needsY {
			t.Fatalf("fields %q asked %v", paths, asked)
		}
	})
}

func TestAnswerShapes(t *testing.T) {
	answers := map[string]string{
		"air": `{"name":"WAW","pos":{"lat":1.50},"n":null}`,
		"fly": `{"data":[{"id":1},{"id":2}],"name":"other"}`,
	}
	for _, c := range []struct{ shape, want, partial string }{
		{`{"a":"air.name","l":["fly.data.1.id",true,"air.n"],"c":{"d":"fly.data"},"n":null}`, `{"a":"WAW","l":[2,true,null],"c":{"d":[{"id":1},{"id":2}]},"n":null}`, ""},
		{`{"...":"air","more":"fly.data.0"}`, `{"more":{"id":1},"name":"WAW","pos":{"lat":1.50},"n":null}`, ""},
		{`{"...":["air","fly"],"pos":"air.pos.lat"}`, `{"pos":1.50,"name":"WAW","n":null,"data":[{"id":1},{"id":2}]}`, ""},
		{`{"a":"air.nope?","b":"fly"}`, `{"a":null,"b":` + answers["fly"] + `}`, ""},
		{`{"a":"air.nope","b":"fly"}`, `{"a":null,"b":` + answers["fly"] + `,"missing":[{"call":"air","code":"absent","path":"nope"}]}`, "air;reason=absent"},
		{`{"...":"fly.data","b":"air.name"}`, `{"b":"WAW","missing":[{"call":"fly","code":"absent","path":"data"}]}`, "fly;reason=absent"},
		{`{"...":"fly.none","b":"air.name"}`, `{"b":"WAW","missing":[{"call":"fly","code":"absent","path":"none"}]}`, "fly;reason=absent"},
	} {
		p := compile(t, Spec{Method: "GET", Answer: []byte(c.shape), Calls: map[string]CallSpec{"air": {Path: "/a"}, "fly": {Path: "/f", Required: true}}})
		res, err := p.Run(context.Background(), input(""), nil, func(_ context.Context, i int, _ *Request) Answer {
			return Answer{JSON: []byte(answers[p.Calls[i].Name])}
		})
		if err != nil || string(res.Body) != c.want || res.Partial != c.partial {
			t.Errorf("%s\ngives %s, %q, %v\nwant  %s, %q", c.shape, res.Body, res.Partial, err, c.want, c.partial)
		}
	}
}

func TestTargets(t *testing.T) {
	sc := &scope{params: []string{"id", "rest"}, calls: map[string]int{"air": 0}, hasBody: true}
	in := input("q=a+b%26c&odd=%00&dots=..&empty=")
	in.Params, in.User, in.Body = []string{"x%2Fy", "a/b"}, "usr_1", []byte(`{"s":"ü/?","n":1.50,"t":true,"o":{},"z":null,"e":"","dots":".."}`)
	answers := [][]byte{[]byte(`{"lat":-1.5e3,"list":["p q"]}`)}
	for _, c := range []struct{ template, want string }{
		{"/a/{id}", "/a/x%2Fy"},
		{"/{rest}/b", "/a/b/b"},
		{"/at/{air.lat},{air.list.0}", "/at/-1.5e3,p%20q"},
		{"/u/{user.id}?s={body.s}&t={body.t}", "/u/usr_1?s=%C3%BC%2F%3F&t=true"},
		{"/x?id={id}", "/x?id=x%2Fy"},
		{"/x?q={query.q}&r={query.none?}&fixed=1,2", "/x?q=a%20b%26c&fixed=1,2"},
		{"/x?r={query.none?}", "/x"},
		{"/x?flag&q={query.dots}", "/x?flag&q=.."},
		{"/{{x}}", "/%7Bx%7D"},
		{"/a b/ü", "/a%20b/%C3%BC"},
		{"/x/{query.none}", "! {query.none} is missing"},
		{"/x?e={query.empty?}", "/x"},
		{"/x/{query.odd}", "! {query.odd} has a control character or is not UTF-8"},
		{"/x/{query.dots}", "! {query.dots} must not be a dot segment"},
		{"/x/{body.dots}", "! {body.dots} must not be a dot segment"},
		{"/x/{body.o}", "! {body.o} is an object or a list where one value is needed"},
		{"/x/{body.z}", "! {body.z} is missing"},
		{"/x/{air.none}", "! {air.none} is missing"},
		{"/x/{installation.id}", "! {installation.id} is missing"},
		{"x", "?"}, {"/{", "?"}, {"/}", "?"}, {"/{none}", "?"}, {"/{query}", "?"}, {"/{user.name}", "?"}, {"/{id?}", "?"}, {"/{id:int}", "?"}, {"/x#y", "?"}, {"/%zz", "?"}, {"/x?={id}", "?"}, {"/{a..b}", "?"},
	} {
		target, err := sc.target(c.template)
		if err != nil {
			if c.want != "?" {
				t.Errorf("%s: %v", c.template, err)
			}
			continue
		}
		got, query, err := target.fill(in, answers)
		if query != "" {
			got += "?" + query
		}
		if err != nil {
			got = "! " + err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.template, got, c.want)
		}
	}
}

// A value stays inside its segment or parameter, whatever it is.
func FuzzTarget(f *testing.F) {
	f.Add("/a/{query.v}/b?x={query.v?}&y={query.v}", "v/../?&=#%00")
	f.Add("/{query.v}{{", "ü")
	f.Fuzz(func(t *testing.T, template, value string) {
		sc := &scope{params: []string{"id"}, calls: map[string]int{"c": 0}}
		target, err := sc.target(template)
		if err != nil {
			return
		}
		in := &Input{Params: []string{"id"}, User: "u", Installation: "i", Query: func(string) (string, bool) { return value, true }}
		path, query, err := target.fill(in, [][]byte{[]byte(`{"a":1}`)})
		if err != nil {
			return
		}
		u, err := url.Parse(path + "?" + query)
		if err != nil || u.Fragment != "" || u.Host != "" && !strings.HasPrefix(path, "//") {
			t.Fatalf("%q with %q gives %q %q: %v", template, value, path, query, err)
		}
		if strings.Count(path, "/") != strings.Count(target.Sample(), "/") || strings.Contains(path, "?") {
			t.Fatalf("%q with %q gives %q", template, value, path)
		}
		if _, err := url.ParseQuery(query); err != nil && !strings.Contains(query, ";") {
			t.Fatalf("%q with %q gives the query %q: %v", template, value, query, err)
		}
	})
}

func TestBodies(t *testing.T) {
	sc := &scope{params: []string{"id"}, calls: map[string]int{"air": 0}, hasBody: true}
	in := input("n=7&f=1.5&b=true&s=x")
	in.Params, in.Body = []string{"a%20b"}, []byte(`{"list":[1,2.50],"s":"q\"u"}`)
	answers := [][]byte{[]byte(`{"x":{"y":1}}`)}
	for _, c := range []struct{ template, want string }{
		{`{"a":"{body.list}","b":"{air.x}","c":[1,"{id}",null],"d":"is {body.s} \n"}`, `{"a":[1,2.50],"b":{"y":1},"c":[1,"a b",null],"d":"is q\"u \u000a"}`},
		{`{"n":"{query.n:int}","f":"{query.f:number}","b":"{query.b:bool}","s":"{query.s}"}`, `{"n":7,"f":1.5,"b":true,"s":"x"}`},
		{`{"a":"{query.none?}","b":["{body.none?}","x{query.none?}"],"c":1}`, `{"b":[],"c":1}`},
		{`"{body}"`, `{"list":[1,2.50],"s":"q\"u"}`},
		{`"{{x}}"`, `"{x}"`},
		{`{"n":"{query.s:int}"}`, "! {query.s:int} is not a whole number"},
		{`{"n":"{query.s:number}"}`, "! {query.s:number} is not a number"},
		{`{"n":"{query.n:bool}"}`, "! {query.n:bool} is neither true nor false"},
		{`{"n":"{body.none}"}`, "! {body.none} is missing"},
		{`{"n":"x{body.list}"}`, "! {body.list} is an object or a list where one value is needed"},
		{`{"n":"x{query.n:int}"}`, "?"}, {`{"n":"{body.s:int}"}`, "?"}, {`{"n":"{query.n:date}"}`, "?"}, {`["{x}"]`, "?"},
	} {
		b, err := sc.template([]byte(c.template), 0)
		if err != nil {
			if c.want != "?" {
				t.Errorf("%s: %v", c.template, err)
			}
			continue
		}
		out, _, err := b.append(nil, in, answers)
		got := string(out)
		if err != nil {
			got = "! " + err.Error()
		} else if !json.Valid(out) {
			t.Errorf("%s gives %s, which is no JSON", c.template, out)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.template, got, c.want)
		}
	}
}

// A panic in a call comes out of Run, and only after the others have ended.
func TestPanicComesOut(t *testing.T) {
	p := compile(t, Spec{Method: "GET", Calls: map[string]CallSpec{"a": {Path: "/"}, "b": {Path: "/"}}})
	ended := make(chan struct{})
	defer func() {
		if cause := recover(); cause != "boom" {
			t.Errorf("recovered %v", cause)
		}
		<-ended
	}()
	//nolint:errcheck // it panics
	p.Run(context.Background(), input(""), nil, func(ctx context.Context, i int, _ *Request) Answer {
		if i == 0 {
			panic("boom")
		}
		<-ctx.Done()
		close(ended)
		return Answer{Failure: FailureOf(ctx.Err())}
	})
	t.Error("Run returned")
}

// A write that has begun is not cut off because another call has failed.
func TestWritesAreNotCutOff(t *testing.T) {
	p := compile(t, Spec{Method: "POST", Calls: map[string]CallSpec{"read": {Path: "/", Required: true}, "write": {Path: "/", Method: "POST"}, "late": {Path: "/", Method: "POST", After: []string{"write"}}}})
	synctest.Test(t, func(t *testing.T) {
		begun := make(chan struct{})
		wrote := false
		res, err := p.Run(t.Context(), input(""), nil, func(ctx context.Context, i int, _ *Request) Answer {
			switch p.Calls[i].Name {
			case "read":
				<-begun
				return Answer{Failure: StatusFailure(500, 0)}
			case "late":
				t.Error("a call was begun after the whole had failed")
			}
			close(begun)
			synctest.Wait() // until the failure has had its effect
			if ctx.Err() != nil {
				t.Error("the write was cut off")
			}
			wrote = true
			return Answer{JSON: []byte(`{}`)}
		})
		if err != nil || res.Failed == nil || res.Failed.Call != "read" || !wrote {
			t.Errorf("%+v %v %v", res, err, wrote)
		}
	})
}

func TestProblems(t *testing.T) {
	for _, c := range []struct {
		failure *Failure
		code    problem.Code
		outcome string
	}{
		{FailureOf(problem.New(problem.UpstreamTimeout, "")), problem.UpstreamTimeout, "timeout"},
		{FailureOf(problem.New(problem.UpstreamUnreachable, "")), problem.UpstreamUnreachable, "unreachable"},
		{FailureOf(problem.New(problem.FeatureUnavailable, "").After(7 * time.Second)), problem.FeatureUnavailable, "breaker_open"},
		{FailureOf(problem.New(problem.Overloaded, "")), problem.Overloaded, "overloaded"},
		{FailureOf(errors.New("x")), problem.Internal, "internal"},
		{StatusFailure(429, time.Minute), problem.RateLimited, "status"},
		{StatusFailure(401, 0), problem.UpstreamInvalid, "status"},
		{StatusFailure(302, 0), problem.UpstreamInvalid, "status"},
		{valueFailure(&ValueError{Reference: "{query.q}", Why: whyMissing, Client: true}), problem.InvalidRequest, "value"},
		{valueFailure(&ValueError{Reference: "{user.id}", Why: whyMissing, Identity: true}), problem.TokenMissing, "value"},
	} {
		p := (&Failed{"a", c.failure}).Problem("home")
		a := Answer{Failure: c.failure}
		if p.Code != c.code || p.Extra["call"] != "a" || a.Outcome() != c.outcome || p.RetryAfter != c.failure.RetryAfter {
			t.Errorf("%+v: %+v %s", c.failure, p, a.Outcome())
		}
	}
}

func TestPersistedDocuments(t *testing.T) {
	const doc = "\ufeff# a comment { with } braces\nquery A($x: In = {a: \"}\"}) @d(x: {y: 1}) { a(s: \"\"\"} \\\"\"\" {\"\"\") { b } }\nfragment F on T { c }\nmutation B { b }"
	p, err := ParsePersisted([]string{doc, `{"` + Hash("{ a }") + `":"{ a }"}`})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ hash, name, kind string }{
		{Hash(doc), "A", "query"}, {Hash(doc), "B", "mutation"}, {strings.ToUpper(Hash("{ a }")), "", "query"}, {Hash(doc), "", ""}, {Hash(doc), "C", ""}, {Hash("x"), "", ""},
	} {
		o, err := p.Find(c.hash, c.name)
		if (err == nil) != (c.kind != "") || err == nil && (o.Type != c.kind || o.Name != c.name) {
			t.Errorf("%s %q: %+v %v", c.hash, c.name, o, err)
		}
	}
	for _, bad := range []string{
		"", "{", "query", "query A", "query A { a ", `query A { a(s: "x) }`, "type A { a: Int }", "query A { a } query A { b }", "{ a } query B { b }", "{ a } { b }", "query A ) { a }",
		`{"format":"other","version":1,"operations":[]}`, `{"abc":"{ a }"}`, `{"a":1}`, "fragment F on T { a }", "query A { a } \x00", `query A { a(s: """x) }`,
	} {
		if _, err := ParsePersisted([]string{bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzPersisted(f *testing.F) {
	f.Add("query A($x: Int = 1) { a(s: \"}\") { b } } fragment F on T { c }")
	f.Add("{ a }")
	f.Add(`{"format":"apollo-persisted-query-manifest","version":1,"operations":[]}`)
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePersisted([]string{s})
		if err != nil {
			return
		}
		for hash, list := range p.byHash {
			for _, o := range list {
				if found, err := p.Find(hash, o.Name); err != nil || found != o || !Valid(o.Request([]byte(`{"a":1}`))) {
					t.Fatalf("%q: %+v %v", s, o, err)
				}
			}
		}
	})
}

func FuzzGraphQLAnswer(f *testing.F) {
	f.Add(`{"data":{"a":1},"errors":[{"path":["a",0],"extensions":{"code":"X"}}]}`)
	f.Fuzz(func(t *testing.T, s string) {
		if !Valid([]byte(s)) {
			return
		}
		a := GraphQLAnswer(200, []byte(s))
		if a.Failure == nil && (a.JSON == nil || !Valid(a.JSON)) {
			t.Fatalf("%q gives %q", s, a.JSON)
		}
	})
}
