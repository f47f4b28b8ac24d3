package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/admin"
	"landline/internal/audit"
	"landline/internal/clock"
	"landline/internal/config"
	"landline/internal/module"
	"landline/internal/observe"
	"landline/internal/problem"
	"landline/internal/queue"
	"landline/internal/secret"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// mailArgs is a kind of job that the tests enqueue; it holds a secret that no answer may show.
type mailArgs struct {
	To    string `json:"to"`
	Token string `json:"token"`
}

func (mailArgs) Kind() string { return "test.mail" }

// world is an admin listener over a real database, key ring, queue and audit log.
type world struct {
	t       *testing.T
	db      *sqldb.DB
	ring    *secret.Ring
	audit   *audit.Log
	queue   *queue.Queue
	clock   *clock.Fake
	health  *observe.Health
	logs    *testkit.Buffer
	options admin.Options
	server  *httptest.Server
	tokens  map[module.Role]string

	reload   func(context.Context) (admin.ReloadReport, error)
	validate func(context.Context, []byte) error
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newWorld opens the listener; change may alter its options.
func newWorld(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB, change ...func(*admin.Options)) *world {
	t.Helper()
	w := &world{t: t, clock: clock.NewFake(start), health: observe.NewHealth(), logs: &testkit.Buffer{}, tokens: map[module.Role]string{}}
	w.db = open(t, secret.Migrations, audit.Migrations, admin.Migrations)
	log := slog.New(slog.NewJSONHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.audit = audit.New(w.db, w.clock)
	var err error
	if w.ring, err = secret.Open(t.Context(), w.db, secret.Options{Dir: t.TempDir(), Clock: w.clock, Log: log}); err != nil {
		t.Fatal(err)
	}
	if err := w.ring.Ensure(t.Context(), "access-token", secret.ES256); err != nil {
		t.Fatal(err)
	}
	if w.queue, err = queue.New(w.db, queue.Options{Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	queue.Register(w.queue, func(context.Context, *queue.Job[mailArgs]) error { return nil })
	if err := w.queue.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.reload = func(context.Context) (admin.ReloadReport, error) { return admin.ReloadReport{}, nil }
	w.validate = func(context.Context, []byte) error { return nil }
	w.options = admin.Options{
		DB: w.db, Audit: w.audit, Ring: w.ring, Clock: w.clock, Log: log, Registry: prometheus.NewRegistry(), Health: w.health, Version: "1.2.3",
		Hosts:       []string{"admin.example"},
		Reload:      func(ctx context.Context) (admin.ReloadReport, error) { return w.reload(ctx) },
		Validate:    func(ctx context.Context, b []byte) error { return w.validate(ctx, b) },
		PrintConfig: func(out io.Writer) error { _, err := io.WriteString(out, "profile: production\n"); return err },
		Diff: func(_ context.Context, yaml []byte) (admin.ConfigDiff, error) {
			if yaml != nil && bytes.Contains(yaml, []byte("wrong")) {
				return admin.ConfigDiff{}, config.Faults{{File: "landline.yaml", Line: 1, Col: 1, Path: "wrong", Message: "unknown key"}}
			}
			return admin.ConfigDiff{Changes: []admin.ConfigChange{{Path: "log.level", Old: "info", New: string(yaml)}}}, nil
		},
		Features: func() []admin.FeatureStatus {
			return []admin.FeatureStatus{{Name: "flight-status", Owner: "team-flights", Breaker: "open", Routes: []module.RouteStatus{{Match: "GET /v1/x", Auth: "none"}}}}
		},
		Upstreams: func() []admin.UpstreamStatus { return nil },
		Queue:     w.queue,
		Modules: []*module.Module{{}, {Admin: func(a huma.API) {
			huma.Register(a, huma.Operation{Method: http.MethodGet, Path: "/admin/v1/undeclared", OperationID: "undeclared"},
				func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
			huma.Register(a, huma.Operation{Method: http.MethodGet, Path: "/admin/v1/panics", OperationID: "panics", Metadata: module.Require(module.Viewer)},
				func(context.Context, *struct{}) (*struct{}, error) { panic("hunter2") })
		}}},
	}
	for _, c := range change {
		c(&w.options)
	}
	s, err := admin.New(w.options)
	if err != nil {
		t.Fatal(err)
	}
	w.server = httptest.NewServer(s.Handler())
	t.Cleanup(w.server.Close)
	for _, role := range []module.Role{module.Viewer, module.Support, module.Operator, module.Owner} {
		token, err := admin.AddOperator(t.Context(), w.db, w.ring, w.audit, "first-"+string(role), role)
		if err != nil {
			t.Fatal(err)
		}
		w.tokens[role] = token
	}
	return w
}

// onEngines runs fn against a listener on each engine.
func onEngines(t *testing.T, fn func(t *testing.T, w *world)) {
	t.Helper()
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) { fn(t, newWorld(t, open)) })
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	raw    string
	body   map[string]any
}

// code is the problem's code, or the status where it is no problem.
func (a answer) code() string { s, _ := a.body["code"].(string); return s }

// call sends a request; token "" sends none. Every problem is checked for its shape.
func (w *world) call(token, method, path, body string, header ...string) answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.server.URL+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		} else {
			req.Header.Add(header[i], header[i+1])
		}
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		w.t.Fatal(err)
	}
	a := answer{status: res.StatusCode, header: res.Header, raw: string(raw)}
	if strings.Contains(res.Header.Get("Content-Type"), "json") && len(raw) > 0 {
		if err := json.Unmarshal(raw, &a.body); err != nil {
			w.t.Fatalf("%s %s: %q: %v", method, path, raw, err)
		}
	}
	if a.status >= 400 {
		if res.Header.Get("Content-Type") != problem.MediaType || res.Header.Get("Landline-Trace-Id") == "" {
			w.t.Errorf("%s %s: %d is no problem with a trace id: %v %q", method, path, a.status, res.Header, raw)
		}
		if method != http.MethodHead && (a.code() == "" || a.body["trace_id"] != res.Header.Get("Landline-Trace-Id")) {
			w.t.Errorf("%s %s: the problem is not complete: %s", method, path, raw)
		}
	}
	return a
}

func (w *world) as(role module.Role, method, path, body string, header ...string) answer {
	w.t.Helper()
	return w.call(w.tokens[role], method, path, body, header...)
}

// want fails the test unless a has the status and, for errors, the code.
func want(t *testing.T, a answer, status int, code problem.Code) answer {
	t.Helper()
	if a.status != status || a.code() != string(code) && status >= 400 {
		t.Errorf("got %d %s, want %d %s: %s", a.status, a.code(), status, code, a.raw)
	}
	return a
}

// actions returns the audit log's newest actions, newest first.
func (w *world) actions(n int) []audit.Row {
	w.t.Helper()
	rows, _, err := w.audit.List(w.t.Context(), audit.Filter{Limit: n})
	if err != nil {
		w.t.Fatal(err)
	}
	return rows
}

// job enqueues a job and returns its id.
func (w *world) job() int64 {
	w.t.Helper()
	var id int64
	err := w.db.Write(w.t.Context(), func(ctx context.Context, tx *sqldb.Tx) (err error) {
		id, err = w.queue.Enqueue(ctx, tx, mailArgs{"usr_1", "hunter2"})
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}
