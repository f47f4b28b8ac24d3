package quota

import (
	"fmt"
	"time"
	_ "time/tzdata" // time zones also where the machine has none
)

// Window is the length of a period.
type Window string

// The windows.
const (
	Day   Window = "day"
	Month Window = "month"
)

// Policy is one quota. Make it with NewPolicy.
type Policy struct {
	name   string
	limit  int64
	window Window
	zone   *time.Location
}

// MaxLimit is the largest quota.
const MaxLimit = 1_000_000_000

// NewPolicy checks and returns a quota. The name keeps it apart from others, on
// all nodes alike; zone is where its days begin, "" for UTC.
func NewPolicy(name string, limit int64, window Window, zone string) (*Policy, error) {
	if limit < 1 || limit > MaxLimit {
		return nil, fmt.Errorf("quota %q: the limit must be between 1 and %d", name, int64(MaxLimit))
	}
	if window != Day && window != Month {
		return nil, fmt.Errorf("quota %q: the window must be day or month", name)
	}
	if zone == "Local" {
		return nil, fmt.Errorf("quota %q: name the time zone, for example Europe/Warsaw", name)
	}
	loc, err := time.LoadLocation(zone)
	if err != nil {
		return nil, fmt.Errorf("quota %q: %w", name, err)
	}
	return &Policy{name: name, limit: limit, window: window, zone: loc}, nil
}

// Period is the one that now lies in.
func (p *Policy) Period(now time.Time) (begins, ends time.Time) {
	y, m, d := now.In(p.zone).Date()
	if p.window == Month {
		return time.Date(y, m, 1, 0, 0, 0, 0, p.zone), time.Date(y, m+1, 1, 0, 0, 0, 0, p.zone)
	}
	return time.Date(y, m, d, 0, 0, 0, 0, p.zone), time.Date(y, m, d+1, 0, 0, 0, 0, p.zone)
}

// Limit is how many requests a period has.
func (p *Policy) Limit() int64 { return p.limit }
