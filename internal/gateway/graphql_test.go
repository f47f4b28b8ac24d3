package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"landline/internal/gateway/aggregate"
)

const (
	flightQuery    = `query Flight($id: ID!, $first: Int) { flight(id: $id) { gate legs(first: $first) { to } } }`
	bookMutation   = `mutation Book($id: ID!) { book(id: $id) { trip } }`
	ticksSubscript = `subscription Ticks { tick }`
)

// manifest is an Apollo persisted query manifest of the documents.
func manifest(documents ...string) string {
	type operation struct {
		ID   string `json:"id"`
		Name string `json:"name"`
		Type string `json:"type"`
		Body string `json:"body"`
	}
	m := struct {
		Format     string      `json:"format"`
		Version    int         `json:"version"`
		Operations []operation `json:"operations"`
	}{Format: "apollo-persisted-query-manifest", Version: 1}
	for _, d := range documents {
		m.Operations = append(m.Operations, operation{ID: aggregate.Hash(d), Body: d})
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// graph is a GraphQL service: it tells what it got and answers with what next returns.
type graph struct {
	got    chan string
	answer func() (status int, body string)
}

func (g *graph) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	g.got <- r.Method + " " + r.URL.RequestURI() + " " + r.Header.Get("Content-Type") + " " + string(b)
	status, body := g.answer()
	w.Header().Set("Content-Type", "application/graphql-response+json")
	w.WriteHeader(status)
	io.WriteString(w, body)
}

func TestGraphQLOperation(t *testing.T) {
	status, body := 200, ""
	g := &graph{got: make(chan string, 1), answer: func() (int, string) { return status, body }}
	block := fmt.Sprintf(`graphql:
  upstream: up
  persisted: %q
  operation: Flight
  variables: {id: "{id}", first: "{query.limit:int?}"}
  flatten: flight
  rename: {legs: stops}
`, manifest(flightQuery, bookMutation))
	h := aggregated(t, serve(t, g.ServeHTTP), "GET /v1/flights/{id}", block)
	for _, c := range []struct {
		name, query string
		status      int
		body        string // of the service
		want        int
		answer      string
		partial     string
		sent        string // variables
	}{
		{"all", "?limit=2", 200, `{"data":{"flight":{"gate":"A1","legs":[{"to":"LHR"}]}}}`, 200, `{"gate":"A1","stops":[{"to":"LHR"}]}`, "", `{"id":"LO1","first":2}`},
		{"a part", "", 200, `{"errors":[{"message":"secret","path":["flight","gate"],"extensions":{"code":"LATE"}}],"data":{"flight":{"gate":null,"legs":[]}}}`, 200,
			`{"gate":null,"stops":[],"missing":[{"call":"operation","code":"graphql_error","path":"flight.gate","error":"LATE"}]}`, "operation;reason=errors", `{"id":"LO1"}`},
		{"fields", "?fields=gate", 200, `{"data":{"flight":{"gate":"A1","legs":[]}}}`, 200, `{"gate":"A1"}`, "", `{"id":"LO1"}`},
		{"errors alone", "", 200, `{"data":null,"errors":[{"message":"secret","extensions":{"code":"NOT_FOUND"}}]}`, 404, `"call":"operation"`, "", ""},
		{"errors alone, 400", "", 400, `{"errors":[{"message":"secret","extensions":{"code":"BAD_USER_INPUT"}}]}`, 400, `"invalid_request"`, "", ""},
		{"errors alone, no code", "", 200, `{"errors":[{"message":"secret"}]}`, 502, `"upstream_invalid"`, "", ""},
		{"an error page", "", 500, `{"oops":1}`, 502, `"upstream_invalid"`, "", ""},
		{"garbage", "", 200, `{"data":`, 502, `"upstream_invalid"`, "", ""},
		{"no answer of GraphQL", "", 200, `[1]`, 502, `"upstream_invalid"`, "", ""},
		{"nothing there", "", 200, `{"data":{"flight":null}}`, 200, `null`, "", ""},
		{"nothing at flatten", "", 200, `{"data":{}}`, 502, `"upstream_invalid"`, "", ""},
	} {
		status, body = c.status, c.body
		res, answer := h.get("/v1/flights/LO1" + c.query)
		got := <-g.got
		if res.StatusCode != c.want || c.want == 200 && answer != c.answer || !strings.Contains(answer, c.answer) || res.Header.Get("Landline-Partial") != c.partial || strings.Contains(answer, "secret") {
			t.Errorf("%s: %d %q %s", c.name, res.StatusCode, res.Header.Get("Landline-Partial"), answer)
		}
		want, _ := json.Marshal(flightQuery)
		if !strings.HasPrefix(got, "POST /graphql application/json {\"query\":"+string(want)+`,"operationName":"Flight","variables":{"id":"LO1"`) || c.sent != "" && !strings.HasSuffix(got, c.sent+"}") {
			t.Errorf("%s: the service got %s", c.name, got)
		}
	}
	if res, answer := h.get("/v1/flights/LO1?limit=many"); res.StatusCode != 400 || !strings.Contains(answer, "query.limit") {
		t.Errorf("%d %s", res.StatusCode, answer)
	}
}

func TestGraphQLPersistedOnly(t *testing.T) {
	g := &graph{got: make(chan string, 1), answer: func() (int, string) { return 200, `{"data":{"x":1}}` }}
	h := aggregated(t, serve(t, g.ServeHTTP), "/v1/graphql", fmt.Sprintf("graphql: {upstream: up, path: /api, persisted: [%q, %q]}", manifest(flightQuery, bookMutation), ticksSubscript))
	sent := func(document, rest string) string {
		q, _ := json.Marshal(document)
		return "POST /api application/json {\"query\":" + string(q) + rest + "}"
	}
	extensions := func(hash string) string {
		return `{"persistedQuery":{"version":1,"sha256Hash":"` + hash + `"}}`
	}
	flight, book, ticks := aggregate.Hash(flightQuery), aggregate.Hash(bookMutation), aggregate.Hash(ticksSubscript)
	quote := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	for _, c := range []struct {
		name, method, query, body string
		status                    int
		want                      string // what the service gets, or a part of the problem
	}{
		{"by hash", "POST", "", `{"variables":{"id":"1"},"extensions":` + extensions(flight) + `}`, 200, sent(flightQuery, `,"operationName":"Flight","variables":{"id":"1"}`)},
		{"by hash in capitals", "POST", "", `{"extensions":` + extensions(strings.ToUpper(flight)) + `}`, 200, sent(flightQuery, `,"operationName":"Flight"`)},
		{"GET", "GET", "?variables=" + url.QueryEscape(`{"id":"1"}`) + "&extensions=" + url.QueryEscape(extensions(flight)), "", 200, sent(flightQuery, `,"operationName":"Flight","variables":{"id":"1"}`)},
		{"by document", "POST", "", `{"query":` + quote(flightQuery) + `}`, 200, sent(flightQuery, `,"operationName":"Flight"`)},
		{"a mutation", "POST", "", `{"operationName":"Book","extensions":` + extensions(book) + `}`, 200, sent(bookMutation, `,"operationName":"Book"`)},
		{"a mutation with GET", "GET", "?extensions=" + url.QueryEscape(extensions(book)), "", 405, "method_not_allowed"},
		{"a subscription", "POST", "", `{"extensions":` + extensions(ticks) + `}`, 400, "invalid_request"},
		{"unknown hash", "POST", "", `{"extensions":` + extensions(strings.Repeat("0", 64)) + `}`, 400, `"PersistedQueryNotInList"`},
		{"unknown document", "POST", "", `{"query":"{ secrets }"}`, 400, "persisted_query_unknown"},
		{"APQ registration", "POST", "", `{"query":"{ secrets }","extensions":` + extensions(aggregate.Hash("{ secrets }")) + `}`, 400, "persisted_query_unknown"},
		{"another document under a known hash", "POST", "", `{"query":"{ secrets }","extensions":` + extensions(flight) + `}`, 400, "invalid_request"},
		{"another operation", "POST", "", `{"operationName":"Other","extensions":` + extensions(flight) + `}`, 400, "operationName"},
		{"a list", "POST", "", `[{"extensions":` + extensions(flight) + `}]`, 400, "lists"},
		{"nothing", "POST", "", `{}`, 400, "sha256Hash"},
		{"no JSON", "POST", "", `{`, 400, "invalid_request"},
		{"wrong types", "POST", "", `{"query":7}`, 400, "invalid_request"},
		{"variables that are none", "POST", "", `{"variables":[1],"extensions":` + extensions(flight) + `}`, 400, "variables"},
		{"another version", "POST", "", `{"extensions":{"persistedQuery":{"version":2,"sha256Hash":"` + flight + `"}}}`, 400, "version"},
		{"PUT", "PUT", "", `{}`, 405, "method_not_allowed"},
	} {
		var body io.Reader
		if c.body != "" {
			body = strings.NewReader(c.body)
		}
		res, answer := h.do(h.request(c.method, "/v1/graphql"+c.query, body, "Content-Type", "application/json"))
		got := answer
		if c.status == 200 {
			got = <-g.got
			if answer != `{"data":{"x":1}}` {
				t.Errorf("%s: %s", c.name, answer)
			}
		}
		if res.StatusCode != c.status || c.status == 200 && got != c.want || !strings.Contains(got, c.want) {
			t.Errorf("%s: %d %s\nwant %s", c.name, res.StatusCode, got, c.want)
		}
		if len(g.got) != 0 {
			t.Errorf("%s: the service was asked %s", c.name, <-g.got)
		}
	}
	if res, answer := h.do(h.request("POST", "/v1/graphql", strings.NewReader(`{}`), "Content-Type", "text/plain")); res.StatusCode != 415 {
		t.Errorf("%d %s", res.StatusCode, answer)
	}
}

func TestAggregateFaults(t *testing.T) {
	const head = "upstreams:\n  up: {targets: [{url: \"http://127.0.0.1:1\"}]}\nfeatures:\n  home:\n    routes:\n      - match: \"%s\"\n%s"
	for _, c := range []struct{ match, block, want string }{
		{"GET /v1/a", "aggregate: {}", "features.home.routes[0].aggregate.calls: there are no calls"},
		{"/v1/a", "aggregate: {calls: {a: {upstream: up, path: /}}}", "needs one of the methods"},
		{"GET /v1/a", "aggregate: {calls: {a: {upstream: upp, path: /}}}", "aggregate.calls.a.upstream: there is no upstream \"upp\""},
		{"GET /v1/a", "aggregate:\n  calls:\n    a: {upstream: up, path: \"/{b.x}\"}\n    b: {upstream: up, path: \"/{a.x}\"}", "landline.yaml:9:13: features.home.routes[0].aggregate.calls.a: calls wait for each other: a → b → a"},
		{"GET /v1/a", "aggregate: {calls: {a: {upstream: up, path: \"/{a.x}\"}}}", "a call cannot use its own answer"},
		{"GET /v1/a", "aggregate: {calls: {a: {upstream: up, path: \"/{x}\"}}}", "calls.a.path: {x} is neither a wildcard of match nor a call"},
		{"GET /v1/a", "aggregate: {calls: {a: {upstream: up, path: \"/x\", after: [c]}}}", "calls.a.after[0]: there is no call \"c\""},
		{"GET /v1/a", "aggregate: {calls: {a: {upstream: up, path: \"/x\"}}, answer: {x: {y: b.z}}}", "aggregate.answer.x.y: there is no call \"b\""},
		{"GET /v1/a", "aggregate: {calls: {a: {upstream: up, path: \"/x\"}}, answer: a}", "the answer must be an object"},
		{"GET /v1/a", "aggregate: {calls: {a: {upstream: up, path: \"/x\"}}, answer: {missing: a}}", "aggregate.answer.missing:"},
		{"GET /v1/a", "aggregate: {calls: {a: {upstream: up, path: \"/x\"}, b: {upstream: up, path: \"/y\"}}, answer: {x: a}}", "nothing in the answer is made of this call"},
		{"GET /v1/a", "aggregate: {calls: {a: {upstream: up, path: \"/x\", method: POST}}}", "a GET must not change anything"},
		{"GET /v1/a", "aggregate: {calls: {a: {upstream: up, path: \"/../x\"}}}", "must not have . or .. segments"},
		{"GET /v1/a", "aggregate: {calls: {a: {upstream: up, path: \"/x\", query: [fields]}}}", "aggregate.fields: a call uses the parameter fields itself"},
		{"GET /v1/a", "aggregate: {calls: {A: {upstream: up, path: \"/x\"}}}", "\"A\" cannot be the name of a call"},
		{"GET /v1/a", "aggregate: {calls: {query: {upstream: up, path: \"/x\"}}}", "\"query\" means something else"},
		{"GET /v1/a", "aggregate: {calls: {a: {upstream: up, path: \"/x\", pick: [\"b.\"]}}}", "calls.a.pick[0]:"},
		{"GET /v1/a", "aggregate: {calls: {a: {upstream: up, path: \"/x\", fallback: {}}}}", "the fallback needs a body"},
		{"GET /v1/a", "aggregate: {calls: {a: {upstream: up, path: \"/x\", flatten: data, fallback: {body: {}}}}}", "the stock answer has nothing at data"},
		{"GET /v1/a", "aggregate: {calls: {a: {upstream: up, path: \"/x\", timeout: 1ns}}}", "calls.a.timeout: must be between"},
		{"POST /v1/a", "aggregate: {calls: {a: {upstream: up, path: \"/x\", method: POST, cache: {ttl: 1s}}}}", "only a GET can be cached"},
		{"GET /v1/a", "upstream: up\naggregate: {calls: {a: {upstream: up, path: \"/x\"}}}", "a route ends in one of upstream, aggregate and graphql"},
		{"GET /v1/a", "graphql: {upstream: up, persisted: \"query A { a }\", operation: B}", "graphql.operation: there is no operation \"B\""},
		{"GET /v1/a", "graphql: {upstream: up, persisted: \"mutation A { a }\", operation: A}", "a GET must not change anything"},
		{"POST /v1/a", "graphql: {upstream: up, persisted: \"subscription A { a }\", operation: A}", "a subscription has no one answer"},
		{"POST /v1/a", "graphql: {upstream: up, persisted: \"type A { a: Int }\"}", "graphql.persisted:"},
		{"POST /v1/a", "graphql: {upstream: up}", "graphql.persisted:"},
		{"PUT /v1/a", "graphql: {upstream: up, persisted: \"{ a }\"}", "GraphQL is asked with GET and POST"},
		{"POST /v1/a", "graphql: {upstream: up, persisted: \"{ a }\", flatten: a}", "graphql.flatten: it is for a route that is one operation"},
		{"GET /v1/a", "graphql: {upstream: up, persisted: \"query A { a }\", operation: A, variables: {x: \"{y}\"}}", "graphql.variables: {y} is neither"},
	} {
		_, err := load(t, fmt.Sprintf(head, c.match, indent(c.block, 8)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n%s\ngives %v\nwant  %s", c.match, c.block, err, c.want)
		}
	}
}
