package e2e

import (
	"net/http"
	"strings"
	"testing"
)

// What differs from a contract is counted by place, without values, and screens
// tell which features they need.
func TestContractViolationsAndScreensAreShown(t *testing.T) {
	up := newUpstream(t)
	env := append(setups[0].env(t), "E2E_UPSTREAM="+up.URL)
	n := startNode(t, "landline.yaml", t.TempDir(), env...)
	token, stderr, exit := run(t, env, "operator", "add", "ada", "--role", "viewer", "--config", "landline.yaml", "--data", n.Data)
	if exit != 0 {
		t.Fatalf("exit %d: %s", exit, stderr)
	}
	show := func(path string) string {
		t.Helper()
		res, body := askJSON(t, http.MethodGet, n.Admin+"/admin/v1"+path, "", "Authorization", "Bearer "+strings.TrimSpace(token))
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s", path, res.StatusCode, body)
		}
		return body
	}
	for range 3 {
		if res, body := askJSON(t, http.MethodGet, n.Public+"/v1/reported/trips?answer=bad", ""); res.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
	}
	if res, body := askJSON(t, http.MethodPost, n.Public+"/v1/reported/trips", `{"from":"hunter2","to":"LHR"}`); res.StatusCode != http.StatusCreated {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	want := []string{
		`"feature":"trips-with-report"`, `"direction":"response"`, `"field":"/data/*/seats"`, `"count":3`, `"shape":"string of 3 bytes"`,
		`"operation":"GET /reported/trips"`, `"direction":"request"`, `"field":"/from"`, `"api_version":"v1"`,
	}
	list := ""
	eventually(t, patience, "the differences are counted", func() bool {
		list = show("/contract-violations?feature=trips-with-report")
		for _, text := range want {
			if !strings.Contains(list, text) {
				return false
			}
		}
		return true
	})
	if strings.Contains(list, "hunter2") || strings.Contains(list, `"two"`) {
		t.Errorf("values are shown: %s", list)
	}
	if body := show("/contract-violations?feature=echo"); !strings.Contains(body, `"data":[]`) {
		t.Error(body)
	}
	screens := show("/screens")
	for _, text := range []string{`"name":"trip_details","health":"ok","features":[{"name":"trips-with-contract","owner":"team-trips","health":"ok"}]`, `"name":"trips_list"`} {
		if !strings.Contains(screens, text) {
			t.Errorf("%s is not in %s", text, screens)
		}
	}
	if body := show("/features"); !strings.Contains(body, `"screens":["trips_list","trip_details"]`) {
		t.Error(body)
	}
	res, metrics := askJSON(t, http.MethodGet, n.Admin+"/metrics", "")
	for _, text := range []string{
		`landline_gateway_screen_requests_total{outcome="ok",screen="trips_list"} 4`,
		`landline_gateway_contract_violations_total{api_version="v1",direction="response",feature="trips-with-report",field="body/data/*/seats"} 3`,
	} {
		if !strings.Contains(metrics, text) {
			t.Errorf("%d: %s is not among the metrics", res.StatusCode, text)
		}
	}
}

func TestContractCheck(t *testing.T) {
	env := []string{"E2E_UPSTREAM=http://127.0.0.1:1"}
	out, stderr, exit := run(t, env, "contract", "check", "contracts/trips-v1.yaml", "--config", "landline.yaml")
	if exit != 0 || !strings.Contains(out, "covers trips-with-contract: /v1/contract/trips <- POST /v1/contract/trips (makeTrip)") {
		t.Errorf("exit %d: %s %s", exit, out, stderr)
	}
	if _, stderr, exit := run(t, env, "contract", "check", "contracts/common.yaml"); exit != 78 || !strings.Contains(stderr, "contracts/common.yaml:1:1: is no OpenAPI document") {
		t.Errorf("exit %d: %s", exit, stderr)
	}
	if _, stderr, exit := run(t, env, "contract", "check", "contracts/none.yaml"); exit != 64 || !strings.Contains(stderr, "none.yaml") {
		t.Errorf("exit %d: %s", exit, stderr)
	}
}
