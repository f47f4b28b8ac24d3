package webhook

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/audit"
	"landline/internal/clock"
	"landline/internal/config"
	"landline/internal/queue"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a hub over a real database, audit log and queue. Its queue does not
// run unless a test starts it: tests call the hub's jobs themselves, so that
// time moves only when they say.
type world struct {
	t     *testing.T
	db    *sqldb.DB
	queue *queue.Queue
	audit *audit.Log
	clock *clock.Fake
	hub   *Hub

	registry *prometheus.Registry
}

func newWorld(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB, s *Settings) *world {
	t.Helper()
	return openWorld(t, open(t, audit.Migrations, Migrations), clock.NewFake(start), s)
}

func openWorld(t *testing.T, db *sqldb.DB, clk *clock.Fake, s *Settings) *world {
	t.Helper()
	w := &world{t: t, db: db, audit: audit.New(db, clk), clock: clk, registry: prometheus.NewRegistry()}
	var err error
	log := testkit.Logger(t)
	if w.queue, err = queue.New(w.db, queue.Options{Log: log, Lanes: map[string]int{Lane: 8}}); err != nil {
		t.Fatal(err)
	}
	if err := w.queue.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.hub, err = New(Options{DB: w.db, Queue: w.queue, Audit: w.audit, Clock: w.clock, Log: log, Metrics: w.registry}, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, e := range w.hub.endpoints() {
			e.client.CloseIdleConnections()
		}
	})
	return w
}

func engines(t *testing.T, fn func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB)) {
	t.Helper()
	testkit.Engines(t, fn)
}

// settings has one endpoint for each receiver, on the loopback, in any private network.
func settings(receivers ...*receiver) *Settings {
	s := DefaultSettings()
	s.Endpoints = map[string]Endpoint{}
	for _, r := range receivers {
		var e Endpoint
		e.Defaults()
		e.URL, e.Secrets, e.AllowPrivate = r.server.URL+"/hook", []config.Secret{config.Secret(r.secret)}, Networks{allPrivate}
		s.Endpoints[r.name] = e
	}
	return s
}

func (s *Settings) with(name string, change func(*Endpoint)) *Settings {
	e := s.Endpoints[name]
	change(&e)
	s.Endpoints[name] = e
	return s
}

// got is a message that a receiver took.
type got struct {
	id       string
	genuine  bool
	Type     string          `json:"type"`
	Time     time.Time       `json:"timestamp"`
	Subject  string          `json:"subject"`
	Sequence int64           `json:"sequence"`
	Data     json.RawMessage `json:"data"`
	header   http.Header
	body     string
}

// receiver is a service of the team's. answer says how it answers the n-th
// message (from 0); nil is 204.
type receiver struct {
	name, secret string
	server       *httptest.Server

	mu     sync.Mutex
	msgs   []got
	answer func(n int, w http.ResponseWriter, r *http.Request)
	now    func() time.Time
}

func newReceiver(t *testing.T, name string) *receiver {
	t.Helper()
	r := &receiver{name: name, secret: goodSecret}
	if name != "billing" {
		r.secret = "whsec_" + strings.Repeat("QUJD", 12)
	}
	r.server = httptest.NewServer(r)
	t.Cleanup(r.server.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // cut off
	}
	r.mu.Lock()
	m := got{header: req.Header.Clone(), body: string(body)}
	if err := json.Unmarshal(body, &m); err == nil && r.now != nil {
		k, err := ParseSecret(r.secret)
		if err == nil {
			m.id, err = Verify([]Key{k}, req.Header, body, r.now())
		}
		m.genuine = err == nil && req.Method == http.MethodPost && req.Header.Get("Content-Type") == "application/json" && req.URL.Path == "/hook"
	}
	n, answer := len(r.msgs), r.answer
	r.msgs = append(r.msgs, m)
	r.mu.Unlock()
	if answer != nil {
		answer(n, w, req)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// answers sets how the receiver answers from now on.
func (r *receiver) answers(answer func(n int, w http.ResponseWriter, req *http.Request)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func status(code int, header ...string) func(int, http.ResponseWriter, *http.Request) {
	return func(_ int, w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

// take returns the messages that came since the last take; every one must be genuine.
func (r *receiver) take(t *testing.T) []got {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.msgs
	r.msgs = nil
	for _, m := range all {
		if !m.genuine {
			t.Errorf("%s: a message that does not verify: %v %s", r.name, m.header, m.body)
		}
	}
	return all
}

func (r *receiver) ids(t *testing.T) (ids []string) {
	t.Helper()
	for _, m := range r.take(t) {
		ids = append(ids, m.id)
	}
	return ids
}

// on makes receivers verify against the world's clock.
func (w *world) on(receivers ...*receiver) *world {
	for _, r := range receivers {
		r.now = w.clock.Now
	}
	return w
}

func (w *world) write(fn func(ctx context.Context, tx *sqldb.Tx) error) error {
	w.t.Helper()
	return w.db.Write(w.t.Context(), fn)
}

func (w *world) emit(e Event) (id string) {
	w.t.Helper()
	err := w.write(func(ctx context.Context, tx *sqldb.Tx) (err error) {
		id, err = w.hub.Emit(ctx, tx, e)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.clock.Advance(time.Millisecond) // so that due times differ
	return id
}

// work does what a job of the endpoint does.
func (w *world) work(name string) {
	w.t.Helper()
	for {
		err := w.hub.work(w.t.Context(), name)
		if err == nil {
			return
		}
		if err.Error() != queue.Snooze(0).Error() { // a slow machine: the job comes again
			w.t.Fatal(err)
		}
	}
}

func (w *world) sweep() {
	w.t.Helper()
	if err := w.hub.sweep(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) deliveries(f DeliveryFilter) []Delivery {
	w.t.Helper()
	all, _, err := w.hub.Deliveries(w.t.Context(), f)
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// delivery returns the one delivery of an event to an endpoint, with its attempts.
func (w *world) delivery(eventID, endpoint string) (Delivery, []Attempt) {
	w.t.Helper()
	_, all, err := w.hub.Event(w.t.Context(), eventID)
	if err != nil {
		w.t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(d Delivery) bool { return d.Endpoint == endpoint })
	if i < 0 {
		w.t.Fatalf("%s has no delivery to %s", eventID, endpoint)
	}
	d, attempts, err := w.hub.Delivery(w.t.Context(), all[i].ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return d, attempts
}

// jobs counts the open jobs of a kind.
func (w *world) jobs(kind string) int {
	w.t.Helper()
	rows, _, err := w.queue.List(w.t.Context(), queue.Filter{Kind: kind, Limit: 200})
	if err != nil {
		w.t.Fatal(err)
	}
	return len(rows)
}

func (w *world) audited(action string) int {
	w.t.Helper()
	rows, _, err := w.audit.List(w.t.Context(), audit.Filter{Action: action})
	if err != nil {
		w.t.Fatal(err)
	}
	return len(rows)
}
