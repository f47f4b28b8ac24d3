package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"landline/internal/observe"
	"landline/internal/problem"
	"landline/internal/rest"
)

// maxBody bounds every request body unless an operation says more.
const maxBody = 4<<20 + 1

// edge is the outermost stage: it catches panics, gives the request its trace
// id, logs it and counts it.
func (s *Server) edge(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		traceID, spanID, _, ok := observe.ParseTraceparent(r.Header.Get("Traceparent"))
		if !ok {
			traceID, spanID = observe.NewTraceID(), observe.NewSpanID()
		}
		ctx, rec := observe.WithTrace(r.Context(), traceID, spanID), &record{}
		ctx = rest.With(context.WithValue(ctx, recordKey{}, rec), rest.Request{TraceID: traceID, OnError: rec.setError})
		if s.o.Development {
			ctx = problem.WithDebug(ctx)
		}
		r = r.WithContext(ctx)
		sw := &statusWriter{ResponseWriter: w}
		sw.Header().Set("Landline-Trace-Id", traceID)
		sw.Header().Set("Cache-Control", "no-store")
		sw.Header().Set("X-Content-Type-Options", "nosniff")
		defer func() {
			if v := recover(); v != nil {
				s.o.Log.ErrorContext(ctx, "admin request panicked", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
				if !sw.written {
					fail(sw, r, problem.New(problem.Internal, "").Wrap(fmt.Errorf("panic: %v", v)))
				}
			}
			s.finish(r, sw, rec, time.Since(start))
		}()
		r.Body = http.MaxBytesReader(sw, r.Body, maxBody)
		next.ServeHTTP(sw, r)
	})
}

func (s *Server) finish(r *http.Request, w *statusWriter, rec *record, took time.Duration) {
	status := w.status
	if status == 0 {
		status = http.StatusOK
	}
	s.metrics.requests.WithLabelValues(rec.operation(), fmt.Sprintf("%dxx", status/100)).Inc()
	s.metrics.duration.WithLabelValues(rec.operation()).Observe(took.Seconds())
	log, attrs := s.o.Log.DebugContext, []any{
		"method", r.Method, "path", r.URL.Path, "status", status, "duration_ms", took.Milliseconds(), "operator", rec.operator, "address", remote(r).String(),
	}
	if rec.err != nil {
		attrs = append(attrs, "code", string(rec.err.Code), "error", rec.err)
	}
	switch {
	case status >= 500:
		log = s.o.Log.ErrorContext
	case status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusTooManyRequests:
		log = s.o.Log.WarnContext
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		log = s.o.Log.InfoContext
	}
	log(r.Context(), "admin request", attrs...)
}

// guard turns away what no operator's tool sends: see the package comment.
func (s *Server) guard(next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.hostAllowed(r.Host) {
			fail(w, r, problem.New(problem.Forbidden, "the admin listener must be addressed by IP address, localhost or a configured name"))
			return
		}
		if err := crossOrigin.Check(r); err != nil {
			fail(w, r, problem.New(problem.Forbidden, "requests from pages of other origins are refused").Wrap(err))
			return
		}
		if p, clean := r.URL.Path, path.Clean(r.URL.Path); p != clean && (clean == "/" || p != clean+"/") { // the mux would redirect, in its own words
			fail(w, r, problem.New(problem.RouteNotFound, ""))
			return
		}
		if strings.HasPrefix(r.URL.Path, "/admin/") {
			ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
			defer cancel()
			r = r.WithContext(ctx)
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) hostAllowed(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return s.namedHost(host)
}

// fail answers with err and leaves it for the log.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	if rec, ok := r.Context().Value(recordKey{}).(*record); ok {
		rec.setError(problem.From(err))
	}
	problem.Write(w, r, err)
}

// remote is the address the connection comes from; no header changes it.
func remote(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// local reports whether r comes from this machine with no proxy in between:
// behind one, every caller would look local.
func local(r *http.Request) bool {
	for _, h := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via", "X-Forwarded-Host"} {
		if r.Header.Get(h) != "" {
			return false
		}
	}
	return remote(r).IsLoopback()
}

// record is what the stages learn of a request for its log line.
type record struct {
	opID     string
	operator string
	err      *problem.Error
}

type recordKey struct{}

func (r *record) setError(e *problem.Error) { r.err = e }

func (r *record) operation() string {
	if r.opID == "" {
		return "other"
	}
	return r.opID
}

// statusWriter remembers what was answered.
type statusWriter struct {
	http.ResponseWriter
	status  int
	written bool
}

func (w *statusWriter) WriteHeader(status int) {
	if !w.written && status >= 200 {
		w.status, w.written = status, true
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if !w.written {
		w.status, w.written = http.StatusOK, true
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
