package module

import "time"

// ContractViolation is a difference between what features do and what their
// OpenAPI documents say, counted on this node since its start. It holds no
// values of requests or answers.
type ContractViolation struct {
	Feature    string    `json:"feature"`
	APIVersion string    `json:"api_version,omitempty"`
	Direction  string    `json:"direction" enum:"request,response"`
	In         string    `json:"in" enum:"path,query,header,cookie,body,status"`
	Field      string    `json:"field" doc:"Place in the document's words: a JSON pointer in which * stands for any item and any member that the document does not name." example:"/legs/*/seats"`
	Count      int64     `json:"count"`
	FirstAt    time.Time `json:"first_at"`
	LastAt     time.Time `json:"last_at"`
	Match      string    `json:"match" doc:"Route of the first one."`
	Operation  string    `json:"operation" doc:"Operation of the document." example:"GET /flights/{id}"`
	Status     int       `json:"status,omitempty" doc:"Status of the first answer."`
	Message    string    `json:"message" doc:"What the document asks for."`
	Shape      string    `json:"shape" doc:"What was there instead the first time: types and sizes, no values." example:"string of 3 bytes"`
}

// Screen is a screen of the app with the features that it needs.
type Screen struct {
	Name     string          `json:"name" example:"departures_board"`
	Health   string          `json:"health" enum:"ok,degraded,down" doc:"The worst of its features'."`
	Features []ScreenFeature `json:"features" nullable:"false"`
}

// ScreenFeature is a feature that a screen needs.
type ScreenFeature struct {
	Name    string `json:"name"`
	Owner   string `json:"owner,omitempty"`
	Health  string `json:"health" enum:"ok,degraded,down" doc:"down: a breaker is open; degraded: a breaker is half-open; else ok."`
	Breaker string `json:"breaker,omitempty" enum:"closed,open,half_open"`
}
