package webhook

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"landline/internal/id"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

const (
	defaultPage = 50
	maxPage     = 200
	maxAttempts = 100 // shown of one delivery
)

// StoredEvent is an event as it was emitted.
type StoredEvent struct {
	ID        string
	Type      string
	Subject   string
	Sequence  int64
	Payload   json.RawMessage // the body that is sent
	TraceID   string
	CreatedAt time.Time
}

// Delivery is one event on its way to one endpoint.
type Delivery struct {
	ID, EventID, Type, Endpoint, Subject string

	State      State
	Attempts   int64 // in all
	Replays    int64
	DueAt      time.Time // of the next attempt, if Pending
	Status     int       // of the last answer, 0 for none
	Error      string    // of the last attempt, "" if it was delivered
	CreatedAt  time.Time
	FinishedAt time.Time // zero while it is open
}

// Attempt is one POST.
type Attempt struct {
	Number  int64
	At      time.Time
	Took    time.Duration
	Status  int    // 0 = no answer
	Error   string // "" = delivered
	Excerpt string // beginning of a refusal's body, redacted
}

// EndpointStatus is how an endpoint is doing.
type EndpointStatus struct {
	Name       string
	URL        string
	Events     []string // empty = all
	Secrets    int      // how many sign
	Order      string
	Held       bool      // this node leaves it alone for a while
	DisabledAt time.Time // zero = it gets events
	Reason     string    // why it is disabled
	Pending    int64     // deliveries that wait or are under way
	Dead       int64     // deliveries that were given up
}

// EventFilter selects events; zero members select all.
type EventFilter struct {
	Type, Subject string
	From, Until   time.Time // at or after; before
	Limit         int       // 1 to 200; 0 = 50
	Cursor        string    // "next" of the page before
}

// DeliveryFilter selects deliveries; zero members select all.
type DeliveryFilter struct {
	Endpoint, Type, Subject string
	State                   State
	From, Until             time.Time
	Limit                   int
	Cursor                  string
}

// page is the bounds of a list, newest first.
type page struct {
	below       string
	from, until int64
	limit       int
}

func newPage(prefix, cursor string, limit int, from, until time.Time) (p page, err error) {
	p = page{below: "~", until: math.MaxInt64, limit: limit} // "~" is behind every id
	if cursor != "" {
		if id.Check(prefix, cursor) != nil {
			return p, problem.New(problem.InvalidRequest, "cursor: give the value of page.next, unchanged")
		}
		p.below = cursor
	}
	if limit == 0 {
		p.limit = defaultPage
	}
	p.limit = min(max(p.limit, 1), maxPage)
	if !from.IsZero() {
		p.from = sqldb.Millis(from)
	}
	if !until.IsZero() {
		p.until = sqldb.Millis(until)
	}
	return p, nil
}

// list reads the rows of a statement.
func list[T any](ctx context.Context, h *Hub, scan func(scanner) (T, error), query string, args ...any) (out []T, err error) {
	err = h.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		out = nil
		rows, err := q.QueryContext(ctx, Queries.Get(query), args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			one, err := scan(rows)
			if err != nil {
				return err
			}
			out = append(out, one)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("webhook: %s: %w", query, err)
	}
	return out, nil
}

type scanner interface{ Scan(...any) error }

func scanEvent(s scanner) (e StoredEvent, err error) {
	var body string
	var at int64
	err = s.Scan(&e.ID, &e.Type, &e.Subject, &e.Sequence, &body, &e.TraceID, &at)
	e.Payload, e.CreatedAt = json.RawMessage(body), sqldb.Time(at)
	return e, err
}

func scanDelivery(s scanner) (d Delivery, err error) {
	var due, created int64
	var finished sql.NullInt64
	err = s.Scan(&d.ID, &d.EventID, &d.Type, &d.Endpoint, &d.Subject, &d.State, &d.Attempts, &d.Replays, &due, &d.Status, &d.Error, &created, &finished)
	d.DueAt, d.CreatedAt = sqldb.Time(due), sqldb.Time(created)
	if finished.Valid {
		d.FinishedAt = sqldb.Time(finished.Int64)
	}
	return d, err
}

func scanAttempt(s scanner) (a Attempt, err error) {
	var at, took int64
	err = s.Scan(&a.Number, &at, &took, &a.Status, &a.Error, &a.Excerpt)
	a.At, a.Took = sqldb.Time(at), time.Duration(took)*time.Millisecond
	return a, err
}

// Events returns events, newest first, and the cursor of the next page ("" = none).
func (h *Hub) Events(ctx context.Context, f EventFilter) ([]StoredEvent, string, error) {
	p, err := newPage(id.Event, f.Cursor, f.Limit, f.From, f.Until)
	if err != nil {
		return nil, "", err
	}
	query, args := "EventList", []any{p.below, p.from, p.until, f.Type}
	if f.Subject != "" {
		query, args = "EventListOfSubject", append(args, f.Subject)
	}
	found, err := list(ctx, h, scanEvent, query, append(args, p.limit+1)...)
	if len(found) > p.limit {
		return found[:p.limit], found[p.limit-1].ID, err
	}
	return found, "", err
}

// Event returns one event with its deliveries, or a not_found problem.
func (h *Hub) Event(ctx context.Context, eventID string) (StoredEvent, []Delivery, error) {
	found, err := list(ctx, h, scanEvent, "EventGet", eventID)
	if err == nil && len(found) == 0 {
		err = problem.New(problem.NotFound, "there is no such event; those older than webhooks.keep are deleted")
	}
	if err != nil {
		return StoredEvent{}, nil, err
	}
	deliveries, err := h.deliveriesOf(ctx, eventID)
	return found[0], deliveries, err
}

func (h *Hub) deliveriesOf(ctx context.Context, eventID string) ([]Delivery, error) {
	return list(ctx, h, scanDelivery, "DeliveriesOfEvent", eventID)
}

// Deliveries returns deliveries, newest first, and the cursor of the next page.
func (h *Hub) Deliveries(ctx context.Context, f DeliveryFilter) ([]Delivery, string, error) {
	switch f.State {
	case "", Pending, Sending, Delivered, Dead:
	default:
		return nil, "", problem.New(problem.InvalidRequest, "state is not one of pending, sending, delivered, dead")
	}
	p, err := newPage(deliveryPrefix, f.Cursor, f.Limit, f.From, f.Until)
	if err != nil {
		return nil, "", err
	}
	found, err := list(ctx, h, scanDelivery, "DeliveryList", p.below, p.from, p.until, f.Endpoint, string(f.State), f.Type, f.Subject, p.limit+1)
	if len(found) > p.limit {
		return found[:p.limit], found[p.limit-1].ID, err
	}
	return found, "", err
}

// Delivery returns one delivery with its latest attempts, newest first, or a not_found problem.
func (h *Hub) Delivery(ctx context.Context, deliveryID string) (Delivery, []Attempt, error) {
	found, err := list(ctx, h, scanDelivery, "DeliveryGet", deliveryID)
	if err == nil && len(found) == 0 {
		err = problem.New(problem.NotFound, "there is no such delivery; those older than webhooks.keep are deleted")
	}
	if err != nil {
		return Delivery{}, nil, err
	}
	attempts, err := list(ctx, h, scanAttempt, "AttemptList", deliveryID, maxAttempts)
	return found[0], attempts, err
}

// disablement is that an endpoint gets no events for now.
type disablement struct {
	name   string
	At     time.Time
	Reason string
}

func (h *Hub) disabled(ctx context.Context) (map[string]disablement, error) {
	all, err := list(ctx, h, func(s scanner) (d disablement, err error) {
		var at int64
		err = s.Scan(&d.name, &at, &d.Reason)
		d.At = sqldb.Time(at)
		return d, err
	}, "EndpointsDisabled")
	out := make(map[string]disablement, len(all))
	for _, d := range all {
		out[d.name] = d
	}
	return out, err
}

// Endpoints says how every configured endpoint is doing, by name.
func (h *Hub) Endpoints(ctx context.Context) ([]EndpointStatus, error) {
	disabled, err := h.disabled(ctx)
	if err != nil {
		return nil, err
	}
	counts, err := h.counts(ctx)
	if err != nil {
		return nil, err
	}
	now, endpoints := h.clock.Now(), h.endpoints()
	out := make([]EndpointStatus, 0, len(endpoints))
	for _, name := range slices.Sorted(maps.Keys(endpoints)) {
		e := endpoints[name]
		s := EndpointStatus{Name: name, URL: e.URL, Events: e.Events, Secrets: len(e.keys), Order: e.Order, Held: e.gate.isClosed(now)}
		if d, ok := disabled[name]; ok {
			s.DisabledAt, s.Reason = d.At, d.Reason
		}
		for _, c := range counts {
			switch {
			case c.endpoint != name:
			case c.state == Dead:
				s.Dead = c.n
			default:
				s.Pending += c.n
			}
		}
		out = append(out, s)
	}
	return out, nil
}

// endpoint returns a configured endpoint, or a not_found problem.
func (h *Hub) endpoint(name string) (*endpoint, error) {
	if e := h.endpoints()[name]; e != nil {
		return e, nil
	}
	return nil, problem.New(problem.NotFound, "there is no such endpoint; webhooks.endpoints of the configuration names them")
}

func isNotFound(err error) bool {
	return errors.Is(err, sql.ErrNoRows) || errors.Is(err, sqldb.ErrNotFound)
}
