package gateway

import (
	"errors"
	"net/http"
	"slices"
	"strconv"

	"landline/internal/problem"
)

// errUpstream5xx stands for an answer of the upstream that the fallback stage
// replaces; the target stage makes it only where that stage is there to take it.
var errUpstream5xx = errors.New("the upstream answered with a 5xx status")

// Conditions of FallbackConfig.On.
const (
	onBreakerOpen = "breaker_open"
	onTimeout     = "timeout"
	onUnreachable = "unreachable"
	onInvalid     = "invalid"
	on5xx         = "5xx"
	onOverloaded  = "overloaded" // the feature's bulkhead or its upstream's limit is full; a node that sheds load has no time for this
)

// fallbackConditions are all of them, the default.
var fallbackConditions = []string{onBreakerOpen, onTimeout, onUnreachable, onInvalid, on5xx, onOverloaded}

// fallbackStage stands in when the rest of the way fails in one of the ways that
// it is for: with the answer of another route or upstream, and if there is none,
// or it fails as well, with the feature's stock answer. other may be nil.
func fallbackStage(c *FallbackConfig, other *otherWay) Stage {
	on := c.On
	if len(on) == 0 {
		on = fallbackConditions
	}
	methods := c.Methods
	if len(methods) == 0 {
		methods = []string{http.MethodGet, http.MethodHead}
	}
	header := http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}}
	for name, value := range c.Headers {
		header.Set(name, value)
	}
	body := []byte(c.Body)
	if len(body) == 0 {
		header.Del("Content-Type")
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("Landline-Degraded", "fallback")
	if !bodyAllowed(c.Status) {
		body = nil
		header.Del("Content-Length")
		header.Del("Content-Type")
	}
	with5xx, stock := slices.Contains(on, on5xx), c.hasStock()

	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			if !slices.Contains(methods, r.Method) {
				return next(x, w, r)
			}
			started := &startedWriter{ResponseWriter: w}
			x.stock5xx = with5xx
			err := next(x, started, r)
			if err == nil || started.started || !slices.Contains(on, condition(err)) {
				return err
			}
			degraded, cause := x.Degraded, x.Cause
			x.Degraded, x.Cause = "fallback", err
			h := w.Header()
			if other != nil && r.ContentLength == 0 {
				h["Landline-Degraded"] = []string{"fallback"}
				x.stock5xx = stock // without one, the other's own failure is the answer
				if again := other.ask(x, started, r); again == nil || started.started {
					return again
				}
			}
			if !stock {
				delete(h, "Landline-Degraded")
				x.Degraded, x.Cause = degraded, cause
				if errors.Is(err, errUpstream5xx) {
					return problem.New(problem.UpstreamInvalid, "the service behind %s failed, and so did what stands in for it", x.Route.Feature).Wrap(err)
				}
				return err
			}
			x.stock = true
			for name, values := range header {
				h[name] = values
			}
			w.WriteHeader(c.Status)
			if r.Method != http.MethodHead && len(body) > 0 {
				if _, err := w.Write(body); err != nil {
					return errClientGone
				}
			}
			return nil
		}
	}
}

// condition names what went wrong the way FallbackConfig.On does.
func condition(err error) string {
	var p *problem.Error
	switch {
	case errors.Is(err, errUpstream5xx):
		return on5xx
	case !errors.As(err, &p):
		return ""
	}
	switch p.Code {
	case problem.FeatureUnavailable:
		return onBreakerOpen
	case problem.UpstreamTimeout:
		return onTimeout
	case problem.UpstreamUnreachable:
		return onUnreachable
	case problem.UpstreamInvalid:
		return onInvalid
	case problem.Overloaded:
		return onOverloaded
	}
	return ""
}

// startedWriter notes whether an answer has begun.
type startedWriter struct {
	http.ResponseWriter
	started bool
}

func (w *startedWriter) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.started = true
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *startedWriter) Write(b []byte) (int, error) {
	w.started = true
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *startedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}
