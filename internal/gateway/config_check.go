package gateway

import (
	"encoding/json"
	"maps"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"landline/internal/config"
	"landline/internal/module"
)

// featureName is what a feature or an upstream may be called: it becomes a
// label of metrics and a word in logs.
var featureName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// Bounds on durations of the configuration.
const (
	minTimeout = 10 * time.Millisecond
	maxTimeout = time.Hour
)

// checker finds the faults of the gateway's sections.
type checker struct {
	settings  *Settings
	documents contracts
	told      map[string]bool // faults of documents
}

func (c *checker) limits(v *config.Validator) {
	l := c.settings.Limits
	checkDuration(v.At("header_timeout"), l.HeaderTimeout, 100*time.Millisecond, maxTimeout)
	checkDuration(v.At("idle_timeout"), l.IdleTimeout, time.Second, maxTimeout)
	checkDuration(v.At("body_timeout"), l.BodyTimeout, 100*time.Millisecond, maxTimeout)
	checkDuration(v.At("write_timeout"), l.WriteTimeout, 100*time.Millisecond, maxTimeout)
	checkSize(v.At("header"), l.Header, 4<<10, 1<<20)
	checkSize(v.At("uri"), l.URI, 256, 1<<20)
}

func checkDuration(v *config.Validator, d config.Duration, least, most time.Duration) {
	if d.D() < least || d.D() > most {
		v.Fault("", "must be between %s and %s", config.Duration(least), config.Duration(most))
	}
}

func checkSize(v *config.Validator, b config.Bytes, least, most int64) {
	if int64(b) < least || int64(b) > most {
		v.Fault("", "must be between %s and %s", config.Bytes(least), config.Bytes(most))
	}
}

func (c *checker) upstreams(v *config.Validator) {
	for _, name := range slices.Sorted(maps.Keys(c.settings.Upstreams)) {
		at := v.At(name)
		checkName(at, name)
		up := c.settings.Upstreams[name]
		if up == nil {
			at.Fault(`write targets: [{url: "http://10.0.0.5:9000"}]`, "the upstream is empty")
			continue
		}
		checkDuration(at.At("connect_timeout"), up.ConnectTimeout, time.Millisecond, maxTimeout)
		checkDuration(at.At("idle_timeout"), up.IdleTimeout, time.Second, maxTimeout)
		checkSize(at.At("response_header"), up.ResponseHeader, 1<<10, 16<<20)
		c.targets(at, up)
	}
}

func checkName(v *config.Validator, name string) {
	if !featureName.MatchString(name) || name == NoFeature {
		v.Fault("use lower-case letters, digits and -, at most 63, beginning with a letter", "%q cannot be a name", name)
	}
}

// maxTargets bounds how many targets one upstream has.
const maxTargets = 256

func (c *checker) targets(v *config.Validator, up *UpstreamConfig) {
	at := v.At("targets")
	if len(up.Targets) == 0 {
		at.Fault(`write targets: [{url: "http://10.0.0.5:9000"}]`, "the upstream has no target")
		return
	}
	if len(up.Targets) > maxTargets {
		at.Fault("put a balancer before them", "an upstream has at most %d targets", maxTargets)
	}
	names, total := map[string]bool{}, 0
	for i, t := range up.Targets {
		u, err := parseTargetURL(t.URL)
		switch {
		case err != nil:
			at.At(i, "url").Fault("write for example http://10.0.0.5:9000", "%s", err)
		case up.Protocol == "h2c" && u.Scheme != "http":
			at.At(i, "url").Fault("use http://, or protocol: http2", "h2c is HTTP/2 without TLS")
		case up.Protocol == "http2" && u.Scheme != "https":
			at.At(i, "url").Fault("use https://, or protocol: h2c", "http2 needs TLS")
		}
		name := targetName(up.Targets, i)
		if names[name] {
			at.At(i, "name").Fault("give each its own name", "two targets are called %q", name)
		}
		names[name] = true
		if t.Name != "" && !featureName.MatchString(t.Name) {
			at.At(i, "name").Fault("use lower-case letters, digits and -, beginning with a letter", "%q cannot be a name", t.Name)
		}
		total += max(t.Weight, 0)
	}
	if total == 0 {
		at.Fault("give one a weight above 0", "no target gets any request")
	}
}

func (c *checker) features(v *config.Validator) {
	seen := &router{}
	places := map[*Route]string{}
	for _, name := range slices.Sorted(maps.Keys(c.settings.Features)) {
		at := v.At(name)
		checkName(at, name)
		f := c.settings.Features[name]
		if f == nil {
			at.Fault("write its routes, or remove it", "the feature is empty")
			continue
		}
		for i, r := range f.Routes {
			c.route(at.At("routes", i), name, r, seen, places)
		}
		c.policy(at, f)
		c.contracts(at, name, f)
		checkScreens(at.At("screens"), f.Screens)
	}
	c.fallbackLoops(v)
}

func (c *checker) route(v *config.Validator, name string, r RouteConfig, seen *router, places map[*Route]string) {
	ends := r.destinations()
	switch {
	case ends > 1:
		v.Fault("keep one", "a route ends in one of upstream, aggregate and graphql")
	case r.Aggregate != nil || r.GraphQL != nil:
		if r.Path != "" {
			v.At("path").Fault("write the path of each call", "an aggregated route has no path of its own")
		}
	case r.Upstream == "":
		v.Fault("write upstream: <name>", "the route needs an upstream")
	case c.settings.Upstreams[r.Upstream] == nil:
		v.At("upstream").Fault(known("upstreams", slices.Sorted(maps.Keys(c.settings.Upstreams))), "there is no upstream %q", r.Upstream)
	}
	if r.Match == "" {
		v.Fault(`write match: "GET /v1/flights/{id}"`, "the route needs a match")
		return
	}
	p, err := parsePattern(r.Match)
	if err != nil {
		v.At("match").Fault(`write for example "GET /v1/flights/{id}"`, "%s", err)
		return
	}
	if path := p.path(); path == "/healthz" || path == "/readyz" {
		v.At("match").Fault("choose another path", "%s is the gateway's own", path)
	}
	checkVersion(v.At("version"), r.Version, p)
	if r.Aggregate != nil && ends == 1 {
		c.aggregate(v.At("aggregate"), r.Aggregate, p)
	}
	if r.GraphQL != nil && ends == 1 {
		c.graphql(v.At("graphql"), r.GraphQL, p)
	}
	rt := &Route{Feature: name, Match: r.Match, Method: p.method, Version: r.Version, pattern: p}
	if err := seen.add(rt); err != nil {
		v.At("match").Fault("the first is kept; remove or change this one", "%s", err)
	}
	if r.Path != "" {
		if _, err := parseTemplate(r.Path, p); err != nil {
			v.At("path").Fault(known("wildcards", p.paramNames()), "%s", err)
		}
	}
}

func known(what string, names []string) string {
	if len(names) == 0 {
		return "there are no " + what
	}
	return what + ": " + strings.Join(names, ", ")
}

func (c *checker) policy(v *config.Validator, f *FeatureConfig) {
	if f.Timeout != 0 || v.At("timeout").Has() {
		checkDuration(v.At("timeout"), f.Timeout, minTimeout, maxTimeout)
	}
	if f.MaxBody != 0 || v.At("max_body").Has() {
		checkSize(v.At("max_body"), f.MaxBody, 1, 16<<30)
	}
	if f.MaxAuthAge != 0 || v.At("max_auth_age").Has() {
		checkDuration(v.At("max_auth_age"), f.MaxAuthAge, time.Minute, 365*24*time.Hour)
	}
	if f.Scope != "" && !module.ValidScope(f.Scope) {
		v.At("scope").Fault("write for example flights.read", "%q is no scope: it has 1 to 64 characters of A-Z a-z 0-9 . _ : - /", f.Scope)
	}
	for i, acr := range f.ACR {
		if !slices.Contains(module.KnownACR(), acr) {
			v.At("acr", i).Fault("write "+strings.Join(module.KnownACR(), " or "), "%q is no class that sign-ins have here", acr)
		}
	}
	for key, there := range map[string]bool{"device_proof": f.DeviceProof != "" && f.DeviceProof != module.DeviceNone, "max_auth_age": f.MaxAuthAge > 0, "acr": len(f.ACR) > 0} {
		if there && f.Auth == module.AuthNone {
			v.At(key).Fault("set auth to anonymous or account, or remove "+key, "means nothing where no token is needed")
		}
	}
	checkRateLimits(v.At("rate_limit"), f.RateLimit)
	checkQuotas(v, f)
	if len(f.Routes) == 0 {
		for key, there := range map[string]bool{"auth": f.Auth != "", "breaker": f.Breaker != nil, "fallback": f.Fallback != nil, "cache": f.Cache != nil, "retry": f.Retry != nil, "hedge": f.Hedge != nil} {
			if there {
				v.At(key).Fault("give the feature routes, or remove "+key, "a feature without routes changes a built-in one, which has no %s to set", key)
			}
		}
	}
	checkBodies(v, f)
	if f.Maintenance != nil {
		checkMaintenance(v.At("maintenance"), f.Maintenance)
	}
	if f.CORS != nil {
		checkCORS(v.At("cors"), f.CORS)
	}
	if f.Headers != nil {
		checkHeaders(v.At("headers"), f.Headers)
		if r := f.Headers.Request; len(f.Routes) == 0 && len(r.Remove)+len(r.Set)+len(r.SetSecret)+len(r.Add) > 0 {
			v.At("headers", "request").Fault("remove it", "a built-in feature has no service behind it to send headers to")
		}
	}
	if f.Breaker != nil {
		c.breaker(v.At("breaker"), f.Breaker)
	}
	if f.Cache != nil {
		c.cache(v.At("cache"), f)
	}
	if f.Fallback != nil {
		c.fallback(v.At("fallback"), f.Fallback)
		if f.Fallback.asksElsewhere() {
			c.otherWay(v.At("fallback"), f)
		}
	}
}

func (c *checker) breaker(v *config.Validator, b *BreakerConfig) {
	if b.FailureRatio <= 0 || b.FailureRatio > 1 || math.IsNaN(b.FailureRatio) {
		v.At("failure_ratio").Fault("0.5 is half of the requests", "must be above 0 and at most 1")
	}
	if b.MinRequests < 1 {
		v.At("min_requests").Fault("", "must be at least 1")
	}
	if b.Probes < 1 {
		v.At("probes").Fault("", "must be at least 1")
	}
	checkDuration(v.At("window"), b.Window, 100*time.Millisecond, maxTimeout)
	checkDuration(v.At("open"), b.Open, 100*time.Millisecond, maxTimeout)
}

// maxFallback bounds a stock answer, which every route of the feature holds in memory.
const maxFallback = 1 << 20

func (c *checker) fallback(v *config.Validator, f *FallbackConfig) {
	if f.Status < 200 || f.Status > 599 {
		v.At("status").Fault("200 lets apps go on as if all was well", "must be between 200 and 599")
	}
	if len(f.Body) > maxFallback {
		v.At("body").Fault("", "must be at most %s as JSON", config.Bytes(maxFallback))
	}
	if len(f.Body) > 0 && !json.Valid(f.Body) {
		v.At("body").Fault("", "is not a JSON value")
	}
	if !bodyAllowed(f.Status) && len(f.Body) > 0 {
		v.At("body").Fault("remove it", "an answer with status %d has no body", f.Status)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Headers)) {
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !validFieldName(name):
			v.At("headers", name).Fault("", "is not the name of a header")
		case hopByHop[canonical] || canonical == "Content-Length" || strings.HasPrefix(canonical, "Landline-"):
			v.At("headers", name).Fault("remove it", "the gateway sets this header itself")
		case strings.ContainsFunc(f.Headers[name], func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7F }):
			v.At("headers", name).Fault("", "has a control character")
		}
	}
	for i, on := range f.On {
		if !slices.Contains(fallbackConditions, on) {
			v.At("on", i).Fault("write one of "+strings.Join(fallbackConditions, ", "), "%q is nothing that a fallback stands in for", on)
		}
	}
	for i, m := range f.Methods {
		if !validMethod(m) {
			v.At("methods", i).Fault("write for example GET", "%q is not a method", m)
		}
	}
}

// validFieldName is RFC 9110 §5.1: a token.
func validFieldName(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7F || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != "" && len(s) <= 100
}
