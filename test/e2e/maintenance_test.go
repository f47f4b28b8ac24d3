package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// An operator's switch holds on every node within a second, over a restart, and
// leaves sign-in and health alone.
func TestMaintenanceSwitch(t *testing.T) {
	for _, s := range setups {
		t.Run(s.name, func(t *testing.T) {
			up := newUpstream(t)
			env := append(s.env(t), "E2E_UPSTREAM="+up.URL)
			var nodes []*node
			for range s.nodes {
				nodes = append(nodes, startNode(t, "landline.yaml", t.TempDir(), env...))
			}
			first, last := nodes[0], nodes[len(nodes)-1]
			token, stderr, exit := run(t, env, "operator", "add", "ada", "--role", "operator", "--config", "landline.yaml", "--data", first.Data)
			if exit != 0 {
				t.Fatalf("exit %d: %s", exit, stderr)
			}
			token = strings.TrimSpace(token)
			admin := func(method, path, body string, want int) string {
				t.Helper()
				res, answer := askJSON(t, method, first.Admin+"/admin/v1/maintenance"+path, body, "Authorization", "Bearer "+token)
				if res.StatusCode != want {
					t.Fatalf("%s %s: %d %s", method, path, res.StatusCode, answer)
				}
				return answer
			}
			status := func(n *node, method, path string) int {
				t.Helper()
				res, _ := askJSON(t, method, n.Public+path, "")
				return res.StatusCode
			}
			within := func(what string, n *node, path string, want int) {
				t.Helper()
				began := time.Now()
				eventually(t, patience, what, func() bool { return status(n, http.MethodGet, path) == want })
				if took := time.Since(began); took > time.Second {
					t.Errorf("%s: after %s", what, took)
				}
			}

			admin(http.MethodPut, "/switchable", `{"title":"Soon back","message":"New index.","retry_after":120,"reason":"index"}`, 200)
			if got := status(first, http.MethodGet, "/v1/switchable"); got != 503 {
				t.Errorf("the node that was asked: %d", got)
			}
			within("the switch reaches every node", last, "/v1/switchable", 503)
			res, body := askJSON(t, http.MethodGet, last.Public+"/v1/switchable", "")
			if !strings.Contains(body, `"message":"New index."`) || !strings.Contains(body, `"code":"maintenance"`) || res.Header.Get("Retry-After") == "" {
				t.Errorf("%v %s", res.Header, body)
			}
			if got := status(last, http.MethodGet, "/v1/echo/x"); got != 200 {
				t.Errorf("another feature: %d", got)
			}
			admin(http.MethodPut, "/nothing", `{}`, 404)
			admin(http.MethodPut, "", `{"message":"Moving.","allow":["versioned"],"until":"2999-01-01T00:00:00Z"}`, 200)
			within("the app's switch reaches every node", last, "/v1/echo/x", 503)
			for path, want := range map[string]int{"/flights/7": 200, "/healthz": 200, "/readyz": 200, "/v1/document": 503} {
				if got := status(last, http.MethodGet, path); got != want {
					t.Errorf("%s under the app's maintenance: %d, want %d", path, got, want)
				}
			}
			for _, path := range []string{"/oauth/token", "/v1/installations"} {
				if got := status(last, http.MethodPost, path); got == 503 {
					t.Errorf("%s is closed: apps would sign their users out", path)
				}
			}
			if list := admin(http.MethodGet, "", "", 200); !strings.Contains(list, `"feature":"switchable"`) || !strings.Contains(list, `"allow":["versioned"]`) {
				t.Errorf("the list: %s", list)
			}

			again := startNode(t, "landline.yaml", restartedData(last), env...)
			if got := status(again, http.MethodGet, "/v1/echo/x"); got != 503 {
				t.Errorf("after a restart: %d", got)
			}
			if len(nodes) == 1 {
				first = again
			}
			admin(http.MethodDelete, "?reason=done", "", 204)
			within("its end reaches every node", again, "/v1/echo/x", 200)
			admin(http.MethodDelete, "/switchable", "", 204)
			within("and so does the feature's", again, "/v1/switchable", 200)
			admin(http.MethodDelete, "/switchable", "", 404)
			_, record := askJSON(t, http.MethodGet, first.Admin+"/admin/v1/audit", "", "Authorization", "Bearer "+token)
			if !strings.Contains(record, "maintenance.on") || !strings.Contains(record, "maintenance.off") || !strings.Contains(record, `"index"`) {
				t.Errorf("audited: %s", record)
			}
		})
	}
}

// restartedData kills a node and returns its data directory.
func restartedData(n *node) string {
	n.kill()
	return n.Data
}

// askJSON sends a request with a JSON body, or none, and returns the answer.
func askJSON(t *testing.T, method, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}
