// Package problem is how every failure leaves Landline: RFC 9457
// application/problem+json with a stable code and the action that helps.
//
// Code that fails returns an error; only the edge (an HTTP handler or the
// gateway's outermost stage) calls Write, which turns any error into an answer
// through From. The client sees the catalogue's title, the safe Detail and the
// trace id, never the cause; the log gets the cause.
//
// The catalogue in catalogue.go is the one list of codes; docs/reference/errors.md
// is generated from it.
package problem

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"strconv"
	"time"
)

// TypeBase is what the "type" member of every problem starts with; the code follows.
const TypeBase = "https://landline.dev/problems/"

// MediaType is the content type of every problem.
const MediaType = "application/problem+json"

// Error is a failure with a code of the catalogue. Detail is shown to clients:
// it names the field and the way out, and never holds a secret or another
// person's data. Cause is for the log alone.
type Error struct {
	Code       Code
	Detail     string
	RetryAfter time.Duration  // 0 = what the catalogue says; sent as whole seconds, rounded up, at least 1
	Extra      map[string]any // further members of the body, JSON values
	Header     http.Header    // further headers of the answer
	Cause      error

	// Own is the row of a code that is not in the catalogue: of a program that
	// brings features of its own. nil = the catalogue's row of Code.
	Own *Kind
}

func (e *Error) kind() Kind {
	if e.Own != nil {
		return *e.Own
	}
	return Lookup(e.Code)
}

// New returns an Error; detail is a format for args.
func New(code Code, detail string, args ...any) *Error {
	if len(args) > 0 {
		detail = fmt.Sprintf(detail, args...)
	}
	return &Error{Code: code, Detail: detail}
}

// Wrap returns a copy of e whose cause is err.
func (e *Error) Wrap(err error) *Error { c := *e; c.Cause = err; return &c }

// After returns a copy of e that asks the client to wait for d.
func (e *Error) After(d time.Duration) *Error { c := *e; c.RetryAfter = d; return &c }

// WithDetail returns a copy of e with that detail, taken as it is.
func (e *Error) WithDetail(detail string) *Error { c := *e; c.Detail = detail; return &c }

// With returns a copy of e with one more member in the body.
func (e *Error) With(name string, value any) *Error {
	c := *e
	c.Extra = maps.Clone(e.Extra)
	if c.Extra == nil {
		c.Extra = map[string]any{}
	}
	c.Extra[name] = value
	return &c
}

// WithHeader returns a copy of e with one more header in the answer.
func (e *Error) WithHeader(name, value string) *Error {
	c := *e
	c.Header = e.Header.Clone()
	if c.Header == nil {
		c.Header = http.Header{}
	}
	c.Header.Add(name, value)
	return &c
}

// Error gives the code, the detail and the cause; it is for logs.
func (e *Error) Error() string {
	s := string(e.Code)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is makes errors.Is(err, problem.New(code, "")) compare by code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Status is the HTTP status of the code.
func (e *Error) Status() int { return e.kind().Status }

// A Coder is an error of another kernel package that knows its own code, such
// as sqldb's "write queue full".
type Coder interface {
	error
	Problem() *Error
}

// From turns any error into a problem. An error that is none, and says of
// itself no code, is internal: its text stays in the log.
func From(err error) *Error {
	var p *Error
	if errors.As(err, &p) {
		return p
	}
	var c Coder
	if errors.As(err, &c) {
		return c.Problem().Wrap(err)
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return New(BodyTooLarge, "the request body is larger than %d bytes", tooLarge.Limit).Wrap(err)
	}
	return New(Internal, "").Wrap(err)
}

// HasCode reports whether err is, or wraps, a problem of the given code.
func HasCode(err error, code Code) bool {
	var p *Error
	return errors.As(err, &p) && p.Code == code
}

// Body renders the JSON document. traceID may be empty; debug, shown only in
// development, may be empty.
func (e *Error) Body(instance, traceID, debug string) []byte {
	k := e.kind()
	m := map[string]any{}
	maps.Copy(m, e.Extra)
	m["type"], m["title"], m["status"], m["code"] = TypeBase+string(k.Code), k.Title, k.Status, k.Code
	for name, v := range map[string]string{"detail": e.Detail, "instance": instance, "action": string(k.Action), "trace_id": traceID, "debug": debug} {
		if v != "" {
			m[name] = v
		}
	}
	if s := e.retrySeconds(); s > 0 {
		m["retry_after"] = s
	}
	b, err := json.Marshal(m)
	if err != nil { // an Extra that is no JSON value: a programming fault that must not hide the problem
		e = &Error{Code: e.Code, Detail: e.Detail, RetryAfter: e.RetryAfter, Own: e.Own}
		return e.Body(instance, traceID, "")
	}
	return b
}

func (e *Error) retrySeconds() int {
	d := e.RetryAfter
	if d == 0 {
		d = e.kind().RetryAfter
	}
	if d < 0 {
		return 1 // the time has come meanwhile; still not at once
	}
	return int(math.Ceil(d.Seconds()))
}

// Write answers r with err. The trace id is taken from the Landline-Trace-Id
// header that the gateway has already put on w; debug is added only where
// WithDebug put a development mark on the request's context.
func Write(w http.ResponseWriter, r *http.Request, err error) {
	e := From(err)
	h := w.Header()
	body := e.Body(r.URL.EscapedPath(), h.Get("Landline-Trace-Id"), Debug(r.Context(), e))
	for _, name := range []string{"Content-Length", "Content-Encoding", "Content-Range", "Accept-Ranges", "Etag", "Last-Modified", "Trailer"} {
		h.Del(name)
	}
	challenged := h.Get("WWW-Authenticate") != ""
	for name, vs := range e.Headers() {
		if name == "Www-Authenticate" && challenged && e.Header.Get(name) == "" {
			continue // the stage in front knows better which scheme it wants
		}
		h[name] = vs
	}
	h.Set("Content-Type", MediaType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(e.Status())
	if r.Method != http.MethodHead {
		w.Write(body) // #nosec G705 -- JSON with its own media type and nosniff; nothing of the request but its escaped path
	}
}

// Headers are the headers of the answer besides Content-Type and
// Content-Length: those of the Error itself, Cache-Control, nosniff, Retry-After
// where it applies, and a challenge with every 401 (RFC 9110 §11.6.1).
func (e *Error) Headers() http.Header {
	h := e.Header.Clone()
	if h == nil {
		h = http.Header{}
	}
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if s := e.retrySeconds(); s > 0 {
		h.Set("Retry-After", strconv.Itoa(s))
	}
	if e.Status() == http.StatusUnauthorized && h.Get("WWW-Authenticate") == "" {
		h.Set("WWW-Authenticate", challenge(e.kind()))
	}
	return h
}

// challenge is RFC 6750 §3: a request without credentials learns no error code.
func challenge(k Kind) string {
	if k.Code == TokenMissing {
		return `Bearer realm="landline"`
	}
	return `Bearer realm="landline", error="invalid_token", error_description="` + k.Title + `"`
}
