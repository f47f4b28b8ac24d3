package admin_test

import (
	"strings"
	"testing"

	"landline/internal/admin"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/testkit"
)

func TestContractViolationsAndScreens(t *testing.T) {
	w := newWorld(t, testkit.SQLite, func(o *admin.Options) {
		o.Violations = func(feature string) []module.ContractViolation {
			if feature == "other" {
				return nil
			}
			return []module.ContractViolation{{Feature: "flight-status", Direction: "response", In: "body", Field: "/legs/*", Count: 3}}
		}
		o.Screens = func() []module.Screen {
			return []module.Screen{{Name: "board", Health: "down", Features: []module.ScreenFeature{{Name: "flight-status", Health: "down", Breaker: "open"}}}}
		}
	})
	a := want(t, w.as(module.Viewer, "GET", "/admin/v1/contract-violations", ""), 200, "")
	if !strings.Contains(a.raw, `"field":"/legs/*"`) || !strings.Contains(a.raw, `"count":3`) || !strings.Contains(a.raw, `"page":{"next":null}`) {
		t.Error(a.raw)
	}
	if a := want(t, w.as(module.Viewer, "GET", "/admin/v1/contract-violations?feature=other", ""), 200, ""); !strings.Contains(a.raw, `"data":[]`) {
		t.Error(a.raw)
	}
	want(t, w.as(module.Viewer, "GET", "/admin/v1/contract-violations?featur=x", ""), 400, problem.UnknownField)
	if a := want(t, w.as(module.Viewer, "GET", "/admin/v1/screens", ""), 200, ""); !strings.Contains(a.raw, `"name":"board","health":"down"`) {
		t.Error(a.raw)
	}
	want(t, w.call("", "GET", "/admin/v1/screens", ""), 401, problem.TokenMissing)
}
