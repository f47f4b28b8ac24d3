package module

import "time"

// FeatureStatus is how one feature is doing on this node, as the gateway tells
// the admin listener.
type FeatureStatus struct {
	Name     string        `json:"name"`
	Owner    string        `json:"owner"`
	BuiltIn  bool          `json:"built_in" doc:"A capability of Landline, not an upstream of the team's."`
	Auth     Auth          `json:"auth,omitempty" doc:"Least a caller must have proven; per route where the feature says none."`
	Upstream string        `json:"upstream,omitempty" doc:"The upstream whose state decides, when there is a single one."`
	Breaker  string        `json:"breaker,omitempty" enum:"closed,open,half_open" doc:"Absent when the feature has no breaker."`
	InFlight int64         `json:"in_flight" doc:"Requests being worked on now."`
	Screens  []string      `json:"screens,omitempty" doc:"Screens of the app that need the feature."`
	Routes   []RouteStatus `json:"routes"`
}

// RouteStatus is one route of a feature.
type RouteStatus struct {
	Match    string `json:"match" example:"GET /v1/flights/{id}/status"`
	Upstream string `json:"upstream,omitempty"`
	Auth     Auth   `json:"auth"`
}

// UpstreamStatus is how one upstream is doing as seen by this node.
type UpstreamStatus struct {
	Name     string         `json:"name"`
	InFlight int64          `json:"in_flight" doc:"Requests being worked on by all targets."`
	Limit    int            `json:"limit,omitempty" doc:"How many may wait for it now, where an adaptive limit is configured."`
	Targets  []TargetStatus `json:"targets"`
}

// TargetStatus is one target of an upstream.
type TargetStatus struct {
	Name     string     `json:"name"`
	URL      string     `json:"url" doc:"Without user information."`
	Weight   int        `json:"weight" doc:"Share of the traffic relative to the other targets."`
	Healthy  bool       `json:"healthy" doc:"Takes traffic. True as well while nothing is known."`
	State    string     `json:"state" enum:"healthy,recovering,unhealthy,ejected" doc:"recovering: it came back and does not get its whole share yet. unhealthy: probes fail, or the breaker of every feature that uses it is open. ejected: requests kept failing."`
	Share    float64    `json:"share" doc:"Part of its weight that it gets, 0 to 1."`
	Until    *time.Time `json:"until,omitempty" doc:"When an ejection ends."`
	Since    *time.Time `json:"since,omitempty" doc:"Since when it is so."`
	InFlight int64      `json:"in_flight"`
	Error    string     `json:"error,omitempty" doc:"Why it is not healthy."`
}
