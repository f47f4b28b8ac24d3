package gateway

import (
	"net/http"
	"slices"

	"landline/internal/gateway/apikey"
	"landline/internal/problem"
)

// apiKeyOf is what became of the API key of a request.
type apiKeyOf struct {
	sought bool
	key    *apikey.Key // nil without one, or with one that is nobody's
	err    error       // why not
}

// usesAPIKeys reports whether a feature looks at API keys.
func (c *FeatureConfig) usesAPIKeys() bool {
	return c.APIKey != "" ||
		slices.ContainsFunc(c.RateLimit, func(l RateLimitConfig) bool { return l.Key == "api_key" }) ||
		slices.ContainsFunc(c.Quota, func(q QuotaConfig) bool { return q.Key == "api_key" })
}

// findAPIKey finds out whose API key the request has, once.
func (x *Exchange) findAPIKey(o *Options, r *http.Request) *apikey.Key {
	if x.apiKey.sought {
		return x.apiKey.key
	}
	x.apiKey.sought = true
	values := r.Header[x.Route.apiKeyHeader]
	switch {
	case len(values) == 0:
	case len(values) > 1:
		x.apiKey.err = apiKeyProblem(x.Route, problem.APIKeyInvalid, "the request has more than one API key")
	case o.APIKeys == nil:
		x.apiKey.err = apiKeyProblem(x.Route, problem.APIKeyInvalid, "no API keys are made here")
	default:
		key, err := o.APIKeys.Find(values[0])
		if err != nil {
			x.apiKey.err = apiKeyProblem(x.Route, problem.APIKeyInvalid, "the key in %s is not known here, has been ended or has expired", x.Route.apiKeyHeader)
			x.Cause = err
		}
		x.apiKey.key = key
	}
	return x.apiKey.key
}

func apiKeyProblem(rt *Route, code problem.Code, format string, args ...any) error {
	return problem.New(code, format, args...).WithHeader("WWW-Authenticate", `ApiKey realm="landline", header="`+rt.apiKeyHeader+`"`)
}

// apiKeyStage refuses a key that is nobody's, and a missing one where it is
// required. It stands behind the rate limits, so that guessing is limited by
// address. The key goes no further: the service behind has no use for our secret.
func apiKeyStage(o *Options, rt *Route) Stage {
	required := rt.Policy.APIKey == apiKeyRequired
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			key := x.findAPIKey(o, r)
			switch {
			case x.apiKey.err != nil:
				return x.apiKey.err
			case key == nil && required:
				return apiKeyProblem(rt, problem.APIKeyMissing, "send an API key in %s", rt.apiKeyHeader)
			case key != nil:
				delete(r.Header, rt.apiKeyHeader)
			}
			return next(x, w, r)
		}
	}
}
