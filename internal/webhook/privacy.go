package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"landline/internal/sqldb"
)

// EraseSubject deletes, within the caller's transaction, every event of a user
// with its deliveries and attempts, those that still wait included. Events that
// are Final stay until they are older than Settings.Keep: services must hear of
// the erasure. It is idempotent. A message that is being sent at this moment
// cannot be called back.
func (h *Hub) EraseSubject(ctx context.Context, tx *sqldb.Tx, userID string) error {
	if userID == "" {
		return nil
	}
	for _, query := range []string{"AttemptErase", "DeliveryErase", "EventErase"} {
		if _, err := tx.ExecContext(ctx, Queries.Get(query), userID); err != nil {
			return fmt.Errorf("webhook: erase the events of a user: %w", err)
		}
	}
	return nil
}

// Exported is one event of a user as an export of the user's data has it.
type Exported struct {
	ID        string          `json:"id"`
	Type      string          `json:"type"`
	CreatedAt time.Time       `json:"created_at"`
	Payload   json.RawMessage `json:"payload"`
	SentTo    []string        `json:"sent_to"` // names of the endpoints that have it
}

// ExportSubject calls fn for every event of a user that is kept, newest first,
// until fn returns an error, which it returns.
func (h *Hub) ExportSubject(ctx context.Context, userID string, fn func(Exported) error) error {
	if userID == "" {
		return nil
	}
	for cursor := ""; ; {
		events, next, err := h.Events(ctx, EventFilter{Subject: userID, Limit: maxPage, Cursor: cursor})
		if err != nil {
			return err
		}
		for _, e := range events {
			deliveries, err := h.deliveriesOf(ctx, e.ID)
			if err != nil {
				return err
			}
			out := Exported{ID: e.ID, Type: e.Type, CreatedAt: e.CreatedAt, Payload: e.Payload, SentTo: []string{}}
			for _, d := range deliveries {
				if d.State == Delivered {
					out.SentTo = append(out.SentTo, d.Endpoint)
				}
			}
			if err := fn(out); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		cursor = next
	}
}
