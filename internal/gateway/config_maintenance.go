package gateway

import (
	"slices"
	"time"

	"landline/internal/config"
	"landline/internal/gateway/maintenance"
)

// MaintenanceConfig puts a feature under maintenance. Operators can do the same
// without a reload, see the admin API.
type MaintenanceConfig struct {
	Enabled    bool            `yaml:"enabled" doc:"Answer every request with 503 maintenance, between from and until where they are given."`
	From       string          `yaml:"from" doc:"When it begins, RFC 3339. Default: at once." example:"2026-11-24T02:00:00Z"`
	Until      string          `yaml:"until" doc:"When it ends by itself, RFC 3339. Default: with the next change of the file." example:"2026-11-24T04:00:00Z"`
	Title      string          `yaml:"title" max:"200" doc:"Headline for the app's user. Default: Maintenance." example:"Back at four"`
	Message    string          `yaml:"message" max:"2000" doc:"What the app shows its user." example:"We are moving to faster servers."`
	RetryAfter config.Duration `yaml:"retry_after" doc:"After how long apps look again. Default: until the end, or 1m."`
}

// AppMaintenanceConfig puts the whole app under maintenance.
type AppMaintenanceConfig struct {
	MaintenanceConfig
	Allow []string `yaml:"allow" doc:"Features that stay reachable. Sign-in and tokens stay reachable anyway, unless they are under maintenance by name." example:"[emergency]"`
}

func (c *checker) maintenance(v *config.Validator) {
	checkMaintenance(v, &c.settings.Maintenance.MaintenanceConfig)
	// A name may be that of a built-in feature, which is not known here: build looks whether it is there.
	for i, name := range c.settings.Maintenance.Allow {
		checkName(v.At("allow", i), name)
	}
}

func checkMaintenance(v *config.Validator, c *MaintenanceConfig) {
	n, err := c.notice()
	for _, at := range []struct{ key, value string }{{"from", c.From}, {"until", c.Until}} {
		if _, err := instant(at.value); err != nil {
			v.At(at.key).Fault("write for example 2026-11-24T04:00:00Z", "not a time in RFC 3339 form")
		}
	}
	if err == nil && !n.Until.IsZero() && !n.Until.After(n.From) {
		v.At("until").Fault("", "until must be after from")
	}
	if d := c.RetryAfter.D(); d != 0 && (d < time.Second || d > 24*time.Hour) {
		v.At("retry_after").Fault("", "must be between 1s and 1d")
	}
}

func instant(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	return t.UTC(), err
}

// notice is what c says, whether enabled or not.
func (c *MaintenanceConfig) notice() (maintenance.Notice, error) {
	n := maintenance.Notice{Title: c.Title, Message: c.Message, RetryAfter: c.RetryAfter.D()}
	var err error
	if n.From, err = instant(c.From); err != nil {
		return n, err
	}
	n.Until, err = instant(c.Until)
	return n, err
}

// configured is the notice of an enabled block, nil without one.
func (c *MaintenanceConfig) configured(allow []string) (*maintenance.Notice, error) {
	if c == nil || !c.Enabled {
		return nil, nil
	}
	n, err := c.notice()
	n.Allow = slices.Clone(allow)
	return &n, err
}
