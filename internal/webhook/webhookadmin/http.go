package webhookadmin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/audit"
	"landline/internal/module"
	"landline/internal/rest"
	"landline/internal/sqldb"
	"landline/internal/webhook"
)

// API is the operators' API of one hub.
type API struct {
	Hub   *webhook.Hub
	DB    *sqldb.DB
	Audit *audit.Log // told when somebody looks a person up
}

type answer[T any] struct{ Body T }

// Named is the path of what one endpoint has.
type Named struct {
	Name string `path:"name" maxLength:"63"`
}

type reason struct {
	Reason string `json:"reason,omitempty" maxLength:"1000" doc:"Why, for the audit log."`
}

func (r *reason) text() string {
	if r == nil {
		return ""
	}
	return r.Reason
}

type change struct {
	Named
	Body *reason // may be left out
}

// Span is the bounds of a list.
type Span struct {
	From  time.Time `query:"from" doc:"At or after, RFC 3339."`
	Until time.Time `query:"until" doc:"Before, RFC 3339."`
	rest.PageInput
}

type eventsInput struct {
	Type    string `query:"type" maxLength:"100"`
	Subject string `query:"subject" maxLength:"128" doc:"Id of a user; the look-up is audited."`
	Span
}

type deliveriesInput struct {
	Endpoint string `query:"endpoint" maxLength:"63"`
	State    string `query:"state" enum:"pending,sending,delivered,dead"`
	Type     string `query:"type" maxLength:"100"`
	Subject  string `query:"subject" maxLength:"128" doc:"Id of a user; the look-up is audited."`
	Span
}

// ByID is the path of one thing.
type ByID struct {
	ID string `path:"id" maxLength:"64"`
}

type replayEvent struct {
	ByID
	Body *struct {
		Endpoint string `json:"endpoint,omitempty" maxLength:"63" doc:"Default: all that subscribe to its type."`
		Reason   string `json:"reason,omitempty" maxLength:"1000" doc:"Why, for the audit log."`
	}
}

type replayMany struct {
	Named
	Body struct {
		Since  *time.Time `json:"since,omitempty" doc:"Events at or after, RFC 3339. Needed without failed."`
		Failed bool       `json:"failed,omitempty" doc:"Those alone that were given up."`
		Reason string     `json:"reason,omitempty" maxLength:"1000" doc:"Why, for the audit log."`
	}
}

// Admin registers the API.
func (a API) Admin(api huma.API) {
	op := func(method, path, id, summary string, role module.Role, status int) huma.Operation {
		return huma.Operation{
			Method: method, Path: "/admin/v1/webhooks" + path, OperationID: id, Tags: []string{"webhooks"}, Summary: summary,
			Metadata: module.Require(role), RejectUnknownQueryParameters: true, DefaultStatus: status,
		}
	}
	huma.Register(api, op(http.MethodGet, "/endpoints", "list-webhook-endpoints", "Endpoints and how they are doing", module.Viewer, http.StatusOK), a.endpoints)
	huma.Register(api, op(http.MethodGet, "/types", "list-webhook-types", "Types of events that are emitted", module.Viewer, http.StatusOK),
		func(context.Context, *struct{}) (*answer[rest.List[WebhookType]], error) {
			return convert(a.Hub.Types(), "", func(t webhook.EventType) WebhookType { return WebhookType(t) }), nil
		})
	huma.Register(api, op(http.MethodGet, "/events", "list-webhook-events", "Events, newest first", module.Support, http.StatusOK), a.events)
	huma.Register(api, op(http.MethodGet, "/events/{id}", "get-webhook-event", "One event with its body and deliveries; audited", module.Support, http.StatusOK), a.event)
	huma.Register(api, op(http.MethodPost, "/events/{id}/replay", "replay-webhook-event", "Deliver one event again, under its old id", module.Operator, http.StatusOK), a.replay)
	huma.Register(api, op(http.MethodGet, "/deliveries", "list-webhook-deliveries", "Deliveries, newest first", module.Support, http.StatusOK), a.deliveries)
	huma.Register(api, op(http.MethodGet, "/deliveries/{id}", "get-webhook-delivery", "One delivery with its attempts", module.Support, http.StatusOK), a.delivery)
	many := op(http.MethodPost, "/endpoints/{name}/replay", "replay-webhook-endpoint", "Deliver to an endpoint again: all since a time, or all that were given up", module.Operator, http.StatusAccepted)
	many.Description = "Events that the endpoint never had, because it was configured later, are among those since a time."
	huma.Register(api, many, a.replayMany)
	huma.Register(api, op(http.MethodPost, "/endpoints/{name}/ping", "ping-webhook-endpoint", "Send a test event to an endpoint and tell what it answered", module.Operator, http.StatusOK), a.ping)
	huma.Register(api, op(http.MethodPost, "/endpoints/{name}/disable", "disable-webhook-endpoint", "Stop sending to an endpoint; events wait for it", module.Operator, http.StatusNoContent),
		func(ctx context.Context, in *change) (*struct{}, error) {
			return nil, a.Hub.Disable(ctx, in.Name, in.Body.text())
		})
	huma.Register(api, op(http.MethodPost, "/endpoints/{name}/enable", "enable-webhook-endpoint", "Send to an endpoint again, what waited first", module.Operator, http.StatusNoContent),
		func(ctx context.Context, in *change) (*struct{}, error) {
			return nil, a.Hub.Enable(ctx, in.Name, in.Body.text())
		})
}

// lookedUp notes that an operator looked at what is about a person.
func (a API) lookedUp(ctx context.Context, target string) error {
	if target == "" {
		return nil
	}
	return a.DB.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return a.Audit.Record(ctx, tx, audit.Entry{Action: "webhook.look_up", Target: target})
	})
}

// convert is a list with another type of members.
func convert[From, To any](all []From, next string, one func(From) To) *answer[rest.List[To]] {
	out := make([]To, len(all))
	for i, v := range all {
		out[i] = one(v)
	}
	return &answer[rest.List[To]]{rest.NewList(out, next)}
}

func (a API) endpoints(ctx context.Context, _ *struct{}) (*answer[rest.List[WebhookEndpoint]], error) {
	all, err := a.Hub.Endpoints(ctx)
	if err != nil {
		return nil, err
	}
	return convert(all, "", endpointOf), nil
}

func (a API) events(ctx context.Context, in *eventsInput) (*answer[rest.List[WebhookEvent]], error) {
	all, next, err := a.Hub.Events(ctx, webhook.EventFilter{Type: in.Type, Subject: in.Subject, From: in.From, Until: in.Until, Limit: in.Limit, Cursor: in.Cursor})
	if err == nil {
		err = a.lookedUp(ctx, in.Subject)
	}
	if err != nil {
		return nil, err
	}
	return convert(all, next, eventOf), nil
}

func (a API) event(ctx context.Context, in *ByID) (*answer[WebhookEventDetail], error) {
	e, deliveries, err := a.Hub.Event(ctx, in.ID)
	if err == nil {
		err = a.lookedUp(ctx, e.ID)
	}
	if err != nil {
		return nil, err
	}
	return &answer[WebhookEventDetail]{WebhookEventDetail{eventOf(e), e.Payload, convert(deliveries, "", deliveryOf).Body.Data}}, nil
}

func (a API) replay(ctx context.Context, in *replayEvent) (*answer[WebhookReplayed], error) {
	name, why := "", ""
	if in.Body != nil {
		name, why = in.Body.Endpoint, in.Body.Reason
	}
	n, err := a.Hub.Replay(ctx, in.ID, name, why)
	if err != nil {
		return nil, err
	}
	return &answer[WebhookReplayed]{WebhookReplayed{n}}, nil
}

func (a API) deliveries(ctx context.Context, in *deliveriesInput) (*answer[rest.List[WebhookDelivery]], error) {
	all, next, err := a.Hub.Deliveries(ctx, webhook.DeliveryFilter{Endpoint: in.Endpoint, State: webhook.State(in.State), Type: in.Type, Subject: in.Subject,
		From: in.From, Until: in.Until, Limit: in.Limit, Cursor: in.Cursor})
	if err == nil {
		err = a.lookedUp(ctx, in.Subject)
	}
	if err != nil {
		return nil, err
	}
	return convert(all, next, deliveryOf), nil
}

func (a API) delivery(ctx context.Context, in *ByID) (*answer[WebhookDeliveryDetail], error) {
	d, attempts, err := a.Hub.Delivery(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &answer[WebhookDeliveryDetail]{WebhookDeliveryDetail{deliveryOf(d), convert(attempts, "", attemptOf).Body.Data}}, nil
}

func (a API) replayMany(ctx context.Context, in *replayMany) (*answer[WebhookReplayJob], error) {
	s := webhook.Selection{Failed: in.Body.Failed}
	if in.Body.Since != nil {
		s.Since = in.Body.Since.UTC()
	}
	job, err := a.Hub.ReplayAll(ctx, in.Name, s, in.Body.Reason)
	if err != nil {
		return nil, err
	}
	return &answer[WebhookReplayJob]{WebhookReplayJob{job}}, nil
}

func (a API) ping(ctx context.Context, in *change) (*answer[WebhookPinged], error) {
	eventID, attempt, err := a.Hub.Ping(ctx, in.Name, in.Body.text())
	if err != nil {
		return nil, err
	}
	return &answer[WebhookPinged]{WebhookPinged{eventID, attempt.Error == "", attemptOf(attempt)}}, nil
}
