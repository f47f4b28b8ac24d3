package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"landline/internal/config"
	"landline/internal/gateway/idem"
	"landline/internal/module"
	"landline/internal/testkit"
)

const tripsDocument = `openapi: 3.1.0
info: {title: Trips, version: "1"}
paths:
  /v1/trips:
    get:
      parameters: [{name: limit, in: query, schema: {type: integer, maximum: 100}}]
      responses:
        "200":
          description: trips
          content: {application/json: {schema: {type: object, required: [data], properties: {data: {type: array, items: {$ref: "#/components/schemas/Trip"}}}}}}
    post:
      requestBody: {required: true, content: {application/json: {schema: {$ref: "#/components/schemas/Trip"}}}}
      responses: {"201": {description: made, content: {application/json: {schema: {$ref: "#/components/schemas/Trip"}}}}}
  /v1/stream:
    get: {responses: {"200": {description: events, content: {text/event-stream: {schema: {type: string}}}}}}
components:
  schemas:
    Trip: {type: object, required: [from, to], additionalProperties: false, properties: {from: {type: string, maxLength: 3}, to: {type: string, maxLength: 3}, id: {type: integer}}}
`

// contracted opens a gateway whose feature trips has a contract.
func contracted(t *testing.T, c ContractConfig, upstream http.HandlerFunc, change ...func(f *FeatureConfig)) *house {
	t.Helper()
	c.Document = filepath.Join(t.TempDir(), "trips.yaml")
	if err := os.WriteFile(c.Document, []byte(tripsDocument), 0o600); err != nil {
		t.Fatal(err)
	}
	url := serve(t, upstream)
	return open(t, func(s *Settings) {
		s.Upstreams["up"] = upstreamAt(url)
		f := &FeatureConfig{Auth: module.AuthNone, Contract: &c, Screens: []string{"trips"}, Compression: compressionOff,
			Routes: []RouteConfig{{Match: "/v1/trips", Upstream: "up"}, {Match: "GET /v1/stream", Upstream: "up"}, {Match: "GET /v1/other", Upstream: "up", Contract: contractOff}}}
		for _, c := range change {
			c(f)
		}
		s.Features["trips"] = f
	})
}

func (h *house) post(path, body string, header ...string) (*http.Response, string) {
	h.t.Helper()
	return h.do(h.request(http.MethodPost, path, strings.NewReader(body), append([]string{"Content-Type", "application/json"}, header...)...))
}

func answerJSON(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, body) //nolint:errcheck // the client is the test
	}
}

func TestContractRefusesRequests(t *testing.T) {
	asked := 0
	h := contracted(t, ContractConfig{}, func(w http.ResponseWriter, r *http.Request) {
		asked++
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method == http.MethodPost && string(body) != `{"from":"WAW","to":"LHR"}` {
			t.Errorf("the service got %q, %v", body, err)
		}
		answerJSON(201, `{"from":"WAW","to":"LHR","id":1}`)(w, r)
	})
	if res, body := h.post("/v1/trips", `{"from":"WAW","to":"LHR"}`); res.StatusCode != 201 || !strings.Contains(body, `"id":1`) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	res, body := h.post("/v1/trips", `{"from":"hunter2","extra":"hunter2"}`)
	var p struct {
		Code    string
		Feature string
		Errors  []struct{ In, Path, Message string }
	}
	if err := json.Unmarshal([]byte(body), &p); err != nil || res.StatusCode != 400 || p.Code != "contract_violation" || p.Feature != "trips" || len(p.Errors) != 3 {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	if e := p.Errors[0]; e.In != "body" || e.Path != "/from" || e.Message != "must have at most 3 characters" {
		t.Errorf("%+v", p.Errors)
	}
	if strings.Contains(body, "hunter2") {
		t.Error("the problem echoes a value")
	}
	for _, c := range []struct {
		body, kind string
		status     int
	}{{"{", "application/json", 400}, {"", "application/json", 400}, {"x", "text/plain", 400}, {`"` + strings.Repeat("a", 2<<20) + `"`, "application/json", 413}} {
		if res, body := h.do(h.request(http.MethodPost, "/v1/trips", strings.NewReader(c.body), "Content-Type", c.kind)); res.StatusCode != c.status {
			t.Errorf("%.10q %s: %d %s", c.body, c.kind, res.StatusCode, body)
		}
	}
	if res, _ := h.get("/v1/trips?limit=1000"); res.StatusCode != 400 {
		t.Errorf("a parameter: %d", res.StatusCode)
	}
	if res, _ := h.do(h.request(http.MethodDelete, "/v1/trips", nil)); res.StatusCode != 400 {
		t.Errorf("a method that the document does not have: %d", res.StatusCode)
	}
	if res, _ := h.get("/v1/other"); res.StatusCode != 201 || asked != 2 {
		t.Errorf("a route that is taken out: %d, the service was asked %d times", res.StatusCode, asked)
	}
	list := h.ContractViolations("trips")
	if len(list) == 0 || list[0].Direction != directionRequest || h.ContractViolations("none") != nil && len(h.ContractViolations("none")) != 0 {
		t.Errorf("%+v", list)
	}
	if strings.Contains(fmt.Sprintf("%+v", list), "hunter2") {
		t.Error("the journal keeps a value")
	}
}

func TestContractReportsRequests(t *testing.T) {
	h := contracted(t, ContractConfig{Requests: contractReport, MaxBody: 2 << 10}, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			t.Error(err)
		}
		answerJSON(201, fmt.Sprintf(`{"from":"a","to":"b","id":%d}`, n))(w, r)
	})
	if res, body := h.post("/v1/trips", `{"from":7}`); res.StatusCode != 201 || !strings.Contains(body, `"id":10`) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	until(t, "the difference is counted", func() bool {
		return value(t, h.contracts.violations.WithLabelValues("trips", "v1", directionRequest, "body/from")) == 1
	})
	for _, length := range []int64{5000, -1} { // announced, and not
		req := h.request(http.MethodPost, "/v1/trips", io.NopCloser(strings.NewReader(strings.Repeat(" ", 5000))), "Content-Type", "application/json")
		req.ContentLength = length
		if res, body := h.do(req); res.StatusCode != 201 || !strings.Contains(body, `"id":5000`) {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	}
	until(t, "large bodies are skipped", func() bool {
		return value(t, h.contracts.checks.WithLabelValues("trips", directionRequest, "skipped")) == 2
	})
}

func TestContractReportsAnswersWithoutDelay(t *testing.T) {
	first, rest := make(chan struct{}), make(chan struct{})
	h := contracted(t, ContractConfig{Sample: 1}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"data":[`) //nolint:errcheck // the client is the test
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		close(first)
		<-rest
		io.WriteString(w, `{"from":7,"to":"x"}]}`) //nolint:errcheck // the client is the test
	})
	res, err := h.client.Get(h.url + "/v1/trips")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	<-first
	piece := make([]byte, 9)
	if _, err := io.ReadFull(res.Body, piece); err != nil || string(piece) != `{"data":[` {
		t.Fatalf("%q %v", piece, err)
	}
	close(rest)
	if all, err := io.ReadAll(res.Body); err != nil || res.StatusCode != 200 || string(all) != `{"from":7,"to":"x"}]}` {
		t.Errorf("%q %v", all, err)
	}
	until(t, "the difference is known", func() bool { return len(h.ContractViolations("trips")) == 1 })
	v := h.ContractViolations("")[0]
	if v.Field != "/data/*/from" || v.Direction != directionResponse || v.Status != 200 || v.Operation != "GET /v1/trips" || v.Shape != "integer" || v.Count != 1 || v.APIVersion != "v1" {
		t.Errorf("%+v", v)
	}
}

func TestContractHoldsAnswersBack(t *testing.T) {
	var answer http.HandlerFunc
	h := contracted(t, ContractConfig{Responses: contractEnforce, MaxBody: 4 << 10, Conventions: true}, func(w http.ResponseWriter, r *http.Request) { answer(w, r) })
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		status int
	}{
		"fits":        {answerJSON(200, `{"data":[{"from":"a","to":"b"}],"page":{"next":null}}`), 200},
		"does not":    {answerJSON(200, `{"data":[{"from":"a"}],"page":{"next":null}}`), 502},
		"no page":     {answerJSON(200, `{"data":[]}`), 502},
		"no JSON":     {answerJSON(200, `{"data":`), 502},
		"status":      {answerJSON(202, `{}`), 502},
		"own failure": {answerJSON(503, `{"type":"about:blank","title":"x","status":503,"code":"busy"}`), 503},
		"type": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<p>")
		}, 502}, //nolint:errcheck // the client is the test
		"large": {answerJSON(200, `{"data":"`+strings.Repeat("x", 5<<10)+`"}`), 200},
		"large, pieces": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for range 10 {
				io.WriteString(w, strings.Repeat("x", 1<<10)) //nolint:errcheck // the client is the test
				http.NewResponseController(w).Flush()         //nolint:errcheck // the client is the test
			}
		}, 200},
	} {
		answer = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Secret", "of the service")
			c.answer(w, r)
		}
		res, body := h.get("/v1/trips")
		if res.StatusCode != c.status {
			t.Errorf("%s: %d %.300s", name, res.StatusCode, body)
		}
		if refused := c.status == 502; refused != strings.Contains(body, "upstream_invalid") || refused == (res.Header.Get("X-Secret") != "") {
			t.Errorf("%s: %v %.300s", name, res.Header, body)
		}
	}
	answer = answerJSON(200, `{"data":"of another type"}`)
	if res, _ := h.do(h.request(http.MethodHead, "/v1/trips", nil)); res.StatusCode != 200 {
		t.Errorf("HEAD: %d", res.StatusCode)
	}
}

func TestContractNeverHoldsAStream(t *testing.T) {
	done := make(chan struct{})
	h := contracted(t, ContractConfig{Responses: contractEnforce}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: 1\n\n") //nolint:errcheck // the client is the test
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		select {
		case <-done:
		case <-r.Context().Done():
		}
	})
	res, err := h.client.Get(h.url + "/v1/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	event := make([]byte, 9)
	if _, err := io.ReadFull(res.Body, event); err != nil || string(event) != "data: 1\n\n" {
		t.Errorf("%q %v", event, err)
	}
	close(done)
}

func TestContractLeavesStockAnswersAlone(t *testing.T) {
	h := contracted(t, ContractConfig{Responses: contractEnforce}, answerJSON(500, `{}`), func(f *FeatureConfig) {
		f.Fallback = &FallbackConfig{Status: 200, Body: config.Raw(`{"trips":"unknown"}`)}
	})
	if res, body := h.get("/v1/trips"); res.StatusCode != 200 || body != `{"trips":"unknown"}` {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

func TestContractFaultsOfTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"trips.yaml": tripsDocument, "broken.yaml": strings.Replace(tripsDocument, "type: integer, maximum", "type: int, maximum", 1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for block, want := range map[string]string{
		`contract: trips.yaml`:                                            "",
		`contract: {document: trips.yaml, responses: enforce}`:            "",
		`contract: broken.yaml`:                                           `landline.yaml:4:5: features.f.contract: broken.yaml:6:54: type "int" is none`,
		`contract: none.yaml`:                                             "none.yaml does not exist",
		`contract: {requests: report}`:                                    "names no document",
		`contract: {document: trips.yaml, max_body: 1}`:                   "must be between 1KiB and 16MiB",
		`screens: [Board]`:                                                "cannot be the name of a screen",
		`screens: [a, a]`:                                                 "there twice",
		`routes: [{match: /v1/none, upstream: up, contract: trips.yaml}]`: "the document has no operation for it",
	} {
		text := "upstreams: {up: {targets: [{url: \"http://127.0.0.1:1\"}]}}\nfeatures:\n  f:\n    " + block + "\n"
		if !strings.HasPrefix(block, "routes") {
			text += "    routes: [{match: GET /v1/trips, upstream: up}]\n"
		}
		s := DefaultSettings()
		err := config.LoadBytes(filepath.Join(dir, "landline.yaml"), []byte(text), Sections(s), config.SystemEnv())
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", block, err)
		case want == "":
			if rc := s.contracts[contractKey{"f", "GET /v1/trips", ""}]; rc == nil || rc.config.Sample == 0 {
				t.Errorf("%s: %+v", block, rc)
			}
		case err == nil || !strings.Contains(err.Error(), want):
			t.Errorf("%s: %v, want %s", block, err, want)
		}
	}
}

func TestScreens(t *testing.T) {
	h := open(t, func(s *Settings) {
		s.Upstreams["up"] = upstreamAt(serve(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/v1/bad":
				w.WriteHeader(500)
			case "/v1/missing":
				w.WriteHeader(404)
			}
		}))
		s.Features["flights"] = &FeatureConfig{Owner: "team-f", Auth: module.AuthNone, Screens: []string{"board", "details"}, Breaker: &BreakerConfig{MinRequests: 1, FailureRatio: 0.1},
			Routes: []RouteConfig{{Match: "GET /v1/bad", Upstream: "up"}}}
		s.Features["news"] = &FeatureConfig{Auth: module.AuthNone, Screens: []string{"board"}, Routes: []RouteConfig{{Match: "GET /v1/{x}", Upstream: "up"}}}
	})
	h.get("/v1/fine")
	h.get("/v1/missing")
	if res, body := h.get("/v1/bad"); res.StatusCode != 500 {
		t.Fatal(body)
	}
	if _, body := h.get("/v1/bad"); !strings.Contains(body, `"feature":"flights"`) {
		t.Errorf("a problem does not name its feature: %s", body)
	}
	until(t, "the requests are counted", func() bool {
		got := func(screen, outcome string) float64 {
			return value(t, h.metrics.screens.requests.WithLabelValues(screen, outcome))
		}
		return got("board", "ok") == 1 && got("board", "refused") == 1 && got("board", "failed") == 2 && got("details", "failed") == 2 && got("details", "ok") == 0
	})
	screens := h.Screens()
	b, err := json.Marshal(screens)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"name":"board","health":"down","features":[{"name":"flights","owner":"team-f","health":"down","breaker":"open"},{"name":"news","health":"ok"}]},` +
		`{"name":"details","health":"down","features":[{"name":"flights","owner":"team-f","health":"down","breaker":"open"}]}]`
	if !bytes.Equal(b, []byte(want)) {
		t.Errorf("%s", b)
	}
	if st := h.FeatureStatus(); len(st[0].Screens) != 2 {
		t.Errorf("%+v", st[0])
	}
}

// A refused request uses up no key, and one whose answer is held back is not
// executed again by a repetition.
func TestContractAndIdempotency(t *testing.T) {
	asked := 0
	k := contractedWithKeys(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		body := `{"from":"a","to":"b"}`
		if r.Header.Get("X-Lie") != "" {
			body = `{"from":7}`
		}
		answerJSON(201, body)(w, r)
	})
	if res, body := k.post("/v1/trips", `{"from":1}`, "Idempotency-Key", "a"); res.StatusCode != 400 || asked != 0 {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	for range 2 {
		if res, body := k.post("/v1/trips", `{"from":"x","to":"y"}`, "Idempotency-Key", "a2"); res.StatusCode != 201 || asked != 1 {
			t.Errorf("%d %s, asked %d times", res.StatusCode, body, asked)
		}
	}
	if res, body := k.post("/v1/trips", `{"from":"x","to":"y"}`, "Idempotency-Key", "a"); res.StatusCode != 201 || asked != 2 {
		t.Errorf("a refused request has used its key up: %d %s, asked %d times", res.StatusCode, body, asked)
	}
	for i, want := range []int{502, 409} {
		if res, body := k.post("/v1/trips", `{"from":"x","to":"y"}`, "Idempotency-Key", "b", "X-Lie", "1"); res.StatusCode != want || asked != 3 {
			t.Errorf("try %d: %d %s, asked %d times", i+1, res.StatusCode, body, asked)
		}
	}
}

func contractedWithKeys(t *testing.T, upstream http.HandlerFunc) *house {
	t.Helper()
	document := filepath.Join(t.TempDir(), "trips.yaml")
	if err := os.WriteFile(document, []byte(tripsDocument), 0o600); err != nil {
		t.Fatal(err)
	}
	db := testkit.SQLite(t, idem.Migrations)
	url := serve(t, upstream)
	return openWith(t, func(o *Options) { o.DB = db }, func(s *Settings) {
		s.Upstreams["up"] = upstreamAt(url)
		s.Features["trips"] = &FeatureConfig{Auth: module.AuthNone, Idempotency: &IdempotencyConfig{}, Contract: &ContractConfig{Document: document, Responses: contractEnforce},
			Routes: []RouteConfig{{Match: "POST /v1/trips", Upstream: "up"}}}
	})
}
