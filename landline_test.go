package landline_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"landline"
)

func serve(t *testing.T, config string, features ...landline.Feature) (srv *landline.Server, base string) {
	t.Helper()
	srv, err := landline.New(landline.Options{
		Config: []byte(config), Public: "127.0.0.1:0", Admin: "127.0.0.1:0", DataDir: t.TempDir(), Stdout: io.Discard, Stderr: io.Discard,
	}, features...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil || landline.ExitCode(err) != 0 {
			t.Error(err)
		}
	})
	return srv, "http://" + srv.PublicAddr().String()
}

func call(t *testing.T, method, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(text)
}

type counted struct{ N int }

func (counted) Kind() string { return "test.counted" }

func probe(worked chan<- string) landline.Feature {
	return landline.Feature{
		Name: "probe", Owner: "team-probe", Auth: landline.None, Timeout: 100 * time.Millisecond, MaxBody: 64, Priority: landline.Critical,
		Migrations: fstest.MapFS{"0001_probe.sql": {Data: []byte("-- +goose Up\nCREATE TABLE probe_row (id BIGINT PRIMARY KEY);")}},
		Routes: []landline.Route{
			landline.Handle("GET /v1/probe/{what}", func(ctx context.Context, r *landline.Request) (*landline.Response, error) {
				switch r.PathValue("what") {
				case "nothing":
					return nil, nil
				case "text":
					c := r.Client()
					return &landline.Response{Header: http.Header{"X-Query": {r.Query().Get("q")}}, Body: []byte(c.App + c.Version + landline.TraceID(ctx) + r.Header("X-In"))}, nil
				case "own":
					return nil, fmt.Errorf("wrapped: %w", &landline.Problem{Code: "sold_out", Status: 409, Title: "Sold out.", Detail: "none left", Action: "fix_request",
						RetryAfter: 3 * time.Second, Members: map[string]any{"left": 0}, Cause: errors.New("hidden cause")})
				case "known":
					return nil, &landline.Problem{Code: "conflict", Status: 200, Detail: "changed"}
				case "odd":
					return nil, &landline.Problem{Code: "odd", Status: 200}
				case "slow":
					<-ctx.Done()
					return nil, context.Cause(ctx)
				case "late":
					<-ctx.Done()
					return nil, fmt.Errorf("look it up: %w", ctx.Err())
				case "error":
					return nil, errors.New("hidden cause")
				case "principal":
					return landline.JSON(200, r.Principal())
				}
				panic("hidden cause")
			}),
			landline.Handle("GET /v1/probe-account", func(context.Context, *landline.Request) (*landline.Response, error) { return nil, nil }).For(landline.Account),
			landline.HandleHTTP("GET /v1/probe-http/{name}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				err := landline.DatabaseFrom(r.Context()).Read(r.Context(), func(ctx context.Context, q landline.Querier) error {
					return q.QueryRowContext(ctx, `SELECT id FROM probe_row WHERE id = -1`).Scan(new(int))
				})
				fmt.Fprint(w, r.PathValue("name"), errors.Is(err, landline.ErrNotFound), landline.PrincipalFrom(r.Context()) == nil)
			})),
			landline.Handle("POST /v1/probe/body", func(_ context.Context, r *landline.Request) (*landline.Response, error) {
				var in struct{ A int }
				if err := r.JSON(&in); err != nil {
					return nil, err
				}
				return landline.JSON(200, in)
			}),
			landline.Write("POST /v1/probe/job/{n}", func(ctx context.Context, tx *landline.Tx, r *landline.Request) (*landline.Response, error) {
				if _, err := landline.Enqueue(ctx, tx, counted{1}, landline.Attempts(2), landline.Once(0), landline.At(time.Now())); err != nil {
					return nil, err
				}
				tx.OnCommit(func() { worked <- "commit" })
				if r.PathValue("n") == "no" {
					return nil, &landline.Problem{Code: "conflict"}
				}
				return nil, nil
			}),
		},
		Jobs: []landline.Worker{landline.Work(time.Second, func(ctx context.Context, j landline.Job[counted]) error {
			err := landline.DatabaseFrom(ctx).Write(ctx, func(ctx context.Context, tx *landline.Tx) error {
				_, err := tx.ExecContext(ctx, `INSERT INTO probe_row (id) VALUES ($1)`, j.ID)
				return err
			})
			worked <- fmt.Sprint("job ", j.Args.N, j.Attempt, j.MaxAttempts, err)
			return landline.CancelJob(errors.New("once is enough"))
		})},
	}
}

func TestHandlers(t *testing.T) {
	worked := make(chan string, 10)
	_, base := serve(t, "{}", probe(worked))
	for _, c := range []struct {
		method, path, body, kind string
		status                   int
		want                     []string
	}{
		{"GET", "/v1/probe/nothing", "", "", 204, nil},
		{"GET", "/v1/probe/own", "", "", 409, []string{`"code":"sold_out"`, `"title":"Sold out."`, `"detail":"none left"`, `"left":0`, `"retry_after":3`, `"action":"fix_request"`, `"trace_id":`}},
		{"GET", "/v1/probe/known", "", "", 409, []string{`"code":"conflict"`, `"detail":"changed"`, `"title":"The change conflicts`}},
		{"GET", "/v1/probe/odd", "", "", 500, []string{`"code":"odd"`}},
		{"GET", "/v1/probe/slow", "", "", 504, []string{`"code":"upstream_timeout"`}},
		{"GET", "/v1/probe/late", "", "", 504, []string{`"code":"upstream_timeout"`}},
		{"GET", "/v1/probe/error", "", "", 500, []string{`"code":"internal"`}},
		{"GET", "/v1/probe/panic", "", "", 500, []string{`"code":"internal"`}},
		{"GET", "/v1/probe/principal", "", "", 200, []string{"null"}},
		{"GET", "/v1/probe-account", "", "", 401, []string{`"code":"token_missing"`}},
		{"GET", "/v1/probe-http/x%20y", "", "", 200, []string{"x ytrue true"}},
		{"POST", "/v1/probe/body", `{"a":1}`, "application/json", 200, []string{`{"A":1}`}},
		{"POST", "/v1/probe/body", `{"a":1}`, "text/plain", 415, []string{`"code":"media_type_unsupported"`}},
		{"POST", "/v1/probe/body", `{"b":1}`, "application/json", 400, []string{`"code":"unknown_field"`}},
		{"POST", "/v1/probe/body", `{"a":"x"}`, "application/json", 400, []string{`body.A: expected int`}},
		{"POST", "/v1/probe/body", `{"a":1} {}`, "application/json", 400, []string{`more than one`}},
		{"POST", "/v1/probe/body", ``, "application/json", 400, []string{`not valid JSON`}},
		{"POST", "/v1/probe/body", strings.Repeat(" ", 65), "application/json", 413, []string{`"code":"body_too_large"`}},
	} {
		res, body := call(t, c.method, base+c.path, c.body, "Content-Type", c.kind)
		for _, want := range c.want {
			if !strings.Contains(body, want) {
				t.Errorf("%s: no %s in %s", c.path, want, body)
			}
		}
		if res.StatusCode != c.status {
			t.Errorf("%s %s: %d %s", c.path, c.body, res.StatusCode, body)
		}
		if strings.Contains(body, `"hidden cause"`) && !strings.Contains(body, `"debug":`) {
			t.Errorf("%s: the cause shows in %s", c.path, body)
		}
	}
	res, body := call(t, "GET", base+"/v1/probe/text?q=1", "", "Landline-Client", `app="a", version="1.2"`, "X-In", "in")
	if res.Header.Get("X-Query") != "1" || body != "a1.2"+res.Header.Get("Landline-Trace-Id")+"in" {
		t.Errorf("%v %s", res.Header, body)
	}
}

// A job exists exactly when the transaction that enqueued it was committed.
func TestJobsAndHooks(t *testing.T) {
	worked := make(chan string, 10)
	srv, base := serve(t, "{}", probe(worked))
	if res, body := call(t, "POST", base+"/v1/probe/job/no", ""); res.StatusCode != 409 {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if res, body := call(t, "POST", base+"/v1/probe/job/yes", ""); res.StatusCode != 204 {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	for _, want := range []string{"commit", "job 1 1 2 <nil>"} {
		select {
		case got := <-worked:
			if got != want {
				t.Errorf("%q, want %q", got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("no %s", want)
		}
	}
	var rows int
	err := srv.Database().Read(t.Context(), func(ctx context.Context, q landline.Querier) error {
		return q.QueryRowContext(ctx, `SELECT COUNT(*) FROM probe_row`).Scan(&rows)
	})
	if err != nil || rows != 1 {
		t.Errorf("%d rows, %v", rows, err)
	}
	err = srv.Database().Write(t.Context(), func(ctx context.Context, tx *landline.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO probe_row (id) SELECT id FROM probe_row`)
		return err
	})
	if !errors.Is(err, landline.ErrConflict) {
		t.Error(err)
	}
}

// What the program gets wrong is told by New, before anything is served.
func TestFaultsOfTheProgram(t *testing.T) {
	handle := func(match string) landline.Route {
		return landline.Handle(match, func(context.Context, *landline.Request) (*landline.Response, error) { return nil, nil })
	}
	for want, c := range map[string]struct {
		config   string
		features []landline.Feature
	}{
		"matches the same requests as":       {"{}", []landline.Feature{{Name: "a", Routes: []landline.Route{handle("GET /v1/a"), handle("GET /v1/a")}}}},
		"two built-in features are called":   {"{}", []landline.Feature{{Name: "a"}, {Name: "a"}}},
		"auth is none, anonymous or account": {"{}", []landline.Feature{{Name: "a", Auth: "everybody", Routes: []landline.Route{handle("GET /v1/a")}}}},
		"has no handler":                     {"{}", []landline.Feature{{Name: "a", Routes: []landline.Route{{}}}}},
		"at most 37":                         {"{}", []landline.Feature{{Name: strings.Repeat("a", 40), Migrations: fstest.MapFS{}}}},
		"has no breaker to set":              {"features: {a: {breaker: {}}}", []landline.Feature{{Name: "a", Routes: []landline.Route{handle("GET /v1/a")}}}},
		"landline.yaml:1:2: featurs":         {"{featurs: 1}", nil},
		"no built-in feature has this name":  {"features: {b: {timeout: 1s}}", []landline.Feature{{Name: "a"}}},
	} {
		srv, err := landline.New(landline.Options{
			Config: []byte(c.config), Public: "127.0.0.1:0", Admin: "127.0.0.1:0", DataDir: t.TempDir(), Stdout: io.Discard, Stderr: io.Discard,
		}, c.features...)
		if err == nil {
			t.Errorf("no fault: want %q", want)
			err = srv.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := landline.DatabaseFrom(t.Context()).Read(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "not that of a handler") {
		t.Error(err)
	}
	if _, err := landline.Enqueue(t.Context(), &landline.Tx{}, counted{}); err == nil {
		t.Error("a job without a transaction")
	}
}

func TestClose(t *testing.T) {
	o := landline.Options{Config: []byte("{}"), Public: "127.0.0.1:0", Admin: "127.0.0.1:0", DataDir: t.TempDir(), Stdout: io.Discard, Stderr: io.Discard}
	for range 2 { // the second finds everything free
		srv, err := landline.New(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := srv.Reload(t.Context()); err == nil || landline.ExitCode(err) != 78 {
			t.Errorf("a built-in configuration was reloaded: %v", err)
		}
		if srv.AdminAddr().String() == srv.PublicAddr().String() {
			t.Error("one address for both listeners")
		}
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	}
}
