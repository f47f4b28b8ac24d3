package admin_test

import (
	"context"
	"strings"
	"testing"

	"landline/internal/admin"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/testkit"
)

func TestPurgeCacheIsAuditedBeforeItHappens(t *testing.T) {
	var calls [][3]string
	var fail error
	w := newWorld(t, testkit.SQLite, func(o *admin.Options) {
		o.PurgeCache = func(_ context.Context, feature, key, url string) (int, error) {
			calls = append(calls, [3]string{feature, key, url})
			return 7, fail
		}
	})
	const path = "/admin/v1/features/flight-status/cache/purge"
	a := want(t, w.as(module.Operator, "POST", path, `{"surrogate_key":"LO281","reason":"gate was wrong"}`), 200, "")
	if strings.TrimSpace(a.raw) != `{"purged":7}` || len(calls) != 1 || calls[0] != [3]string{"flight-status", "LO281", ""} {
		t.Errorf("%s %v", a.raw, calls)
	}
	if r := w.actions(1)[0]; r.Action != "cache.purge" || r.Target != "feature flight-status" || r.Reason != "gate was wrong" || string(r.After) != `{"surrogate_key":"LO281"}` {
		t.Errorf("%+v %s", r, r.After)
	}
	want(t, w.as(module.Operator, "POST", path, ""), 200, "")
	want(t, w.as(module.Operator, "POST", path, `{"url":"/v1/x"}`), 200, "")
	want(t, w.as(module.Operator, "POST", path, `{"key":"x"}`), 400, problem.UnknownField)
	want(t, w.as(module.Support, "POST", path, ""), 403, problem.Forbidden)
	if len(calls) != 3 || calls[1] != [3]string{"flight-status", "", ""} || calls[2][2] != "/v1/x" {
		t.Errorf("%v", calls)
	}
	fail = problem.New(problem.NotFound, "the feature has no cache")
	want(t, w.as(module.Operator, "POST", path, ""), 404, problem.NotFound)
}
