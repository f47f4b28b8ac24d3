package overload

import (
	"math/rand/v2"
	"time"
)

// Level is how important a request is.
type Level uint8

// The levels, the least important first.
const (
	Telemetry Level = iota
	Background
	Interactive
	Critical
	levels
)

// String is the name that configuration and metrics use.
func (l Level) String() string {
	switch l {
	case Telemetry:
		return "telemetry"
	case Background:
		return "background"
	case Critical:
		return "critical"
	}
	return "interactive"
}

// Shares says what part of a limit each level may fill, from 0 to 1. Critical
// always may fill all of it.
type Shares struct{ Telemetry, Background, Interactive float64 }

// of returns what level may use of a limit: at least 1.
func (s Shares) of(l Level, limit int) int {
	f := 1.0
	switch l {
	case Telemetry:
		f = s.Telemetry
	case Background:
		f = s.Background
	case Interactive:
		f = s.Interactive
	}
	return max(1, int(f*float64(limit)))
}

// RetryAfter spreads those who were turned away together: whole seconds
// between base and twice base, at least a choice of two.
func RetryAfter(base time.Duration) time.Duration {
	n := max(1, int(base/time.Second))
	return time.Duration(n+rand.IntN(n+1)) * time.Second // #nosec -- spreading load is no secret
}
