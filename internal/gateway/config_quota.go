package gateway

import (
	"net/http"
	"strings"

	"landline/internal/config"
	"landline/internal/gateway/quota"
)

// APIKeysConfig says how API keys are sent.
type APIKeysConfig struct {
	Header string `yaml:"header" doc:"Request header that carries an API key. Features that use keys take it away before the request goes on." example:"Api-Key"`
}

// Values of FeatureConfig.APIKey.
const (
	apiKeyOptional = "optional"
	apiKeyRequired = "required"
)

// QuotaConfig is one allowance of a feature per calendar day or month.
type QuotaConfig struct {
	Key      string `yaml:"key" enum:"installation,user,address,api_key,feature" doc:"Whose requests are counted together, as in rate_limit."`
	Limit    int    `yaml:"limit" min:"1" max:"1000000000" doc:"Requests per window." example:"10000"`
	Window   string `yaml:"window" enum:"day,month" doc:"Calendar day or month; all of it is back when the next begins."`
	TimeZone string `yaml:"time_zone" doc:"Where days begin. Default: UTC." example:"Europe/Warsaw"`
	Name     string `yaml:"name" doc:"Name in the RateLimit headers, unique among the feature's limits and quotas. Default: <key>-<window>." example:"daily"`
}

// Defaults fills a quota before its keys are read.
func (c *QuotaConfig) Defaults() { *c = QuotaConfig{Window: string(quota.Day)} }

func (c *QuotaConfig) policyName() string {
	if c.Name != "" {
		return c.Name
	}
	return c.Key + "-" + c.Window
}

func (c *QuotaConfig) policy(feature string) (*quota.Policy, error) {
	return quota.NewPolicy(feature+"/"+c.policyName()+"/"+c.Key, int64(c.Limit), quota.Window(c.Window), c.TimeZone)
}

// checkQuotas finds the faults of a feature's quotas; v stands at the feature.
func checkQuotas(v *config.Validator, f *FeatureConfig) {
	at := v.At("quota")
	if len(f.Quota) > maxPolicy {
		at.Fault("merge some", "a feature has at most %d quotas", maxPolicy)
	}
	seen := map[string]bool{}
	for i := range f.RateLimit {
		seen[f.RateLimit[i].policyName()] = true
	}
	for i := range f.Quota {
		q := &f.Quota[i]
		switch {
		case q.Key == "":
			at.At(i).Fault("write one of installation, user, address, api_key, feature", "a quota needs a key")
		case q.Name != "" && !policyName.MatchString(q.Name):
			at.At(i, "name").Fault("", "name must be 1 to 64 letters, digits, '.', '_' or '-'")
		default:
			if _, err := q.policy("x"); err != nil {
				at.At(i).Fault("write for example {key: user, limit: 1000, window: day, time_zone: Europe/Warsaw}", "%s", err)
			}
		}
		if name := q.policyName(); seen[name] {
			at.At(i).Fault("give each its own name", "two limits of the feature are called %q", name)
		} else {
			seen[name] = true
		}
	}
}

func (c *checker) apiKeys(v *config.Validator) {
	name := c.settings.APIKeys.Header
	canonical := http.CanonicalHeaderKey(name)
	if !validFieldName(name) || hopByHop[canonical] || canonical == "Authorization" || canonical == "Cookie" || canonical == "Idempotency-Key" || strings.HasPrefix(canonical, "Landline-") {
		v.At("header").Fault("write for example Api-Key", "cannot carry an API key")
	}
}
