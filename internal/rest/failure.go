package rest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/observe"
	"landline/internal/problem"
)

// Bounds on what an error says about a request.
const (
	maxFaults   = 20
	maxLocation = 120
)

// Fault is one thing that is wrong with a request: an element of the member "errors".
type Fault struct {
	Location string `json:"location" doc:"Where: body.name, query.limit, header.X, path.id." example:"body.name"`
	Message  string `json:"message" doc:"What is expected there." example:"expected string"`
}

// document is the shape of every problem body, for the OpenAPI document.
type document struct {
	Type       string  `json:"type" format:"uri" example:"https://landline.dev/problems/invalid_request"`
	Title      string  `json:"title" doc:"One sentence, the same for every occurrence of the code."`
	Status     int     `json:"status" example:"400"`
	Code       string  `json:"code" doc:"Stable name of the failure; see the error reference." example:"invalid_request"`
	Action     string  `json:"action,omitempty" enum:"retry,reauthenticate,update_app,fix_request,contact_support" doc:"What helps."`
	Detail     string  `json:"detail,omitempty" doc:"This occurrence, in a sentence."`
	Instance   string  `json:"instance,omitempty" doc:"Path of the request."`
	RetryAfter int     `json:"retry_after,omitempty" doc:"Seconds to wait before a retry."`
	TraceID    string  `json:"trace_id,omitempty" doc:"Name it when you report the problem."`
	Errors     []Fault `json:"errors,omitempty" doc:"Each fault of the request."`
	Debug      string  `json:"debug,omitempty" doc:"The cause; in the development profile alone."`
}

// failure is a problem as huma wants its errors: a status, a content type, a body.
type failure struct {
	problem *problem.Error
	body    []byte
}

func (f *failure) GetStatus() int            { return f.problem.Status() }
func (f *failure) Error() string             { return f.problem.Error() }
func (f *failure) Unwrap() error             { return f.problem }
func (f *failure) ContentType(string) string { return problem.MediaType }
func (f *failure) MarshalJSON() ([]byte, error) {
	if f.body == nil {
		f.body = f.problem.Body("", "", "")
	}
	return f.body, nil
}

// Schema makes the OpenAPI document show the members of a problem.
func (f *failure) Schema(r huma.Registry) *huma.Schema {
	s := huma.SchemaFromType(r, reflect.TypeFor[document]())
	s.AdditionalProperties = true // a code may add members
	s.Description = "RFC 9457 problem details."
	return s
}

// send puts the problem's headers on the answer and renders its body for this request.
func (f *failure) send(c huma.Context) {
	req := requestOf(c.Context())
	if req.TraceID == "" {
		req.TraceID = observe.TraceID(c.Context())
	}
	u := c.URL()
	f.body = f.problem.Body(u.EscapedPath(), req.TraceID, problem.Debug(c.Context(), f.problem))
	for name, vs := range f.problem.Headers() {
		for i, v := range vs {
			if i == 0 {
				c.SetHeader(name, v)
			} else {
				c.AppendHeader(name, v)
			}
		}
	}
	if req.OnError != nil {
		req.OnError(f.problem)
	}
}

// Fail answers with err from a huma middleware, where there is no handler to return it from.
func Fail(c huma.Context, err error) {
	f := &failure{problem: fromError(err)}
	f.send(c)
	c.SetHeader("Content-Type", problem.MediaType)
	c.SetStatus(f.GetStatus())
	c.BodyWriter().Write(f.body) // a caller that has gone misses nothing
}

// fromError is problem.From for handlers, whose context ends before they do only
// when the caller has left: that is nobody's internal fault.
func fromError(err error) *problem.Error {
	p := problem.From(err)
	if p.Code == problem.Internal && errors.Is(err, context.Canceled) {
		return problem.New(problem.RequestTimeout, "the client went away").Wrap(err)
	}
	return p
}

// fromHuma turns what huma says into a problem. A problem that the handler
// returned wins; otherwise the status decides the code.
func fromHuma(status int, msg string, errs []error) *problem.Error {
	for _, err := range errs {
		if err == nil {
			continue
		}
		p := fromError(err)
		if p.Code != problem.Internal || problem.HasCode(err, problem.Internal) {
			return p
		}
	}
	cause := errors.Join(append([]error{errors.New(msg)}, withoutDetails(errs)...)...)
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return invalid(errs).Wrap(cause)
	case http.StatusInternalServerError:
		if msg == "cannot read request body" || errors.Is(cause, io.ErrUnexpectedEOF) {
			return problem.New(problem.InvalidRequest, "the request body was cut short").Wrap(cause)
		}
		return problem.New(problem.Internal, "").Wrap(cause)
	}
	code, known := byStatus[status]
	if !known {
		code = problem.Internal
		if status >= 400 && status < 500 {
			code = problem.InvalidRequest
		}
	}
	detail := ""
	if status == http.StatusUnsupportedMediaType {
		detail = "send the body as application/json"
	}
	return problem.New(code, detail).Wrap(cause)
}

var byStatus = map[int]problem.Code{
	http.StatusUnauthorized:          problem.TokenInvalid,
	http.StatusForbidden:             problem.Forbidden,
	http.StatusNotFound:              problem.NotFound,
	http.StatusMethodNotAllowed:      problem.MethodNotAllowed,
	http.StatusRequestTimeout:        problem.RequestTimeout,
	http.StatusConflict:              problem.Conflict,
	http.StatusRequestEntityTooLarge: problem.BodyTooLarge,
	http.StatusUnsupportedMediaType:  problem.MediaTypeUnsupported,
	http.StatusTooManyRequests:       problem.RateLimited,
	http.StatusServiceUnavailable:    problem.Overloaded,
}

// withoutDetails drops errors that repeat what the caller sent: a cause is logged.
func withoutDetails(errs []error) []error {
	var out []error
	for _, err := range errs {
		if _, ok := err.(huma.ErrorDetailer); !ok {
			out = append(out, err)
		}
	}
	return out
}

// invalid collects huma's validation faults without the values.
func invalid(errs []error) *problem.Error {
	code := problem.InvalidRequest
	var faults []Fault
	for _, err := range errs {
		d, ok := err.(huma.ErrorDetailer)
		if !ok || len(faults) == maxFaults {
			continue
		}
		e := d.ErrorDetail()
		if strings.HasPrefix(e.Message, "unexpected property") || strings.HasPrefix(e.Message, "unknown query parameter") {
			code = problem.UnknownField
		}
		faults = append(faults, Fault{Location: clip(e.Location), Message: safeMessage(e)})
	}
	if len(faults) == 0 {
		return problem.New(problem.InvalidRequest, "the request is not as this endpoint expects it")
	}
	detail := faults[0].Location + ": " + faults[0].Message
	if faults[0].Location == "" {
		detail = faults[0].Message
	}
	return problem.New(code, "").With("errors", faults).WithDetail(detail)
}

// safeMessage keeps huma's statement of what is expected and drops what
// follows a colon there: parsers put the input into it. A fault without a value
// was written by our own code and is kept whole.
func safeMessage(e *huma.ErrorDetail) string {
	if e.Value == nil {
		return clip(e.Message)
	}
	for _, p := range []string{"expected value to be one of", "expected string to match pattern"} {
		if strings.HasPrefix(e.Message, p) {
			return clip(e.Message)
		}
	}
	for _, p := range []string{"expected", "unexpected property", "unknown query parameter", "required", "invalid"} {
		if strings.HasPrefix(e.Message, p) && !strings.HasPrefix(e.Message, "invalid character") {
			head, _, _ := strings.Cut(e.Message, ":")
			return clip(head)
		}
	}
	if e.Location == "body" {
		return "expected valid JSON of the documented shape"
	}
	return "is not valid"
}

func clip(s string) string {
	if len(s) > maxLocation {
		s = strings.ToValidUTF8(s[:maxLocation], "") + "…"
	}
	return s
}
