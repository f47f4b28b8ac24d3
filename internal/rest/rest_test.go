package rest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"landline/internal/observe"
	"landline/internal/problem"
	"landline/internal/rest"
)

type input struct {
	Limit int       `query:"limit" minimum:"1" maximum:"10"`
	When  time.Time `query:"when"`
	Mode  string    `header:"X-Mode" enum:"a,b"`
	Body  struct {
		Name   string   `json:"name" minLength:"2" maxLength:"8"`
		Link   string   `json:"link,omitempty" format:"uri"`
		Mail   string   `json:"mail,omitempty" format:"email"`
		UUID   string   `json:"uuid,omitempty" format:"uuid"`
		Number int      `json:"number,omitempty"`
		Tags   []string `json:"tags,omitempty" maxItems:"3"`
	}
}

type server struct {
	http.Handler
	seen  *problem.Error
	reply error
}

func serve(t *testing.T) *server {
	t.Helper()
	s := &server{}
	mux := http.NewServeMux()
	api := humago.New(mux, rest.Config("Test", "1"))
	op := huma.Operation{Method: http.MethodPost, Path: "/things", OperationID: "post-things", MaxBodyBytes: 512, RejectUnknownQueryParameters: true}
	huma.Register(api, op, func(context.Context, *input) (*struct{}, error) { return nil, s.reply })
	mux.Handle("/", rest.NotFound(mux))
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := observe.WithTrace(r.Context(), "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
		mux.ServeHTTP(w, r.WithContext(rest.With(ctx, rest.Request{OnError: func(p *problem.Error) { s.seen = p }})))
	})
	return s
}

func post(t *testing.T, h http.Handler, target, body string, header ...string) (*http.Response, map[string]any, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	res := w.Result()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatalf("%d %q: %v", res.StatusCode, raw, err)
		}
	}
	return res, m, string(raw)
}

// canary stands in every input below; no answer may repeat it.
const canary = "hunter2"

func TestHumasFaultsBecomeProblemsWithoutValues(t *testing.T) {
	for name, c := range map[string]struct {
		target, body string
		header       []string
		code         problem.Code
		location     string
	}{
		"no JSON":                 {"/things", `{"name":` + canary, nil, problem.InvalidRequest, "body"},
		"empty body":              {"/things", ``, nil, problem.InvalidRequest, ""},
		"missing member":          {"/things", `{}`, nil, problem.InvalidRequest, "body"},
		"unknown member":          {"/things", `{"name":"abc","nmae":"` + canary + `"}`, nil, problem.UnknownField, "body.nmae"},
		"wrong case is unknown":   {"/things", `{"name":"abc","Link":"` + canary + `"}`, nil, problem.UnknownField, "body.Link"},
		"wrong type":              {"/things", `{"name":["` + canary + `"]}`, nil, problem.InvalidRequest, "body.name"},
		"number as text":          {"/things", `{"name":"abc","number":"` + canary + `"}`, nil, problem.InvalidRequest, "body.number"},
		"number too large":        {"/things", `{"name":"abc","number":1e99}`, nil, problem.InvalidRequest, ""},
		"too long":                {"/things", `{"name":"` + canary + canary + `"}`, nil, problem.InvalidRequest, "body.name"},
		"bad uri":                 {"/things", `{"name":"abc","link":"::` + canary + `"}`, nil, problem.InvalidRequest, "body.link"},
		"bad mail":                {"/things", `{"name":"abc","mail":"` + canary + `@"}`, nil, problem.InvalidRequest, "body.mail"},
		"bad uuid":                {"/things", `{"name":"abc","uuid":"` + canary + `"}`, nil, problem.InvalidRequest, "body.uuid"},
		"bad query":               {"/things?limit=" + canary, `{"name":"abc"}`, nil, problem.InvalidRequest, "query.limit"},
		"bad time":                {"/things?when=" + canary, `{"name":"abc"}`, nil, problem.InvalidRequest, "query.when"},
		"unknown query parameter": {"/things?nope=" + canary, `{"name":"abc"}`, nil, problem.UnknownField, "query.nope"},
		"bad header":              {"/things", `{"name":"abc"}`, []string{"X-Mode", canary}, problem.InvalidRequest, "header.X-Mode"},
		"another media type":      {"/things", canary, []string{"Content-Type", "text/" + canary}, problem.MediaTypeUnsupported, ""},
		"large body":              {"/things", `{"name":"` + strings.Repeat(canary, 200) + `"}`, nil, problem.BodyTooLarge, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			res, m, raw := post(t, s, c.target, c.body, c.header...)
			if m["code"] != string(c.code) || res.StatusCode != problem.Lookup(c.code).Status {
				t.Errorf("got %d %v, want %s", res.StatusCode, m, c.code)
			}
			if strings.Contains(raw, canary) {
				t.Errorf("the answer repeats the input: %s", raw)
			}
			if res.Header.Get("Content-Type") != problem.MediaType || m["trace_id"] != "4bf92f3577b34da6a3ce929d0e0e4736" || m["instance"] != "/things" {
				t.Errorf("%s %v", res.Header.Get("Content-Type"), m)
			}
			if c.location != "" {
				faults, ok := m["errors"].([]any)
				if !ok || len(faults) == 0 || faults[0].(map[string]any)["location"] != c.location {
					t.Errorf("errors are %v, want the location %s", m["errors"], c.location)
				}
			}
			if s.seen == nil || s.seen.Code != c.code {
				t.Errorf("the edge was told %v", s.seen)
			}
		})
	}
}

func TestFaultsAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"name":"abc"`)
	for i := range 60 {
		fmt.Fprintf(&b, `,"x%d":1`, i)
	}
	b.WriteString(`}`)
	if b.Len() > 511 {
		t.Fatal("the body is too large for the operation")
	}
	_, m, _ := post(t, serve(t), "/things", b.String())
	if n := len(m["errors"].([]any)); n != 20 {
		t.Errorf("%d faults, want 20", n)
	}
	_, m, raw := post(t, serve(t), "/things", `{"name":"abc","`+strings.Repeat("k", 400)+`":1}`)
	if m["code"] != "unknown_field" || len(raw) > 900 {
		t.Errorf("a long name gives %d bytes", len(raw))
	}
}

type coder struct{}

func (coder) Error() string           { return "disk full: " + canary }
func (coder) Problem() *problem.Error { return problem.New(problem.StorageUnavailable, "later") }

func TestErrorsOfHandlers(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want problem.Code
	}{
		"a problem":         {problem.New(problem.Conflict, "taken").With("hint", "x").WithHeader("X-Own", "1"), problem.Conflict},
		"a wrapped problem": {fmt.Errorf("%s: %w", canary, problem.New(problem.NotFound, "")), problem.NotFound},
		"one with a code":   {fmt.Errorf("write: %w", coder{}), problem.StorageUnavailable},
		"an internal one":   {problem.New(problem.Internal, "sorry"), problem.Internal},
		"any other":         {errors.New(canary), problem.Internal},
		"a caller who left": {fmt.Errorf("%s: %w", canary, context.Canceled), problem.RequestTimeout},
		"huma's own":        {huma.Error404NotFound(canary), problem.NotFound},
		"huma's 503":        {huma.Error503ServiceUnavailable(canary), problem.Overloaded},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			s.reply = c.err
			res, m, raw := post(t, s, "/things", `{"name":"abc"}`)
			k := problem.Lookup(c.want)
			if res.StatusCode != k.Status || m["code"] != string(c.want) || res.Header.Get("Content-Type") != problem.MediaType {
				t.Errorf("got %d %s", res.StatusCode, raw)
			}
			if strings.Contains(raw, canary) {
				t.Errorf("the cause is shown: %s", raw)
			}
			if name == "a problem" && (m["hint"] != "x" || res.Header.Get("X-Own") != "1" || m["detail"] != "taken") {
				t.Errorf("members or headers are lost: %s %v", raw, res.Header)
			}
			if c.want == problem.StorageUnavailable && (res.Header.Get("Retry-After") != "1" || m["retry_after"] != 1.0) {
				t.Errorf("Retry-After %q, member %v", res.Header.Get("Retry-After"), m["retry_after"])
			}
			if res.Header.Get("Cache-Control") != "no-store" {
				t.Error("an error may be cached")
			}
		})
	}
}

func TestDebugInDevelopmentOnly(t *testing.T) {
	s := serve(t)
	s.reply = errors.New(canary)
	dev := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.ServeHTTP(w, r.WithContext(problem.WithDebug(r.Context())))
	})
	if _, m, _ := post(t, dev, "/things", `{"name":"abc"}`); !strings.Contains(fmt.Sprint(m["debug"]), canary) {
		t.Errorf("development does not show the cause: %v", m)
	}
}

func TestPathsAndMethodsThatAreNotThere(t *testing.T) {
	s := serve(t)
	res, m, _ := post(t, s, "/nothing", "{}")
	if res.StatusCode != 404 || m["code"] != "route_not_found" {
		t.Errorf("got %d %v", res.StatusCode, m)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodDelete, "/things", nil))
	if w.Code != 405 || w.Header().Get("Allow") != "POST" || w.Header().Get("Content-Type") != problem.MediaType {
		t.Errorf("got %d %v", w.Code, w.Header())
	}
}

func TestTheDocumentShowsProblems(t *testing.T) {
	mux := http.NewServeMux()
	api := humago.New(mux, rest.Config("Test", "1"))
	huma.Register(api, huma.Operation{Method: http.MethodGet, Path: "/x", OperationID: "get-x"}, func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
	doc, err := api.OpenAPI().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{problem.MediaType, `"trace_id"`, `"retry_after"`, `"code"`, `"errors"`} {
		if !strings.Contains(string(doc), want) {
			t.Errorf("the document lacks %s", want)
		}
	}
	for _, path := range []string{"/openapi.json", "/docs", "/schemas/Problem.json"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != http.StatusNotFound {
			t.Errorf("%s is served: %d", path, w.Code)
		}
	}
}

func TestListsHaveOneShape(t *testing.T) {
	for want, l := range map[string]any{
		`{"data":[],"page":{"next":null}}`:    rest.NewList[int](nil, ""),
		`{"data":[1,2],"page":{"next":"c2"}}`: rest.NewList([]int{1, 2}, "c2"),
	} {
		got, err := json.Marshal(l)
		if err != nil || string(got) != want {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
	}
}
