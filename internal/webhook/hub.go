package webhook

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/audit"
	"landline/internal/clock"
	"landline/internal/egress"
	"landline/internal/id"
	"landline/internal/observe"
	"landline/internal/queue"
	"landline/internal/sqldb"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

//go:embed queries.sql
var queriesSQL string

// Migrations make the tables webhook_event, webhook_subject, webhook_delivery,
// webhook_attempt and webhook_endpoint.
var Migrations = sqldb.Embedded("webhook", migrationFiles)

// Queries are the package's statements.
var Queries = sqldb.MustParse(queriesSQL)

// Lane is the lane of the queue that deliveries are worked in, and LaneWorkers
// how many workers a node should give it (queue.Options.Lanes).
const (
	Lane        = "webhook"
	LaneWorkers = 32
)

// deliveryPrefix is the type of a delivery's id.
const deliveryPrefix = "whd"

// Options is what a Hub needs. Nothing in it may be nil but Metrics.
type Options struct {
	DB      *sqldb.DB
	Queue   *queue.Queue // with the lane Lane
	Audit   *audit.Log
	Clock   clock.Clock
	Log     *slog.Logger
	Metrics prometheus.Registerer

	delays []time.Duration // in place of delays, for tests
}

// Hub emits and delivers events. It is safe for concurrent use.
type Hub struct {
	db      *sqldb.DB
	queue   *queue.Queue
	audit   *audit.Log
	clock   clock.Clock
	log     *slog.Logger
	metrics *metrics
	delays  []time.Duration
	batch   int

	registry prometheus.Registerer

	current atomic.Pointer[configured]
	applyMu sync.Mutex

	typesMu sync.Mutex
	types   map[string]EventType
}

// configured is what a configuration says. It does not change.
type configured struct {
	keep      time.Duration
	endpoints map[string]*endpoint
}

// endpoint is a receiver with what this node knows of it. What lives on over a
// change of the configuration is behind pointers.
type endpoint struct {
	Endpoint
	name   string
	keys   []Key
	client *http.Client

	*runtime
}

type runtime struct {
	gate   gate
	claims sync.Mutex  // one claim at a time, so that workers of one node do not want the same row
	wanted atomic.Bool // a job came while another was at work
	busy   atomic.Bool
}

// New returns a Hub on a migrated database and registers its jobs with the
// queue, which must not have started. s must have been checked.
func New(o Options, s *Settings) (*Hub, error) {
	h := &Hub{db: o.DB, queue: o.Queue, audit: o.Audit, clock: o.Clock, log: o.Log, registry: o.Metrics, delays: o.delays, batch: batchRows, types: map[string]EventType{}}
	if h.delays == nil {
		h.delays = delays
	}
	if err := h.Apply(s); err != nil {
		return nil, err
	}
	h.metrics = newMetrics(h, o.Metrics)
	h.Declare(EventType{PingType, "Sent by an operator to try an endpoint out; it means nothing."})
	h.registerJobs()
	return h, nil
}

// Apply uses another configuration from here on; what is under way ends on the
// old one. s must have been checked.
func (h *Hub) Apply(s *Settings) error {
	h.applyMu.Lock()
	defer h.applyMu.Unlock()
	old := h.current.Load()
	next := &configured{keep: s.Keep.D(), endpoints: make(map[string]*endpoint, len(s.Endpoints))}
	for name, c := range s.Endpoints {
		e := &endpoint{Endpoint: c, name: name, runtime: &runtime{}}
		for _, secret := range c.Secrets {
			key, err := ParseSecret(secret.Reveal())
			if err != nil {
				return fmt.Errorf("webhooks.endpoints.%s: %w", name, err)
			}
			e.keys = append(e.keys, key)
		}
		if len(e.keys) == 0 {
			return fmt.Errorf("webhooks.endpoints.%s: an endpoint needs a signing secret", name)
		}
		if old != nil && old.endpoints[name] != nil && old.endpoints[name].URL == c.URL {
			e.runtime = old.endpoints[name].runtime // still as healthy as it was
		}
		o := c.egress()
		o.Log, o.MaxResponse, o.Metrics = h.log, maxAnswer, h.registry
		e.client = egress.New(o)
		e.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		next.endpoints[name] = e
	}
	h.current.Store(next)
	if old != nil {
		for _, e := range old.endpoints {
			e.client.CloseIdleConnections()
		}
	}
	return nil
}

func (h *Hub) endpoints() map[string]*endpoint { return h.current.Load().endpoints }

// Declare says which types a capability emits; it is called when the capability
// is built. Operators see them, and Start warns of endpoints that subscribe to
// what nobody emits.
func (h *Hub) Declare(types ...EventType) {
	h.typesMu.Lock()
	defer h.typesMu.Unlock()
	for _, t := range types {
		h.types[t.Name] = t
	}
}

// Types lists what was declared, by name.
func (h *Hub) Types() []EventType {
	h.typesMu.Lock()
	defer h.typesMu.Unlock()
	return slices.SortedFunc(maps.Values(h.types), func(a, b EventType) int { return strings.Compare(a.Name, b.Name) })
}

// Wants reports whether any endpoint subscribes to the type.
func (h *Hub) Wants(eventType string) bool {
	for _, e := range h.endpoints() {
		if e.wants(eventType) {
			return true
		}
	}
	return false
}

// Emit stores an event within the caller's transaction, with a delivery for
// every endpoint that subscribes to it: they exist when that commits. It returns
// the event's id, or "" when no endpoint is configured at all, and then stores
// nothing. An error is a fault of the program or of the database; return it
// from the transaction.
func (h *Hub) Emit(ctx context.Context, tx *sqldb.Tx, e Event) (eventID string, err error) {
	if err := e.check(); err != nil {
		return "", err
	}
	data, err := e.data()
	if err != nil {
		return "", err
	}
	endpoints := h.endpoints()
	if len(endpoints) == 0 {
		return "", nil
	}
	var jobs []queue.Args
	stored, err := h.store(ctx, tx, e, data)
	if err != nil {
		return "", err
	}
	for _, name := range slices.Sorted(maps.Keys(endpoints)) {
		if !endpoints[name].wants(e.Type) {
			continue
		}
		if err := h.insertDelivery(ctx, tx, stored, name); err != nil {
			return "", err
		}
		jobs = append(jobs, deliverArgs{name})
	}
	if _, err := h.queue.EnqueueMany(ctx, tx, jobs); err != nil {
		return "", fmt.Errorf("webhook: emit %s: %w", e.Type, err)
	}
	tx.OnCommit(func() { h.metrics.events.WithLabelValues(e.Type).Inc() })
	return stored.id, nil
}

// stored is what deliveries need of an event's row.
type stored struct {
	id, eventType, subject string
	sequence               int64
	at                     time.Time
	body                   string
}

func (h *Hub) store(ctx context.Context, tx *sqldb.Tx, e Event, data []byte) (s stored, err error) {
	now := sqldb.Time(sqldb.Millis(h.clock.Now()))
	s = stored{id: id.New(id.Event), eventType: e.Type, subject: e.Subject, at: now}
	if e.Subject != "" {
		if err := tx.QueryRowContext(ctx, Queries.Get("SequenceNext"), e.Subject, sqldb.Millis(now)).Scan(&s.sequence); err != nil {
			return s, fmt.Errorf("webhook: emit %s: %w", e.Type, err)
		}
	}
	if s.body, err = e.body(data, now, s.sequence); err != nil {
		return s, fmt.Errorf("webhook: emit %s: %w", e.Type, err)
	}
	_, err = tx.ExecContext(ctx, Queries.Get("EventInsert"), s.id, e.Type, e.Subject, s.sequence, s.body, observe.TraceID(ctx), e.Final, sqldb.Millis(now))
	if err != nil {
		return s, fmt.Errorf("webhook: emit %s: %w", e.Type, err)
	}
	return s, nil
}

func (h *Hub) insertDelivery(ctx context.Context, tx *sqldb.Tx, s stored, endpoint string) error {
	at := sqldb.Millis(s.at)
	_, err := tx.ExecContext(ctx, Queries.Get("DeliveryInsert"), id.New(deliveryPrefix), s.id, endpoint, s.subject, s.sequence,
		at, sqldb.Millis(s.at.Add(giveUp)), at)
	if err != nil {
		return fmt.Errorf("webhook: emit %s: %w", s.eventType, err)
	}
	return nil
}

// Start takes up what a crash cut off and warns of subscriptions to nothing.
func (h *Hub) Start(ctx context.Context) error {
	types := h.Types()
	for name, e := range h.endpoints() {
		for _, pattern := range e.Events {
			if !slices.ContainsFunc(types, func(t EventType) bool { return matches(pattern, t.Name) }) {
				h.log.Warn("an endpoint of webhooks subscribes to what nobody emits", "endpoint", name, "events", pattern)
			}
		}
	}
	if h.db.Engine() == sqldb.SQLite { // no other process works the file: what is being sent there is nobody's
		if _, err := h.releaseLeases(ctx, h.clock.Now().Add(24*time.Hour)); err != nil {
			return fmt.Errorf("webhook: take up deliveries: %w", err)
		}
	}
	return nil
}

// Health is an error that names the endpoints that are disabled, for the node's
// report; it makes no node unfit.
func (h *Hub) Health(ctx context.Context) error {
	if len(h.endpoints()) == 0 {
		return nil
	}
	disabled, err := h.disabled(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(disabled)) {
		if h.endpoints()[name] != nil {
			errs = append(errs, fmt.Errorf("the endpoint %s is disabled: %s", name, disabled[name].Reason))
		}
	}
	return errors.Join(errs...)
}
