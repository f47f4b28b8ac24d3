package contract

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

const shopDocument = `openapi: 3.1.0
info: {title: Shop, version: "1"}
servers: [{url: "https://{host}/api", variables: {host: {default: example.com}}}]
x-landline-error-codes: [sold_out]
paths:
  /items/{id}:
    parameters:
      - {name: id, in: path, required: true, schema: {type: integer, minimum: 1}}
    get:
      parameters:
        - {name: limit, in: query, schema: {type: integer, maximum: 100}}
        - {name: tags, in: query, schema: {type: array, items: {type: integer}}}
        - {name: csv, in: query, explode: false, schema: {type: array, maxItems: 2, items: {type: string}}}
        - {name: pipes, in: query, style: pipeDelimited, explode: false, schema: {type: array, maxItems: 2, items: {type: string}}}
        - {name: spaces, in: query, style: spaceDelimited, explode: false, schema: {type: array, maxItems: 2, items: {type: string}}}
        - {name: filter, in: query, style: deepObject, schema: {type: object, properties: {max: {type: integer}}, additionalProperties: false}}
        - {name: where, in: query, content: {application/json: {schema: {type: object, required: [a]}}}}
        - {name: on, in: query, schema: {type: boolean}}
        - {name: either, in: query, schema: {oneOf: [{type: integer}, {type: string, maxLength: 2}]}}
        - {name: X-Trace, in: header, required: true, schema: {type: string, format: uuid}}
        - {name: X-List, in: header, schema: {type: array, items: {type: integer}}}
        - {name: theme, in: cookie, schema: {enum: [dark, light]}}
      responses:
        "200":
          description: one
          headers: {X-Count: {required: true, schema: {type: integer}}}
          content: {application/json: {schema: {$ref: "common.yaml#/Item"}}, text/plain: {}}
        4XX: {description: no, content: {application/problem+json: {schema: {type: object}}}}
  /items/latest:
    get: {operationId: latest, responses: {"204": {description: none}}}
  /files/{name}.{format}:
    get: {parameters: [{name: name, in: path, required: true, schema: {type: string}}, {name: format, in: path, required: true, schema: {enum: [pdf, png]}}], responses: {default: {description: any}}}
  /matrix/{a}/{b}:
    get:
      parameters:
        - {name: a, in: path, required: true, style: matrix, explode: true, schema: {type: array, items: {type: integer}}}
        - {name: b, in: path, required: true, style: label, schema: {type: array, maxItems: 2, items: {type: string}}}
      responses: {"200": {description: ok}}
  /orders:
    post:
      requestBody:
        required: true
        content:
          application/json: {schema: {$ref: "#/components/schemas/Order"}}
          application/x-www-form-urlencoded: {schema: {type: object, required: [n], properties: {n: {type: integer}, list: {type: array, items: {type: integer}}}}}
          multipart/form-data: {schema: {type: object}}
      responses: {"201": {description: made}}
components:
  schemas:
    Order:
      oneOf: [{$ref: "#/components/schemas/Card"}, {$ref: "#/components/schemas/Cash"}]
      discriminator: {propertyName: kind, mapping: {card: "#/components/schemas/Card"}}
    Card: {type: object, required: [kind, number], properties: {kind: {type: string}, number: {type: string, writeOnly: true}, id: {type: string, readOnly: true}}}
    Cash: {type: object, required: [kind, amount, id], properties: {kind: {type: string}, amount: {type: number}, id: {type: string, readOnly: true}}}
`

func shop(t testing.TB) *Document {
	return folder{"api/shop.yaml": shopDocument, "api/common.yaml": "Item: {type: object, required: [id], properties: {id: {type: integer}, parent: {$ref: '#/Item'}}}\n"}.load(t, "api/shop.yaml")
}

func (d *Document) find(t testing.TB, method, path string) (*Operation, string) {
	t.Helper()
	b := d.Bind("", "/{rest...}")
	op, below := b.Find(method, path)
	if op == nil {
		t.Fatalf("no operation for %s %s", method, path)
	}
	return op, below
}

func places(found []Violation) string {
	var list []string
	for _, v := range found {
		list = append(list, v.In+" "+v.Path)
	}
	return strings.Join(list, ", ")
}

func TestParameters(t *testing.T) {
	d := shop(t)
	const id = "018f4ae2-7f00-7000-8000-000000000000"
	for _, c := range []struct{ path, query, header, want string }{
		{"/items/7", "limit=5&tags=1&tags=2&csv=a,b&pipes=a|b&spaces=a%20b&filter[max]=3&where=%7B%22a%22:1%7D&on=true&either=x&unknown=1", "", ""},
		{"/items/x", "", "", "path /id"},
		{"/items/0", "", "", "path /id"},
		{"/items/7", "limit=101", "", "query /limit"},
		{"/items/7", "limit=ten", "", "query /limit"},
		{"/items/7", "limit=1&limit=2", "", "query /limit"},
		{"/items/7", "tags=1&tags=x", "", "query /tags/1"},
		{"/items/7", "csv=a,b,c", "", "query /csv"},
		{"/items/7", "pipes=a|b|c", "", "query /pipes"},
		{"/items/7", "spaces=a+b+c", "", "query /spaces"},
		{"/items/7", "filter[max]=x", "", "query /filter/max"},
		{"/items/7", "filter[min]=1", "", "query /filter/min"},
		{"/items/7", "where=%7B%7D", "", "query /where/a"},
		{"/items/7", "where=x", "", "query /where"},
		{"/items/7", "on=yes", "", "query /on"},
		{"/items/7", "either=abc", "", "query /either"},
		{"/items/7", "either=123", "", ""},
		{"/items/7", "limit=%zz", "", "query "},
		{"/items/7", "", "X-Trace: none", "header /X-Trace"},
		{"/items/7", "", "X-List: 1,x", "header /X-List/1"},
		{"/items/7", "", "Cookie: theme=pink", "cookie /theme"},
		{"/items/7", "", "Cookie: theme=dark", ""},
		{"/files/a.pdf", "", "", ""},
		{"/files/a.exe", "", "", "path /format"},
		{"/matrix/;a=1;a=2/.x,y", "", "", ""},
		{"/matrix/;a=1;a=x/.x,y", "", "", "path /a/1"},
		{"/matrix/1/.x,y,z", "", "", "path /a, path /b"},
	} {
		op, below := d.find(t, "GET", c.path)
		h := http.Header{"X-Trace": {id}}
		if name, value, ok := strings.Cut(c.header, ": "); ok {
			h.Set(name, value)
		}
		if got := places(op.CheckRequest(&Request{Path: below, Query: c.query, Header: h})); got != c.want {
			t.Errorf("%s?%s %s: %q, want %q", c.path, c.query, c.header, got, c.want)
		}
	}
	op, below := d.find(t, "GET", "/items/7")
	if got := places(op.CheckRequest(&Request{Path: below, Header: http.Header{}})); got != "header /X-Trace" {
		t.Errorf("a required header: %q", got)
	}
}

func TestRequestBodies(t *testing.T) {
	op, below := shop(t).find(t, "POST", "/orders")
	for _, c := range []struct{ kind, body, want string }{
		{"application/json", `{"kind":"card","number":"1"}`, ""},
		{"application/json; charset=utf-8", `{"kind":"Cash","amount":1}`, ""}, // id is readOnly
		{"application/json", `{"kind":"card"}`, "body /number"},
		{"application/json", `{"kind":"cheque"}`, "body /kind"},
		{"application/json", `{}`, "body /kind"},
		{"application/json", `[]`, "body "},
		{"application/json", `{"kind":`, "body "},
		{"application/x-www-form-urlencoded", `n=1&list=1&list=2`, ""},
		{"application/x-www-form-urlencoded", `n=x`, "body /n"},
		{"application/x-www-form-urlencoded", `list=1`, "body /n"},
		{"multipart/form-data; boundary=x", "anything", ""},
		{"text/html", "x", "header /Content-Type"},
		{"", "", "body "},
	} {
		q := &Request{Path: below, Header: http.Header{"Content-Type": {c.kind}}, Body: []byte(c.body), HasBody: c.body != ""}
		if got := places(op.CheckRequest(q)); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.kind, c.body, got, c.want)
		}
	}
	q := &Request{Path: below, Header: http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}, Body: []byte("x"), HasBody: true}
	if got := places(op.CheckRequest(q)); got != "header /Content-Encoding" {
		t.Error(got)
	}
}

func TestResponses(t *testing.T) {
	d := shop(t)
	op, _ := d.find(t, "GET", "/items/7")
	for _, c := range []struct {
		status           int
		kind, body, want string
	}{
		{200, "application/json", `{"id":1,"parent":{"id":2}}`, ""},
		{200, "application/json", `{"id":1,"parent":{}}`, "body /parent/id"},
		{200, "text/plain", `x`, ""},
		{200, "text/html", `x`, "header /Content-Type"},
		{404, "application/problem+json", `{}`, ""},
		{404, "application/problem+json", `[]`, "body "},
		{201, "application/json", `{}`, "status /201"},
		{304, "", ``, ""},
		{503, "text/html", `x`, ""},
	} {
		a := &Response{Status: c.status, Header: http.Header{"Content-Type": {c.kind}, "X-Count": {"3"}}, Body: []byte(c.body)}
		if got := places(op.CheckResponse(a)); got != c.want {
			t.Errorf("%d %s %s: %q, want %q", c.status, c.kind, c.body, got, c.want)
		}
	}
	if got := places(op.CheckResponse(&Response{Status: 200, Header: http.Header{}})); got != "header /X-Count" {
		t.Errorf("a missing header: %q", got)
	}
	if got := places(op.CheckResponse(&Response{Status: 200, Header: http.Header{"X-Count": {"many"}}})); got != "header /X-Count" {
		t.Errorf("a wrong header: %q", got)
	}
}

func TestConventions(t *testing.T) {
	op, _ := shop(t).find(t, "GET", "/items/7")
	problemOf := func(code string, status int) string {
		return fmt.Sprintf(`{"type":"about:blank","title":"No","status":%d,"code":%q}`, status, code)
	}
	for _, c := range []struct {
		status           int
		kind, body, want string
	}{
		{404, "application/problem+json", problemOf("not_found", 404), ""},
		{404, "application/problem+json", problemOf("sold_out", 404), ""},
		{404, "application/problem+json", problemOf("whatever", 404), "body /code"},
		{404, "application/problem+json", problemOf("not_found", 400), "body /status"},
		{404, "application/problem+json", `{"title":"x"}`, "body /type, body /status, body /code"},
		{500, "application/json", `{}`, "header /Content-Type"},
		{200, "application/json", `{"data":[1],"page":{"next":null}}`, ""},
		{200, "application/json", `{"data":[1],"page":{"next":"c"}}`, ""},
		{200, "application/json", `{"data":[1]}`, "body /page"},
		{200, "application/json", `{"data":[1],"page":{}}`, "body /page/next"},
		{200, "application/json", `{"data":{"x":1}}`, ""},
		{200, "application/json", `[1]`, "body "},
		{200, "text/plain", `x`, ""},
	} {
		got := op.CheckConventions(&Response{Status: c.status, Header: http.Header{"Content-Type": {c.kind}}, Body: []byte(c.body)})
		if p := places(got); strings.Join(sorted(p), ", ") != strings.Join(sorted(c.want), ", ") {
			t.Errorf("%d %s: %q, want %q", c.status, c.body, p, c.want)
		}
	}
}

func sorted(s string) []string {
	list := strings.Split(s, ", ")
	for i := range list {
		for j := range i {
			if list[i] < list[j] {
				list[i], list[j] = list[j], list[i]
			}
		}
	}
	return list
}

func TestBind(t *testing.T) {
	d := shop(t)
	for _, c := range []struct {
		method, template, path string
		want                   string // operations; what path leads to
	}{
		{"GET", "/items/{x}", "/items/latest", "/items/latest /items/{id}; /items/latest"},
		{"GET", "/items/{x}", "/items/7", "/items/latest /items/{id}; /items/{id}"},
		{"GET", "/api/items/{x}", "/api/items/7", "/items/latest /items/{id}; /items/{id}"},
		{"GET", "/items/latest", "/items/latest", "/items/latest /items/{id}; /items/latest"},
		{"POST", "/api/orders", "/api/orders", "/orders; /orders"},
		{"DELETE", "/items/{x}", "", ""},
		{"GET", "/v9/items/{x}", "", ""},
		{"", "/items/{rest...}", "/items/7/8", "/items/latest /items/{id}; none"},
		{"GET", "/files/{f}", "/files/x.png", "/files/{name}.{format}; /files/{name}.{format}"},
	} {
		b := d.Bind(c.method, c.template)
		if b == nil {
			if c.want != "" {
				t.Errorf("%s %s is not found", c.method, c.template)
			}
			continue
		}
		var ops []string
		for _, op := range b.Operations {
			ops = append(ops, op.Path)
		}
		method := c.method
		if method == "" {
			method = "GET"
		}
		got := "none"
		if op, _ := b.Find(method, c.path); op != nil {
			got = op.Path
		}
		if got = strings.Join(ops, " ") + "; " + got; got != c.want {
			t.Errorf("%s %s: %q, want %q", c.method, c.template, got, c.want)
		}
	}
	if op, _ := d.Bind("GET", "/items/{x}").Find("HEAD", "/items/7"); op == nil {
		t.Error("HEAD does not find the operation of GET")
	}
}

func TestDocumentsThatAreNone(t *testing.T) {
	base := "openapi: 3.1.0\ninfo: {title: T, version: '1'}\npaths:\n"
	for text, want := range map[string]string{
		"":                            `f.yaml:1:1: is empty`,
		"openapi: 3.1.0\ninfo: [":     `f.yaml:\d+:1: is neither YAML nor JSON`,
		"swagger: '2.0'\n":            `f.yaml:1:1: is no OpenAPI document of version 3.0 or 3.1`,
		"openapi: 4.0.0\n":            `f.yaml:1:1: is no OpenAPI document`,
		"openapi: 3.1.0\npaths: {}\n": `f.yaml:.*info`,
		base + "  /a: {get: {responses: {'200': {description: x, content: {application/json: {schema: {$ref: '#/components/schemas/No'}}}}}}}\n": `f.yaml:.*No`,
		base + "  /a: {get: {responses: {'200': {description: x, content: {application/json: {schema: {$ref: 'none.yaml#/No'}}}}}}}\n":           `none.yaml`,
		base + "  /a: {get: {responses: {'200': {description: x, content: {application/json: {schema: {$ref: 'http://x/y'}}}}}}}\n":              `only files beside`,
		base + "  /a/{id}: {get: {responses: {'200': {description: x}}}}\n":                                                                      `f.yaml:.*id`,
		base + "  /a: {get: {responses: {'200': {description: x, content: {application/json: {schema:\n       {minimum: x}}}}}}}\n":              `f.yaml:\d+`,
	} {
		_, err := Load("f.yaml", folder{"f.yaml": text}.read)
		if err == nil || !matches(want, faultsOf(t, err)) {
			t.Errorf("%s\n%v, want %s", text, err, want)
		}
	}
	if _, err := Load("gone.yaml", folder{}.read); err == nil {
		t.Error("a document that is not there loads")
	}
}

func TestJournal(t *testing.T) {
	j := NewJournal()
	at := time.Unix(1, 0)
	where := Where{Feature: "f", APIVersion: "v1", Direction: "response", Match: "GET /v1/x", Operation: "GET /x", Status: 200}
	for i := range 3 {
		j.Add(where, Violation{In: InBody, Path: fmt.Sprintf("/legs/%d", i), Field: "/legs/*", Message: "must be a string", Shape: "integer"}, at.Add(time.Duration(i)*time.Second))
	}
	for i := range 2 * MaxEntries {
		j.Add(Where{Feature: "g"}, Violation{In: InBody, Field: fmt.Sprint("/", i)}, at)
	}
	list := j.List("")
	if len(list) != MaxEntries || list[0].Count != 3 || list[0].Field != "/legs/*" || !list[0].FirstAt.Equal(at) || !list[0].LastAt.Equal(at.Add(2*time.Second)) {
		t.Errorf("%d entries, %+v", len(list), list[0])
	}
	if l := j.List("f"); len(l) != 1 {
		t.Errorf("%d entries of f", len(l))
	}
	j.Keep(func(f string) bool { return f == "f" })
	if l := j.List(""); len(l) != 1 {
		t.Errorf("%d entries are left", len(l))
	}
}

// FuzzLoad: no document makes Load panic.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(shopDocument))
	f.Add(fmt.Appendf(nil, flightsDocument, "3.0.3"))
	f.Add([]byte("openapi: 3.1.0\ninfo: {title: a, version: b}\npaths: {/a: {get: {responses: {x: {}}}}}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Load("f.yaml", folder{"f.yaml": string(data), "common.yaml": "Item: {}"}.read)
		if err != nil {
			return
		}
		for _, op := range d.Operations {
			op.CheckRequest(&Request{Path: "/items/7", Header: http.Header{}, Query: "a=1&b[c]=2"})
			op.CheckResponse(&Response{Status: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(`{"id":1}`)})
		}
	})
}

// FuzzParameters: no query, path or form makes a check panic.
func FuzzParameters(f *testing.F) {
	d := shop(f)
	f.Add("/items/7", "limit=5&filter[max]=3&tags=1&where={}", "n=1")
	f.Add("/matrix/;a=1/.x", "a=%zz;b", "%")
	b := d.Bind("", "/{rest...}")
	order, _ := b.Find("POST", "/orders")
	f.Fuzz(func(_ *testing.T, path, query, form string) {
		if op, below := b.Find("GET", path); op != nil {
			op.CheckRequest(&Request{Path: below, Query: query, Header: http.Header{"Cookie": {form}, "X-List": {query}}})
		}
		order.CheckRequest(&Request{Path: "/orders", Header: http.Header{"Content-Type": {formType}}, Body: []byte(form), HasBody: true})
	})
}
