package gateway

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"

	"landline/internal/gateway/http1"
	"landline/internal/problem"
)

// ServeHTTP is a request's way in: health, then the route, then its pipeline.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/healthz":
		g.health(w, r, g.options.Health.Live())
		return
	case "/readyz":
		g.health(w, r, g.options.Health.Ready())
		return
	}
	t := g.table.Load()
	if t == nil {
		problem.Write(w, r, problem.New(problem.Draining, "this node is starting"))
		return
	}
	if g.leaving.Load() || ambiguous(r) {
		w.Header().Set("Connection", "close")
	}
	x := &Exchange{Start: g.options.Clock.Now()}
	g.locate(x, r)
	rt := t.route(x, r)
	x.Route, x.write = rt, t.settings.Limits.WriteTimeout.D()
	if r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody {
		x.body = newRequestBody(w, r, t.settings.Limits.BodyTimeout.D())
	}
	if rt.feature != nil {
		rt.feature.inFlight.Add(1)
		defer rt.feature.inFlight.Add(-1)
	}
	if err := rt.handler(x, w, r); err != nil {
		// The trace stage answers every error; one that comes out of it has no answer.
		g.options.Log.ErrorContext(r.Context(), "a request ended without an answer", "feature", rt.Feature, "error", err)
		panic(http.ErrAbortHandler)
	}
}

// ambiguous reports whether a server before us may have seen the end of the
// request elsewhere: net/http takes chunked together with Content-Length, and
// ignores chunked from HTTP/1.0. Such a connection must end with the answer
// (RFC 9112 §6.1). Which of the chunked requests had both cannot be seen any
// more, so it goes for all of them.
func ambiguous(r *http.Request) bool {
	return r.ProtoMajor == 1 && (r.ProtoMinor == 0 || len(r.TransferEncoding) > 0)
}

// health answers for this node, without a feature.
func (g *Gateway) health(w http.ResponseWriter, r *http.Request, h http.Handler) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		problem.Write(w, r, problem.New(problem.MethodNotAllowed, "use GET").WithHeader("Allow", "GET, HEAD"))
		return
	}
	h.ServeHTTP(w, r)
}

// route finds the route of r and fills in the Exchange's path and parameters;
// without one it is the refusing route, and x.refusal says why.
func (t *table) route(x *Exchange, r *http.Request) *Route {
	if limit := int(t.settings.Limits.URI); limit > 0 && len(r.RequestURI) > limit {
		x.refusal = problem.New(problem.URITooLong, "the path and query are longer than %d bytes", limit)
		return t.refused
	}
	if limit := int(t.settings.Limits.Header); limit > 0 && headerExceeds(r.Header, limit) {
		x.refusal = problem.New(problem.HeaderTooLarge, "the header fields are longer than %d bytes", limit)
		return t.refused
	}
	if r.Method == http.MethodOptions && r.RequestURI == "*" {
		x.refusal = &optionsAnswer{}
		return t.refused
	}
	path, err := checkPath(rawPath(r.URL))
	if err != nil {
		x.refusal = problem.New(problem.InvalidRequest, "%s", err.Error())
		return t.refused
	}
	x.path = path
	refused := t.refused
	if isPreflight(r) {
		if rt := t.router.find(r.Header["Access-Control-Request-Method"][0], path, &x.params); rt != nil && rt.cors != nil {
			return rt
		} else if rt != nil {
			refused = t.silent // no page may call this route, whatever the file's own cors says
		}
	}
	if r.Method != http.MethodTrace && r.Method != http.MethodConnect {
		if rt := t.router.find(r.Method, path, &x.params); rt != nil {
			return t.negotiated(x, r, rt)
		}
	}
	x.refusal = t.whyNot(r.Method, path)
	return refused
}

// headerExceeds reports whether the fields take more than limit bytes as HTTP/1
// writes them, ": " and the end of line included.
func headerExceeds(h http.Header, limit int) bool {
	const around = 4
	for name, values := range h {
		for _, v := range values {
			if limit -= len(name) + len(v) + around; limit < 0 {
				return true
			}
		}
	}
	return false
}

// negotiated is rt, or the one of its variants whose version the request names.
func (t *table) negotiated(x *Exchange, r *http.Request, rt *Route) *Route {
	if rt.variants != nil {
		chosen, err := t.versions.choose(r, rt.variants)
		if err != nil {
			t.versions.vary(x)
			x.refusal = err
			return t.refused
		}
		rt = chosen
	}
	x.Params = x.params[:len(rt.ParamNames)]
	return rt
}

// whyNot says why no route takes the method and path.
func (t *table) whyNot(method, path string) error {
	allowed := t.router.allowed(path)
	if allowed == nil {
		return problem.New(problem.RouteNotFound, "")
	}
	allow := strings.Join(allowed, ", ")
	if method == http.MethodOptions {
		return &optionsAnswer{allow: allow}
	}
	return problem.New(problem.MethodNotAllowed, "%s is not among the methods of this path", method).WithHeader("Allow", allow)
}

// optionsAnswer is the answer to OPTIONS on a path without a route for it.
type optionsAnswer struct{ allow string }

func (*optionsAnswer) Error() string { return "OPTIONS" }

// refuse is the handler at the end of the refusing route.
func refuse(x *Exchange, w http.ResponseWriter, _ *http.Request) error {
	if o, ok := x.refusal.(*optionsAnswer); ok { //nolint:errorlint // made by route alone
		if o.allow != "" {
			w.Header().Set("Allow", o.allow)
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return x.refusal
}

// Server serves a listener, as http.Server does.
type Server interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
	Close() error
}

// Server returns the public listener's server for clear text: http1.Server, in
// front of StandardServer.
func (g *Gateway) Server() Server { return http1.NewServer(g.StandardServer()) }

// StandardServer returns the public listener's server of net/http. The guards
// of both come from the settings of the last Apply. Shut it down after Drain,
// with a deadline.
func (g *Gateway) StandardServer() *http.Server {
	limits := DefaultSettings().Limits
	if t := g.table.Load(); t != nil {
		limits = t.settings.Limits
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           g,
		ReadHeaderTimeout: limits.HeaderTimeout.D(),
		IdleTimeout:       limits.IdleTimeout.D(),
		MaxHeaderBytes:    2 * int(limits.Header), // beyond the limit route answers with a problem, beyond this net/http in plain text
		Protocols:         protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: limits.Streams,
			SendPingTimeout:      limits.IdleTimeout.D(),
			PingTimeout:          limits.HeaderTimeout.D(),
		},
		ErrorLog:                     slog.NewLogLogger(g.options.Log.Handler(), slog.LevelDebug),
		DisableGeneralOptionsHandler: true,
	}
}

// Leave makes every answer from now on the last of its connection. Connections
// that are idle stay open: a request may be on its way on them.
func (g *Gateway) Leave() { g.leaving.Store(true) }

// Drain is Leave, and ends event streams and WebSockets politely. Requests go on
// being served.
func (g *Gateway) Drain() {
	g.Leave()
	g.streams.drain()
}

// unescape decodes a wildcard's value for module handlers. Values come from a
// path that net/http has parsed, so that they are well-formed.
func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	plain, err := url.PathUnescape(s)
	if err != nil {
		return s
	}
	return plain
}
