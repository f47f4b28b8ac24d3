package admin_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"landline/internal/admin"
	"landline/internal/admin/client"
	"landline/internal/audit"
	"landline/internal/config"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

func TestEveryStatementIsPrepared(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		if err := sqldb.PrepareAll(t.Context(), open(t, admin.Migrations), admin.Queries); err != nil {
			t.Error(err)
		}
	})
}

func TestStatusFeaturesAndUpstreams(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.health.Register("redis", false, func(context.Context) error { return errors.New("refused") })
		w.health.SetReady(true)
		w.clock.Advance(90 * time.Second)
		a := want(t, w.as(module.Viewer, "GET", "/admin/v1/status", ""), 200, "")
		if a.body["version"] != "1.2.3" || a.body["uptime"] != 90.0 || a.body["profile"] != "production" || a.body["engine"] != w.db.Engine() ||
			a.body["started_at"] != "2026-03-01T12:00:00Z" || !strings.Contains(a.raw, `"status":"degraded"`) {
			t.Error(a.raw)
		}
		if a := w.as(module.Viewer, "GET", "/admin/v1/features", ""); !strings.Contains(a.raw, `"breaker":"open"`) || !strings.Contains(a.raw, `"page":{"next":null}`) {
			t.Error(a.raw)
		}
		if a := w.as(module.Viewer, "GET", "/admin/v1/upstreams", ""); strings.TrimSpace(a.raw) != `{"data":[],"page":{"next":null}}` {
			t.Error(a.raw)
		}
	})
}

func TestConfig(t *testing.T) {
	w := newWorld(t, testkit.SQLite)
	a := want(t, w.as(module.Operator, "GET", "/admin/v1/config", ""), 200, "")
	if a.raw != "profile: production\n" || !strings.HasPrefix(a.header.Get("Content-Type"), "application/yaml") {
		t.Errorf("%q %v", a.raw, a.header)
	}
	var got []byte
	w.validate = func(_ context.Context, b []byte) error { got = b; return nil }
	a = want(t, w.as(module.Owner, "POST", "/admin/v1/config/validate", "app: {id: x}\n", "Content-Type", "application/yaml"), 200, "")
	if a.body["valid"] != true || string(got) != "app: {id: x}\n" {
		t.Errorf("%s, got %q", a.raw, got)
	}
	fault := config.Fault{File: "landline.yaml", Line: 3, Col: 5, Path: "app.id", Message: "is empty", Hint: "give the bundle id"}
	w.validate = func(context.Context, []byte) error { return fmt.Errorf("check: %w", config.Faults{fault}) }
	a = want(t, w.as(module.Owner, "POST", "/admin/v1/config/validate", "x"), 422, problem.ConfigInvalid)
	if !strings.Contains(a.raw, `"line":3`) || !strings.Contains(a.raw, `"hint":"give the bundle id"`) {
		t.Error(a.raw)
	}
	w.validate = func(context.Context, []byte) error { return nil }
	want(t, w.as(module.Owner, "POST", "/admin/v1/config/validate", strings.Repeat("#", 4<<20)), 200, "")
	want(t, w.as(module.Owner, "POST", "/admin/v1/config/validate", strings.Repeat("#", 4<<20+1)), 413, problem.BodyTooLarge)
	want(t, w.as(module.Owner, "POST", "/admin/v1/config/validate", strings.Repeat("#", 6<<20)), 413, problem.BodyTooLarge)
	want(t, w.as(module.Operator, "POST", "/admin/v1/config/reload", `{"reasn":"x"}`), 400, problem.UnknownField)
}

func TestReloadIsAuditedWhateverComesOfIt(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.reload = func(context.Context) (admin.ReloadReport, error) {
			return admin.ReloadReport{Changed: []string{"features.flight-status.timeout"}}, nil
		}
		a := want(t, w.as(module.Operator, "POST", "/admin/v1/config/reload", `{"reason":"ticket 7"}`), 200, "")
		if strings.TrimSpace(a.raw) != `{"changed":["features.flight-status.timeout"]}` {
			t.Error(a.raw)
		}
		rows := w.actions(2)
		if rows[0].Action != "config.reload" || rows[1].Action != "config.reload_requested" || rows[0].Reason != "ticket 7" ||
			!strings.Contains(string(rows[0].After), "flight-status.timeout") || rows[0].Actor.Type != audit.TypeOperator ||
			rows[0].Actor.IP != "127.0.0.1" || rows[0].RequestID != a.header.Get("Landline-Trace-Id") {
			t.Errorf("%+v", rows)
		}
		w.reload = func(context.Context) (admin.ReloadReport, error) {
			return admin.ReloadReport{}, config.Faults{{Message: "a"}, {Message: "b"}}
		}
		want(t, w.as(module.Operator, "POST", "/admin/v1/config/reload", ""), 422, problem.ConfigInvalid)
		if r := w.actions(1)[0]; r.Action != "config.reload_refused" || string(r.After) != `{"failed":true,"faults":2}` {
			t.Errorf("%s %s", r.Action, r.After)
		}
	})
}

func TestAReloadThatCannotBeAuditedIsNotDone(t *testing.T) {
	cable, open := overCable(t)
	w := newWorld(t, open)
	reloaded := false
	w.reload = func(context.Context) (admin.ReloadReport, error) { reloaded = true; return admin.ReloadReport{}, nil }
	cable.cut()
	want(t, w.as(module.Operator, "POST", "/admin/v1/config/reload", ""), 503, problem.StorageUnavailable)
	if reloaded {
		t.Error("the configuration was reloaded all the same")
	}
}

func TestJobs(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		ids := []int64{w.job(), w.job(), w.job()}
		a := want(t, w.as(module.Viewer, "GET", "/admin/v1/jobs?limit=2&kind=test.mail&state=available", ""), 200, "")
		data, _ := a.body["data"].([]any)
		next, _ := a.body["page"].(map[string]any)["next"].(string)
		if len(data) != 2 || next == "" || strings.Contains(a.raw, "hunter2") || strings.Contains(a.raw, "usr_1") {
			t.Fatal(a.raw)
		}
		if a := w.as(module.Viewer, "GET", "/admin/v1/jobs?cursor="+next, ""); len(a.body["data"].([]any)) != 1 {
			t.Error(a.raw)
		}
		want(t, w.as(module.Viewer, "GET", "/admin/v1/jobs?state=sleeping", ""), 400, problem.InvalidRequest)
		want(t, w.as(module.Viewer, "GET", "/admin/v1/jobs?limit=0", ""), 400, problem.InvalidRequest)
		want(t, w.as(module.Viewer, "GET", "/admin/v1/jobs/999999", ""), 404, problem.NotFound)
		want(t, w.as(module.Viewer, "GET", "/admin/v1/jobs/x", ""), 400, problem.InvalidRequest)

		path := fmt.Sprintf("/admin/v1/jobs/%d", ids[0])
		if a := w.as(module.Viewer, "GET", path, ""); strings.Contains(a.raw, "args") {
			t.Errorf("a viewer sees arguments: %s", a.raw)
		}
		a = want(t, w.as(module.Support, "GET", path, ""), 200, "")
		if !strings.Contains(a.raw, `"to":"usr_1"`) || strings.Contains(a.raw, "hunter2") {
			t.Error(a.raw)
		}
		a = want(t, w.as(module.Operator, "POST", path+"/cancel", `{"reason":"sent twice"}`), 200, "")
		if a.body["state"] != "cancelled" {
			t.Error(a.raw)
		}
		r := w.actions(1)[0]
		if r.Action != "job.cancel" || r.Target != fmt.Sprintf("job:%d", ids[0]) || r.Reason != "sent twice" || !strings.Contains(string(r.Before), "available") {
			t.Errorf("%+v", r)
		}
		a = want(t, w.as(module.Operator, "POST", path+"/retry", ""), 200, "")
		if a.body["state"] != "available" || w.actions(1)[0].Action != "job.retry" {
			t.Error(a.raw)
		}
		before := len(w.actions(200))
		want(t, w.as(module.Operator, "POST", "/admin/v1/jobs/999999/retry", ""), 404, problem.NotFound)
		want(t, w.as(module.Operator, "POST", path+"/cancel", ""), 200, "")
		want(t, w.as(module.Operator, "POST", path+"/cancel", ""), 409, problem.Conflict)
		if after := len(w.actions(200)); after != before+1 {
			t.Errorf("changes that did not happen were audited: %d entries, then %d", before, after)
		}
	})
}

func TestOperatorsComeAndGo(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		a := want(t, w.as(module.Owner, "POST", "/admin/v1/operators", `{"name":"ci","role":"viewer","reason":"pipeline"}`), 201, "")
		token, _ := a.body["token"].(string)
		op, _ := a.body["operator"].(map[string]any)
		id, _ := op["id"].(string)
		want(t, w.call(token, "GET", "/admin/v1/status", ""), 200, "")
		if r := w.actions(1)[0]; r.Action != "operator.add" || r.Target != id || string(r.After) != `{"name":"ci","role":"viewer"}` || r.Reason != "pipeline" {
			t.Errorf("%+v", r)
		}
		want(t, w.as(module.Owner, "POST", "/admin/v1/operators", `{"name":"ci","role":"owner"}`), 409, problem.Conflict)
		want(t, w.as(module.Owner, "POST", "/admin/v1/operators", `{"name":"c i","role":"owner"}`), 400, problem.InvalidRequest)
		want(t, w.as(module.Owner, "POST", "/admin/v1/operators", `{"name":"x","role":"root"}`), 400, problem.InvalidRequest)
		want(t, w.as(module.Owner, "POST", "/admin/v1/operators", `{"name":"x","role":"owner","token":"y"}`), 400, problem.UnknownField)

		want(t, w.as(module.Owner, "PATCH", "/admin/v1/operators/"+id, `{"role":"operator"}`), 200, "")
		want(t, w.call(token, "POST", "/admin/v1/config/reload", ""), 200, "")
		a = want(t, w.as(module.Owner, "POST", "/admin/v1/operators/"+id+"/rotate", ""), 200, "")
		fresh, _ := a.body["token"].(string)
		want(t, w.call(token, "GET", "/admin/v1/status", ""), 401, problem.TokenInvalid)
		want(t, w.call(fresh, "GET", "/admin/v1/status", ""), 200, "")
		want(t, w.as(module.Owner, "DELETE", "/admin/v1/operators/"+id+"?reason=left", ""), 204, "")
		want(t, w.call(fresh, "GET", "/admin/v1/status", ""), 401, problem.TokenInvalid)
		want(t, w.as(module.Owner, "DELETE", "/admin/v1/operators/"+id, ""), 404, problem.NotFound)
		want(t, w.as(module.Owner, "PATCH", "/admin/v1/operators/"+id, `{"role":"owner"}`), 404, problem.NotFound)
		want(t, w.as(module.Owner, "POST", "/admin/v1/operators/opr_nobody/rotate", ""), 404, problem.NotFound)
		want(t, w.as(module.Owner, "POST", "/admin/v1/operators", `{"name":"ci","role":"viewer"}`), 201, "")

		a = want(t, w.as(module.Owner, "GET", "/admin/v1/operators", ""), 200, "")
		if n := len(a.body["data"].([]any)); n != 6 || !strings.Contains(a.raw, "disabled_at") || strings.Contains(a.raw, token) {
			t.Errorf("%d operators: %s", n, a.raw)
		}
		for _, secretText := range []string{token, fresh} {
			if strings.Contains(w.logs.String(), secretText[4:]) {
				t.Error("a token is in the log")
			}
			for _, r := range w.actions(200) {
				if strings.Contains(string(r.After)+string(r.Before), secretText[4:]) {
					t.Error("a token is in the audit log")
				}
			}
		}
	})
}

func TestTheLastOwnerStays(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		me := want(t, w.as(module.Owner, "GET", "/admin/v1/operators/me", ""), 200, "").body["id"].(string)
		want(t, w.as(module.Owner, "DELETE", "/admin/v1/operators/"+me, ""), 409, problem.Conflict)
		want(t, w.as(module.Owner, "PATCH", "/admin/v1/operators/"+me, `{"role":"viewer"}`), 409, problem.Conflict)
		a := want(t, w.as(module.Owner, "POST", "/admin/v1/operators", `{"name":"second","role":"owner"}`), 201, "")
		second, _ := a.body["operator"].(map[string]any)["id"].(string)
		token, _ := a.body["token"].(string)
		// Each removes the other at the same moment: one of them must fail.
		var wg sync.WaitGroup
		codes := make([]int, 2)
		wg.Go(func() { codes[0] = w.as(module.Owner, "DELETE", "/admin/v1/operators/"+second, "").status })
		wg.Go(func() { codes[1] = w.call(token, "DELETE", "/admin/v1/operators/"+me, "").status })
		wg.Wait()
		if (codes[0] == 204) == (codes[1] == 204) {
			t.Errorf("the two removals answered %v", codes)
		}
	})
}

func TestLastUsedIsCoarse(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		used := func() any { return w.as(module.Owner, "GET", "/admin/v1/operators/me", "").body["last_used_at"] }
		if first := used(); first != nil {
			t.Errorf("before its first use it says %v", first)
		}
		w.clock.Advance(4 * time.Minute)
		if got := used(); got != "2026-03-01T12:00:00Z" {
			t.Errorf("after 4 minutes: %v", got)
		}
		w.clock.Advance(2 * time.Minute)
		used()
		if got := used(); got != "2026-03-01T12:06:00Z" {
			t.Errorf("after 6 minutes: %v", got)
		}
	})
}

func TestAuditIsListedAndFiltered(t *testing.T) {
	w := newWorld(t, testkit.SQLite)
	want(t, w.as(module.Operator, "POST", "/admin/v1/config/reload", ""), 200, "")
	a := want(t, w.as(module.Support, "GET", "/admin/v1/audit?action=config.&limit=1&from=2026-01-01T00:00:00Z", ""), 200, "")
	if data := a.body["data"].([]any); len(data) != 1 || data[0].(map[string]any)["action"] != "config.reload" || a.body["page"].(map[string]any)["next"] == nil {
		t.Error(a.raw)
	}
	if a := w.as(module.Support, "GET", "/admin/v1/audit?target=nobody", ""); len(a.body["data"].([]any)) != 0 {
		t.Error(a.raw)
	}
	want(t, w.as(module.Support, "GET", "/admin/v1/audit?cursor=x", ""), 400, problem.InvalidRequest)
	want(t, w.as(module.Support, "GET", "/admin/v1/audit?from=yesterday", ""), 400, problem.InvalidRequest)
}

func TestKeys(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		want(t, w.as(module.Owner, "GET", "/admin/v1/keys", ""), 200, "")
		a := want(t, w.as(module.Owner, "POST", "/admin/v1/keys/rotate", `{"purpose":"access-token","reason":"yearly"}`), 200, "")
		previous, _ := a.body["previous"].(string)
		current, _ := a.body["current"].(string)
		if kid, _, err := w.ring.Signer("access-token"); err != nil || kid != current {
			t.Errorf("signs with %s, want %s (%v)", kid, current, err)
		}
		if r := w.actions(1)[0]; r.Action != "key.rotate" || r.Target != current || r.Reason != "yearly" {
			t.Errorf("%+v", r)
		}
		want(t, w.as(module.Owner, "POST", "/admin/v1/keys/rotate", `{"purpose":"nothing"}`), 404, problem.NotFound)
		want(t, w.as(module.Owner, "DELETE", "/admin/v1/keys/"+current, ""), 409, problem.Conflict)
		want(t, w.as(module.Owner, "DELETE", "/admin/v1/keys/key_none", ""), 404, problem.NotFound)
		want(t, w.as(module.Owner, "DELETE", "/admin/v1/keys/"+previous+"?reason=leaked", ""), 204, "")
		if _, _, ok := w.ring.Verifier(previous); ok {
			t.Error("the dropped key still verifies")
		}
		if r := w.actions(1)[0]; r.Action != "key.drop" || r.Target != previous {
			t.Errorf("%+v", r)
		}
	})
}

func TestOptionsThatAreMissingAreNamed(t *testing.T) {
	if _, err := admin.New(admin.Options{}); err == nil || !strings.HasPrefix(err.Error(), "admin: Options.") {
		t.Error(err)
	}
}

func TestTheDocumentNamesRolesAndTheToken(t *testing.T) {
	w := newWorld(t, testkit.SQLite)
	s, err := admin.New(w.options)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := s.OpenAPI().YAML()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"x-role: owner", "x-role: viewer", "bearerFormat: llo_", "/admin/v1/config/reload", "/admin/v1/undeclared", problem.MediaType} {
		if !strings.Contains(string(doc), text) {
			t.Errorf("the document lacks %q", text)
		}
	}
}

func TestTheClient(t *testing.T) {
	w := newWorld(t, testkit.SQLite)
	w.health.SetReady(true)
	id := w.job()
	c, err := client.New(w.server.URL+"/", w.tokens[module.Operator])
	if err != nil {
		t.Fatal(err)
	}
	if s, err := c.Status(t.Context()); err != nil || s.Version != "1.2.3" || !s.Health.Ready {
		t.Errorf("%+v, %v", s, err)
	}
	jobs, next, err := c.Jobs(t.Context(), client.JobFilter{State: "available", Limit: 10})
	if err != nil || len(jobs) != 1 || jobs[0].ID != id || next != "" {
		t.Errorf("%+v %q %v", jobs, next, err)
	}
	if j, err := c.CancelJob(t.Context(), id, "no"); err != nil || j.State != "cancelled" {
		t.Errorf("%+v, %v", j, err)
	}
	if j, err := c.RetryJob(t.Context(), id, ""); err != nil || j.State != "available" {
		t.Errorf("%+v, %v", j, err)
	}
	if j, err := c.Job(t.Context(), id); err != nil || j.Kind != "test.mail" || len(j.Args) == 0 {
		t.Errorf("%+v, %v", j, err)
	}
	w.reload = func(context.Context) (admin.ReloadReport, error) {
		return admin.ReloadReport{Changed: []string{"log.level"}}, nil
	}
	if r, err := c.Reload(t.Context(), "because"); err != nil || len(r.Changed) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	w.reload = func(context.Context) (admin.ReloadReport, error) {
		return admin.ReloadReport{}, config.Faults{{Line: 7, Message: "no"}}
	}
	var p *client.Error
	if _, err := c.Reload(t.Context(), ""); !errors.As(err, &p) || p.Code != problem.ConfigInvalid || !strings.Contains(string(p.Errors), `"line":7`) {
		t.Errorf("%v", err)
	}
	if _, err := c.Job(t.Context(), 999999); !errors.As(err, &p) || p.Status != 404 || p.TraceID == "" || !strings.Contains(p.Error(), "not_found") {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"", "127.0.0.1:8081", "ftp://x", "http://u:p@x", "http://x?y=1"} {
		if _, err := client.New(bad, "llo_x"); err == nil {
			t.Errorf("the address %q was taken", bad)
		}
	}
	if _, err := client.New(w.server.URL, ""); err == nil {
		t.Error("no token was taken")
	}
}
