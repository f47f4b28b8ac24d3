package admin_test

import (
	"strings"
	"testing"

	"landline/internal/module"
	"landline/internal/problem"
)

func TestDiffSaysWhatAReloadWouldChange(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		a := want(t, w.as(module.Operator, "POST", "/admin/v1/config/diff", ""), 200, "")
		if got := `{"changes":[{"path":"log.level","old":"info","new":"","secret":false,"restart":false}],"restart":false}`; strings.TrimSpace(a.raw) != got {
			t.Error(a.raw)
		}
		want(t, w.as(module.Operator, "POST", "/admin/v1/config/diff", "app: {name: \"${A_SECRET}\"}", "Content-Type", "application/yaml"), 403, problem.Forbidden)
		a = want(t, w.as(module.Owner, "POST", "/admin/v1/config/diff", "text of the caller", "Content-Type", "application/yaml"), 200, "")
		if !strings.Contains(a.raw, `"new":"text of the caller"`) {
			t.Error(a.raw)
		}
		a = want(t, w.as(module.Owner, "POST", "/admin/v1/config/diff", "wrong: 1", "Content-Type", "application/yaml"), 422, problem.ConfigInvalid)
		if !strings.Contains(a.raw, `"path":"wrong"`) {
			t.Error(a.raw)
		}
		want(t, w.as(module.Support, "POST", "/admin/v1/config/diff", ""), 403, problem.Forbidden)
		want(t, w.as(module.Operator, "POST", "/admin/v1/config/diff", strings.Repeat("#", 4<<20+1)), 413, problem.BodyTooLarge)
	})
}
