package gateway

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"landline/internal/module"
)

// headerEdit changes the header of a final answer just before it is sent.
type headerEdit func(x *Exchange, status int, h http.Header)

// headerEdits are what the stages of a request want to do to the header of its
// answer, whoever makes it: an upstream, a module, a stored answer or a problem.
// The stage that a request met last goes first.
type headerEdits struct {
	list [6]headerEdit
	used int
}

// add is called by a stage on the way in, at most once each.
func (e *headerEdits) add(f headerEdit) {
	e.list[e.used] = f
	e.used++
}

func (e *headerEdits) apply(x *Exchange, status int, h http.Header) {
	for i := e.used - 1; i >= 0; i-- {
		e.list[i](x, status, h)
	}
}

// addVary names a request header in Vary, once.
func addVary(h http.Header, name string) {
	values := h["Vary"]
	if hasToken(values, name) || hasToken(values, "*") {
		return
	}
	h["Vary"] = append(values[:len(values):len(values)], name)
}

// headerRules are HeadersConfig, ready for use. They do not change.
type headerRules struct {
	request, response ruleSet
	security          bool
}

type ruleSet struct {
	remove   []string
	set, add []rule
}

type rule struct {
	name  string // canonical
	value headerValue
}

// newHeaderRules compiles c; nil when there is nothing to do.
func newHeaderRules(c *HeadersConfig) (*headerRules, error) {
	if c == nil {
		return nil, nil
	}
	r := &headerRules{security: c.Response.Security}
	for _, side := range []struct {
		to       *ruleSet
		remove   []string
		set, add map[string]string
	}{{&r.request, c.Request.Remove, c.Request.Set, c.Request.Add}, {&r.response, c.Response.Remove, c.Response.Set, c.Response.Add}} {
		for _, name := range side.remove {
			side.to.remove = append(side.to.remove, http.CanonicalHeaderKey(name))
		}
		var err error
		if side.to.set, err = rulesOf(side.set); err != nil {
			return nil, err
		}
		if side.to.add, err = rulesOf(side.add); err != nil {
			return nil, err
		}
	}
	for name, value := range c.Request.SetSecret {
		r.request.set = append(r.request.set, rule{http.CanonicalHeaderKey(name), headerValue{{text: value.Reveal()}}})
	}
	return r, nil
}

func rulesOf(values map[string]string) ([]rule, error) {
	var list []rule
	for name, text := range values {
		value, err := parseHeaderValue(text)
		if err != nil {
			return nil, err
		}
		list = append(list, rule{http.CanonicalHeaderKey(name), value})
	}
	slices.SortFunc(list, func(a, b rule) int { return strings.Compare(a.name, b.name) })
	return list, nil
}

func (s *ruleSet) empty() bool { return len(s.remove)+len(s.set)+len(s.add) == 0 }

// apply changes h, whose value slices may be shared and are not written to.
func (s *ruleSet) apply(x *Exchange, h http.Header) {
	for _, name := range s.remove {
		delete(h, name)
		delete(h, strings.ToLower(name)) // Idempotency-Key travels in lower case
	}
	for _, r := range s.set {
		if value := r.value.text(x); value != "" {
			h[r.name] = []string{value}
		} else {
			delete(h, r.name)
		}
	}
	for _, r := range s.add {
		if value := r.value.text(x); value != "" {
			h[r.name] = append(h[r.name][:len(h[r.name]):len(h[r.name])], value)
		}
	}
}

// headersStage puts a feature's rules for response headers to work. Those for
// request headers are applied where the header for the upstream is made.
func headersStage(rules *headerRules) Stage {
	edit := func(x *Exchange, _ int, h http.Header) {
		rules.response.apply(x, h)
		if rules.security {
			addSecurityHeaders(x, h)
		}
	}
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			x.edits.add(edit)
			x.secure = r.TLS != nil || x.trusted && r.Header.Get("X-Forwarded-Proto") == "https"
			return next(x, w, r)
		}
	}
}

// securityHeaders are those that fit an API for apps: its answers are no pages.
var securityHeaders = []struct{ name, value string }{
	{"X-Content-Type-Options", "nosniff"},
	{"Referrer-Policy", "no-referrer"},
	{"X-Frame-Options", "DENY"},
	{"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
}

func addSecurityHeaders(x *Exchange, h http.Header) {
	for _, s := range securityHeaders {
		if len(h[s.name]) == 0 {
			h[s.name] = []string{s.value}
		}
	}
	if x.secure && len(h["Strict-Transport-Security"]) == 0 {
		h["Strict-Transport-Security"] = []string{"max-age=31536000"}
	}
}

// client is what the app said of itself; never nil.
func (x *Exchange) client() *module.Client {
	if x.Client == nil {
		return noClient
	}
	return x.Client
}

// noPrincipal is nobody.
var noPrincipal = &module.Principal{}

// principal is who makes the request; never nil.
func (x *Exchange) principal() *module.Principal {
	if x.Principal == nil {
		return noPrincipal
	}
	return x.Principal
}

func positive(n int64) string {
	if n <= 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}
