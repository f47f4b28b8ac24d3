package landline

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"landline/internal/app"
)

// Request is what an app asks for.
type Request struct{ http *http.Request }

// HTTP is the request as net/http has it.
func (r *Request) HTTP() *http.Request { return r.http }

// PathValue is what the wildcard {name} of the route's match stands for, unescaped; "" when there is none.
func (r *Request) PathValue(name string) string { return r.http.PathValue(name) }

// Query is the query string's values.
func (r *Request) Query() url.Values { return r.http.URL.Query() }

// Header is the value of a header, "" when it was not sent.
func (r *Request) Header(name string) string { return r.http.Header.Get(name) }

// JSON reads the body as one JSON value into what the pointer into points to.
// The error is a Problem to be returned as it is: 400 for what is not valid or
// has a member that into does not know, 413, 415.
func (r *Request) JSON(into any) error { return app.DecodeJSON(r.http, into) }

// Principal is who makes the request, nil on a route for None without a token.
func (r *Request) Principal() *Principal { return PrincipalFrom(r.http.Context()) }

// Client is what the app says of itself; empty without a Landline-Client header.
func (r *Request) Client() Client { return ClientFrom(r.http.Context()) }

// Principal is a signed-in installation and its user.
type Principal struct {
	UserID         string // "usr_…"
	InstallationID string // "ins_…"
	SessionID      string // "ses_…"
	Anonymous      bool   // the user has no identity yet
	AuthTime       time.Time
}

// PrincipalFrom returns who makes the request of a handler's context, or nil.
func PrincipalFrom(ctx context.Context) *Principal {
	p := app.PrincipalFrom(ctx)
	if p == nil {
		return nil
	}
	return &Principal{UserID: p.UserID, InstallationID: p.InstallationID, SessionID: p.SessionID, Anonymous: p.Anonymous, AuthTime: p.AuthTime}
}

// Client is what the Landline-Client header says; each member is empty when it was not said.
type Client struct {
	App, Version, Platform, OS, Device, Locale string
	Build                                      int64
}

// ClientFrom returns what the app of a handler's request says of itself.
func ClientFrom(ctx context.Context) Client {
	c := app.ClientFrom(ctx)
	return Client{App: c.App, Version: c.Version, Platform: c.Platform, OS: c.OS, Device: c.Device, Locale: c.Locale, Build: c.Build}
}

// TraceID is the trace id of a handler's request, as the app gets it in Landline-Trace-Id.
func TraceID(ctx context.Context) string { return app.TraceID(ctx) }

// Response is a handler's answer. nil is 204 without a body.
type Response struct {
	Status int // 0 = 200, or 204 without a body
	Header http.Header
	Body   []byte
}

// JSON is an answer with v as JSON.
func JSON(status int, v any) (*Response, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("landline: an answer cannot be written as JSON: %w", err)
	}
	return &Response{Status: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: body}, nil
}

func (r *Response) send(w http.ResponseWriter) error {
	if r == nil {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	for name, values := range r.Header {
		w.Header()[http.CanonicalHeaderKey(name)] = values
	}
	status := r.Status
	switch {
	case status == 0 && len(r.Body) == 0:
		status = http.StatusNoContent
	case status == 0:
		status = http.StatusOK
	}
	w.WriteHeader(status)
	if len(r.Body) == 0 {
		return nil
	}
	if _, err := w.Write(r.Body); err != nil {
		return fmt.Errorf("landline: the client did not take the answer: %w", err)
	}
	return nil
}

// Problem is a failure as the app sees it (RFC 9457). Return it, or wrap it, as
// a handler's error.
//
// Code is stable: apps switch on it. A code of docs/reference/errors.md, such as
// "conflict" or "not_found", brings its status, title and action; another one is
// your own and needs Status and Title.
type Problem struct {
	Code       string
	Status     int            // 400 to 599, for a code of your own
	Title      string         // one sentence, the same for every occurrence, for a code of your own
	Detail     string         // this occurrence; clients see it
	Action     string         // retry, reauthenticate, update_app, fix_request or contact_support
	RetryAfter time.Duration  // 0 = none
	Members    map[string]any // further members of the body
	Cause      error          // for the log alone
}

// Error is for logs.
func (p *Problem) Error() string {
	s := p.Code
	if p.Detail != "" {
		s += ": " + p.Detail
	}
	if p.Cause != nil {
		s += ": " + p.Cause.Error()
	}
	return s
}

// Unwrap makes the gateway see p as a problem of its own.
func (p *Problem) Unwrap() error {
	return app.NewProblem(app.ProgramProblem{
		Status: p.Status, Code: p.Code, Title: p.Title, Detail: p.Detail, Action: p.Action,
		RetryAfter: p.RetryAfter, Members: p.Members, Cause: p.Cause,
	})
}
