package gateway

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"landline/internal/config"
	"landline/internal/gateway/cache"
)

// CacheSettings is the cache of the whole node.
type CacheSettings struct {
	Memory config.Bytes `yaml:"memory" doc:"Most memory for stored answers, headers and bookkeeping included; the least recently used go first. A change empties the cache."`
	Redis  bool         `yaml:"redis" doc:"Keep answers of up to 256KiB in Redis as well, so that nodes fill one another's caches. Needs redis.url."`
}

// CacheConfig lets a feature's answers be given again. What the service says
// with Cache-Control, Expires and Vary counts first (RFC 9111, as a shared cache).
type CacheConfig struct {
	TTL                  config.Duration `yaml:"ttl" doc:"Lifetime of answers whose service gives none. 0 = only the service decides." example:"30s"`
	StaleWhileRevalidate config.Duration `yaml:"stale_while_revalidate" doc:"How long after its lifetime an answer is still given while the service is asked in the background, where the service does not say." example:"1m"`
	StaleIfError         config.Duration `yaml:"stale_if_error" doc:"How long after its lifetime an answer stands in when the service fails, is too slow or its breaker is open, where the service does not say; marked with Landline-Degraded: stale." example:"10m"`
	VaryBy               []string        `yaml:"vary_by" doc:"What has answers of its own: user, installation (of one user), client_version, platform, locale, header:<name>. With user or installation private answers are stored too, each for one user." example:"[user]"`
	Methods              []string        `yaml:"methods" doc:"GET, HEAD or both. Default: both."`
	Statuses             []int           `yaml:"statuses" doc:"The only statuses to store, ttl applies to all of them. Default: 200, 203, 204, 300, 301, 308, 410, and with a lifetime of the service's also 302, 307, 404, 405, 414, 501."`
	MaxBody              config.Bytes    `yaml:"max_body" doc:"Largest body to store; larger ones are passed on."`
	RespectUpstream      bool            `yaml:"respect_upstream" doc:"false: ttl counts whatever lifetime the service gives, no-cache included. no-store, private, must-revalidate and Vary bind in any case."`
	IgnoreClientNoCache  bool            `yaml:"ignore_client_no_cache" doc:"true: clients cannot make the gateway ask the service with Cache-Control no-cache, max-age or min-fresh. no-store and only-if-cached of clients bind in any case."`
	SurrogateHeader      string          `yaml:"surrogate_header" doc:"Header in which the service names the surrogate keys of an answer, by which it can be purged; clients do not see it."`
}

// Defaults fills the block before its keys are read.
func (c *CacheConfig) Defaults() {
	*c = CacheConfig{MaxBody: 1 << 20, RespectUpstream: true, IgnoreClientNoCache: true, SurrogateHeader: "Surrogate-Key"}
}

// orDefaults is c with its zero values replaced, for configurations made in Go.
func (c CacheConfig) orDefaults() CacheConfig {
	if c.MaxBody == 0 {
		c.MaxBody = 1 << 20
	}
	if c.SurrogateHeader == "" {
		c.SurrogateHeader = "Surrogate-Key"
	}
	return c
}

// partitioned reports whether every stored answer belongs to one user.
func (c *CacheConfig) partitioned() bool {
	return slices.Contains(c.VaryBy, varyByUser) || slices.Contains(c.VaryBy, varyByInstallation)
}

// What CacheConfig.VaryBy may name, besides header:<name>.
const (
	varyByUser         = "user"
	varyByInstallation = "installation"
	varyByVersion      = "client_version"
	varyByPlatform     = "platform"
	varyByLocale       = "locale"
	varyByHeader       = "header:"
)

// maxStale bounds how long an answer can be of use after its lifetime.
const maxStale = 31 * 24 * time.Hour

func (c *checker) cacheSettings(v *config.Validator) {
	checkSize(v.At("memory"), c.settings.Cache.Memory, 4<<20, 1<<40)
}

// Check finds the faults of a feature's block that lie in it alone.
func (c *CacheConfig) Check(v *config.Validator) {
	for key, d := range map[string]config.Duration{"ttl": c.TTL, "stale_while_revalidate": c.StaleWhileRevalidate, "stale_if_error": c.StaleIfError} {
		if d < 0 || d.D() > maxStale {
			v.At(key).Fault("", "must be between 0s and 31d")
		}
	}
	if len(c.VaryBy) > 8 {
		v.At("vary_by").Fault("an answer for everyone is what makes a cache", "names more than 8 things")
	}
	for i, by := range c.VaryBy {
		name, header := strings.CutPrefix(by, varyByHeader)
		switch {
		case header && !validFieldName(name):
			v.At("vary_by", i).Fault("write for example header:Accept-Language", "%q is not the name of a header", name)
		case !header && !slices.Contains([]string{varyByUser, varyByInstallation, varyByVersion, varyByPlatform, varyByLocale}, by):
			v.At("vary_by", i).Fault("write user, installation, client_version, platform, locale or header:<name>", "%q is nothing that answers can vary by", by)
		}
	}
	for i, m := range c.Methods {
		if m != http.MethodGet && m != http.MethodHead {
			v.At("methods", i).Fault("write GET or HEAD", "answers to %s are not stored", m)
		}
	}
	for i, s := range c.Statuses {
		if cache.NeverStored(s) || s > 599 {
			v.At("statuses", i).Fault("remove it", "answers with status %d cannot be stored", s)
		}
	}
	if !validFieldName(c.SurrogateHeader) {
		v.At("surrogate_header").Fault("write Surrogate-Key", "%q is not the name of a header", c.SurrogateHeader)
	}
}

// cache finds the faults that lie between a feature's cache and the rest of its policy.
func (c *checker) cache(v *config.Validator, f *FeatureConfig) {
	checkSize(v.At("max_body"), f.Cache.MaxBody, 1, max(cache.LargestFor(int64(c.settings.Cache.Memory))-64<<10, 1))
	if f.Headers == nil {
		return
	}
	for _, rules := range []map[string]string{f.Headers.Request.Set, f.Headers.Request.Add} {
		for _, name := range slices.Sorted(maps.Keys(rules)) {
			c.cacheHeader(v, f.Cache, name, rules[name])
		}
	}
}

// headerDimension lists, for each variable of a header rule, what in vary_by
// keeps answers apart that depend on it. The other variables are the same for
// all requests of a route, or no service answers by them (trace_id).
var headerDimension = map[string][]string{
	"client.app":      {clientHeaderKey},
	"client.build":    {clientHeaderKey},
	"client.locale":   {varyByLocale, clientHeaderKey},
	"client.platform": {varyByPlatform, clientHeaderKey},
	"client.version":  {varyByVersion, clientHeaderKey},
	"installation_id": {varyByInstallation},
	"user_id":         {varyByUser, varyByInstallation},
}

const clientHeaderKey = varyByHeader + "Landline-Client"

// cacheHeader refuses rules that tell the service what the key does not know:
// its answer for one caller would be given to another.
func (c *checker) cacheHeader(v *config.Validator, cc *CacheConfig, name, text string) {
	for _, variable := range slices.Sorted(maps.Keys(headerDimension)) {
		needs := headerDimension[variable]
		if strings.Contains(text, "{"+variable+"}") && !slices.ContainsFunc(needs, func(n string) bool { return slices.Contains(cc.VaryBy, n) }) {
			v.Fault("add "+needs[0]+" to vary_by, or remove the rule for "+name, "headers.request tells the service {%s}, which stored answers are not kept apart by", variable)
		}
	}
}
