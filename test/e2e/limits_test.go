package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// F15: what 64 parallel clients get through is the burst, on one node and on two together.
func TestParallelClientsStayWithinTheBurst(t *testing.T) {
	for _, s := range setups {
		t.Run(s.name, func(t *testing.T) {
			h := s.start(t)
			const burst = 20
			var admitted, refused atomic.Int64
			var wg sync.WaitGroup
			for i := range 64 {
				wg.Go(func() {
					for range 5 {
						res, err := client.Get(h.nodes[i%len(h.nodes)].Public + "/v1/limits/parallel")
						if err != nil {
							t.Error(err)
							return
						}
						if _, err := io.Copy(io.Discard, res.Body); err != nil {
							t.Error(err)
						}
						res.Body.Close()
						switch res.StatusCode {
						case http.StatusOK:
							admitted.Add(1)
						case http.StatusTooManyRequests:
							refused.Add(1)
						default:
							t.Errorf("status %d", res.StatusCode)
						}
					}
				})
			}
			wg.Wait()
			t.Logf("F15: 64 clients, %d nodes: %d admitted, %d refused, burst %d", len(h.nodes), admitted.Load(), refused.Load(), burst)
			if admitted.Load() != burst {
				t.Errorf("%d admitted, want %d", admitted.Load(), burst)
			}
		})
	}
}

// admin calls the admin API as the operator.
func (n *node) admin(t *testing.T, token, method, path, body string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, n.Admin+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, answer := do(t, req)
	return res.StatusCode, answer
}

const limitsFile = `profile: development
app: {id: com.example.limits, public_url: "https://api.example.test"}
upstreams:
  team: {targets: [{url: "%s"}]}
features:
  partner:
    auth: none
    api_key: required
    routes: [{match: "GET /v1/partner", upstream: team, path: "/echo/partner"}]
    rate_limit: [{key: api_key, limit: 1000, window: 1m, name: calls}]
    quota: [{key: api_key, limit: 5, window: month, name: contract}]
`

// An API key is made, limited at its own rate, counted over a restart, kept from
// the service behind, and shut out.
func TestAPIKey(t *testing.T) {
	up := newUpstream(t)
	file := writeFile(t, filepath.Join(t.TempDir(), "landline.yaml"), fmt.Sprintf(limitsFile, up.URL))
	data := t.TempDir()
	n := startNode(t, file, data)
	operator, stderr, exit := run(t, nil, "operator", "add", "ada", "--role", "owner", "--config", file, "--data", data)
	if exit != 0 {
		t.Fatal(stderr)
	}
	operator = strings.TrimSpace(operator)
	status, body := n.admin(t, operator, http.MethodPost, "/admin/v1/api-keys", `{"name":"acme","rate_limit":{"limit":3,"window":3600}}`)
	var made struct {
		Key   struct{ ID string }
		Token string
	}
	if err := json.Unmarshal(body, &made); status != http.StatusCreated || err != nil || !strings.HasPrefix(made.Token, "llk_") {
		t.Fatalf("%d %s %v", status, body, err)
	}
	call := func() (*http.Response, string) {
		req, err := http.NewRequest(http.MethodGet, n.Public+"/v1/partner", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Api-Key", made.Token)
		res, answer := do(t, req)
		return res, string(answer)
	}
	for range 3 {
		if res, answer := call(); res.StatusCode != 200 || strings.Contains(answer, made.Token) || !strings.Contains(res.Header.Get("RateLimit-Policy"), `"calls";q=3;w=3600`) {
			t.Fatalf("%d %s %v", res.StatusCode, answer, res.Header)
		}
	}
	if res, answer := call(); res.StatusCode != 429 || !strings.Contains(answer, "rate_limited") {
		t.Errorf("above the key's own rate: %d %s", res.StatusCode, answer)
	}
	n.signal(syscall.SIGTERM)
	if exit := n.wait(); exit != 0 {
		t.Fatalf("exit code %d\n%s", exit, n.logs)
	}
	n = startNode(t, file, data) // rates are forgotten, quotas are not
	for range 2 {
		if res, answer := call(); res.StatusCode != 200 {
			t.Fatalf("%d %s", res.StatusCode, answer)
		}
	}
	if res, answer := call(); res.StatusCode != 429 || !strings.Contains(answer, "quota_exceeded") || res.Header.Get("Retry-After") == "" {
		t.Errorf("above the quota: %d %s", res.StatusCode, answer)
	}
	if status, body := n.admin(t, operator, http.MethodDelete, "/admin/v1/api-keys/"+made.Key.ID+"?reason=test", ""); status != http.StatusNoContent {
		t.Fatalf("%d %s", status, body)
	}
	if res, answer := call(); res.StatusCode != 401 || !strings.Contains(answer, "api_key_invalid") {
		t.Errorf("after its end: %d %s", res.StatusCode, answer)
	}
	_, list := n.admin(t, operator, http.MethodGet, "/admin/v1/api-keys", "")
	_, audit := n.admin(t, operator, http.MethodGet, "/admin/v1/audit", "")
	if !bytes.Contains(list, []byte("ended_at")) || !bytes.Contains(audit, []byte("api_key.make")) || !bytes.Contains(audit, []byte("api_key.end")) {
		t.Errorf("list %s\naudit %s", list, audit)
	}
	for where, text := range map[string]string{"the list": string(list), "the audit log": string(audit), "the log": n.logs.String()} {
		if strings.Contains(text, made.Token) {
			t.Errorf("%s holds the key", where)
		}
	}
}
