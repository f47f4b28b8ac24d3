package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"landline/internal/gateway/aggregate"
	"landline/internal/gateway/idem"
	"landline/internal/observe"
	"landline/internal/problem"
)

// upstreamCall is one call of an aggregated route. It goes the last part of a
// proxied request's way: target, breaker, timeout, and the upstream.
type upstreamCall struct {
	g       *Gateway
	rt      *Route
	call    *aggregate.Call
	up      *upstream
	cached  bool
	handler Handler
	metrics callMetric
}

func (g *Gateway) newUpstreamCall(rt *Route, call *aggregate.Call, c *CallConfig, way destination) *upstreamCall {
	u := &upstreamCall{g: g, rt: rt, call: call, up: way.upstream, metrics: g.callMetrics.of(rt.Feature, call.Name, way.upstream.name)}
	most, timeout := int(c.MaxResponse), c.Timeout.D()
	if most == 0 {
		most = defaultCallResponse
	}
	if timeout == 0 {
		timeout = rt.Policy.Timeout.D()
	}
	var stages []Stage
	if c.Cache != nil {
		u.cached = true
		stages = append(stages, g.callCache(rt, call.Name, c.Cache), dueStage)
	}
	stages = append(stages, g.upstreamStages(rt, way, timeout)...)
	stages = append(stages, takeStage(most, call.GraphQL != nil))
	u.handler = chain(stages, g.forward(way.upstream, wholePath))
	return u
}

// callCache is the cache of one call: that of a route of its own, which nobody can ask for.
func (g *Gateway) callCache(rt *Route, call string, c *CacheConfig) Stage {
	policy := *rt.Policy
	policy.Cache = c
	own := *rt
	own.Policy, own.Match = &policy, rt.Match+" call "+call
	stage := g.cacheStage(&own)
	rt.callPolicies = append(rt.callPolicies, own.cachePolicy)
	return stage
}

// wholePath is the path of a call: its one parameter.
var wholePath = &pathTemplate{pieces: []templatePiece{{param: 0}}}

// callRequest is one call of one request.
type callRequest struct {
	x       *Exchange
	in      *http.Request
	header  http.Header // of the client, without what concerns its own request
	request *aggregate.Request
	sent    *atomic.Bool
	several bool // calls of the route may change something
	fresh   *freshness
	stale   *atomic.Bool // an answer is a stale copy
}

// send makes the call and takes its answer in.
func (u *upstreamCall) send(ctx context.Context, c *callRequest) aggregate.Answer {
	began := time.Now()
	path, err := checkPath(c.request.Path)
	if err != nil {
		return u.told(c, nil, began, aggregate.Answer{Failure: aggregate.PathFailure(err)})
	}
	x := &Exchange{
		Route: c.x.Route, Start: c.x.Start, Client: c.x.Client, Principal: c.x.Principal, ClientIP: c.x.ClientIP,
		TraceID: c.x.TraceID, SpanID: c.x.SpanID, ParentSpanID: c.x.SpanID, Sampled: c.x.Sampled,
		peer: c.x.peer, trusted: c.x.trusted, secure: c.x.secure, origin: c.x.origin, path: path,
	}
	if u.cached {
		x.deadline, _ = ctx.Deadline()
	}
	x.params[0] = path
	x.Params = x.params[:1]
	if u.traced(x) {
		x.SpanID = observe.NewSpanID()
	}
	r := u.request(ctx, c)
	defer func() { // also when a panic passes
		if x.Sent && u.call.Write {
			c.sent.Store(true)
		}
	}()
	taken := newTakenAnswer()
	err = u.handler(x, taken, r)
	if x.Degraded == "stale" {
		c.stale.Store(true)
	}
	return u.told(c, x, began, u.judge(c, taken, err))
}

// request is the call as if a client had sent it.
func (u *upstreamCall) request(ctx context.Context, c *callRequest) *http.Request {
	h := c.header // of all calls: only a copy may be changed
	if c.request.Body != nil || u.call.Write {
		h = shallow(h)
	}
	if keys := c.in.Header["Idempotency-Key"]; u.call.Write && len(keys) > 0 { // the key is for what writes
		if h["Idempotency-Key"] = keys; c.several {
			deriveKey(h, u.call.Name)
		}
	}
	r := &http.Request{
		Method: u.call.Method, URL: &url.URL{Path: c.request.Path, RawQuery: c.request.Query}, Header: h, Host: c.in.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: c.in.RemoteAddr, TLS: c.in.TLS, Body: http.NoBody,
	}
	if b := c.request.Body; b != nil {
		h["Content-Type"] = []string{"application/json"}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
	}
	return r.WithContext(ctx)
}

// deriveKey gives each of several writes its own idempotency key: one service
// may get more than one of them, and the same key twice would be a mistake.
func deriveKey(h http.Header, call string) {
	values := h["Idempotency-Key"]
	if len(values) != 1 {
		return
	}
	key, err := idem.ParseKey(values[0])
	if err != nil {
		return // without the idempotency stage keys are passed on as they are
	}
	sum := sha256.Sum256([]byte(call + "\n" + key))
	h["Idempotency-Key"] = []string{call + "-" + hex.EncodeToString(sum[:16])}
}

// judge turns what came back into an answer.
func (u *upstreamCall) judge(c *callRequest, t *takenAnswer, err error) aggregate.Answer {
	switch {
	case err != nil:
		return aggregate.Answer{Failure: aggregate.FailureOf(err)}
	case u.call.GraphQL != nil && len(t.body) > 0:
		c.fresh.see(t.header)
		return aggregate.GraphQLAnswer(t.status, t.body)
	case t.status/100 != 2:
		return aggregate.Answer{Failure: aggregate.StatusFailure(t.status, retryAfter(t.header))}
	}
	c.fresh.see(t.header)
	return aggregate.Answer{JSON: t.body}
}

// retryAfter reads whole seconds; a date is left to the next request.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return min(time.Duration(n)*time.Second, time.Hour)
}

func (u *upstreamCall) traced(x *Exchange) bool { return x.Sampled && u.g.options.Tracer.Enabled() }

// told counts the call and records its span. x is nil for a call that was not sent.
func (u *upstreamCall) told(c *callRequest, x *Exchange, began time.Time, a aggregate.Answer) aggregate.Answer {
	took := time.Since(began)
	outcome := a.Outcome()
	u.metrics.observe(outcome, took)
	if x == nil {
		return a
	}
	if x.UpstreamTook > 0 {
		u.g.metrics.upstream.WithLabelValues(u.rt.Feature, u.up.name, x.Target).Observe(x.UpstreamTook.Seconds())
	}
	if !u.traced(x) {
		return a
	}
	failed := ""
	if a.Failure != nil {
		failed = outcome
	}
	u.g.options.Tracer.Record(observe.Span{
		TraceID: x.TraceID, SpanID: x.SpanID, ParentSpanID: c.x.SpanID, Name: "call " + u.call.Name, Kind: observe.SpanClient,
		Start: began, End: began.Add(took), Error: failed,
		Attributes: []observe.Attr{
			{Key: "http.request.method", Value: u.call.Method},
			{Key: "http.response.status_code", Value: x.status},
			{Key: "landline.feature", Value: u.rt.Feature},
			{Key: "landline.call", Value: u.call.Name},
			{Key: "landline.upstream", Value: u.up.name},
			{Key: "landline.target", Value: x.Target},
		},
	})
	return a
}

// dueStage ends a call when the whole answer is due, also where the cache has
// taken it off its client's context.
func dueStage(next Handler) Handler {
	return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
		if x.deadline.IsZero() {
			return next(x, w, r)
		}
		ctx, cancel := context.WithDeadlineCause(r.Context(), x.deadline, errTimeout)
		defer cancel()
		return next(x, w, r.WithContext(ctx))
	}
}

// takeStage takes an answer in whole and checks it while the target's breaker
// still listens: garbage is a fault of the target's.
func takeStage(most int, graphql bool) Stage {
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			ctx, cancel := context.WithCancelCause(r.Context())
			defer cancel(nil)
			t, direct := w.(*takenAnswer)
			if !direct {
				t = newTakenAnswer()
			}
			t.reset(most, graphql, cancel)
			err := next(x, t, r.WithContext(ctx))
			if t.fault == nil && err == nil {
				t.check()
			}
			switch {
			case t.fault != nil:
				return problem.New(problem.UpstreamInvalid, "the service behind %s gave an invalid answer", x.Route.Feature).Wrap(t.fault)
			case err != nil && !errors.Is(context.Cause(ctx), errUnwanted):
				return err
			case direct:
				return nil
			}
			return t.pass(w)
		}
	}
}

// takenAnswer is the ResponseWriter that an upstream's answer to a call ends in.
type takenAnswer struct {
	header  http.Header
	status  int
	body    []byte
	most    int
	graphql bool // answers of errors count too, whatever their status
	page    bool // it is an error page after all
	cancel  context.CancelCauseFunc
	fault   error // why the answer cannot be used
	unread  int   // bytes of a body that nobody reads
}

// errUnwanted ends reading an answer that will not be used.
var errUnwanted = errors.New("the answer is not wanted")

const maxUnread = 64 << 10

func newTakenAnswer() *takenAnswer { return &takenAnswer{header: http.Header{}} }

// reset makes room for a try.
func (t *takenAnswer) reset(most int, graphql bool, cancel context.CancelCauseFunc) {
	clear(t.header)
	*t = takenAnswer{header: t.header, body: t.body[:0], most: most, graphql: graphql, cancel: cancel}
}

// pass hands the answer on.
func (t *takenAnswer) pass(w http.ResponseWriter) error {
	h := w.Header()
	for name, values := range t.header {
		h[name] = values
	}
	h["Content-Length"] = []string{strconv.Itoa(len(t.body))}
	w.WriteHeader(t.status)
	if _, err := w.Write(t.body); err != nil {
		return errClientGone
	}
	return nil
}

// Header is the answer's.
func (t *takenAnswer) Header() http.Header { return t.header }

func (t *takenAnswer) wanted() bool { return t.status/100 == 2 || t.graphql && !t.page }

// WriteHeader looks whether the answer can be used.
func (t *takenAnswer) WriteHeader(status int) {
	if t.status != 0 || status < 200 {
		return
	}
	if t.status = status; t.cancel == nil || !t.wanted() || status == http.StatusNoContent || status == http.StatusResetContent {
		return
	}
	length, err := strconv.Atoi(t.header.Get("Content-Length"))
	switch {
	case err == nil && length > t.most:
		t.refuse(fmt.Errorf("the answer has %d bytes, more than %d", length, t.most))
	case t.header.Get("Content-Encoding") != "" && !strings.EqualFold(t.header.Get("Content-Encoding"), "identity"):
		t.refuse(errors.New("the answer is encoded although no encoding was asked for"))
	case !isJSON(t.header.Get("Content-Type")):
		if t.status/100 == 2 {
			t.refuse(fmt.Errorf("the answer is %.80q and no JSON", t.header.Get("Content-Type")))
		} else {
			t.page = true
		}
	case err == nil && length > 0 && cap(t.body) < length:
		t.body = make([]byte, 0, length)
	}
}

// refuse ends the call: the rest of its answer is not worth waiting for.
func (t *takenAnswer) refuse(err error) {
	t.fault = err
	t.cancel(errUnwanted)
}

func isJSON(contentType string) bool {
	if contentType == "application/json" {
		return true
	}
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == "application/json" || strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json"))
}

func (t *takenAnswer) Write(b []byte) (int, error) {
	if t.status == 0 {
		t.WriteHeader(http.StatusOK)
	}
	switch {
	case t.fault != nil:
		return 0, t.fault
	case !t.wanted():
		if t.unread += len(b); t.unread > maxUnread {
			t.cancel(errUnwanted) // the status says it all
			return 0, errUnwanted
		}
		return len(b), nil
	case t.cancel != nil && len(t.body)+len(b) > t.most:
		t.refuse(fmt.Errorf("the answer has more than %d bytes", t.most))
		return 0, t.fault
	}
	t.body = append(t.body, b...)
	return len(b), nil
}

// check looks at a whole answer.
func (t *takenAnswer) check() {
	switch {
	case !t.wanted():
	case len(t.body) == 0 && (t.status == http.StatusNoContent || t.status == http.StatusResetContent):
		t.body = []byte("null")
	case len(t.body) == 0 && t.graphql && t.status/100 != 2:
	case !aggregate.Valid(t.body):
		t.fault = errors.New("the answer is not JSON")
	}
}
