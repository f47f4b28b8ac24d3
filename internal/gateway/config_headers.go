package gateway

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"landline/internal/config"
)

// HeadersConfig are a feature's rules for headers.
type HeadersConfig struct {
	Request  RequestHeaderRules  `yaml:"request" doc:"What is changed on the way to the service."`
	Response ResponseHeaderRules `yaml:"response" doc:"What is changed on every answer of the feature, problems and stock answers included."`
}

// RequestHeaderRules change the header that an upstream gets: first remove, then set, then add.
type RequestHeaderRules struct {
	Remove    []string                 `yaml:"remove" doc:"Headers that are taken away." example:"[X-Debug]"`
	Set       map[string]string        `yaml:"set" doc:"Headers that are set; what the client sent under the name is gone, also when the value comes out empty. Values may use variables: {client.version}." example:"{X-App-Version: \"{client.version}\"}"`
	SetSecret map[string]config.Secret `yaml:"set_secret" doc:"Headers set to a secret, such as the service's API key." example:"{X-Api-Key: \"${FLIGHTS_API_KEY}\"}"`
	Add       map[string]string        `yaml:"add" doc:"Headers that are added to what is there; variables as in set." example:"{X-Seen-By: landline}"`
}

// ResponseHeaderRules change the header of an answer: first remove, then set, then add, then security.
type ResponseHeaderRules struct {
	Remove   []string          `yaml:"remove" doc:"Headers that are taken away." example:"[Server, X-Powered-By]"`
	Set      map[string]string `yaml:"set" doc:"Headers that are set in place of what the service says; variables as in a request's set." example:"{Cache-Control: no-store}"`
	Add      map[string]string `yaml:"add" doc:"Headers that are added to what is there; variables as in a request's set."`
	Security bool              `yaml:"security" doc:"Add the usual security headers where the answer has none: X-Content-Type-Options, Referrer-Policy, X-Frame-Options, a Content-Security-Policy that allows nothing, and over TLS Strict-Transport-Security. Default: off."`
}

// headerVariables are what a value may hold in braces.
var headerVariables = map[string]func(x *Exchange) string{
	"api_version":     func(x *Exchange) string { return x.Route.APIVersion },
	"client.app":      func(x *Exchange) string { return x.client().App },
	"client.build":    func(x *Exchange) string { return positive(x.client().Build) },
	"client.locale":   func(x *Exchange) string { return x.client().Locale },
	"client.platform": func(x *Exchange) string { return x.client().Platform },
	"client.version":  func(x *Exchange) string { return x.client().Version },
	"feature":         func(x *Exchange) string { return x.Route.Feature },
	"installation_id": func(x *Exchange) string { return x.principal().InstallationID },
	"trace_id":        func(x *Exchange) string { return x.TraceID },
	"user_id":         func(x *Exchange) string { return x.principal().UserID },
}

// maxHeaderRules bounds the rules of one direction.
const maxHeaderRules = 50

func checkHeaders(v *config.Validator, c *HeadersConfig) {
	in, out := v.At("request"), v.At("response")
	if n := len(c.Request.Remove) + len(c.Request.Set) + len(c.Request.SetSecret) + len(c.Request.Add); n > maxHeaderRules {
		in.Fault("", "there are %d rules, at most %d are allowed", n, maxHeaderRules)
	}
	if n := len(c.Response.Remove) + len(c.Response.Set) + len(c.Response.Add); n > maxHeaderRules {
		out.Fault("", "there are %d rules, at most %d are allowed", n, maxHeaderRules)
	}
	checkNames(in.At("remove"), c.Request.Remove, requestHeaderRefused)
	checkNames(out.At("remove"), c.Response.Remove, responseHeaderRefused)
	checkValues(in.At("set"), c.Request.Set, requestHeaderRefused)
	checkValues(in.At("add"), c.Request.Add, requestHeaderRefused)
	checkValues(out.At("set"), c.Response.Set, responseHeaderRefused)
	checkValues(out.At("add"), c.Response.Add, func(name string) string {
		if name == "Vary" {
			return ""
		}
		return responseHeaderRefused(name)
	})
	for _, name := range slices.Sorted(maps.Keys(c.Request.SetSecret)) {
		at := in.At("set_secret", name)
		checkHeaderName(at, name, func(name string) string {
			if name == "Authorization" {
				return ""
			}
			return requestHeaderRefused(name)
		})
		if hasControl(c.Request.SetSecret[name].Reveal()) {
			at.Fault("", "has a control character")
		}
	}
}

func checkNames(v *config.Validator, names []string, refused func(string) string) {
	for i, name := range names {
		checkHeaderName(v.At(i), name, refused)
	}
}

func checkValues(v *config.Validator, values map[string]string, refused func(string) string) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		at := v.At(name)
		checkHeaderName(at, name, refused)
		if hasControl(values[name]) {
			at.Fault("", "has a control character")
		}
		if _, err := parseHeaderValue(values[name]); err != nil {
			at.Fault("variables: "+strings.Join(slices.Sorted(maps.Keys(headerVariables)), ", "), "%s", err)
		}
	}
}

func checkHeaderName(v *config.Validator, name string, refused func(string) string) {
	if !validFieldName(name) {
		v.Fault("", "%q is not the name of a header", name)
	} else if why := refused(http.CanonicalHeaderKey(name)); why != "" {
		v.Fault("remove it", "%s", why)
	}
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7F })
}

// requestHeaderRefused says why no rule may touch a request header, "" if one may.
func requestHeaderRefused(name string) string {
	forwarding, always := ours(name)
	switch {
	case hopByHop[name], name == "Content-Length", name == "Host", name == "Expect":
		return "this header concerns one connection; the gateway sets it itself"
	case forwarding, always, name == "Landline-Client", name == "Traceparent", name == "Tracestate":
		return "only the gateway may say this"
	case name == "Authorization":
		return "Authorization goes to the service with pass_authorization, or from set_secret"
	}
	return ""
}

// responseHeaderRefused says why no rule may touch an answer's header, "" if one may.
func responseHeaderRefused(name string) string {
	switch name {
	case "Content-Length", "Content-Encoding", "Content-Range", "Content-Type", "Date", "Www-Authenticate":
		return "this header says what the answer is; a rule would make it false"
	case "Idempotent-Replayed", "Ratelimit", "Ratelimit-Policy":
		return "only the gateway may say this"
	case "Vary":
		return "without Vary caches mix answers up; use add"
	}
	switch {
	case hopByHop[name]:
		return "this header concerns one connection; the gateway sets it itself"
	case strings.HasPrefix(name, "Landline-"):
		return "only the gateway may say this"
	case strings.HasPrefix(name, "Access-Control-"):
		return "use cors, which answers preflights as well"
	}
	return ""
}

// headerValue is a value of a rule: text and variables in turn.
type headerValue []headerPiece

type headerPiece struct {
	text     string
	variable func(x *Exchange) string // nil for text
}

// parseHeaderValue reads "v{client.version}". {{ stands for a brace.
func parseHeaderValue(s string) (headerValue, error) {
	var value headerValue
	for s != "" {
		open := strings.IndexByte(s, '{')
		if open < 0 {
			return append(value, headerPiece{text: s}), nil
		}
		if strings.HasPrefix(s[open:], "{{") {
			value, s = append(value, headerPiece{text: s[:open+1]}), s[open+2:]
			continue
		}
		end := strings.IndexByte(s[open:], '}')
		if end < 0 {
			return nil, fmt.Errorf("a { has no } after it; write {{ for a brace")
		}
		name := s[open+1 : open+end]
		variable := headerVariables[name]
		if variable == nil {
			return nil, fmt.Errorf("there is no variable {%s}", name)
		}
		if open > 0 {
			value = append(value, headerPiece{text: s[:open]})
		}
		value, s = append(value, headerPiece{variable: variable}), s[open+end+1:]
	}
	return value, nil
}

// text is the value for a request; "" when a variable of it is empty, because
// half a value is none.
func (v headerValue) text(x *Exchange) string {
	if len(v) == 1 && v[0].variable == nil {
		return v[0].text
	}
	var b strings.Builder
	for _, p := range v {
		s := p.text
		if p.variable != nil {
			if s = p.variable(x); s == "" {
				return ""
			}
		}
		b.WriteString(s)
	}
	return b.String()
}
