package gateway

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"landline/internal/config"
)

// VersionsConfig says how a request names the API version of a path that has
// none: routes with the same match and different versions share the path.
type VersionsConfig struct {
	Header  string `yaml:"header" doc:"Request header that names the version (v2, or 2); the answer and the service get it too."`
	Accept  string `yaml:"accept" doc:"Parameter of a media type in Accept that names the version, as in Accept: application/json; version=2. Empty: Accept is not looked at. The header wins." example:"version"`
	Default string `yaml:"default" doc:"Version of a request that names none. Empty: such a request is refused where a path has several." example:"v1"`
}

// DefaultVersionHeader is VersionsConfig.Header where the file says nothing.
const DefaultVersionHeader = "Landline-Api-Version"

var versionName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,31}$`)

// notVersion are fields beside hopByHop that route, frame or authenticate a
// request, or that caches and proxies act on: a version in them would be lost or
// change what the request means.
var notVersion = map[string]bool{
	"Host": true, "Expect": true, "Authorization": true, "Cookie": true, "Accept": true, "Accept-Encoding": true, "Cache-Control": true, "Pragma": true,
	"If-Match": true, "If-None-Match": true, "If-Modified-Since": true, "If-Unmodified-Since": true, "If-Range": true, "Range": true, "Date": true, "Via": true,
	"Origin": true, "Idempotency-Key": true, "Expect-User": true, "Dpop": true, "Max-Forwards": true,
	"Forwarded": true, "X-Forwarded-For": true, "X-Forwarded-Host": true, "X-Forwarded-Proto": true, "X-Real-Ip": true,
	"Traceparent": true, "Tracestate": true, "Baggage": true, "Sentry-Trace": true,
}

func (c *checker) versions(v *config.Validator) {
	s := c.settings.Versions
	if s.Header == "" || !validFieldName(s.Header) {
		v.At("header").Fault("write for example "+DefaultVersionHeader, "%q is not the name of a header", s.Header)
	} else if name := http.CanonicalHeaderKey(s.Header); hopByHop[name] || notVersion[name] || strings.HasPrefix(name, "Content-") || strings.HasPrefix(name, "Sec-") || strings.HasPrefix(name, "Access-Control-") || strings.HasPrefix(name, "Landline-") && name != DefaultVersionHeader {
		v.At("header").Fault("write for example "+DefaultVersionHeader, "%s means something else", s.Header)
	}
	if s.Accept != "" && (!validFieldName(s.Accept) || s.Accept == "q" || s.Accept == "charset") {
		v.At("accept").Fault("write for example version", "%q cannot be the parameter that names a version", s.Accept)
	}
	if s.Default == "" {
		return
	}
	known := map[string]bool{}
	for _, f := range c.settings.Features {
		if f == nil {
			continue
		}
		for _, r := range f.Routes {
			known[r.Version] = true
		}
	}
	if delete(known, ""); !known[s.Default] {
		v.At("default").Fault("versions: "+strings.Join(slices.Sorted(maps.Keys(known)), ", "), "no route has the version %q", s.Default)
	}
}

// checkVersion finds the faults of a route's version.
func checkVersion(v *config.Validator, version string, p pattern) {
	if version == "" {
		return
	}
	if !versionName.MatchString(version) {
		v.Fault("write for example v2", "%q cannot be the name of a version", version)
	}
	if of := apiVersionOf(p.path()); of != "" {
		v.Fault("remove it, or /"+of+" from the path", "the path names the version %s already", of)
	}
}
