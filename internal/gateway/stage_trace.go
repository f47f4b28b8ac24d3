package gateway

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"landline/internal/observe"
	"landline/internal/problem"
)

// Bounds of the trace context that is carried on to upstreams.
const (
	maxTracestate = 512  // W3C Trace Context §3.3.1.5
	maxBaggage    = 8192 // W3C Baggage §3.3.2
)

// traceStage is the frame around every request: it gives the request its place
// in a trace, answers errors with problems, and then tells what happened: one
// line in the access log, the metrics, a span for us and one for the upstream.
//
// A caller's trace id is taken over, from traceparent or else from Sentry's
// sentry-trace; its sampled flag is a hint (observe.Tracer.Sampled). An error
// after the first byte of an answer, and a panic, abort the connection.
func traceStage(o *Options, m *metrics, rt *Route) Stage {
	rt.beTold(m)
	t := &tracer{o: o, m: m.feature(rt.Feature), access: newAccessLog(o.Log, o.ClientIPLog)}
	if rt.Policy != nil {
		t.screens = m.screens.of(rt.Policy.Screens)
		t.keyed = rt.Policy.Idempotency != nil
	}
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			s := &observed{began: time.Now()}
			s.w = responseWriter{ResponseWriter: w, x: x}
			t.join(x, r)
			h := w.Header()
			h["Landline-Trace-Id"] = x.one(x.TraceID)
			ctx := observe.WithSampledTrace(r.Context(), x.TraceID, x.SpanID, x.Sampled)
			if o.Development {
				ctx = problem.WithDebug(ctx)
			}
			s.ctx = ctx
			r = r.WithContext(ctx)
			if x.body != nil { // into our copy: the server looks at the body of its own request to end an Expect: 100-continue
				s.body.ReadCloser = x.body
				r.Body = &s.body
			}
			t.m.inFlight.Inc()
			defer func() { // also when a panic passes
				t.m.inFlight.Dec()
				t.tell(x, s, r)
			}()
			s.aborted = true
			if err := next(x, &s.w, r); err != nil {
				s.err = err
				p := x.Route.named(problem.From(err))
				x.ErrorCode = string(p.Code)
				if s.w.started() {
					panic(http.ErrAbortHandler)
				}
				problem.Write(&s.w, r, p)
			}
			s.aborted = false
			return nil
		}
	}
}

// tracer is the stage. What it needs of the route alone is in the Route: routes
// of one feature may share their stages.
type tracer struct {
	o       *Options
	m       *featureMetrics
	screens screenCounters
	access  accessLog
	keyed   bool // the route honours Idempotency-Key
}

// beTold makes what the stage needs of the route.
func (rt *Route) beTold(m *metrics) { rt.counts, rt.line = m.requests.of(rt), rt.fixedFields() }

// named puts the feature into a problem, so that an app can tell which part of a screen is missing.
func (rt *Route) named(p *problem.Error) *problem.Error {
	if rt.Feature == NoFeature {
		return p
	}
	return p.With("feature", rt.Feature)
}

// observed is what the stage keeps of one request, in one piece of memory.
type observed struct {
	w       responseWriter
	body    countingBody
	ctx     context.Context //nolint:containedctx // lives as long as the request
	began   time.Time       // monotonic, unlike the Exchange's clock under test
	err     error
	aborted bool
}

// join finds the request's trace, or begins one.
func (t *tracer) join(x *Exchange, r *http.Request) {
	hint := false
	if v := r.Header["Traceparent"]; len(v) == 1 {
		x.TraceID, x.ParentSpanID, hint, _ = observe.ParseTraceparent(v[0])
	}
	if x.TraceID == "" {
		// tracestate belongs to a traceparent: without a valid one it means nothing.
		delete(r.Header, "Tracestate")
		if v := r.Header["Sentry-Trace"]; len(v) == 1 {
			x.TraceID, x.ParentSpanID, hint, _ = observe.ParseSentryTrace(v[0])
		}
	}
	if x.TraceID == "" {
		x.TraceID = observe.NewTraceID()
	}
	x.SpanID = observe.NewSpanID()
	x.Sampled = t.o.Tracer.Sampled(x.TraceID, hint)
	bound(r.Header, "Tracestate", maxTracestate)
	bound(r.Header, "Baggage", maxBaggage)
}

// bound drops a header that is longer than its standard lets anyone rely on.
func bound(h http.Header, name string, most int) {
	n := 0
	for _, v := range h[name] {
		n += len(v)
	}
	if n > most {
		delete(h, name)
	}
}

// tell counts, logs and records a request that is over.
func (t *tracer) tell(x *Exchange, s *observed, r *http.Request) {
	took := time.Since(s.began)
	if s.w.status == 0 && !s.aborted && !s.w.hijacked {
		s.w.status = http.StatusOK // what net/http sends for a handler that wrote nothing
	}
	replayed := len(s.w.Header()["Idempotent-Replayed"]) > 0
	t.count(x, s, r, took, replayed)
	t.access.write(x, s, r, took, replayed)
	if x.Sampled && t.o.Tracer.Enabled() {
		t.record(x, s, r, took)
	}
}

func (t *tracer) count(x *Exchange, s *observed, r *http.Request, took time.Duration, replayed bool) {
	x.Route.counts.of(r.Method, s.w.status).observe(took)
	t.screens.count(x, s.w.status, s.aborted && !errors.Is(s.err, errClientGone))
	version, platform := "unknown", "unknown"
	if x.Client != nil {
		if x.Client.Version != "" {
			version = t.m.all.versions.Value(x.Client.Version)
		}
		if x.Client.Platform != "" {
			platform = t.m.all.platforms.Value(x.Client.Platform)
		}
	}
	client := t.m.clients.of(version, platform)
	client.requests.Inc()
	t.m.countPayload(x, client, version, s.body.bytes.Load(), s.w.bytes)
	if x.Upstream != "" && x.UpstreamTook > 0 {
		t.m.upstream.of(x.Upstream, x.Target).Observe(x.UpstreamTook.Seconds())
	}
	if x.Degraded != "" {
		t.m.degraded.WithLabelValues(x.Degraded).Inc()
	}
	if x.ErrorCode != "" {
		t.m.problems.WithLabelValues(x.ErrorCode).Inc()
		t.countLimits(x, s.err)
	}
	if t.keyed {
		if outcome := idempotencyOutcome(x.ErrorCode, r, replayed); outcome != "" {
			t.m.idempotency.WithLabelValues(outcome).Inc()
		}
	}
}

func (t *tracer) countLimits(x *Exchange, err error) {
	var p *problem.Error
	if x.ErrorCode != string(problem.RateLimited) || !errors.As(err, &p) {
		return
	}
	names, _ := p.Extra[violated].([]string)
	for _, name := range names {
		t.m.limited.WithLabelValues(name).Inc()
	}
}

// idempotencyOutcome is how a keyed write ended, "" for a request that the
// idempotency stage had nothing to say about.
func idempotencyOutcome(code string, r *http.Request, replayed bool) string {
	switch problem.Code(code) {
	case problem.IdempotencyKeyMissing:
		return "missing"
	case problem.IdempotencyKeyInvalid:
		return "invalid"
	case problem.IdempotencyInFlight:
		return "in_flight"
	case problem.IdempotencyKeyReused:
		return "reused"
	case problem.IdempotencyOutcomeUnknown:
		return "unknown"
	}
	switch {
	case replayed:
		return "replayed"
	case code == "" && honoursKey(r.Method) && len(r.Header["Idempotency-Key"]) > 0:
		return "executed"
	}
	return ""
}

// record sends the spans, named as the OpenTelemetry conventions for HTTP do.
// The upstream's spans are children of ours, as the traceparent it got says.
func (t *tracer) record(x *Exchange, s *observed, r *http.Request, took time.Duration) {
	end := s.began.Add(took)
	name := x.Route.Match
	if x.Route.Method == "" {
		name = r.Method + " " + x.Route.Match
	}
	failed := ""
	if s.w.status >= 500 || s.aborted {
		failed = x.ErrorCode
		if failed == "" {
			failed = "status " + strconv.Itoa(s.w.status)
		}
	}
	_, path, _ := strings.Cut(name, " ")
	list := []observe.Attr{
		{Key: "http.request.method", Value: r.Method},
		{Key: "http.route", Value: path},
		{Key: "http.response.status_code", Value: s.w.status},
		{Key: "http.response.body.size", Value: s.w.bytes},
		{Key: "network.protocol.version", Value: strings.TrimPrefix(r.Proto, "HTTP/")},
		{Key: "landline.feature", Value: x.Route.Feature},
	}
	add := func(key, value string) {
		if value != "" {
			list = append(list, observe.Attr{Key: key, Value: value})
		}
	}
	add("landline.owner", x.Route.Owner)
	add("landline.api_version", x.Route.APIVersion)
	add("landline.degraded", x.Degraded)
	add("error.type", x.ErrorCode)
	if c := x.Client; c != nil {
		add("landline.app.version", c.Version)
		add("os.name", c.Platform)
		add("os.version", c.OS)
		add("device.model.identifier", c.Device)
	}
	if p := x.Principal; p != nil {
		add("app.installation.id", p.InstallationID)
		add("user.id", p.UserID)
		add("session.id", p.SessionID)
	}
	t.o.Tracer.Record(observe.Span{
		TraceID: x.TraceID, SpanID: x.SpanID, ParentSpanID: x.ParentSpanID,
		Name: name, Kind: observe.SpanServer, Start: s.began, End: end, Attributes: list, Error: failed,
	})
	if x.Upstream == "" || x.UpstreamTook <= 0 {
		return
	}
	if !s.w.headerAt.IsZero() {
		end = s.w.headerAt // the upstream's header came just before ours went
	}
	failed = ""
	if x.status == 0 {
		failed = x.ErrorCode
	}
	t.o.Tracer.Record(observe.Span{
		TraceID: x.TraceID, SpanID: observe.NewSpanID(), ParentSpanID: x.SpanID,
		Name: "upstream " + x.Upstream, Kind: observe.SpanClient, Start: end.Add(-x.UpstreamTook), End: end, Error: failed,
		Attributes: []observe.Attr{
			{Key: "http.request.method", Value: r.Method},
			{Key: "http.response.status_code", Value: x.status},
			{Key: "landline.upstream", Value: x.Upstream},
			{Key: "landline.target", Value: x.Target},
		},
	})
}
