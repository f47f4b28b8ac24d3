package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"landline/internal/gateway/http1"
	"landline/internal/problem"
)

// forward returns the handler at the end of a proxied route's way: it sends the
// request to x.target and streams the answer back. path is the one at the
// upstream, nil for that of the request's route.
func (g *Gateway) forward(up *upstream, path *pathTemplate) Handler {
	return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
		path := path
		if path == nil {
			path = x.Route.path
		}
		if x.tries.hedges(r) {
			return g.race(x, up, path, w, r)
		}
		c := g.newCall(x, up, w, r)
		defer c.end()
		if err := c.prepare(path); err != nil {
			return err
		}
		began := time.Now()
		res, err := c.roundTrip()
		return c.finish(res, err, time.Since(began))
	}
}

// newCall begins a call to x.target; it must be ended.
func (g *Gateway) newCall(x *Exchange, up *upstream, w http.ResponseWriter, r *http.Request) *call {
	c := &call{gateway: g, x: x, w: w, in: r, up: up, target: x.target, connections: up.pool.acquire(up.hosts)}
	c.target.inFlight.Add(1)
	return c
}

// end gives back what the call holds.
func (c *call) end() {
	c.body.recall()
	c.target.inFlight.Add(-1)
	c.connections.release()
}

// roundTrip sends the request and waits for the header of the answer. It
// touches nothing but the call, so that two calls can run side by side.
func (c *call) roundTrip() (*http.Response, error) {
	switch {
	case c.short:
		return c.connections.plain.Send(c.in.Context(), &c.plain, c)
	case c.upgrade:
		return c.connections.upgrade.RoundTrip(c.out)
	}
	return c.connections.main.RoundTrip(c.out)
}

// Sending and Informational tell the call what happens on the short way.
func (c *call) Sending() { c.sent.Store(true) }

// Informational passes an informational answer on.
func (c *call) Informational(status int, h http.Header) error {
	return c.got1xx(status, textproto.MIMEHeader(h))
}

// finish notes how the call went and passes the answer on.
func (c *call) finish(res *http.Response, err error, took time.Duration) error {
	x, sent := c.x, c.sent.Load()
	x.UpstreamTook = took
	x.Sent = x.Sent || sent
	if x.tries != nil {
		x.tries.sent = x.tries.sent || sent
	}
	if x.slot.Taken() {
		x.slot.Release(c.timed(res, err))
	}
	if err != nil {
		return c.failed(err)
	}
	return c.answer(res)
}

// timed reports whether the call's time says something about the load of the
// upstream: that of a whole answer, or of a timeout, which is the least that an
// answer would have taken. A failure may come faster than any work.
func (c *call) timed(res *http.Response, err error) bool {
	if c.x.untimed() || c.upgrade {
		return false
	}
	if err != nil {
		return errors.Is(causeOf(c.in.Context()), errTimeout)
	}
	return res.StatusCode < 500 && streamKind(res) == finite
}

// call is one request to an upstream.
type call struct {
	gateway *Gateway
	x       *Exchange
	w       http.ResponseWriter
	in      *http.Request // from the client
	short   bool          // it goes as plain, by way of http1
	raced   bool          // with another call
	plain   http1.Request
	room    [plainFields]http1.Field // of plain.More
	out     *http.Request            // to the upstream otherwise
	up      *upstream
	target  *target
	body    loan // of the client's body
	upgrade bool

	connections *generation

	url   url.URL
	trace httptrace.ClientTrace
	sent  atomic.Bool

	mu            sync.Mutex // informational answers come on the transport's goroutine
	informational int
	final         bool
}

func (c *call) prepare(path *pathTemplate) error {
	x, r := c.x, c.in
	c.upgrade = hasToken(r.Header["Connection"], "upgrade") && len(r.Header["Upgrade"]) == 1 &&
		hasToken(r.Header["Upgrade"], "websocket") && r.ProtoMajor == 1 && r.Method == http.MethodGet
	c.short = !c.upgrade && c.target.address != ""
	header, err := c.header()
	if err != nil {
		return err
	}
	escaped := path.expand(c.target.basePath, x.Params)
	if path.mixed {
		if _, err := checkPath(escaped); err != nil {
			return problem.New(problem.InvalidRequest, "%s", err.Error())
		}
	}
	if r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody {
		c.body.body, c.body.client, c.body.clock = r.Body, x.body, &x.countdown
		if x.tries != nil {
			c.body.trial = &x.tries.clock
		}
	}
	if c.short {
		return c.preparePlain(escaped, header)
	}
	return c.prepareOut(escaped, header)
}

// host is the Host field of the request.
func (c *call) host() string {
	if c.up.config.PreserveHost {
		return c.in.Host
	}
	return c.target.host
}

// preparePlain makes the request for the short way.
func (c *call) preparePlain(escaped string, header http.Header) error {
	r := c.in
	if strings.IndexByte(r.URL.RawQuery, ' ') >= 0 { // HTTP/2 can carry one, the request line cannot
		return problem.New(problem.InvalidRequest, "the query has a space; write %%20")
	}
	target := escaped
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		target += "?" + r.URL.RawQuery
	}
	c.plain.Method, c.plain.Address, c.plain.Host, c.plain.Target = r.Method, c.target.address, c.host(), target
	if header != nil {
		c.plain.Header = header
	}
	if c.body.body != nil {
		c.plain.Body, c.plain.ContentLength, c.plain.Trailer = &c.body, r.ContentLength, r.Trailer
	}
	return nil
}

// prepareOut makes the request for net/http.
func (c *call) prepareOut(escaped string, header http.Header) error {
	r := c.in
	decoded, err := url.PathUnescape(escaped)
	if err != nil {
		return problem.New(problem.InvalidRequest, "the path is not well-formed").Wrap(err)
	}
	c.url = url.URL{Scheme: c.target.scheme, Host: c.target.host, Path: decoded, RawPath: escaped, RawQuery: r.URL.RawQuery, ForceQuery: r.URL.ForceQuery}

	c.trace.GotConn = c.gotConn
	c.trace.Got1xxResponse = c.got1xx
	out := r.WithContext(httptrace.WithClientTrace(r.Context(), &c.trace))
	out.URL, out.Header, out.RequestURI, out.Close = &c.url, header, "", false
	out.Proto, out.ProtoMajor, out.ProtoMinor, out.TransferEncoding = "HTTP/1.1", 1, 1, nil
	out.TLS, out.Pattern, out.Form, out.PostForm, out.MultipartForm = nil, "", nil, nil, nil
	out.Host = c.host()
	out.Body, out.GetBody = nil, nil // without GetBody the transport never sends a body twice
	if c.body.body != nil {
		out.Body = &c.body
	}
	c.out = out
	return nil
}

// gotConn notes that from here on the request may be written.
func (c *call) gotConn(httptrace.GotConnInfo) { c.sent.Store(true) }

// got1xx passes an informational answer on, such as 103 Early Hints.
func (c *call) got1xx(code int, header textproto.MIMEHeader) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.informational++; c.informational > http1.MaxInformational {
		return errors.New("more than " + strconv.Itoa(http1.MaxInformational) + " informational answers")
	}
	if c.final || code != http.StatusEarlyHints && code != http.StatusProcessing {
		return nil // 100 Continue comes from reading the client's body
	}
	h := c.w.Header()
	before := h.Clone()
	clear(h)
	copyAnswerHeader(h, http.Header(header))
	c.w.WriteHeader(code)
	clear(h)
	for k, v := range before {
		h[k] = v
	}
	return nil
}

// noMore1xx waits for an informational answer that is being passed on, and lets no further one through.
func (c *call) noMore1xx() {
	c.mu.Lock()
	c.final = true
	c.mu.Unlock()
}

// failed turns the transport's error into the problem that it is.
func (c *call) failed(err error) error {
	c.noMore1xx()
	c.body.recall()
	if c.x.body != nil {
		if p := c.x.body.fault(); p != nil {
			return p
		}
	}
	ctx := c.in.Context()
	cause := causeOf(ctx)
	switch {
	case errors.Is(cause, errTimeout):
		return c.problem(problem.UpstreamTimeout, "did not answer in time", err)
	case ctx.Err() != nil:
		return errClientGone
	case !c.sent.Load(), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EPIPE), isTLSFailure(err):
		return c.problem(problem.UpstreamUnreachable, "cannot be reached", err)
	}
	return c.problem(problem.UpstreamInvalid, "gave an invalid answer", err)
}

func (c *call) problem(code problem.Code, what string, err error) error {
	return problem.New(code, "the service behind %s %s", c.x.Route.Feature, what).
		Wrap(fmt.Errorf("upstream %s, target %s: %w", c.up.name, c.target.name, err))
}

func isTLSFailure(err error) bool {
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	// With TLS 1.3 a server refuses the client's certificate after the handshake.
	var op *net.OpError
	return errors.As(err, &cert) || errors.As(err, &record) || errors.As(err, &alert) || errors.As(err, &op) && op.Op == "remote error"
}

// discard reads what is left of an unwanted answer, so that its connection can
// be used again, but not more than is cheaper than a new connection.
func discard(body io.ReadCloser) {
	if _, err := io.CopyN(io.Discard, body, 64<<10); err != nil && !errors.Is(err, io.EOF) {
		body.Close()
		return
	}
	body.Close()
}
