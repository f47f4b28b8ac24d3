package gateway

import (
	"fmt"
	"net/http"
	"runtime/debug"

	"landline/internal/problem"
)

// recoverStage turns a panic of what follows into an error, so that one
// request's fault is that request's alone. http.ErrAbortHandler passes: it is
// how a connection is aborted on purpose.
func recoverStage(o *Options) Stage {
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) (err error) {
			defer func() {
				p := recover()
				if p == nil {
					return
				}
				if p == http.ErrAbortHandler { //nolint:errorlint // a sentinel by contract
					panic(p)
				}
				o.Log.ErrorContext(r.Context(), "panic while handling a request", "feature", x.Route.Feature, "match", x.Route.Match,
					"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				err = problem.New(problem.Internal, "").Wrap(fmt.Errorf("panic: %v", p))
			}()
			return next(x, w, r)
		}
	}
}

// abortStage is the outermost: a panic of the stages that tell and answer
// errors leaves nobody to answer, so the connection is aborted.
func abortStage(o *Options) Stage {
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			defer func() {
				p := recover()
				if p == nil {
					return
				}
				if p != http.ErrAbortHandler { //nolint:errorlint // a sentinel by contract
					o.Log.ErrorContext(r.Context(), "panic while answering a request", "feature", x.Route.Feature,
						"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				}
				panic(http.ErrAbortHandler)
			}()
			return next(x, w, r)
		}
	}
}
