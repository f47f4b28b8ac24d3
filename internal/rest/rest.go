// Package rest sets up huma the way both of Landline's HTTP APIs want it, and
// makes every error that huma produces one of the catalogue in package problem.
//
// It guarantees: an answer with a status of 400 or more has a body of type
// application/problem+json with a stable code; an unknown member of a request
// is refused as unknown_field; no value that the caller sent is repeated in an
// error, only the place where it stood.
//
// huma keeps its error constructors in package variables; Install is the one
// place that sets them.
package rest

import (
	"context"
	"net/http"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/problem"
)

var install = sync.OnceFunc(func() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return &failure{problem: fromHuma(status, msg, errs)}
	}
	huma.NewErrorWithContext = func(c huma.Context, status int, msg string, errs ...error) huma.StatusError {
		f := &failure{problem: fromHuma(status, msg, errs)}
		f.send(c)
		return f
	}
	huma.ValidateStrictCasing = true // "Name" is not "name": one spelling on the wire
})

// Install makes huma's errors ours. It may be called any number of times, and
// must have been called before the first huma.Register.
func Install() { install() }

// Config returns the huma configuration of one API, after Install. It has JSON
// only, and serves neither document, schemas nor pages of its own: the API's
// document is generated into the repository.
func Config(title, version string) huma.Config {
	Install()
	c := huma.DefaultConfig(title, version)
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", ""
	c.CreateHooks = nil
	c.Transformers = []huma.Transformer{func(ctx huma.Context, _ string, v any) (any, error) {
		if f, ok := v.(*failure); ok && f.body == nil {
			f.send(ctx) // made by huma.NewError, which knows no request
		}
		return v, nil
	}}
	c.Formats = map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat}
	return c
}

// Request is what the edge knows of a request that an error's body and the log need.
type Request struct {
	TraceID string               // put into problem bodies; "" = that of ctx, see observe.TraceID
	OnError func(*problem.Error) // told of every problem before it is sent; nil = nobody. It must not block
}

type requestKey struct{}

// requestContext is a context with a Request, in one piece of memory: every
// request has one.
type requestContext struct {
	context.Context //nolint:containedctx // it is one

	request Request
}

// Value gives the requestContext itself for its key.
func (c *requestContext) Value(key any) any {
	if _, ours := key.(requestKey); ours {
		return c
	}
	return c.Context.Value(key)
}

// requestOf is what With has put on ctx; zero without.
func requestOf(ctx context.Context) Request {
	if c, ok := ctx.Value(requestKey{}).(*requestContext); ok {
		return c.request
	}
	return Request{}
}

// With returns a context that carries r; the edge calls it once for each request.
func With(ctx context.Context, r Request) context.Context {
	return &requestContext{ctx, r}
}

// PageInput are the parameters of every list; embed it in the input.
type PageInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"Things per page."`
	Cursor string `query:"cursor" maxLength:"200" doc:"page.next of the page before."`
}

// Page is the second member of every list's answer.
type Page struct {
	Next *string `json:"next" doc:"Give it as cursor to get the next page; null on the last." nullable:"true"`
}

// List is the body of every list's answer.
type List[T any] struct {
	Data []T  `json:"data" nullable:"false"`
	Page Page `json:"page"`
}

// NewList returns the body of a list; next is "" on the last page.
func NewList[T any](data []T, next string) List[T] {
	if data == nil {
		data = []T{}
	}
	l := List[T]{Data: data}
	if next != "" {
		l.Page.Next = &next
	}
	return l
}

// NotFound answers any request with route_not_found or, when the path exists
// with other methods, method_not_allowed and the Allow header. mux is asked for
// each method in turn, so that its own plain-text answers never leave.
func NotFound(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var allow []string
		for _, m := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			probe := *r
			probe.Method = m
			if _, pattern := mux.Handler(&probe); pattern != "" && pattern != "/" {
				allow = append(allow, m)
			}
		}
		if len(allow) > 0 {
			problem.Write(w, r, problem.New(problem.MethodNotAllowed, "").WithHeader("Allow", strings.Join(allow, ", ")))
			return
		}
		problem.Write(w, r, problem.New(problem.RouteNotFound, ""))
	})
}
