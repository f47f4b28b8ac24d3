package gateway

import (
	"net/url"
	"strings"
	"time"

	"landline/internal/config"
)

// CORSConfig says which web pages may call, and read the answers (the Fetch
// standard's CORS protocol). It is no access control: apps and scripts outside
// browsers do not ask.
type CORSConfig struct {
	Origins     []string        `yaml:"origins" doc:"Origins whose pages may call: https://app.example.com, https://*.example.com for every subdomain, * for all. Empty: none, and nothing of CORS is answered." example:"[https://app.example.com]"`
	Methods     []string        `yaml:"methods" doc:"Methods that pages may use. Default: GET, HEAD, POST, PUT, PATCH, DELETE." example:"[GET, POST]"`
	Headers     []string        `yaml:"headers" doc:"Request headers that pages may send, besides those that Landline itself reads, Authorization and Content-Type." example:"[X-Requested-With]"`
	Expose      []string        `yaml:"expose" doc:"Answer headers that pages may read, besides Landline's own, ETag, Location and Retry-After." example:"[X-Total-Count]"`
	MaxAge      config.Duration `yaml:"max_age" doc:"How long a browser may remember the answer to a preflight. Default: 10m; browsers cap it at 2h or less."`
	Credentials bool            `yaml:"credentials" doc:"Pages may send cookies along. Not with the origin *. Access tokens need no cookies. Default: false."`
}

const defaultCORSMaxAge = config.Duration(10 * time.Minute)

// Bounds of CORSConfig.
const (
	maxOrigins     = 200
	maxCORSHeaders = 100
)

func checkCORS(v *config.Validator, c *CORSConfig) {
	if len(c.Origins) > maxOrigins {
		v.At("origins").Fault("", "at most %d origins are allowed", maxOrigins)
	}
	for i, o := range c.Origins {
		at := v.At("origins", i)
		if o == "*" && c.Credentials {
			at.Fault("name the origins, or leave credentials out", "credentials are refused with *: any page on the web could act as its visitor")
		} else if why := originFault(o); why != "" {
			at.Fault("write for example https://app.example.com", "%s", why)
		}
	}
	for i, m := range c.Methods {
		if !validMethod(m) {
			v.At("methods", i).Fault("write for example GET", "%q is not a method", m)
		}
	}
	if len(c.Headers) > maxCORSHeaders || len(c.Expose) > maxCORSHeaders {
		v.Fault("", "at most %d headers are allowed", maxCORSHeaders)
	}
	for key, names := range map[string][]string{"headers": c.Headers, "expose": c.Expose} {
		for i, name := range names {
			if !validFieldName(name) || name == "*" {
				v.At(key, i).Fault("name the headers one by one", "%q is not the name of a header", name)
			}
		}
	}
	if d := c.MaxAge.D(); d < 0 || d > 24*time.Hour {
		v.At("max_age").Fault("", "must be between 0s and 1d")
	}
}

// originFault says why o is no origin that can be allowed, "" if it is one.
func originFault(o string) string {
	if o == "*" {
		return ""
	}
	if o == "null" {
		return "null is the origin of every sandboxed page and local file"
	}
	u, err := url.Parse(strings.Replace(o, "://*.", "://", 1))
	switch {
	case err != nil || u.Scheme == "" || u.Host == "":
		return "an origin is scheme, host and port"
	case u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return "an origin has no path; remove what follows the host"
	case strings.Contains(u.Host, "*"):
		return "* may stand for the first labels of a host alone: https://*.example.com"
	case strings.ToLower(o) != o:
		return "browsers send origins in lower case"
	case u.Scheme == "https" && u.Port() == "443", u.Scheme == "http" && u.Port() == "80":
		return "browsers leave the scheme's own port out"
	case strings.Contains(o, "://*.") && strings.Count(u.Hostname(), ".") == 0:
		return "* before a top-level domain would allow pages of strangers"
	}
	return ""
}
