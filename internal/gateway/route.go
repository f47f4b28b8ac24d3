package gateway

import (
	"strings"
	"time"

	"landline/internal/gateway/overload"
	"landline/internal/module"
)

// Route is one compiled route: immutable once its table is in use. What every
// request reads stands at the beginning, so that it is in few cache lines.
type Route struct {
	handler Handler // the composed pipeline
	feature *feature
	Policy  *FeatureConfig // complete: every default is filled in; never nil
	path    *pathTemplate  // at the upstream, of a proxied route
	counts  *routeCounts
	line    []byte // what every line of the access log has

	Feature    string          // name of the feature; NoFeature when nothing matched
	ParamNames []string        // names of the path's wildcards, in order
	variants   []*Route        // all that share method and path, itself included; nil without versions
	Version    string          // what a header must name where the path does not, "" = the path alone decides
	headers    *headerRules    // nil = none
	Priority   module.Priority // when overloaded
	Method     string          // "" = any

	Owner      string      // team that answers for it, "" if none is named
	Match      string      // as configured: "GET /v1/flights/{id}/status"
	APIVersion string      // "v1" of "/v1/…", "" if the path has none
	Auth       module.Auth // what the caller must have proven
	Upstream   string      // "" for a module's handler
	BuiltIn    bool        // a module's handler
	aggregated bool        // its answer is made of calls to upstreams

	pattern pattern
	cors    *cors // nil = none

	cachePolicy  string   // identity of what its stored answers depend on, "" without a cache
	callPolicies []string // the same of its calls that have one
	invalidates  bool     // its writes may change what is stored

	other    *otherWay // nil = none
	tail     Handler   // from the fallback stage on; another route's fallback may ask it
	closures closures  // maintenance that the configuration says

	bulkhead   *overload.Bulkhead // of the feature; nil = none
	retryAfter time.Duration      // what a request is told that is turned away, at least

	versions     versions       // how its version is named
	apiKeyHeader string         // in canonical form
	contract     *routeContract // nil: none
}

// NoFeature is the feature name of requests that no route matched.
const NoFeature = "none"

// apiVersionOf finds the API version in a path's first segment: "v" and digits.
func apiVersionOf(path string) string {
	seg, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if len(seg) < 2 || len(seg) > 4 || seg[0] != 'v' {
		return ""
	}
	for _, c := range seg[1:] {
		if c < '0' || c > '9' {
			return ""
		}
	}
	return seg
}
