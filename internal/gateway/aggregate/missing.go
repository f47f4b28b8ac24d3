package aggregate

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"landline/internal/problem"
)

// reasons in the header Landline-Partial.
const (
	reasonTimeout     = "timeout"
	reasonUnreachable = "unreachable"
	reasonInvalid     = "invalid"      // no JSON, too large, cut short
	reasonStatus      = "status"       // not 2xx
	reasonOpen        = "breaker_open" // not asked: its breaker is open
	reasonOverloaded  = "overloaded"   // not asked: no room
	reasonValue       = "value"        // not asked: a value for its template is missing or odd
	reasonAbsent      = "absent"       // answered, without a member that the answer's shape names
	reasonErrors      = "errors"       // GraphQL: answered in part
	reasonCancelled   = "cancelled"
	reasonInternal    = "internal"
)

// Failure is why a call has no answer.
type Failure struct {
	Reason     string
	Status     int    // of the service's answer, for reasonStatus
	After      string // the call whose failure this is, "" for its own
	Value      *ValueError
	Codes      []string // of GraphQL errors
	RetryAfter time.Duration
	Cause      error // for the log
}

// StatusFailure is an answer with a status that is no success.
func StatusFailure(status int, retryAfter time.Duration) *Failure {
	return &Failure{Reason: reasonStatus, Status: status, RetryAfter: retryAfter, Cause: fmt.Errorf("status %d", status)}
}

// InvalidFailure is an answer that cannot be used.
func InvalidFailure(err error) *Failure { return &Failure{Reason: reasonInvalid, Cause: err} }

// FailureOf is the failure that the gateway's error for a call means.
func FailureOf(err error) *Failure {
	f := &Failure{Reason: reasonInternal, Cause: err}
	p := problem.From(err)
	f.RetryAfter = p.RetryAfter
	switch p.Code {
	case problem.UpstreamTimeout:
		f.Reason = reasonTimeout
	case problem.UpstreamUnreachable:
		f.Reason = reasonUnreachable
	case problem.UpstreamInvalid:
		f.Reason = reasonInvalid
	case problem.FeatureUnavailable:
		f.Reason = reasonOpen
	case problem.Overloaded:
		f.Reason = reasonOverloaded
	case problem.RequestTimeout:
		if errors.Is(err, context.Canceled) {
			f.Reason = reasonCancelled
		}
	}
	return f
}

func valueFailure(err error) *Failure {
	f := &Failure{Reason: reasonValue, Cause: err}
	errors.As(err, &f.Value)
	return f
}

// Problem is the failure as the whole answer: that of a required call.
func (f *Failed) Problem(feature string) *problem.Error {
	code, detail := f.Failure.code(), ""
	switch {
	case f.Failure.Value != nil && (f.Failure.Value.Client || f.Failure.Value.Identity):
		detail = f.Failure.Value.Error()
	case code == problem.FeatureUnavailable:
		detail = fmt.Sprintf("a service behind %s is out of order for the moment", feature)
	default:
		detail = fmt.Sprintf("a service behind %s %s", feature, f.Failure.what())
	}
	p := problem.New(code, "%s", detail).With("call", f.Call).Wrap(&callError{f.Call, f.Failure})
	if f.Failure.After != "" {
		p = p.With("after", f.Failure.After)
	}
	if f.Failure.RetryAfter > 0 {
		p = p.After(f.Failure.RetryAfter)
	}
	return p
}

// code is the problem that a failure is, or would be if its call were required.
func (f *Failure) code() problem.Code {
	switch f.Reason {
	case reasonTimeout:
		return problem.UpstreamTimeout
	case reasonUnreachable:
		return problem.UpstreamUnreachable
	case reasonOpen:
		return problem.FeatureUnavailable
	case reasonOverloaded:
		return problem.Overloaded
	case reasonInternal:
		return problem.Internal
	case reasonValue:
		switch {
		case f.Value != nil && f.Value.Identity:
			return problem.TokenMissing
		case f.Value != nil && f.Value.Client:
			return problem.InvalidRequest
		}
	case reasonStatus:
		return statusCode(f.Status)
	case reasonErrors:
		return graphqlCode(f.Codes)
	}
	return problem.UpstreamInvalid
}

// statusCode is what a service's refusal means to the app. 401 is between the
// service and the gateway: the app's token was good.
func statusCode(status int) problem.Code {
	switch status {
	case 400, 422:
		return problem.InvalidRequest
	case 403:
		return problem.Forbidden
	case 404, 410:
		return problem.NotFound
	case 409, 412:
		return problem.Conflict
	case 429:
		return problem.RateLimited
	case 503:
		return problem.FeatureUnavailable
	case 504:
		return problem.UpstreamTimeout
	}
	return problem.UpstreamInvalid
}

func (f *Failure) what() string {
	switch f.Reason {
	case reasonTimeout:
		return "did not answer in time"
	case reasonUnreachable:
		return "cannot be reached"
	case reasonStatus:
		return "answered with status " + strconv.Itoa(f.Status)
	case reasonErrors:
		return "answered with errors"
	case reasonOverloaded:
		return "has no room for another request"
	case reasonValue:
		return "did not send a value that the next call needs"
	}
	return "gave an invalid answer"
}

// callError is a failure for the log.
type callError struct {
	call    string
	failure *Failure
}

func (e *callError) Error() string {
	s := "call " + e.call + ": " + e.failure.Reason
	if e.failure.After != "" {
		s += " of " + e.failure.After
	}
	if e.failure.Cause != nil {
		s += ": " + e.failure.Cause.Error()
	}
	return s
}

func (e *callError) Unwrap() error { return e.failure.Cause }

// Outcome is the label that a call's metrics carry.
func (a *Answer) Outcome() string {
	switch {
	case a.Failure != nil:
		return a.Failure.Reason
	case len(a.Partial) > 0:
		return reasonErrors
	}
	return "ok"
}

// missing is one entry of the member missing.
type missing struct {
	call    int
	failure *Failure // nil for what a call that succeeded lacks
	stock   bool
	reason  string
	path    string
	code    string // of a GraphQL error, "" if it names none
}

// maxMissing bounds how many are told.
const maxMissing = 64

// appendMissing writes the member's value:
// [{"call":"weather","code":"upstream_timeout"}].
func appendMissing(dst []byte, p *Plan, list []missing) []byte {
	dst = append(dst, '[')
	for i := range list {
		m := &list[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendText(append(dst, `{"call":`...), p.Calls[m.call].Name)
		dst = append(dst, `,"code":`...)
		switch f := m.failure; {
		case f == nil && m.reason == reasonErrors:
			dst = append(dst, `"graphql_error"`...)
		case f == nil:
			dst = append(dst, `"absent"`...)
		default:
			dst = appendText(dst, string(f.code()))
			if f.Status != 0 {
				dst = strconv.AppendInt(append(dst, `,"status":`...), int64(f.Status), 10)
			}
			if f.After != "" {
				dst = appendText(append(dst, `,"after":`...), f.After)
			}
			if m.stock {
				dst = append(dst, `,"fallback":true`...)
			}
		}
		if m.path != "" {
			dst = appendText(append(dst, `,"path":`...), m.path)
		}
		if m.code != "" {
			dst = appendText(append(dst, `,"error":`...), m.code)
		}
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// partialHeader is the RFC 9651 list: weather;reason=timeout, alerts;reason=status;status=500.
func partialHeader(p *Plan, list []missing) string {
	var b []byte
	told := uint32(0)
	for i := range list {
		m := &list[i]
		if told&(1<<m.call) != 0 {
			continue // one entry for each call; the body has them all
		}
		told |= 1 << m.call
		if len(b) > 0 {
			b = append(b, ", "...)
		}
		b = append(append(b, p.Calls[m.call].Name...), ";reason="...)
		f := m.failure
		if f == nil {
			b = append(b, m.reason...)
			continue
		}
		b = append(b, f.Reason...)
		if f.Status != 0 {
			b = strconv.AppendInt(append(b, ";status="...), int64(f.Status), 10)
		}
		if f.After != "" {
			b = append(append(b, ";after="...), f.After...)
		}
		if m.stock {
			b = append(b, ";fallback"...)
		}
	}
	return string(b)
}

// PathFailure is a path that values of others have made odd, such as one with
// a segment "..".
func PathFailure(err error) *Failure {
	return &Failure{Reason: reasonValue, Cause: err, Value: &ValueError{Reference: "the call's path", Why: "is refused: " + err.Error()}}
}
