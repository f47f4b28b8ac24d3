package gateway

import (
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"landline/internal/observe"
	"landline/internal/problem"
)

// accessLog writes one line per request. It has names, ids and sizes; never
// values of the query string, tokens or cookies.
type accessLog struct {
	log   *slog.Logger
	lines *observe.Lines // the short way to a log of JSON; nil for any other
	ip    *ClientIPLog
}

func newAccessLog(log *slog.Logger, ip *ClientIPLog) accessLog {
	return accessLog{log: log, lines: observe.LinesOf(log), ip: ip}
}

// fixedFields are what every line of the route has.
func (rt *Route) fixedFields() []byte {
	return slices.Clip(observe.Fixed("route", rt.Match, "feature", rt.Feature, "owner", rt.Owner, "api_version", rt.APIVersion))
}

func (l *accessLog) write(x *Exchange, s *observed, r *http.Request, took time.Duration, replayed bool) {
	level := slog.LevelInfo
	switch {
	case x.ErrorCode == string(problem.Internal):
		level = slog.LevelError
	case s.w.status >= 500 || s.aborted && !errors.Is(s.err, errClientGone):
		level = slog.LevelWarn
	}
	if !l.log.Enabled(s.ctx, level) {
		return
	}
	a := accessLine{}
	if l.lines != nil {
		a.line = l.lines.Begin(time.Now(), level, "request")
		a.line.Text("method", r.Method)
		a.line.Fixed(x.Route.line)
	} else {
		a.attrs = make([]slog.Attr, 0, 32)
		a.text("method", r.Method)
		a.plain("route", x.Route.Match)
		a.plain("feature", x.Route.Feature)
		a.plain("owner", x.Route.Owner)
		a.plain("api_version", x.Route.APIVersion)
	}
	a.number("status", int64(s.w.status))
	a.plain("code", x.ErrorCode)
	a.millis("duration_ms", took)
	a.number("bytes_in", s.body.bytes.Load())
	a.number("bytes_out", s.w.bytes)
	if x.Upstream != "" {
		a.plain("upstream", x.Upstream)
		a.plain("target", x.Target)
		a.millis("upstream_ms", x.UpstreamTook)
	}
	a.address("client_ip", l.ip, x.ClientIP)
	a.caller(x)
	a.plain("span_id", x.SpanID)
	a.plain("degraded", x.Degraded)
	a.yes("replayed", replayed)
	a.yes("aborted", s.aborted)
	a.plain("http_version", strings.TrimPrefix(r.Proto, "HTTP/"))
	if err := s.reason(x); err != nil {
		a.text("error", err.Error())
	}
	if a.line != nil {
		a.line.Plain("trace_id", x.TraceID)
		a.line.End()
		return
	}
	l.log.LogAttrs(s.ctx, level, "request", a.attrs...) // the trace id comes from the context
}

// caller adds the app and who is signed in.
func (a *accessLine) caller(x *Exchange) {
	if c := x.Client; c != nil {
		a.text("app", c.App)
		a.text("app_version", c.Version)
		if c.Build != 0 {
			a.number("build", c.Build)
		}
		a.text("platform", c.Platform)
		a.text("os", c.OS)
		a.text("device", c.Device)
	}
	if p := x.Principal; p != nil {
		a.plain("installation_id", p.InstallationID)
		a.plain("user_id", p.UserID)
		a.plain("session_id", p.SessionID)
	}
}

// accessLine is a line on either way.
type accessLine struct {
	line  *observe.Line // or else
	attrs []slog.Attr
}

// text adds what a client chose, unless it is empty.
func (a *accessLine) text(key, value string) {
	switch {
	case value == "":
	case a.line != nil:
		a.line.Text(key, value)
	default:
		a.attrs = append(a.attrs, slog.String(key, value))
	}
}

// plain adds what can hold no secret, unless it is empty.
func (a *accessLine) plain(key, value string) {
	switch {
	case value == "":
	case a.line != nil:
		a.line.Plain(key, value)
	default:
		a.attrs = append(a.attrs, slog.String(key, value))
	}
}

func (a *accessLine) number(key string, value int64) {
	if a.line != nil {
		a.line.Int(key, value)
		return
	}
	a.attrs = append(a.attrs, slog.Int64(key, value))
}

func (a *accessLine) millis(key string, d time.Duration) {
	value := float64(d.Microseconds()) / 1e3
	if a.line != nil {
		a.line.Float(key, value)
		return
	}
	a.attrs = append(a.attrs, slog.Float64(key, value))
}

// yes adds what is the exception.
func (a *accessLine) yes(key string, value bool) {
	switch {
	case !value:
	case a.line != nil:
		a.line.Bool(key, true)
	default:
		a.attrs = append(a.attrs, slog.Bool(key, true))
	}
}

// reason is why the answer is not the one that was asked for, nil if it is.
func (s *observed) reason(x *Exchange) error {
	if s.err != nil {
		return s.err
	}
	return x.Cause
}
