package gateway

import (
	"regexp"
	"time"

	"landline/internal/config"
)

// RateLimitConfig is one policy of a feature's rate_limit list. A request must
// be within all policies of its feature; one that is refused by any is charged
// to none.
type RateLimitConfig struct {
	Key    string          `yaml:"key" enum:"installation,user,address,api_key,feature" doc:"whose requests are counted together: those of one installation, one user, one network address (IPv6: one /64), one API key, or of everybody. A caller without a token, or without an API key, is counted by address where the key asks for one"`
	Limit  int             `yaml:"limit" doc:"requests that are admitted per window in the long run" example:"100"`
	Window config.Duration `yaml:"window" doc:"length of the window; the limit is spread evenly over it" example:"1m"`
	Burst  int             `yaml:"burst" doc:"requests that may come at once; in any stretch of time at most this many more are admitted than the limit allows. 0 means the same as limit" example:"20"`
	Shared *bool           `yaml:"shared" doc:"count together with all nodes, where redis.url is set: one question to Redis per request. false counts on each node alone. When Redis does not answer each node goes on counting alone. Default: true"`
	Name   string          `yaml:"name" doc:"name of the policy in the RateLimit headers, unique in the feature; empty means <key>-<window>" example:"per-minute"`
}

// Bounds of a policy: an emission interval below a microsecond or a state that
// is kept for more than a month is a slip of the pen.
const (
	maxLimit  = 1_000_000
	maxWindow = 31 * 24 * time.Hour
	maxPolicy = 8 // policies per feature
)

var policyName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,64}$`)

// Check finds the faults of one policy.
func (c *RateLimitConfig) Check(v *config.Validator) {
	switch c.Key {
	case "installation", "user", "address", "api_key", "feature":
	case "":
		v.Fault("write one of installation, user, address, api_key, feature", "a rate limit needs a key")
	}
	if c.Limit < 1 || c.Limit > maxLimit {
		v.At("limit").Fault("", "limit must be between 1 and %d", maxLimit)
	}
	if d := c.Window.D(); d < 100*time.Millisecond || d > maxWindow {
		v.At("window").Fault("write for example 1m", "window must be between 100ms and 31d")
	}
	if d := c.Window.D(); c.Limit > 0 && d > 0 && d/time.Duration(c.Limit) < time.Microsecond {
		v.At("limit").Fault("lower the limit or lengthen the window", "more than one request per microsecond cannot be counted")
	}
	if c.Burst < 0 || c.Burst > maxLimit {
		v.At("burst").Fault("", "burst must be between 0 and %d", maxLimit)
	}
	if c.Name != "" && !policyName.MatchString(c.Name) {
		v.At("name").Fault("", "name must be 1 to 64 letters, digits, '.', '_' or '-'")
	}
}

// policyName is Name, or what stands in for it.
func (c *RateLimitConfig) policyName() string {
	if c.Name != "" {
		return c.Name
	}
	return c.Key + "-" + c.Window.String()
}

// checkRateLimits finds the faults that lie between the policies of one list;
// v stands at the list.
func checkRateLimits(v *config.Validator, list []RateLimitConfig) {
	if len(list) > maxPolicy {
		v.Fault("merge some", "a feature has at most %d rate limits", maxPolicy)
	}
	seen := map[string]bool{}
	for i := range list {
		name := list[i].policyName()
		if seen[name] {
			v.At(i).Fault("give each its own name", "two rate limits are called %q", name)
		}
		seen[name] = true
	}
}

// Values of IdempotencyConfig.UnknownOutcome.
const (
	OutcomeConflict = "conflict"
	OutcomeForward  = "forward"
)

// IdempotencyConfig says how a feature's writes honour Idempotency-Key
// (draft-ietf-httpapi-idempotency-key-header). Without it the key is passed on
// and not looked at. It concerns POST, PUT, PATCH and DELETE; other methods
// write nothing, and a key on them is passed on and not looked at.
type IdempotencyConfig struct {
	Required          bool            `yaml:"required" doc:"a POST or PATCH without a key is refused with 400 idempotency_key_missing; PUT and DELETE, which HTTP defines as idempotent, may go without"`
	Keep              config.Duration `yaml:"keep" doc:"how long a key and its answer are kept, counted from the first attempt" example:"24h"`
	UnknownOutcome    string          `yaml:"unknown_outcome" enum:"conflict,forward" doc:"what a retry meets when the first attempt was cut off after it may have reached the upstream, or its node died: conflict answers 409 idempotency_outcome_unknown and never executes twice; forward executes again with the same key, for upstreams that honour it themselves"`
	StoreServerErrors bool            `yaml:"store_server_errors" doc:"keep an upstream's 5xx answer as the outcome as well; otherwise the key is set free and a retry executes again"`
	MaxBody           config.Bytes    `yaml:"max_body" doc:"largest answer that is kept for replay; a larger one is passed on and a retry is told so with 409 idempotency_outcome_unknown" example:"256KiB"`
	MaxRequest        config.Bytes    `yaml:"max_request" doc:"largest request body that may carry a key; a larger one is refused with 413. It is taken in whole before anything is executed, to be compared with that of a retry. Default: the feature's max_body" example:"10MiB"`
	Memory            config.Bytes    `yaml:"memory" doc:"part of such a body that is held in memory; the rest of a longer one goes to a file without a name in data_dir" example:"1MiB"`
	Lease             config.Duration `yaml:"lease" doc:"how long an attempt that is never heard of again, such as that of a node that died, holds up retries with 409 idempotency_in_flight; at least the feature's timeout and 15s" example:"1m"`
}

// Defaults fills in what a file leaves out.
func (c *IdempotencyConfig) Defaults() {
	*c = IdempotencyConfig{
		Keep:           config.Duration(24 * time.Hour),
		UnknownOutcome: OutcomeConflict,
		MaxBody:        256 << 10,
		Memory:         1 << 20,
		Lease:          config.Duration(time.Minute),
	}
}

// orDefaults is c with its zero values replaced, for configurations made in Go.
func (c IdempotencyConfig) orDefaults() IdempotencyConfig {
	var d IdempotencyConfig
	d.Defaults()
	if c.Keep == 0 {
		c.Keep = d.Keep
	}
	if c.UnknownOutcome == "" {
		c.UnknownOutcome = d.UnknownOutcome
	}
	if c.MaxBody == 0 {
		c.MaxBody = d.MaxBody
	}
	if c.Memory == 0 {
		c.Memory = d.Memory
	}
	if c.Lease == 0 {
		c.Lease = d.Lease
	}
	return c
}

// Check finds the faults.
func (c *IdempotencyConfig) Check(v *config.Validator) {
	if d := c.Keep.D(); d != 0 && (d < 10*time.Minute || d > maxWindow) {
		v.At("keep").Fault("24h outlives a night without reception", "keep must be between 10m and 31d")
	}
	if c.MaxBody < 0 || c.MaxBody > 16<<20 {
		v.At("max_body").Fault("", "max_body must be at most 16MiB: it is held in memory and in the database")
	}
	if c.MaxRequest < 0 || c.MaxRequest > 16<<30 {
		v.At("max_request").Fault("use an upload", "max_request must be at most 16GiB")
	}
	if c.Memory < 0 || c.Memory > 64<<20 {
		v.At("memory").Fault("longer bodies go to a file", "memory must be at most 64MiB")
	}
	if d := c.Lease.D(); d != 0 && (d < time.Second || d > time.Hour) {
		v.At("lease").Fault("1m suits most", "lease must be between 1s and 1h")
	}
}
