package gateway

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"landline/internal/config"
	"landline/internal/gateway/health"
	"landline/internal/gateway/overload"
)

// Values of UpstreamConfig.Balance.
const (
	BalanceWeighted     = "weighted"
	BalanceInstallation = "installation"
)

// Values of UpstreamConfig.Transport.
const (
	TransportAuto     = "auto"
	TransportStandard = "standard"
)

// HealthConfig is how targets are probed.
type HealthConfig struct {
	Path      string          `yaml:"path" doc:"Path that is asked with GET, below the target's base path." example:"/healthz"`
	Interval  config.Duration `yaml:"interval" min:"100ms" max:"1h" doc:"Time between two probes of a target; varied by 10 %."`
	Timeout   config.Duration `yaml:"timeout" min:"10ms" max:"1m" doc:"Time for one probe, connecting included: each makes a connection of its own."`
	Healthy   int             `yaml:"healthy" min:"1" max:"100" doc:"Good probes in a row that bring a target back."`
	Unhealthy int             `yaml:"unhealthy" min:"1" max:"100" doc:"Bad probes in a row that take a target out."`
	Statuses  []string        `yaml:"statuses" doc:"Statuses of a good probe, single or as a range." example:"[\"200-299\", \"404\"]"`
}

// Defaults fills the block before its keys are read.
func (c *HealthConfig) Defaults() {
	*c = HealthConfig{
		Path: "/healthz", Interval: config.Duration(5 * time.Second), Timeout: config.Duration(time.Second),
		Healthy: 2, Unhealthy: 3, Statuses: []string{"200-299"},
	}
}

// Check finds the faults.
func (c *HealthConfig) Check(v *config.Validator) {
	if !strings.HasPrefix(c.Path, "/") || strings.ContainsAny(c.Path, "?#") {
		v.At("path").Fault("write for example /healthz", "must begin with / and have no query")
	} else if _, err := checkPath(c.Path); err != nil {
		v.At("path").Fault("write for example /healthz", "%s", err)
	}
	if len(c.Statuses) == 0 {
		v.At("statuses").Fault(`write for example ["200-299"]`, "no status is good")
	}
	for i, s := range c.Statuses {
		if _, err := parseStatuses(s); err != nil {
			v.At("statuses", i).Fault(`write for example "200" or "200-299"`, "%s", err)
		}
	}
}

// statusRange is a range of HTTP statuses, both ends included.
type statusRange struct{ from, to int }

func parseStatuses(s string) (statusRange, error) {
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	a, errA := strconv.Atoi(strings.TrimSpace(from))
	b, errB := strconv.Atoi(strings.TrimSpace(to))
	if errA != nil || errB != nil || a < 100 || b > 599 || a > b {
		return statusRange{}, fmt.Errorf("%q is not a status or a range of statuses", s)
	}
	return statusRange{a, b}, nil
}

// OutlierConfig takes targets out that fail real requests, of whatever feature.
type OutlierConfig struct {
	Failures     int             `yaml:"failures" min:"0" max:"10000" doc:"Failures in a row that eject a target: 5xx, timeouts, connection failures. 0 = do not count them."`
	FailureRatio float64         `yaml:"failure_ratio" min:"0" max:"1" doc:"Share of failures in the window that ejects a target. 0 = do not count them."`
	MinRequests  int             `yaml:"min_requests" min:"1" max:"1000000" doc:"Requests in the window before the ratio means anything."`
	Window       config.Duration `yaml:"window" min:"1s" max:"1h" doc:"Length of the rolling window."`
	Ejection     config.Duration `yaml:"ejection" min:"100ms" max:"1h" doc:"How long a target is out the first time; the n-th time in a row n times as long."`
	MaxEjection  config.Duration `yaml:"max_ejection" min:"100ms" max:"24h" doc:"Longest ejection."`
	MaxEjected   float64         `yaml:"max_ejected" min:"0" max:"1" doc:"Share of the targets that may be out at once; one always may, and never all."`
}

// Defaults fills the block before its keys are read.
func (c *OutlierConfig) Defaults() {
	*c = OutlierConfig{
		Failures: 5, FailureRatio: 0.5, MinRequests: 20, Window: config.Duration(10 * time.Second),
		Ejection: config.Duration(30 * time.Second), MaxEjection: config.Duration(5 * time.Minute), MaxEjected: 0.5,
	}
}

// Check finds the faults.
func (c *OutlierConfig) Check(v *config.Validator) {
	if c.Failures == 0 && c.FailureRatio == 0 {
		v.Fault("set failures or failure_ratio", "nothing ejects a target")
	}
	if c.MaxEjection < c.Ejection {
		v.At("max_ejection").Fault("", "must not be shorter than ejection")
	}
}

// BudgetConfig bounds retries and hedges of all features together.
type BudgetConfig struct {
	Share float64 `yaml:"share" min:"0" max:"1" doc:"Retries and hedged requests, as a share of the requests of the last 10 seconds."`
	Min   int     `yaml:"min" min:"0" max:"1000" doc:"Retries and hedged requests per 10 seconds that are allowed in any case."`
}

// budgetWindow is the time over which retries are counted against requests.
const budgetWindow = 10 * time.Second

// Defaults fills the block before its keys are read.
func (c *BudgetConfig) Defaults() { *c = BudgetConfig{Share: 0.2, Min: 3} }

// ConcurrencyConfig is an adaptive limit.
type ConcurrencyConfig struct {
	Min     int `yaml:"min" min:"1" max:"100000" doc:"The limit never falls below this."`
	Max     int `yaml:"max" min:"1" max:"100000" doc:"The limit never rises above this."`
	Initial int `yaml:"initial" min:"1" max:"100000" doc:"The limit at the start."`
}

// Defaults fills the block before its keys are read.
func (c *ConcurrencyConfig) Defaults() { *c = ConcurrencyConfig{Min: 16, Max: 1000, Initial: 64} }

// Check finds the faults.
func (c *ConcurrencyConfig) Check(v *config.Validator) {
	if c.Min > c.Initial || c.Initial > c.Max {
		v.Fault("", "min ≤ initial ≤ max must hold")
	}
}

func (c *ConcurrencyConfig) limits(shares overload.Shares) *overload.LimitConfig {
	if c == nil {
		return nil
	}
	return &overload.LimitConfig{Min: c.Min, Max: c.Max, Initial: c.Initial, Shares: shares}
}

// watch is the part of an upstream's configuration that its monitor keeps; ok
// is false when there is nothing to watch.
func (c *UpstreamConfig) watch() (w health.Config, ok bool) {
	if h := c.Health; h != nil {
		w.Active = &health.Active{Interval: h.Interval.D(), Timeout: h.Timeout.D(), Healthy: h.Healthy, Unhealthy: h.Unhealthy}
	}
	if o := c.Outlier; o != nil {
		w.Passive = &health.Passive{
			Failures: o.Failures, Ratio: o.FailureRatio, MinRequests: o.MinRequests, Window: o.Window.D(),
			Ejection: o.Ejection.D(), MaxEjection: o.MaxEjection.D(), MaxEjected: o.MaxEjected,
		}
	}
	w.SlowStart = c.SlowStart.D()
	return w, w.Active != nil || w.Passive != nil || w.SlowStart > 0
}

// Check finds the faults that show only when the PEM texts are read.
func (c *TLSConfig) Check(v *config.Validator) {
	if c.Certificate == "" && c.Key == "" {
		return
	}
	if _, err := clientCertificate(*c); err != nil {
		v.Fault("write certificate: ${file:client.pem} and key: ${file:client-key.pem}", "%s", err)
	}
}
