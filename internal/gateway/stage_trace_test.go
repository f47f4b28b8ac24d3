package gateway

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"landline/internal/module"
	"landline/internal/observe"
	"landline/internal/problem"
)

const (
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceparent = "00-" + traceID + "-00f067aa0ba902b7-01"
)

// logLines collects a log.
type logLines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// requests returns the access log's lines, as soon as there are n: a line is
// written after the client has its answer.
func (l *logLines) requests(t *testing.T, n int) (all []map[string]any, text string) {
	t.Helper()
	until(t, fmt.Sprint(n, " lines in the access log"), func() bool {
		l.mu.Lock()
		text = l.text.String()
		l.mu.Unlock()
		all = nil
		for line := range strings.Lines(text) {
			m := map[string]any{}
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if m["msg"] == "request" {
				all = append(all, m)
			}
		}
		return len(all) >= n
	})
	return all, text
}

func logged(t *testing.T, upstream http.HandlerFunc, options func(*Options), modules ...*module.Module) (*house, *logLines) {
	t.Helper()
	l := &logLines{}
	h := openWith(t, func(o *Options) {
		o.Log = observe.NewLogger(l, slog.LevelInfo, false)
		if options != nil {
			options(o)
		}
	}, func(s *Settings) {
		s.Upstreams["up"] = upstreamAt(serve(t, upstream))
		s.Features["trips"] = &FeatureConfig{Owner: "team-trips", Auth: module.AuthNone,
			Routes: []RouteConfig{{Match: "POST /v1/trips/{id}", Upstream: "up"}, {Match: "GET /v1/trips/{id}", Upstream: "up"}}}
	}, modules...)
	return h, l
}

func TestAccessLogTellsTheStory(t *testing.T) {
	h, l := logged(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		w.WriteHeader(201)
		fmt.Fprint(w, "created")
	}, nil)
	res, _ := h.do(h.request("POST", "/v1/trips/7?secret=hunter2", strings.NewReader("12345"), "Authorization", "Bearer good", "Cookie", "hunter2=hunter2",
		"Landline-Client", fullClient, "Traceparent", traceparent))
	got, text := l.requests(t, 1)
	want := map[string]any{
		"level": "INFO", "method": "POST", "route": "POST /v1/trips/{id}", "feature": "trips", "owner": "team-trips", "api_version": "v1", "status": 201.0,
		"bytes_in": 5.0, "bytes_out": 7.0, "upstream": "up", "target": "stable", "client_ip": "127.0.0.0", "app": "com.example.flights", "app_version": "4.2.0",
		"build": 1042.0, "platform": "ios", "os": "18.1", "device": "iPhone15,3", "installation_id": "ins_1", "user_id": "usr_1", "session_id": "ses_1",
		"trace_id": traceID, "http_version": "1.1",
	}
	for key, value := range want {
		if got[0][key] != value {
			t.Errorf("%s is %v, want %v", key, got[0][key], value)
		}
	}
	for _, key := range []string{"duration_ms", "upstream_ms"} {
		if ms, ok := got[0][key].(float64); !ok || ms <= 0 {
			t.Errorf("%s is %v", key, got[0][key])
		}
	}
	for _, secret := range []string{"hunter2", "Bearer", "good"} {
		if strings.Contains(text, secret) {
			t.Errorf("the log has %q: %s", secret, text)
		}
	}
	if res.Header.Get("Landline-Trace-Id") != traceID {
		t.Errorf("trace id %s", res.Header.Get("Landline-Trace-Id"))
	}
}

func TestErrorsAreAnsweredLoggedAndCounted(t *testing.T) {
	h, l := logged(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil)
	res, text := h.get("/v1/trips/7")
	r := asReply(t, res, text)
	r.want(t, 502, problem.UpstreamInvalid, false)
	var body struct {
		TraceID string `json:"trace_id"`
	}
	if err := json.Unmarshal([]byte(text), &body); err != nil || body.TraceID == "" || body.TraceID != res.Header.Get("Landline-Trace-Id") {
		t.Errorf("trace id in body %q, in header %q", body.TraceID, res.Header.Get("Landline-Trace-Id"))
	}
	got, _ := l.requests(t, 1)
	if got[0]["level"] != "WARN" || got[0]["code"] != "upstream_invalid" || got[0]["error"] == nil || got[0]["status"] != 502.0 {
		t.Errorf("logged %v", got[0])
	}
	res, text = h.get("/nowhere")
	asReply(t, res, text).want(t, 404, problem.RouteNotFound, false)
	until(t, "both are counted", func() bool {
		return h.metrics.counted(t, `landline_gateway_problems_total`, "trips", "upstream_invalid") == 1 &&
			h.metrics.counted(t, `landline_gateway_problems_total`, NoFeature, "route_not_found") == 1
	})
}

// counted reads a counter by its label values.
func (m *metrics) counted(t *testing.T, name string, values ...string) float64 {
	t.Helper()
	if name == "landline_gateway_requests_total" {
		return m.requests.counted(t, values)
	}
	vec := map[string]*prometheus.CounterVec{
		"landline_gateway_problems_total":        m.problems,
		"landline_gateway_client_requests_total": m.clients, "landline_gateway_client_headers_total": m.clientHeader,
	}[name]
	return value(t, vec.WithLabelValues(values...))
}

// counted reads what a scrape would find, 0 for no sample.
func (m *requestMetrics) counted(t *testing.T, labels []string) (total float64) {
	t.Helper()
	names := []string{"feature", "route", "method", "status", "api_version"}
	c := &requestCollector{requestMetrics: m, desc: prometheus.NewDesc("landline_gateway_requests_total", "x", names, nil), write: (*requestCount).writeTotal}
	samples := make(chan prometheus.Metric)
	go func() {
		defer close(samples)
		c.Collect(samples)
	}()
	for s := range samples {
		var out dto.Metric
		if err := s.Write(&out); err != nil {
			t.Error(err)
		}
		found := map[string]string{}
		for _, l := range out.GetLabel() {
			found[l.GetName()] = l.GetValue()
		}
		same := true
		for i, name := range names {
			same = same && found[name] == labels[i]
		}
		if same {
			total += out.GetCounter().GetValue()
		}
	}
	return total
}

func value(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.GetCounter().GetValue() + out.GetGauge().GetValue()
}

func TestAnswerThatBreaksOffIsAborted(t *testing.T) {
	h, l := logged(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(2*heldBack))
		w.WriteHeader(200)
		if _, err := w.Write(bytes.Repeat([]byte("x"), heldBack)); err != nil {
			t.Error(err)
		}
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}, nil)
	res, err := h.client.Do(h.request("GET", "/v1/trips/7", nil))
	if err == nil {
		_, err = io.ReadAll(res.Body)
		res.Body.Close()
	}
	if err == nil {
		t.Error("half an answer was taken for a whole one")
	}
	got, _ := l.requests(t, 1)
	if got[0]["aborted"] != true || got[0]["code"] != "upstream_invalid" || got[0]["level"] != "WARN" {
		t.Errorf("logged %v", got[0])
	}
}

func TestTraceContextIsJoined(t *testing.T) {
	for name, c := range map[string]struct {
		header            []string
		trace, state, bag string // as the upstream sees them; trace "" = a new one
	}{
		"w3c":                   {[]string{"Traceparent", traceparent, "Tracestate", "a=b", "Baggage", "k=v"}, traceID, "a=b", "k=v"},
		"none":                  {nil, "", "", ""},
		"invalid":               {[]string{"Traceparent", "00-xyz", "Tracestate", "a=b"}, "", "", ""},
		"two of them":           {[]string{"Traceparent", traceparent, "Traceparent", traceparent}, "", "", ""},
		"all zero":              {[]string{"Traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"}, "", "", ""},
		"sentry":                {[]string{"Sentry-Trace", traceID + "-00f067aa0ba902b7-1"}, traceID, "", ""},
		"w3c before sentry":     {[]string{"Traceparent", traceparent, "Sentry-Trace", strings.Repeat("a", 32) + "-00f067aa0ba902b7-1"}, traceID, "", ""},
		"state and bag too big": {[]string{"Traceparent", traceparent, "Tracestate", "a=" + strings.Repeat("b", 600), "Baggage", "k=" + strings.Repeat("v", 9000)}, traceID, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var seen http.Header
			h, l := logged(t, func(_ http.ResponseWriter, r *http.Request) { seen = r.Header.Clone() }, nil)
			res, _ := h.get("/v1/trips/7", c.header...)
			got := res.Header.Get("Landline-Trace-Id")
			if c.trace != "" && got != c.trace || c.trace == "" && (len(got) != 32 || got == traceID) {
				t.Errorf("trace id %s", got)
			}
			toUpstream, span, _, ok := observe.ParseTraceparent(seen.Get("Traceparent"))
			if !ok || toUpstream != got || span == "00f067aa0ba902b7" {
				t.Errorf("the upstream got %s", seen.Get("Traceparent"))
			}
			if seen.Get("Tracestate") != c.state || seen.Get("Baggage") != c.bag {
				t.Errorf("the upstream got tracestate %q and baggage %q", seen.Get("Tracestate"), seen.Get("Baggage"))
			}
			all, _ := l.requests(t, 1)
			if all[0]["trace_id"] != got || all[0]["span_id"] != span {
				t.Errorf("logged %v %v, the upstream got %s %s", all[0]["trace_id"], all[0]["span_id"], toUpstream, span)
			}
			timing := strings.Join(res.Header.Values("Server-Timing"), ", ")
			if strings.Count(timing, "app;dur=") != 1 || strings.Count(timing, "upstream;dur=") != 1 || !strings.Contains(timing, `traceparent;desc="00-`+got+"-"+span+"-") {
				t.Errorf("Server-Timing: %s", timing)
			}
		})
	}
}

func TestServerTimingOfAProblem(t *testing.T) {
	h := open(t, nil)
	res, _ := h.get("/nowhere")
	if timing := res.Header.Get("Server-Timing"); !strings.HasPrefix(timing, "app;dur=") || !strings.Contains(timing, res.Header.Get("Landline-Trace-Id")) {
		t.Errorf("Server-Timing: %s", timing)
	}
}

func TestSpansOfARequestAndItsUpstream(t *testing.T) {
	var mu sync.Mutex
	var spans []*tracepb.Span
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		plain, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		body, err := io.ReadAll(plain)
		if err != nil {
			t.Error(err)
		}
		var req v1.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &req); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range req.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				spans = append(spans, ss.Spans...)
			}
		}
	}))
	defer collector.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	tracer := observe.NewTracer(observe.TracerConfig{Endpoint: collector.URL, SampleRatio: 1, Service: "test"}, &http.Client{Transport: transport}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	h, l := logged(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, func(o *Options) { o.Tracer = tracer })
	h.get("/v1/trips/7", "Traceparent", traceparent)
	all, _ := l.requests(t, 1)
	var got []*tracepb.Span
	until(t, "both spans are exported", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := tracer.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		got = spans
		return len(got) >= 2
	})
	if err := tracer.Close(t.Context()); err != nil {
		t.Error(err)
	}
	server, client := got[0], got[1]
	if server.Kind != tracepb.Span_SPAN_KIND_SERVER || server.Name != "GET /v1/trips/{id}" || fmt.Sprintf("%x", server.TraceId) != traceID ||
		fmt.Sprintf("%x", server.ParentSpanId) != "00f067aa0ba902b7" || fmt.Sprintf("%x", server.SpanId) != all[0]["span_id"] || server.Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR {
		t.Errorf("server span %v", server)
	}
	if client.Kind != tracepb.Span_SPAN_KIND_CLIENT || !bytes.Equal(client.ParentSpanId, server.SpanId) || client.StartTimeUnixNano < server.StartTimeUnixNano || client.EndTimeUnixNano > server.EndTimeUnixNano {
		t.Errorf("client span %v", client)
	}
}

func TestRequestsAreCounted(t *testing.T) {
	h, _ := logged(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, nil)
	h.get("/v1/trips/1", "Landline-Client", fullClient)
	h.get("/v1/trips/2")
	h.get("/v1/trips/3", "Landline-Client", "version=4")
	for i := range maxVersionLabels + 10 {
		h.get("/v1/trips/4", "Landline-Client", fmt.Sprintf(`version="1.%d"`, i))
	}
	m := h.metrics
	requests, clients, headers := "landline_gateway_requests_total", "landline_gateway_client_requests_total", "landline_gateway_client_headers_total"
	until(t, "all are counted", func() bool {
		return m.counted(t, requests, "trips", "GET /v1/trips/{id}", "GET", "2xx", "v1") == 2+maxVersionLabels+10
	})
	for _, c := range []struct {
		want   float64
		name   string
		values []string
	}{
		{1, requests, []string{"trips", "GET /v1/trips/{id}", "GET", "4xx", "v1"}},
		{1, clients, []string{"trips", "4.2.0", "ios"}},
		{2, clients, []string{"trips", "unknown", "unknown"}},
		{1, clients, []string{"trips", "1.0", "unknown"}},
		{11, clients, []string{"trips", "other", "unknown"}},
		{1, headers, []string{"trips", "absent"}},
		{1, headers, []string{"trips", "invalid"}},
		{1, headers, []string{"trips", "other_app"}},
		{maxVersionLabels + 10, headers, []string{"trips", "ok"}},
	} {
		if got := m.counted(t, c.name, c.values...); got != c.want {
			t.Errorf("%s%v is %v, want %v", c.name, c.values, got, c.want)
		}
	}
	if n := value(t, m.inFlight.WithLabelValues("trips")); n != 0 {
		t.Errorf("%v in flight", n)
	}
}

// The writer must not hide what the connection can do.
func TestResponseWriterPassesOn(t *testing.T) {
	m := &module.Module{Features: []module.Feature{{Name: "raw", Handlers: []module.Handler{
		{Match: "GET /hijack", Auth: module.AuthNone, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"); err != nil {
				t.Error(err)
			}
		})},
		{Match: "GET /hints", Auth: module.AuthNone, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusTeapot)
			if _, err := io.Copy(w, strings.NewReader("tea")); err != nil {
				t.Error(err)
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Error(err)
			}
		})},
		{Match: "GET /nothing", Auth: module.AuthNone, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})},
		{Match: "GET /panic", Auth: module.AuthNone, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(errors.New("oops")) })},
	}}}}
	h, l := logged(t, func(http.ResponseWriter, *http.Request) {}, nil, m)
	for i, c := range []struct {
		path, body string
		status     int
		bytes      float64
		logged     float64
	}{{"/hints", "tea", 418, 3, 418}, {"/nothing", "", 200, 0, 200}, {"/hijack", "hi", 200, 0, 0}} {
		res, body := h.get(c.path)
		if res.StatusCode != c.status || body != c.body {
			t.Errorf("%s: %d %q", c.path, res.StatusCode, body)
		}
		all, _ := l.requests(t, i+1)
		if all[i]["status"] != c.logged || all[i]["bytes_out"] != c.bytes {
			t.Errorf("%s: logged %v", c.path, all[i])
		}
	}
	res, text := h.get("/panic")
	asReply(t, res, text).want(t, 500, problem.Internal, false)
	if all, _ := l.requests(t, 4); all[3]["level"] != "ERROR" || !strings.Contains(fmt.Sprint(all[3]["error"]), "oops") {
		t.Errorf("logged %v", all[3])
	}
}
