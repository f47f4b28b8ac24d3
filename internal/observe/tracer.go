package observe

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	spanQueue   = 4096            // spans waiting for export; more are dropped
	spanBatch   = 512             // spans in one export
	spanDelay   = 2 * time.Second // longest wait of a span for its batch to fill
	hintedBoost = 10              // how much likelier a trace is kept whose caller records it too
)

// TracerConfig says where spans go.
type TracerConfig struct {
	Endpoint    string            // base URL of an OTLP/HTTP receiver, e.g. http://127.0.0.1:4318; /v1/traces is appended unless it ends so; "" = tracing is off
	Headers     map[string]string // sent with every export, e.g. an API key
	SampleRatio float64           // share of traces that are recorded, 0 to 1
	Service     string            // resource attribute service.name
	Version     string            // resource attribute service.version
}

// Check says what is wrong with the configuration, naming the field.
func (c TracerConfig) Check() error {
	if !(c.SampleRatio >= 0 && c.SampleRatio <= 1) {
		return fmt.Errorf("sample_ratio is %v, it must be between 0 and 1", c.SampleRatio)
	}
	if c.Endpoint == "" {
		return nil
	}
	_, err := c.url()
	return err
}

// url is the address of exports (OpenTelemetry protocol exporter specification, "Endpoint URLs for OTLP/HTTP").
func (c TracerConfig) url() (string, error) {
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", errors.New("endpoint must be a URL such as http://127.0.0.1:4318")
	}
	if u.User != nil {
		return "", errors.New("endpoint must not contain a user or password; use headers")
	}
	if path := strings.TrimRight(u.Path, "/"); !strings.HasSuffix(path, "/v1/traces") {
		u.Path, u.RawPath = path+"/v1/traces", ""
	}
	return u.String(), nil
}

// SpanKind is a span's role; the values are OTLP's.
type SpanKind int32

// The kinds.
const (
	SpanInternal SpanKind = 1
	SpanServer   SpanKind = 2
	SpanClient   SpanKind = 3
	SpanProducer SpanKind = 4
	SpanConsumer SpanKind = 5
)

// Span is one finished piece of work.
type Span struct {
	TraceID      string // 32 hexadecimal digits
	SpanID       string // 16 hexadecimal digits
	ParentSpanID string // "" = root
	Name         string
	Kind         SpanKind // 0 = internal
	Start, End   time.Time
	Attributes   []Attr
	Error        string // "" = ok
}

// Attr is an attribute of a span. Value is a string, bool, int, int64, float64
// or time.Duration (sent as seconds); anything else is sent as text.
type Attr struct {
	Key   string
	Value any
}

// Tracer exports spans. A nil *Tracer is one that is off. It is safe for
// concurrent use.
type Tracer struct {
	threshold, hinted uint64 // a trace is kept whose number is below
	enabled           bool
	exporter          *exporter
	spans             chan Span
	flush             chan chan struct{}
	dropped           *prometheus.CounterVec
	closed            atomic.Bool
	once              sync.Once
	ended             chan struct{}
}

// NewTracer returns a Tracer that exports by client, OTLP/HTTP in protobuf. An
// empty Endpoint turns tracing off; so does a configuration that fails Check,
// after an error in the log.
func NewTracer(cfg TracerConfig, client *http.Client, log *slog.Logger, reg prometheus.Registerer) *Tracer {
	t := &Tracer{ended: make(chan struct{}), threshold: threshold(cfg.SampleRatio), hinted: threshold(min(1, cfg.SampleRatio*hintedBoost))}
	m := newTracerMetrics(reg)
	t.dropped = m.dropped
	if cfg.Endpoint == "" {
		return t
	}
	if err := cfg.Check(); err != nil {
		log.Error("tracing is off: its configuration is not valid", "error", err)
		return t
	}
	t.enabled = true
	t.spans, t.flush = make(chan Span, spanQueue), make(chan chan struct{})
	t.exporter = newExporter(cfg, client, log, m)
	go t.work()
	return t
}

// threshold turns a ratio into a bound for 63-bit numbers.
func threshold(ratio float64) uint64 {
	switch {
	case ratio >= 1:
		return 1 << 63
	case !(ratio > 0):
		return 0
	}
	return uint64(ratio * (1 << 63))
}

// Enabled reports whether recorded spans go anywhere.
func (t *Tracer) Enabled() bool { return t != nil && t.enabled }

// Sampled reports whether the spans of a trace are to be recorded. The same
// trace id gets the same answer on every node: the id's last 63 bits as a
// number are compared with the ratio, as OpenTelemetry's TraceIdRatioBased
// does. hint is the caller's sampled flag: it makes a trace ten times as
// likely, because the other half of its story is then recorded too, but it
// orders nothing: the flag comes from the public. The answer does not depend on
// whether this node exports anything: services behind it sample by it too.
func (t *Tracer) Sampled(traceID string, hint bool) bool {
	if t == nil || len(traceID) != 32 {
		return false
	}
	var b [8]byte
	if _, err := hex.Decode(b[:], []byte(traceID[16:])); err != nil {
		return false
	}
	bound := t.threshold
	if hint {
		bound = t.hinted
	}
	return binary.BigEndian.Uint64(b[:])>>1 < bound
}

// Record takes a span for export. It never waits: when the queue is full the
// span is dropped and counted.
func (t *Tracer) Record(s Span) {
	if !t.Enabled() {
		return
	}
	if t.closed.Load() {
		t.dropped.WithLabelValues("closed").Inc()
		return
	}
	select {
	case t.spans <- s:
	default:
		t.dropped.WithLabelValues("queue_full").Inc()
	}
}

// Flush exports what was recorded before it was called.
func (t *Tracer) Flush(ctx context.Context) error {
	if !t.Enabled() {
		return nil
	}
	done := make(chan struct{})
	select {
	case t.flush <- done:
	case <-t.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("observe: flush spans: %w", ctx.Err())
	}
	select {
	case <-done:
		return nil
	case <-t.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("observe: flush spans: %w", ctx.Err())
	}
}

// Close flushes until ctx ends, then stops; what is left is dropped and counted.
func (t *Tracer) Close(ctx context.Context) error {
	if !t.Enabled() {
		return nil
	}
	t.closed.Store(true)
	err := t.Flush(ctx)
	t.once.Do(t.exporter.stop)
	<-t.ended
	return err
}

// work gathers spans into batches until the exporter is stopped.
func (t *Tracer) work() {
	defer close(t.ended)
	batch := make([]Span, 0, spanBatch)
	send := func() {
		if len(batch) > 0 {
			t.exporter.export(batch)
			clear(batch)
			batch = batch[:0]
		}
	}
	delay := time.NewTimer(spanDelay)
	defer delay.Stop()
	for {
		select {
		case s := <-t.spans:
			if batch = append(batch, s); len(batch) == 1 {
				delay.Reset(spanDelay)
			}
			if len(batch) == spanBatch {
				send()
			}
		case <-delay.C:
			send()
		case done := <-t.flush:
			for range len(t.spans) {
				if batch = append(batch, <-t.spans); len(batch) == spanBatch {
					send()
				}
			}
			send()
			close(done)
		case <-t.exporter.ctx.Done():
			t.dropped.WithLabelValues("closed").Add(float64(len(batch) + len(t.spans)))
			return
		}
	}
}
