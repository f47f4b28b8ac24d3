package webhookadmin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/admin"
	"landline/internal/audit"
	"landline/internal/clock"
	"landline/internal/config"
	"landline/internal/module"
	"landline/internal/observe"
	"landline/internal/queue"
	"landline/internal/secret"
	"landline/internal/sqldb"
	"landline/internal/testkit"
	"landline/internal/webhook"
	"landline/internal/webhook/webhookadmin"
)

// house is an admin listener with the hub's API, whose queue is at work.
type house struct {
	t      *testing.T
	db     *sqldb.DB
	hub    *webhook.Hub
	audit  *audit.Log
	server *httptest.Server
	tokens map[module.Role]string
}

func newHouse(t *testing.T, receiver string) *house {
	t.Helper()
	db := testkit.SQLite(t, secret.Migrations, audit.Migrations, admin.Migrations, webhook.Migrations)
	h := &house{t: t, db: db, audit: audit.New(db, clock.System), tokens: map[module.Role]string{}}
	log, registry := testkit.Logger(t), prometheus.NewRegistry()
	ring, err := secret.Open(t.Context(), db, secret.Options{Dir: t.TempDir(), Clock: clock.System, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	q, err := queue.New(db, queue.Options{Log: log, Lanes: map[string]int{webhook.Lane: 4}})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := webhook.DefaultSettings()
	var e webhook.Endpoint
	e.Defaults()
	e.URL, e.Secrets, e.AllowPrivate, e.Events = receiver, []config.Secret{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, webhook.Networks{"127.0.0.0/8"}, []string{"user.*"}
	s.Endpoints = map[string]webhook.Endpoint{"billing": e}
	if h.hub, err = webhook.New(webhook.Options{DB: db, Queue: q, Audit: h.audit, Clock: clock.System, Log: log, Metrics: registry}, s); err != nil {
		t.Fatal(err)
	}
	none := func(context.Context, []byte) error { return nil }
	server, err := admin.New(admin.Options{
		DB: db, Audit: h.audit, Ring: ring, Log: slog.New(slog.DiscardHandler), Registry: registry, Health: observe.NewHealth(), Queue: q,
		Reload: func(context.Context) (admin.ReloadReport, error) { return admin.ReloadReport{}, nil }, Validate: none,
		PrintConfig: func(io.Writer) error { return nil }, Diff: func(context.Context, []byte) (admin.ConfigDiff, error) { return admin.ConfigDiff{}, nil },
		Features: func() []admin.FeatureStatus { return nil }, Upstreams: func() []admin.UpstreamStatus { return nil },
		Modules: []*module.Module{{Admin: webhookadmin.API{Hub: h.hub, DB: db, Audit: h.audit}.Admin}},
	})
	if err != nil {
		t.Fatal(err)
	}
	h.server = httptest.NewServer(server.Handler())
	t.Cleanup(h.server.Close)
	for _, role := range []module.Role{module.Viewer, module.Support, module.Operator} {
		if h.tokens[role], err = admin.AddOperator(t.Context(), db, ring, h.audit, string(role), role); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := q.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return h
}

// call returns the status and the body, and fails on an error that is no problem.
func (h *house) call(role module.Role, method, path, body string) (int, map[string]any) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), method, h.server.URL+"/admin/v1/webhooks"+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	if role != "" {
		req.Header.Set("Authorization", "Bearer "+h.tokens[role])
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := h.server.Client().Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	var out map[string]any
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &out); err != nil {
			h.t.Fatalf("%s %s: %s: %v", method, path, raw, err)
		}
	}
	if res.StatusCode >= 400 && out["code"] == nil {
		h.t.Errorf("%s %s: %d without a code: %s", method, path, res.StatusCode, raw)
	}
	return res.StatusCode, out
}

func (h *house) want(role module.Role, method, path, body string, status int) map[string]any {
	h.t.Helper()
	got, out := h.call(role, method, path, body)
	if got != status {
		h.t.Fatalf("%s %s as %s: %d %v, want %d", method, path, role, got, out, status)
	}
	return out
}

func (h *house) emit(subject string) (id string) {
	h.t.Helper()
	err := h.db.Write(h.t.Context(), func(ctx context.Context, tx *sqldb.Tx) (err error) {
		id, err = h.hub.Emit(ctx, tx, webhook.Event{Type: "user.merged", Subject: subject, Data: map[string]string{"from": "usr_old"}})
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return id
}

func TestRoles(t *testing.T) {
	receiver := httptest.NewServer(http.NotFoundHandler())
	defer receiver.Close()
	h := newHouse(t, receiver.URL)
	order := []module.Role{"", module.Viewer, module.Support, module.Operator}
	for _, op := range []struct {
		method, path, body string
		least              int
	}{
		{"GET", "/endpoints", "", 1}, {"GET", "/types", "", 1},
		{"GET", "/events", "", 2}, {"GET", "/events/evt_unknown", "", 2}, {"GET", "/deliveries", "", 2}, {"GET", "/deliveries/whd_unknown", "", 2},
		{"POST", "/events/evt_unknown/replay", "", 3}, {"POST", "/endpoints/nobody/replay", `{"failed":true}`, 3}, {"POST", "/endpoints/nobody/ping", "", 3},
		{"POST", "/endpoints/nobody/disable", "", 3}, {"POST", "/endpoints/nobody/enable", "", 3},
	} {
		for i, role := range order {
			status, _ := h.call(role, op.method, op.path, op.body)
			switch {
			case i == 0 && status != 401, i > 0 && i < op.least && status != 403, i >= op.least && status != 200 && status != 404:
				t.Errorf("%s %s as %q: %d", op.method, op.path, role, status)
			}
		}
	}
}

func TestAnOperatorsDay(t *testing.T) {
	arrived, refuse := make(chan string, 100), make(chan int, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case status := <-refuse:
			w.WriteHeader(status)
			fmt.Fprint(w, "not today")
		default:
		}
		arrived <- r.Header.Get(webhook.HeaderID)
	}))
	defer receiver.Close()
	h := newHouse(t, receiver.URL)
	next := func() string {
		t.Helper()
		select {
		case id := <-arrived:
			return id
		case <-time.After(time.Minute):
			t.Fatal("no message comes")
			return ""
		}
	}

	// A ping, once well and once not.
	if p := h.want(module.Operator, "POST", "/endpoints/billing/ping", `{"reason":"trying"}`, 200); p["delivered"] != true || p["event"] != next() {
		t.Errorf("%v", p)
	}
	refuse <- 401
	p := h.want(module.Operator, "POST", "/endpoints/billing/ping", "", 200)
	if a := p["attempt"].(map[string]any); p["delivered"] != false || a["status"] != 401.0 || a["excerpt"] != "not today" {
		t.Errorf("%v", p)
	}
	next()

	// It goes away with 410, and events wait.
	refuse <- 410
	gone := h.emit("usr_1")
	next()
	h.awaitState("disabled")
	later := h.emit("usr_2")
	e := h.endpoint()
	if e["pending"] != 2.0 || !strings.Contains(e["reason"].(string), "410") || e["disabled_at"] == nil {
		t.Errorf("%v", e)
	}
	h.want(module.Operator, "POST", "/endpoints/billing/enable", `{"reason":"back"}`, 204)
	if a, b := next(), next(); a == b || a != gone && a != later {
		t.Errorf("%s and %s came", a, b)
	}

	// Somebody asks what became of a user's events; that is audited.
	h.awaitDelivered(later)
	events := h.want(module.Support, "GET", "/events?subject=usr_1", "", 200)["data"].([]any)
	if len(events) != 1 || events[0].(map[string]any)["id"] != gone || events[0].(map[string]any)["payload"] != nil {
		t.Errorf("%v", events)
	}
	whole := h.want(module.Support, "GET", "/events/"+gone, "", 200)
	if whole["payload"].(map[string]any)["type"] != "user.merged" || len(whole["deliveries"].([]any)) != 1 {
		t.Errorf("%v", whole)
	}
	deliveryID := whole["deliveries"].([]any)[0].(map[string]any)["id"].(string)
	h.awaitDelivered(gone)
	one := h.want(module.Support, "GET", "/deliveries/"+deliveryID, "", 200)
	if tries := one["tries"].([]any); len(tries) != 2 || tries[1].(map[string]any)["status"] != 410.0 || one["state"] != "delivered" {
		t.Errorf("%v", one)
	}

	// Replays: one, and all since a time.
	if r := h.want(module.Operator, "POST", "/events/"+gone+"/replay", `{"endpoint":"billing","reason":"lost"}`, 200); r["deliveries"] != 1.0 {
		t.Errorf("%v", r)
	}
	if id := next(); id != gone {
		t.Errorf("%s came, want %s", id, gone)
	}
	h.want(module.Operator, "POST", "/endpoints/billing/replay", `{"since":"`+time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)+`"}`, 202)
	if a, b := next(), next(); a == b {
		t.Errorf("%s came twice", a)
	}
	for path, status := range map[string]int{"/endpoints/billing/replay": 400, "/endpoints/nobody/replay": 404} {
		body := `{}`
		if status == 404 {
			body = `{"failed":true}`
		}
		h.want(module.Operator, "POST", path, body, status)
	}
	h.want(module.Operator, "POST", "/endpoints/billing/enable", "", 409)
	h.want(module.Operator, "POST", "/endpoints/billing/replay", `{"sinse":"x"}`, 400)
	h.want(module.Support, "GET", "/deliveries?cursor=forged", "", 400)
	h.want(module.Support, "GET", "/deliveries?limit=1", "", 200)

	for action, least := range map[string]int{"webhook.ping": 2, "webhook.disable": 1, "webhook.enable": 1, "webhook.look_up": 2, "webhook.replay": 1, "webhook.replay_all": 1} {
		rows, _, err := h.audit.List(t.Context(), audit.Filter{Action: action})
		if err != nil || len(rows) < least {
			t.Errorf("%s: %d entries, %v", action, len(rows), err)
		}
	}
}

func (h *house) endpoint() map[string]any {
	h.t.Helper()
	return h.want(module.Viewer, "GET", "/endpoints", "", 200)["data"].([]any)[0].(map[string]any)
}

// await asks until done, a minute at most: what comes after an answer of the
// receiver is recorded a moment later.
func (h *house) await(what string, done func() bool) {
	h.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !done() {
		if time.Now().After(deadline) {
			h.t.Fatal(what)
		}
	}
}

func (h *house) awaitState(state string) {
	h.t.Helper()
	h.await("the endpoint is not "+state, func() bool { return h.endpoint()["state"] == state })
}

func (h *house) awaitDelivered(eventID string) {
	h.t.Helper()
	h.await(eventID+" is not delivered", func() bool {
		_, all, err := h.hub.Event(h.t.Context(), eventID)
		if err != nil {
			h.t.Fatal(err)
		}
		return len(all) == 1 && all[0].State == webhook.Delivered
	})
}
