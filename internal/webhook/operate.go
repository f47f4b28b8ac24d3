package webhook

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"landline/internal/audit"
	"landline/internal/id"
	"landline/internal/observe"
	"landline/internal/problem"
	"landline/internal/queue"
	"landline/internal/sqldb"
)

// pingTimeout bounds a Ping, whatever the endpoint's timeout: somebody waits.
const pingTimeout = 20 * time.Second

// Disable stops sending to an endpoint; what is emitted waits for it, for as
// long as deliveries do. It is audited under reason.
func (h *Hub) Disable(ctx context.Context, name, reason string) error {
	if _, err := h.endpoint(name); err != nil {
		return err
	}
	return h.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return h.disableTx(ctx, tx, name, cmp.Or(clean(reason, maxError), "an operator disabled it"), audit.Actor{}, reason)
	})
}

// disableTx does nothing when the endpoint is disabled already. The zero Actor
// is the one of ctx.
func (h *Hub) disableTx(ctx context.Context, tx *sqldb.Tx, name, why string, by audit.Actor, reason string) error {
	res, err := tx.ExecContext(ctx, Queries.Get("EndpointDisable"), name, sqldb.Millis(h.clock.Now()), why)
	if err != nil {
		return fmt.Errorf("webhook: disable %s: %w", name, err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err
	}
	return h.audit.Record(ctx, tx, audit.Entry{Actor: by, Action: "webhook.disable", Target: name, Reason: cmp.Or(reason, why)})
}

// Enable sends to an endpoint again, what waited first. An endpoint that is not
// disabled is a conflict.
func (h *Hub) Enable(ctx context.Context, name, reason string) error {
	e, err := h.endpoint(name)
	if err != nil {
		return err
	}
	return h.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		res, err := tx.ExecContext(ctx, Queries.Get("EndpointEnable"), e.name)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return err
		}
		if n == 0 {
			return problem.New(problem.Conflict, "the endpoint is not disabled")
		}
		if _, err := h.queue.Enqueue(ctx, tx, deliverArgs{e.name}); err != nil {
			return err
		}
		return h.audit.Record(ctx, tx, audit.Entry{Action: "webhook.enable", Target: e.name, Reason: reason})
	})
}

// Replay delivers an event again, under its old id, to one endpoint, or with
// name "" to all that subscribe to it. It is audited. Deliveries that wait are
// tried at once; one that is being sent is left alone.
func (h *Hub) Replay(ctx context.Context, eventID, name, reason string) (deliveries int, err error) {
	targets := h.endpoints()
	if name != "" {
		e, err := h.endpoint(name)
		if err != nil {
			return 0, err
		}
		targets = map[string]*endpoint{name: e}
	}
	err = h.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		deliveries = 0
		e, err := scanEvent(tx.QueryRowContext(ctx, Queries.Get("EventGet"), eventID))
		if isNotFound(err) {
			return problem.New(problem.NotFound, "there is no such event; those older than webhooks.keep are deleted")
		}
		if err != nil {
			return err
		}
		for _, target := range targets {
			if name == "" && !target.wants(e.Type) {
				continue
			}
			n, err := h.replayTx(ctx, tx, target.name, e.ID, e.Subject, e.Sequence)
			if err != nil {
				return err
			}
			if deliveries += n; n == 0 {
				continue
			}
			if _, err := h.queue.Enqueue(ctx, tx, deliverArgs{target.name}); err != nil {
				return err
			}
		}
		return h.audit.Record(ctx, tx, audit.Entry{Action: "webhook.replay", Target: e.ID, Reason: reason, After: replayed{Endpoint: name, Deliveries: deliveries}})
	})
	return deliveries, err
}

// replayed is what the audit log keeps of a replay.
type replayed struct {
	Endpoint   string     `json:"endpoint,omitempty"`
	Since      *time.Time `json:"since,omitempty"`
	Failed     bool       `json:"failed,omitempty"`
	Deliveries int        `json:"deliveries,omitempty"`
}

func (h *Hub) replayTx(ctx context.Context, tx *sqldb.Tx, name, eventID, subject string, sequence int64) (changed int, err error) {
	now := h.clock.Now()
	res, err := tx.ExecContext(ctx, Queries.Get("DeliveryReplay"), id.New(deliveryPrefix), eventID, name, subject, sequence,
		sqldb.Millis(now), sqldb.Millis(now.Add(giveUp)), sqldb.Millis(now))
	if err != nil {
		return 0, fmt.Errorf("webhook: replay to %s: %w", name, err)
	}
	n, err := res.RowsAffected()
	return int(n), err
}

// Selection is which deliveries ReplayAll repeats.
type Selection struct {
	Since  time.Time // events at or after; zero = all that are kept
	Failed bool      // those alone that were given up
}

// ReplayAll delivers events again to an endpoint, with a job that goes through
// them in their order: all that it subscribes to since a time, also those from
// before it was configured, or all that were given up. It returns the job's id.
func (h *Hub) ReplayAll(ctx context.Context, name string, s Selection, reason string) (jobID int64, err error) {
	e, err := h.endpoint(name)
	if err != nil {
		return 0, err
	}
	now := h.clock.Now()
	if !s.Failed && s.Since.IsZero() {
		return 0, problem.New(problem.InvalidRequest, "since: name a time, or ask for failed ones alone")
	}
	if s.Since.After(now) {
		return 0, problem.New(problem.InvalidRequest, "since: must not be in the future")
	}
	args := replayArgs{Endpoint: e.name, Until: sqldb.Millis(now), Failed: s.Failed}
	entry := replayed{Endpoint: name, Failed: s.Failed}
	if !s.Since.IsZero() {
		args.Since, entry.Since = sqldb.Millis(s.Since), &s.Since
	}
	err = h.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if jobID, err = h.queue.Enqueue(ctx, tx, args); err != nil {
			return err
		}
		return h.audit.Record(ctx, tx, audit.Entry{Action: "webhook.replay_all", Target: name, Reason: reason, After: entry})
	})
	return jobID, err
}

// replayArgs is the job of ReplayAll: one batch, then itself with what follows.
type replayArgs struct {
	Endpoint string `json:"endpoint"`
	Since    int64  `json:"since"`
	Until    int64  `json:"until"`
	Failed   bool   `json:"failed"`
	After    string `json:"after"` // id of the last one done
}

func (replayArgs) Kind() string { return "webhook.replay" }

// replayRow is an event to be delivered again.
type replayRow struct {
	cursor, eventID, eventType, subject string
	sequence                            int64
}

func (h *Hub) replayBatch(ctx context.Context, a replayArgs) error {
	e := h.endpoints()[a.Endpoint]
	if e == nil {
		return queue.Cancel(fmt.Errorf("webhook: the endpoint %s is no longer configured", a.Endpoint))
	}
	query, scan := "EventsSince", func(s scanner) (r replayRow, err error) {
		err = s.Scan(&r.eventID, &r.eventType, &r.subject, &r.sequence)
		r.cursor = r.eventID
		return r, err
	}
	args := []any{a.Since, a.Until, a.After, h.batch}
	if a.Failed {
		query, args = "DeliveriesDead", append([]any{a.Endpoint}, args...)
		scan = func(s scanner) (r replayRow, err error) {
			err = s.Scan(&r.cursor, &r.eventID, &r.subject, &r.sequence)
			return r, err
		}
	}
	rows, err := list(ctx, h, scan, query, args...)
	if err != nil || len(rows) == 0 {
		return err
	}
	return h.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		for _, r := range rows {
			if !a.Failed && !e.wants(r.eventType) {
				continue
			}
			if _, err := h.replayTx(ctx, tx, a.Endpoint, r.eventID, r.subject, r.sequence); err != nil {
				return err
			}
		}
		jobs := []queue.Args{deliverArgs{a.Endpoint}}
		if _, err := h.queue.EnqueueMany(ctx, tx, jobs); err != nil {
			return err
		}
		if len(rows) < h.batch {
			return nil
		}
		a.After = rows[len(rows)-1].cursor
		_, err := h.queue.Enqueue(ctx, tx, a)
		return err
	})
}

// Ping sends an event of PingType to an endpoint now, disabled or not, and
// returns what came of it. It is audited, but neither stored nor tried again.
func (h *Hub) Ping(ctx context.Context, name, reason string) (eventID string, a Attempt, err error) {
	e, err := h.endpoint(name)
	if err != nil {
		return "", a, err
	}
	now := h.clock.Now()
	m := message{eventID: id.New(id.Event), traceID: observe.TraceID(ctx), at: now}
	if m.body, err = (Event{Type: PingType}).body([]byte("{}"), now, 0); err != nil {
		return "", a, err
	}
	err = h.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return h.audit.Record(ctx, tx, audit.Entry{Action: "webhook.ping", Target: name, Reason: reason})
	})
	if err != nil {
		return "", a, err
	}
	sending, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	res := e.send(sending, m, now)
	h.metrics.attempts.WithLabelValues(e.name, res.kind).Inc()
	h.metrics.duration.WithLabelValues(e.name).Observe(res.took.Seconds())
	return m.eventID, Attempt{Number: 1, At: res.at, Took: res.took, Status: res.status, Error: res.err, Excerpt: res.excerpt}, nil
}
