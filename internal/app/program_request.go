package app

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"landline/internal/module"
	"landline/internal/observe"
	"landline/internal/problem"
)

// PrincipalFrom returns who makes the request, nil on a public route without a token.
func PrincipalFrom(ctx context.Context) *module.Principal { return module.PrincipalFrom(ctx) }

// ClientFrom returns what the app said of itself; never nil.
func ClientFrom(ctx context.Context) *module.Client { return module.ClientFrom(ctx) }

// TraceID returns the trace id of a request or job, or "".
func TraceID(ctx context.Context) string { return observe.TraceID(ctx) }

// ProgramProblem is a failure that a program answers with.
type ProgramProblem struct {
	Status                      int
	Code, Title, Detail, Action string
	RetryAfter                  time.Duration
	Members                     map[string]any
	Cause                       error
}

// NewProblem makes the error of p. A code of the catalogue brings its own
// status, title and action; another code is the program's own.
func NewProblem(p ProgramProblem) error {
	e := problem.New(problem.Code(p.Code), "").WithDetail(p.Detail).After(p.RetryAfter).Wrap(p.Cause)
	for name, value := range p.Members {
		e = e.With(name, value)
	}
	if problem.Lookup(e.Code).Code != e.Code {
		if p.Status < 400 || p.Status > 599 {
			p.Status = http.StatusInternalServerError
		}
		if p.Title == "" {
			p.Title = http.StatusText(p.Status)
		}
		e.Own = &problem.Kind{Code: e.Code, Status: p.Status, Action: problem.Action(p.Action), Title: p.Title}
	}
	return e
}

// DecodeJSON reads the request's body as one JSON value into the value that
// into points to. A member that it does not know is refused.
func DecodeJSON(r *http.Request, into any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" && !strings.HasSuffix(kind, "+json") {
		return problem.New(problem.MediaTypeUnsupported, "send the body as application/json")
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return jsonFault(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return problem.New(problem.InvalidRequest, "the body holds more than one JSON value")
	}
	return nil
}

func jsonFault(err error) error {
	var tooLarge *http.MaxBytesError
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &tooLarge):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return problem.New(problem.RequestTimeout, "the request body stopped coming").Wrap(err)
	case errors.As(err, &kind):
		return problem.New(problem.InvalidRequest, "body.%s: expected %s, found %s", kind.Field, kind.Type.Kind(), kind.Value).Wrap(err)
	case errors.As(err, &syntax), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return problem.New(problem.InvalidRequest, "the body is not valid JSON").Wrap(err)
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return problem.New(problem.UnknownField, "body: unknown member %s", name).Wrap(err)
	}
	return problem.New(problem.InvalidRequest, "the request body could not be read").Wrap(err)
}
