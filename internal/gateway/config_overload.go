package gateway

import (
	"time"

	"landline/internal/config"
	"landline/internal/gateway/overload"
)

// OverloadConfig is what a node does when more is asked of it than it can do.
type OverloadConfig struct {
	MaxInFlight int                `yaml:"max_in_flight" min:"0" max:"10000000" doc:"Requests that may be under way on this node; open streams and WebSockets are not counted. 0 = any number."`
	Telemetry   float64            `yaml:"telemetry" min:"0" max:"1" doc:"Part of every limit that features of priority telemetry may fill, also of the limits of upstreams."`
	Background  float64            `yaml:"background" min:"0" max:"1" doc:"Part that telemetry and background features together may fill."`
	Interactive float64            `yaml:"interactive" min:"0" max:"1" doc:"Part that all but critical features together may fill."`
	Memory      MemoryConfig       `yaml:"memory" doc:"Memory guard."`
	Adaptive    *ConcurrencyConfig `yaml:"adaptive" doc:"Limit for the whole node that follows latency. Default: off; {} takes the defaults below."`
	CPUWait     config.Duration    `yaml:"cpu_wait" max:"10s" doc:"How long work that could go on may wait for a processor, in nine cases of ten. When it waits longer for a tenth of a second, the node is asked for more than its processors can do, and the least important requests are turned away until it does not. 16 requests a processor are always let in. 0 = any time." example:"100ms"`
	RetryAfter  config.Duration    `yaml:"retry_after" min:"1s" max:"10m" doc:"What those who are turned away are told to wait, at least; at random up to twice as long, so that they do not come back together."`
}

// MemoryConfig turns requests away before memory runs out.
type MemoryConfig struct {
	Limit       config.Bytes `yaml:"limit" doc:"Memory that may be in use after a garbage collection. 0 = the process's GOMEMLIMIT; without one the guard is off." example:"512MiB"`
	Telemetry   float64      `yaml:"telemetry" min:"0" max:"1" doc:"Part of it from which on telemetry is turned away."`
	Background  float64      `yaml:"background" min:"0" max:"1" doc:"Part of it from which on background requests are turned away as well."`
	Interactive float64      `yaml:"interactive" min:"0" max:"1" doc:"Part of it from which on only critical requests are let in."`
}

func defaultOverload() OverloadConfig {
	return OverloadConfig{
		MaxInFlight: 10_000, Telemetry: 0.5, Background: 0.7, Interactive: 0.9,
		Memory:  MemoryConfig{Telemetry: 0.7, Background: 0.8, Interactive: 0.9},
		CPUWait: config.Duration(50 * time.Millisecond), RetryAfter: config.Duration(2 * time.Second),
	}
}

func (c *checker) overload(v *config.Validator) {
	o := c.settings.Overload
	if o.Telemetry > o.Background {
		v.At("telemetry").Fault("telemetry is turned away first", "must not be above background")
	}
	if o.Memory.Telemetry > o.Memory.Background {
		v.At("memory", "telemetry").Fault("telemetry is turned away first", "must not be above background")
	}
	if o.Background > o.Interactive {
		v.At("background").Fault("background work is turned away first", "must not be above interactive")
	}
	if o.Memory.Background > o.Memory.Interactive {
		v.At("memory", "background").Fault("background work is turned away first", "must not be above interactive")
	}
}

func (c OverloadConfig) shares() overload.Shares {
	return overload.Shares{Telemetry: c.Telemetry, Background: c.Background, Interactive: c.Interactive}
}

func (c OverloadConfig) guard() overload.GuardConfig {
	g := overload.GuardConfig{
		MaxInFlight: c.MaxInFlight, Shares: c.shares(), Adaptive: c.Adaptive.limits(c.shares()),
		Wait: c.CPUWait.D(), Memory: int64(c.Memory.Limit), MemoryFull: overload.Shares{Telemetry: c.Memory.Telemetry, Background: c.Memory.Background, Interactive: c.Memory.Interactive},
	}
	if g.Memory == 0 {
		g.Memory = overload.ProcessLimit()
	}
	return g
}
