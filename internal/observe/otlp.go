package observe

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	collector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	resource "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

const (
	exportTimeout  = 10 * time.Second // one attempt
	exportPatience = time.Minute      // all attempts of one batch
	firstBackoff   = 500 * time.Millisecond
	maxBackoff     = 15 * time.Second
	maxAnswer      = 64 << 10 // bytes read of a receiver's answer
)

type tracerMetrics struct {
	exported, dropped, attempts *prometheus.CounterVec
}

func newTracerMetrics(reg prometheus.Registerer) tracerMetrics {
	return tracerMetrics{
		exported: Counter(reg, "landline_observe_spans_exported_total", "Spans that the trace receiver accepted."),
		dropped:  Counter(reg, "landline_observe_spans_dropped_total", "Spans that were recorded but not delivered; reason is queue_full, export_failed, rejected (by the receiver) or closed.", "reason"),
		attempts: Counter(reg, "landline_observe_span_exports_total", "Attempts to export a batch of spans; outcome is ok, retry or failed.", "outcome"),
	}
}

// exporter sends batches, one after the other, by the rules of
// https://opentelemetry.io/docs/specs/otlp/#otlphttp.
type exporter struct {
	url      string
	header   http.Header
	resource *resource.Resource
	client   *http.Client
	log      *slog.Logger
	metrics  tracerMetrics
	ctx      context.Context // ends when the tracer stops
	stop     context.CancelFunc
}

func newExporter(cfg TracerConfig, client *http.Client, log *slog.Logger, m tracerMetrics) *exporter {
	address, err := cfg.url()
	if err != nil {
		panic("observe: newExporter before Check: " + err.Error())
	}
	e := &exporter{url: address, header: http.Header{}, client: client, log: log, metrics: m}
	for name, value := range cfg.Headers {
		e.header.Set(name, value)
	}
	e.header.Set("Content-Type", "application/x-protobuf")
	e.header.Set("Content-Encoding", "gzip")
	e.header.Set("User-Agent", "landline/"+cfg.Version)
	e.resource = &resource.Resource{Attributes: []*common.KeyValue{
		keyValue(Attr{"service.name", cfg.Service}), keyValue(Attr{"service.version", cfg.Version}),
	}}
	e.ctx, e.stop = context.WithCancel(context.Background()) // #nosec G118 -- Tracer.Close calls stop
	return e
}

// export delivers spans or counts them as dropped.
func (e *exporter) export(spans []Span) {
	body, count, err := e.encode(spans)
	if bad := len(spans) - count; bad > 0 {
		e.metrics.dropped.WithLabelValues("rejected").Add(float64(bad))
		e.log.Error("spans with a malformed id were dropped", "count", bad)
	}
	if err == nil && count == 0 {
		return
	}
	var rejected int64
	if err == nil {
		rejected, err = e.deliver(body)
	}
	if err != nil {
		e.metrics.attempts.WithLabelValues("failed").Inc()
		e.metrics.dropped.WithLabelValues("export_failed").Add(float64(count))
		e.log.Warn("spans could not be exported", "count", count, "error", err)
		return
	}
	e.metrics.attempts.WithLabelValues("ok").Inc()
	rejected = min(max(rejected, 0), int64(count))
	e.metrics.dropped.WithLabelValues("rejected").Add(float64(rejected))
	e.metrics.exported.WithLabelValues().Add(float64(int64(count) - rejected))
}

// deliver tries until the receiver takes the batch, refuses it for good, or
// patience ends.
func (e *exporter) deliver(body []byte) (rejected int64, err error) {
	deadline := time.Now().Add(exportPatience)
	for backoff := firstBackoff; ; backoff = min(2*backoff, maxBackoff) {
		rejected, after, err := e.attempt(body)
		var again *retryable
		if err == nil || !errors.As(err, &again) {
			return rejected, err
		}
		wait := backoff/2 + rand.N(backoff) // #nosec G404 -- jitter, so that nodes do not come back together
		if after > 0 {
			wait = after
		}
		if time.Now().Add(wait).After(deadline) {
			return 0, fmt.Errorf("giving up: %w", err)
		}
		e.metrics.attempts.WithLabelValues("retry").Inc()
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-e.ctx.Done():
			timer.Stop()
			return 0, fmt.Errorf("stopped while waiting to retry: %w", err)
		}
	}
}

// retryable is a failure that may pass.
type retryable struct{ cause error }

func (r *retryable) Error() string { return r.cause.Error() }
func (r *retryable) Unwrap() error { return r.cause }

func (e *exporter) attempt(body []byte) (rejected int64, after time.Duration, err error) {
	ctx, cancel := context.WithTimeout(e.ctx, exportTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return 0, 0, err
	}
	req.Header = e.header.Clone()
	resp, err := e.client.Do(req)
	if err != nil {
		return 0, 0, &retryable{err}
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode >= 502 && resp.StatusCode <= 504:
		return 0, retryAfter(resp.Header.Get("Retry-After"), time.Now()), &retryable{fmt.Errorf("the receiver answered %s", resp.Status)}
	case resp.StatusCode/100 != 2:
		return 0, 0, fmt.Errorf("the receiver answered %s", resp.Status)
	case err != nil: // accepted, its remarks lost
		return 0, 0, nil
	}
	return e.partial(answer), 0, nil
}

// partial reads how many spans the receiver refused for good.
func (e *exporter) partial(answer []byte) int64 {
	var r collector.ExportTraceServiceResponse
	if err := proto.Unmarshal(answer, &r); err != nil || r.PartialSuccess == nil {
		return 0 // receivers answer with other formats too; 2xx is what counts
	}
	if r.PartialSuccess.RejectedSpans > 0 || r.PartialSuccess.ErrorMessage != "" {
		e.log.Warn("the trace receiver took a batch in part", "rejected", r.PartialSuccess.RejectedSpans, "message", r.PartialSuccess.ErrorMessage)
	}
	return r.PartialSuccess.RejectedSpans
}

// retryAfter reads seconds or an HTTP date (RFC 9110 §10.2.3); 0 = not said.
func retryAfter(s string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// encode gives the gzipped protobuf of those spans whose ids are well formed, and their number.
func (e *exporter) encode(spans []Span) (body []byte, count int, err error) {
	scope := &trace.ScopeSpans{Scope: &common.InstrumentationScope{Name: "landline"}}
	for _, s := range spans {
		if p := protoSpan(s); p != nil {
			scope.Spans = append(scope.Spans, p)
		}
	}
	count = len(scope.Spans)
	raw, err := proto.Marshal(&collector.ExportTraceServiceRequest{ResourceSpans: []*trace.ResourceSpans{
		{Resource: e.resource, ScopeSpans: []*trace.ScopeSpans{scope}},
	}})
	if err != nil {
		return nil, count, fmt.Errorf("encode spans: %w", err)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(raw); err != nil {
		return nil, count, fmt.Errorf("compress spans: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, count, fmt.Errorf("compress spans: %w", err)
	}
	return b.Bytes(), count, nil
}

func protoSpan(s Span) *trace.Span {
	if !nonZeroHex(s.TraceID, 32) || !nonZeroHex(s.SpanID, 16) || s.ParentSpanID != "" && !nonZeroHex(s.ParentSpanID, 16) {
		return nil
	}
	p := &trace.Span{
		TraceId: hexBytes(s.TraceID), SpanId: hexBytes(s.SpanID), ParentSpanId: hexBytes(s.ParentSpanID),
		Name: valid(s.Name), Kind: trace.Span_SpanKind(s.Kind),
		StartTimeUnixNano: unixNano(s.Start), EndTimeUnixNano: unixNano(s.End),
		Flags: 1, // sampled: only such spans are recorded
	}
	if s.Kind == 0 {
		p.Kind = trace.Span_SPAN_KIND_INTERNAL
	}
	for _, a := range s.Attributes {
		p.Attributes = append(p.Attributes, keyValue(a))
	}
	if s.Error != "" {
		p.Status = &trace.Status{Code: trace.Status_STATUS_CODE_ERROR, Message: valid(Redact(s.Error))}
	}
	return p
}
