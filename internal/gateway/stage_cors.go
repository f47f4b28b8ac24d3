package gateway

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Headers of a request that pages may always send, and of an answer that they
// may always read: what Landline itself reads and says.
var (
	corsRequestHeaders = []string{
		"Authorization", "Content-Type", "DPoP", "Expect-User", "Idempotency-Key", "If-Match", "If-Modified-Since", "If-None-Match",
		"Landline-Client", "Last-Event-ID", "baggage", "sentry-trace", "traceparent", "tracestate",
	}
	corsAnswerHeaders = []string{
		"Age", "Cache-Status", "Content-Range", "DPoP-Nonce", "Deprecation", "ETag", "Idempotent-Replayed", "Landline-Degraded", "Landline-Trace-Id", "Landline-Update",
		"Link", "Location", "RateLimit", "RateLimit-Policy", "Retry-After", "Server-Timing", "Sunset", "WWW-Authenticate",
	}
)

// cors is a CORSConfig, ready for use. It does not change.
type cors struct {
	any         bool
	exact       map[string]bool
	suffixes    []originSuffix // https://*.example.com
	methods     []string
	headers     []string
	expose      []string
	maxAge      []string
	credentials bool
}

type originSuffix struct{ scheme, host string } // "https://", ".example.com"

// newCORS compiles c; nil when no origin is allowed. extra are further request
// headers that Landline reads.
func newCORS(c *CORSConfig, extra ...string) *cors {
	if c == nil || len(c.Origins) == 0 {
		return nil
	}
	k := &cors{exact: map[string]bool{}, credentials: c.Credentials}
	for _, o := range c.Origins {
		scheme, host, wild := strings.Cut(o, "://*")
		switch {
		case o == "*":
			k.any = true
		case wild:
			k.suffixes = append(k.suffixes, originSuffix{scheme + "://", host})
		default:
			k.exact[o] = true
		}
	}
	methods := c.Methods
	if len(methods) == 0 {
		methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
	}
	age := c.MaxAge
	if age == 0 {
		age = defaultCORSMaxAge
	}
	k.methods = []string{strings.Join(methods, ", ")}
	k.headers = []string{strings.Join(slices.Concat(corsRequestHeaders, extra, c.Headers), ", ")}
	k.expose = []string{strings.Join(slices.Concat(corsAnswerHeaders, extra, c.Expose), ", ")}
	k.maxAge = []string{strconv.Itoa(int(age.D() / time.Second))}
	return k
}

func (k *cors) allows(origin string) bool {
	if k.any || k.exact[origin] {
		return true
	}
	for _, s := range k.suffixes {
		rest, ok := strings.CutPrefix(origin, s.scheme)
		if name, ends := strings.CutSuffix(rest, s.host); ok && ends && name != "" && !strings.ContainsAny(name, "/@:") {
			return true
		}
	}
	return false
}

// isPreflight reports whether a browser asks before a page's request (Fetch
// standard, CORS-preflight fetch).
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && len(r.Header["Origin"]) == 1 && len(r.Header["Access-Control-Request-Method"]) == 1
}

// corsStage answers preflights for the route, before anything else is asked of
// the request, and says on every other answer who may read it. What the service
// itself says of CORS is dropped: two answers to one question confuse browsers.
func corsStage(k *cors) Stage {
	edit := func(x *Exchange, _ int, h http.Header) {
		for name := range h {
			if strings.HasPrefix(name, "Access-Control-") {
				delete(h, name)
			}
		}
		k.describe(h, x.origin)
		if x.origin != "" && k.allows(x.origin) {
			h["Access-Control-Expose-Headers"] = k.expose
		}
	}
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			if isPreflight(r) {
				return k.preflight(w, r)
			}
			if values := r.Header["Origin"]; len(values) == 1 {
				x.origin = values[0]
			}
			x.edits.add(edit)
			return next(x, w, r)
		}
	}
}

// describe says whether origin may read the answer.
func (k *cors) describe(h http.Header, origin string) {
	if k.any && !k.credentials {
		if origin != "" {
			h["Access-Control-Allow-Origin"] = []string{"*"}
		}
		return
	}
	addVary(h, "Origin") // also without an origin: the answer to another request would differ
	if origin == "" || !k.allows(origin) {
		return
	}
	h["Access-Control-Allow-Origin"] = []string{origin}
	if k.credentials {
		h["Access-Control-Allow-Credentials"] = []string{"true"}
	}
}

// preflight answers 204 in any case: a browser refuses the page's request when
// the answer does not allow it.
func (k *cors) preflight(w http.ResponseWriter, r *http.Request) error {
	h, origin := w.Header(), r.Header["Origin"][0]
	k.describe(h, origin)
	addVary(h, "Access-Control-Request-Method")
	addVary(h, "Access-Control-Request-Headers")
	if k.allows(origin) {
		h["Access-Control-Allow-Methods"], h["Access-Control-Allow-Headers"], h["Access-Control-Max-Age"] = k.methods, k.headers, k.maxAge
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
