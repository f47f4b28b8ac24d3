package observe

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	collector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	trace "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

var silent = slog.New(slog.DiscardHandler)

// receiver is an OTLP receiver that says of itself how to answer.
type receiver struct {
	mu       sync.Mutex
	requests []*collector.ExportTraceServiceRequest
	arrived  []time.Time
	headers  []http.Header
	paths    []string
	answer   func(n int) *http.Response // n counts requests from 1; nil = 200
}

func (r *receiver) take(req *http.Request) (*http.Response, error) {
	z, err := gzip.NewReader(req.Body)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		return nil, err
	}
	m := new(collector.ExportTraceServiceRequest)
	if err := proto.Unmarshal(raw, m); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests, r.headers, r.paths = append(r.requests, m), append(r.headers, req.Header), append(r.paths, req.URL.Path)
	r.arrived = append(r.arrived, time.Now())
	if r.answer != nil {
		if resp := r.answer(len(r.requests)); resp != nil {
			return resp, nil
		}
	}
	return answer(200, nil), nil
}

// RoundTrip lets a receiver be reached without a network, inside synctest.
func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	return r.take(req)
}

func (r *receiver) spans() (all []*trace.Span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, req := range r.requests {
		for _, rs := range req.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				all = append(all, ss.Spans...)
			}
		}
	}
	return all
}

func answer(status int, body []byte, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Header: h, Body: io.NopCloser(bytes.NewReader(body))}
}

func config() TracerConfig {
	return TracerConfig{Endpoint: "http://collector:4318", SampleRatio: 1, Service: "landline", Version: "1.2.3"}
}

func tracerTo(r *receiver) (*Tracer, *prometheus.Registry) {
	reg := prometheus.NewRegistry()
	return NewTracer(config(), &http.Client{Transport: r}, silent, reg), reg
}

func span(name string) Span {
	return Span{TraceID: NewTraceID(), SpanID: NewSpanID(), Name: name, Start: time.Now(), End: time.Now()}
}

func closeTracer(t *testing.T, tr *Tracer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := tr.Close(ctx); err != nil {
		t.Error(err)
	}
}

func wantCount(t *testing.T, reg *prometheus.Registry, want float64, name string, labels ...string) {
	t.Helper()
	if got, _ := metricValue(t, reg, name, labels...); got != want {
		t.Errorf("%s %v is %v, want %v", name, labels, got, want)
	}
}

func TestTracerExportsOverHTTP(t *testing.T) {
	r := &receiver{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		resp, err := r.take(req)
		if err != nil {
			t.Error(err)
			return
		}
		w.WriteHeader(resp.StatusCode)
	}))
	defer server.Close()
	cfg := config()
	cfg.Endpoint, cfg.Headers = server.URL+"/otlp/", map[string]string{"X-Api-Key": "k"}
	reg := prometheus.NewRegistry()
	tr := NewTracer(cfg, server.Client(), silent, reg)

	start := time.Unix(1_700_000_000, 123)
	tr.Record(Span{
		TraceID: tid, SpanID: sid, ParentSpanID: "b7ad6b7169203331", Name: "GET /v1/flights/{id}", Kind: SpanServer, Start: start, End: start.Add(time.Second),
		Attributes: []Attr{{"s", "x"}, {"b", true}, {"i", 7}, {"i64", int64(8)}, {"f", 1.5}, {"d", 250 * time.Millisecond}, {"e", errors.New("bad")}, {"bytes", "a\xffb"}, {"token", aJWT}},
		Error:      "upstream " + aJWT + " timed out",
	})
	tr.Record(Span{TraceID: tid, SpanID: sid, Name: "plain"})
	tr.Record(Span{TraceID: "none", SpanID: sid, Name: "malformed"})
	if err := tr.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	closeTracer(t, tr)

	if r.paths[0] != "/otlp/v1/traces" || r.headers[0].Get("X-Api-Key") != "k" || r.headers[0].Get("Content-Type") != "application/x-protobuf" || !strings.HasPrefix(r.headers[0].Get("User-Agent"), "landline/1.2.3") {
		t.Errorf("asked %s with %v", r.paths[0], r.headers[0])
	}
	got := r.spans()
	if len(got) != 2 {
		t.Fatalf("%d spans arrived, want 2", len(got))
	}
	s := got[0]
	if hex.EncodeToString(s.TraceId) != tid || hex.EncodeToString(s.SpanId) != sid || hex.EncodeToString(s.ParentSpanId) != "b7ad6b7169203331" || s.Name != "GET /v1/flights/{id}" ||
		s.Kind != trace.Span_SPAN_KIND_SERVER || s.StartTimeUnixNano != uint64(start.UnixNano()) || s.EndTimeUnixNano-s.StartTimeUnixNano != 1e9 {
		t.Errorf("the span is %v", s)
	}
	if s.Status.GetCode() != trace.Status_STATUS_CODE_ERROR || s.Status.GetMessage() != "upstream [redacted] timed out" {
		t.Errorf("the status is %v", s.Status)
	}
	attrs := map[string]*common.AnyValue{}
	for _, a := range s.Attributes {
		attrs[a.Key] = a.Value
	}
	if attrs["s"].GetStringValue() != "x" || !attrs["b"].GetBoolValue() || attrs["i"].GetIntValue() != 7 || attrs["i64"].GetIntValue() != 8 || attrs["f"].GetDoubleValue() != 1.5 ||
		attrs["d"].GetDoubleValue() != 0.25 || attrs["e"].GetStringValue() != "bad" || attrs["bytes"].GetStringValue() != "a\uFFFDb" || attrs["token"].GetStringValue() != "[redacted]" {
		t.Errorf("the attributes are %v", s.Attributes)
	}
	if p := got[1]; p.Kind != trace.Span_SPAN_KIND_INTERNAL || len(p.ParentSpanId) != 0 || p.Status != nil || p.StartTimeUnixNano != 0 {
		t.Errorf("the plain span is %v", p)
	}
	res := map[string]string{}
	for _, a := range r.requests[0].ResourceSpans[0].Resource.Attributes {
		res[a.Key] = a.Value.GetStringValue()
	}
	if res["service.name"] != "landline" || res["service.version"] != "1.2.3" {
		t.Errorf("the resource is %v", res)
	}
	wantCount(t, reg, 2, "landline_observe_spans_exported_total")
	wantCount(t, reg, 1, "landline_observe_spans_dropped_total", "rejected")
}

func TestTracerBatchesBySizeAndByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{}
		tr, _ := tracerTo(r)
		defer closeTracer(t, tr)
		for range spanBatch + 3 {
			tr.Record(span("x"))
		}
		synctest.Wait()
		if n := len(r.spans()); n != spanBatch {
			t.Errorf("%d spans went at once, want a full batch of %d", n, spanBatch)
		}
		time.Sleep(spanDelay - 1)
		synctest.Wait()
		if n := len(r.spans()); n != spanBatch {
			t.Errorf("the rest went early: %d", n)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if n := len(r.spans()); n != spanBatch+3 {
			t.Errorf("%d spans after the delay, want %d", n, spanBatch+3)
		}
	})
}

func TestTracerRetriesAndHonoursRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		date := time.Now().Add(20 * time.Second).UTC().Format(http.TimeFormat)
		r := &receiver{answer: func(n int) *http.Response {
			switch n {
			case 1:
				return answer(429, nil, "Retry-After", "7")
			case 2:
				return answer(503, nil, "Retry-After", date)
			case 3:
				return answer(502, nil)
			}
			return nil
		}}
		tr, reg := tracerTo(r)
		defer closeTracer(t, tr)
		tr.Record(span("x"))
		if err := tr.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(r.arrived) != 4 {
			t.Fatalf("%d attempts, want 4", len(r.arrived))
		}
		if d := r.arrived[1].Sub(r.arrived[0]); d != 7*time.Second {
			t.Errorf("after Retry-After: 7 it waited %v", d)
		}
		if d := r.arrived[2].Sub(r.arrived[0]); d < 19*time.Second || d > 20*time.Second {
			t.Errorf("after a date 20 s ahead it came back after %v", d)
		}
		if d := r.arrived[3].Sub(r.arrived[2]); d <= 0 || d > maxBackoff {
			t.Errorf("without Retry-After it waited %v", d)
		}
		wantCount(t, reg, 1, "landline_observe_spans_exported_total")
		wantCount(t, reg, 3, "landline_observe_span_exports_total", "retry")
	})
}

func TestTracerGivesUp(t *testing.T) {
	for name, c := range map[string]struct {
		answer   func(int) *http.Response
		attempts func(int) bool
		within   time.Duration
	}{
		"on a refusal, at once":       {func(int) *http.Response { return answer(400, nil) }, func(n int) bool { return n == 1 }, 0},
		"on a 500, which is for good": {func(int) *http.Response { return answer(500, nil) }, func(n int) bool { return n == 1 }, 0},
		"after a minute of failures":  {func(int) *http.Response { return answer(503, nil) }, func(n int) bool { return n > 4 && n < 20 }, exportPatience},
		"on a Retry-After too long":   {func(int) *http.Response { return answer(503, nil, "Retry-After", "3600") }, func(n int) bool { return n == 1 }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &receiver{answer: c.answer}
				tr, reg := tracerTo(r)
				defer closeTracer(t, tr)
				tr.Record(span("x"))
				start := time.Now()
				if err := tr.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took > c.within || !c.attempts(len(r.requests)) {
					t.Errorf("%d attempts in %v", len(r.requests), took)
				}
				wantCount(t, reg, 1, "landline_observe_spans_dropped_total", "export_failed")
				wantCount(t, reg, 0, "landline_observe_spans_exported_total")
			})
		})
	}
}

func TestTracerCountsWhatAReceiverRejects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body, err := proto.Marshal(&collector.ExportTraceServiceResponse{PartialSuccess: &collector.ExportTracePartialSuccess{RejectedSpans: 2, ErrorMessage: "too old"}})
		if err != nil {
			t.Fatal(err)
		}
		r := &receiver{answer: func(int) *http.Response { return answer(200, body) }}
		tr, reg := tracerTo(r)
		defer closeTracer(t, tr)
		for range 5 {
			tr.Record(span("x"))
		}
		if err := tr.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantCount(t, reg, 3, "landline_observe_spans_exported_total")
		wantCount(t, reg, 2, "landline_observe_spans_dropped_total", "rejected")
	})
}

// A receiver that hangs costs spans, never a request's time.
func TestTracerNeverBlocksAndCountsDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{answer: func(int) *http.Response { return answer(503, nil, "Retry-After", "50") }}
		tr, reg := tracerTo(r)
		const n = spanBatch + spanQueue + 100
		start := time.Now()
		for i := range n {
			tr.Record(span("x"))
			if i == spanBatch-1 {
				synctest.Wait() // the first batch is on its way
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("recording took %v", took)
		}
		wantCount(t, reg, 100, "landline_observe_spans_dropped_total", "queue_full")

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := tr.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close while the receiver is down: %v; want the deadline", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("Close took %v, want its second", took)
		}
		tr.Record(span("late"))
		total, _ := metricValue(t, reg, "landline_observe_spans_dropped_total")
		if total != n+1 {
			t.Errorf("%v drops are counted, want every one of %d", total, n+1)
		}
	})
}

func TestTracerOff(t *testing.T) {
	cfg := config()
	cfg.Endpoint = ""
	var none *Tracer
	for _, tr := range []*Tracer{none, NewTracer(cfg, nil, silent, nil)} {
		if tr.Enabled() {
			t.Error("a tracer without an endpoint is on")
		}
		s := span("x")
		if n := testing.AllocsPerRun(100, func() { tr.Record(s) }); n != 0 {
			t.Errorf("Record allocates %v times", n)
		}
		if err := errors.Join(tr.Flush(t.Context()), tr.Close(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

func TestTracerConfigCheck(t *testing.T) {
	for endpoint, want := range map[string]string{
		"http://c:4318":                    "http://c:4318/v1/traces",
		"http://c:4318/":                   "http://c:4318/v1/traces",
		"https://c/otlp":                   "https://c/otlp/v1/traces",
		"https://c/otlp/v1/traces":         "https://c/otlp/v1/traces",
		"https://c/v1/traces?tenant=a":     "https://c/v1/traces?tenant=a",
		"https://c?tenant=a":               "https://c/v1/traces?tenant=a",
		"collector:4318":                   "",
		"grpc://c:4317":                    "",
		"http://":                          "",
		"http://u:hunter2secret@c:4318":    "",
		"http://u:hunter2secret@c:port/%z": "",
	} {
		cfg := config()
		cfg.Endpoint = endpoint
		err := cfg.Check()
		if (err == nil) != (want != "") {
			t.Errorf("%s: %v", endpoint, err)
			continue
		}
		if err != nil {
			if !strings.Contains(err.Error(), "endpoint") || strings.Contains(err.Error(), "hunter2secret") {
				t.Errorf("%s: %v; want the field and no password", endpoint, err)
			}
			if NewTracer(cfg, nil, silent, nil).Enabled() {
				t.Errorf("%s: tracing is on", endpoint)
			}
			continue
		}
		if got, _ := cfg.url(); got != want {
			t.Errorf("%s: %s, want %s", endpoint, got, want)
		}
	}
	for _, ratio := range []float64{-0.1, 1.1, math.NaN()} {
		cfg := config()
		cfg.SampleRatio = ratio
		if err := cfg.Check(); err == nil || !strings.Contains(err.Error(), "sample_ratio") {
			t.Errorf("ratio %v: %v", ratio, err)
		}
	}
}

func TestSampledIsDeterministicAndInProportion(t *testing.T) {
	sampler := func(ratio float64) *Tracer {
		cfg := config()
		cfg.SampleRatio = ratio
		tr := NewTracer(cfg, &http.Client{Transport: &receiver{}}, silent, nil)
		t.Cleanup(func() { closeTracer(t, tr) })
		return tr
	}
	share := func(tr *Tracer, hint bool) float64 {
		const n = 10_000
		kept := 0
		for i := range n { // ids spread evenly, so that the test does not depend on chance
			var b [16]byte
			binary.BigEndian.PutUint64(b[8:], uint64(i)*(math.MaxUint64/n)+1)
			id := hex.EncodeToString(b[:])
			first := tr.Sampled(id, hint)
			if again := tr.Sampled(id, hint); again != first {
				t.Fatal("two answers for one trace")
			}
			if first {
				kept++
			}
		}
		return float64(kept) / n
	}
	for _, c := range []struct{ ratio, plain, hinted float64 }{{0, 0, 0}, {0.01, 0.01, 0.1}, {0.25, 0.25, 1}, {1, 1, 1}} {
		tr := sampler(c.ratio)
		if got := share(tr, false); math.Abs(got-c.plain) > 0.001 {
			t.Errorf("ratio %v keeps %v, want %v", c.ratio, got, c.plain)
		}
		if got := share(tr, true); math.Abs(got-c.hinted) > 0.001 {
			t.Errorf("ratio %v with the caller's hint keeps %v, want %v", c.ratio, got, c.hinted)
		}
	}
	for _, id := range []string{"", "xyz", strings.Repeat("z", 32)} {
		if sampler(1).Sampled(id, true) {
			t.Errorf("%q is no trace id and was sampled", id)
		}
	}
}
