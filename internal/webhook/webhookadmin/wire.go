package webhookadmin

import (
	"encoding/json"
	"time"

	"landline/internal/webhook"
)

// WebhookEndpoint is an endpoint on the wire.
type WebhookEndpoint struct {
	Name       string     `json:"name" example:"billing"`
	URL        string     `json:"url"`
	Events     []string   `json:"events" nullable:"false" doc:"Types that it gets; empty: all."`
	Order      string     `json:"order" enum:"subject,none"`
	Secrets    int        `json:"secrets" doc:"How many secrets sign its messages."`
	State      string     `json:"state" enum:"up,held,disabled" doc:"held: this node leaves it alone for a while, because it is down or asked for it."`
	DisabledAt *time.Time `json:"disabled_at,omitempty"`
	Reason     string     `json:"reason,omitempty" doc:"Why it is disabled."`
	Pending    int64      `json:"pending" doc:"Deliveries that wait or are under way."`
	Dead       int64      `json:"dead" doc:"Deliveries that were given up and can be replayed."`
}

func endpointOf(s webhook.EndpointStatus) WebhookEndpoint {
	e := WebhookEndpoint{Name: s.Name, URL: s.URL, Events: s.Events, Order: s.Order, Secrets: s.Secrets, State: "up", Reason: s.Reason, Pending: s.Pending, Dead: s.Dead}
	if e.Events == nil {
		e.Events = []string{}
	}
	switch {
	case !s.DisabledAt.IsZero():
		e.State, e.DisabledAt = "disabled", &s.DisabledAt
	case s.Held:
		e.State = "held"
	}
	return e
}

// WebhookEvent is an event on the wire.
type WebhookEvent struct {
	ID        string    `json:"id" example:"evt_01h455vb4pex5vsknk084sn02q" doc:"The webhook-id of its messages."`
	Type      string    `json:"type" example:"user.merged"`
	Subject   string    `json:"subject,omitempty" doc:"Id of the user that it is about."`
	Sequence  int64     `json:"sequence,omitempty" doc:"Grows with every event of the subject."`
	TraceID   string    `json:"trace_id,omitempty"`
	CreatedAt time.Time `json:"created_at"`
}

func eventOf(e webhook.StoredEvent) WebhookEvent {
	return WebhookEvent{ID: e.ID, Type: e.Type, Subject: e.Subject, Sequence: e.Sequence, TraceID: e.TraceID, CreatedAt: e.CreatedAt}
}

// WebhookEventDetail is an event with its body and deliveries.
type WebhookEventDetail struct {
	WebhookEvent
	Payload    json.RawMessage   `json:"payload" doc:"The body of its messages."`
	Deliveries []WebhookDelivery `json:"deliveries" nullable:"false"`
}

// WebhookDelivery is a delivery on the wire.
type WebhookDelivery struct {
	ID         string     `json:"id" example:"whd_01h455vb4pex5vsknk084sn02q"`
	Event      string     `json:"event"`
	Type       string     `json:"type"`
	Endpoint   string     `json:"endpoint"`
	Subject    string     `json:"subject,omitempty"`
	State      string     `json:"state" enum:"pending,sending,delivered,dead"`
	Attempts   int64      `json:"attempts" doc:"Made in all."`
	Replays    int64      `json:"replays"`
	DueAt      *time.Time `json:"due_at,omitempty" doc:"Of the next attempt; it waits longer for an earlier event of its subject, or an endpoint that is held or disabled."`
	Status     int        `json:"status,omitempty" doc:"Of the last answer."`
	Error      string     `json:"error,omitempty" doc:"Why the last attempt failed."`
	CreatedAt  time.Time  `json:"created_at"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`
}

func deliveryOf(d webhook.Delivery) WebhookDelivery {
	out := WebhookDelivery{ID: d.ID, Event: d.EventID, Type: d.Type, Endpoint: d.Endpoint, Subject: d.Subject, State: string(d.State), Attempts: d.Attempts,
		Replays: d.Replays, Status: d.Status, Error: d.Error, CreatedAt: d.CreatedAt}
	if d.State == webhook.Pending {
		out.DueAt = &d.DueAt
	}
	if !d.FinishedAt.IsZero() {
		out.FinishedAt = &d.FinishedAt
	}
	return out
}

// WebhookAttempt is one POST on the wire.
type WebhookAttempt struct {
	Number   int64     `json:"number"`
	At       time.Time `json:"at"`
	Duration int64     `json:"duration" doc:"Milliseconds."`
	Status   int       `json:"status,omitempty" doc:"Absent: there was no answer."`
	Error    string    `json:"error,omitempty" doc:"Absent: it was delivered."`
	Excerpt  string    `json:"excerpt,omitempty" doc:"Beginning of a refusal's body, redacted."`
}

func attemptOf(a webhook.Attempt) WebhookAttempt {
	return WebhookAttempt{Number: a.Number, At: a.At, Duration: a.Took.Milliseconds(), Status: a.Status, Error: a.Error, Excerpt: a.Excerpt}
}

// WebhookDeliveryDetail is a delivery with its attempts.
type WebhookDeliveryDetail struct {
	WebhookDelivery
	Tries []WebhookAttempt `json:"tries" nullable:"false" doc:"Latest attempts, newest first, at most 100."`
}

// WebhookReplayed says how much one event's replay set going.
type WebhookReplayed struct {
	Deliveries int `json:"deliveries"`
}

// WebhookReplayJob is the job that replays many events.
type WebhookReplayJob struct {
	Job int64 `json:"job" doc:"GET /admin/v1/jobs/{id} tells when it is done; each batch is a job of its own."`
}

// WebhookPinged is what came of a ping.
type WebhookPinged struct {
	Event     string         `json:"event" doc:"Its webhook-id."`
	Delivered bool           `json:"delivered"`
	Attempt   WebhookAttempt `json:"attempt"`
}

// WebhookType is a type of event.
type WebhookType struct {
	Name string `json:"name" example:"user.merged"`
	Doc  string `json:"doc"`
}
