package emailcode

import (
	"time"

	"landline/internal/config"
)

// Config has the figures.
type Config struct {
	Digits        int             `yaml:"digits" doc:"Digits of a code, 6 to 8. An address at which strangers try gets eight whatever this is."`
	Lifetime      config.Duration `yaml:"lifetime" doc:"How long a code is good, 2m to 30m."`
	Attempts      int             `yaml:"attempts" doc:"Wrong guesses after which a code is dead, 3 to 10."`
	Resend        config.Duration `yaml:"resend" doc:"Pause before a second code to the same address on the same installation, 10s to 10m; it doubles with each further code within an hour, up to 15m."`
	Sends         int             `yaml:"sends" doc:"Codes to one address from one installation in 24 hours, 3 to 100."`
	Wrong         int             `yaml:"wrong" doc:"Wrong guesses at one address from one installation in 24 hours, after which that installation gets no code for it until a day has passed, 5 to 200."`
	StrangerSends int             `yaml:"stranger_sends" doc:"Codes to one address in 24 hours from all installations together on which it was never proved, 4 to 200. It bounds both unwanted mail and guesses; installations on which the address was proved are not held up by it."`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{Digits: 6, Lifetime: config.Duration(10 * time.Minute), Attempts: 5, Resend: config.Duration(30 * time.Second), Sends: 20, Wrong: 25, StrangerSends: 20}
}

// Check reports what is out of range.
func (c *Config) Check(v *config.Validator) {
	for _, f := range []struct {
		key          string
		is, min, max int
	}{
		{"digits", c.Digits, 6, 8}, {"attempts", c.Attempts, 3, 10}, {"sends", c.Sends, 3, 100}, {"wrong", c.Wrong, 5, 200}, {"stranger_sends", c.StrangerSends, 4, 200},
	} {
		if f.is < f.min || f.is > f.max {
			v.At(f.key).Fault("the default suits most", "must be %d to %d, is %d", f.min, f.max, f.is)
		}
	}
	for _, f := range []struct {
		key      string
		is       config.Duration
		min, max time.Duration
	}{
		{"lifetime", c.Lifetime, 2 * time.Minute, 30 * time.Minute}, {"resend", c.Resend, 10 * time.Second, 10 * time.Minute},
	} {
		if f.is.D() < f.min || f.is.D() > f.max {
			v.At(f.key).Fault("the default suits most", "must be %s to %s, is %s", config.Duration(f.min), config.Duration(f.max), f.is)
		}
	}
}
