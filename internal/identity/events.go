package identity

import (
	"context"

	"landline/internal/sqldb"
	"landline/internal/webhook"
)

// Events that the team's own services can subscribe to.
const (
	EventPromoted = "user.promoted"
	EventMerged   = "user.merged"
	EventDeleted  = "user.deleted"
	EventNotice   = "user.notice"
)

var eventTypes = []webhook.EventType{
	{Name: EventPromoted, Doc: "An anonymous user became an account. Its id is the same, so nothing has to be moved."},
	{Name: EventMerged, Doc: "The anonymous user `from` became part of the account `into`: what was from's is into's. Writes made as from may still come; their identity header names from in `was`."},
	{Name: EventNotice, Doc: "A sign-in provider told something of the user: `kind` is for example consent_revoked, account_deleted, sessions_revoked or email_disabled, and `state` is the user's afterwards. A user who is locked_no_login comes back with the same provider within 30 days, or is deleted."},
	{Name: EventDeleted, Doc: "The user was erased, and so were its `aliases`. Erase what you keep of them."},
}

// eventSink tells the team's own services what happened to a user, durably and
// within the caller's transaction.
type eventSink interface {
	Emit(ctx context.Context, tx *sqldb.Tx, eventType, user string, data any) error
	Wants(eventType string) bool
}

type hubEvents struct{ hub *webhook.Hub }

func (h hubEvents) Emit(ctx context.Context, tx *sqldb.Tx, eventType, user string, data any) error {
	_, err := h.hub.Emit(ctx, tx, webhook.Event{Type: eventType, Subject: user, Data: data, Final: eventType == EventDeleted})
	return err
}

func (h hubEvents) Wants(eventType string) bool { return h.hub.Wants(eventType) }
