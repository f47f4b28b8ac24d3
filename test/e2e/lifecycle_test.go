package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const small = `profile: development
app: {id: com.example.small, public_url: "https://api.example.test"}
upstreams:
  team: {targets: [{url: "%s"}]}
features:
  echo:
    auth: none
    routes: [{match: "/v1/%s/{rest...}", upstream: team, path: "/echo/{rest...}"}]
  ledger:
    auth: none
    routes: [{match: "POST /v1/execute/{name}", upstream: team, path: "/execute/{name}"}]
    idempotency: {required: true}
  slow:
    auth: none
    timeout: 20s
    routes: [{match: "GET /v1/hang", upstream: team, path: "/hang"}]
`

func get(t *testing.T, url string) int {
	t.Helper()
	res, err := client.Get(url)
	if err != nil {
		return 0
	}
	if err := res.Body.Close(); err != nil {
		t.Error(err)
	}
	return res.StatusCode
}

// A bad configuration refuses to start, lists every fault with its place, and ends with 78.
func TestEveryFaultAtOnce(t *testing.T) {
	file := writeFile(t, filepath.Join(t.TempDir(), "landline.yaml"), `profile: development
app: {id: com.example.small}
lisen: {public: ":1"}
upstreams:
  team: {targets: [{url: "not a url"}]}
features:
  a:
    timeout: 5
    routes: [{match: "GET v1", upstream: nobody}]
`)
	_, stderr, exit := run(t, nil, "config", "check", "--config", file)
	if exit != 78 {
		t.Errorf("exit code %d, want 78", exit)
	}
	for _, want := range []string{":3:1:", "listen", ":5:", ":8:", ":9:", "nobody"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("no %q in:\n%s", want, stderr)
		}
	}
	if _, err := tryNode(t, file, t.TempDir()); err == nil || !strings.Contains(err.Error(), "exit code 78") {
		t.Errorf("serve: %v", err)
	}
}

// SIGTERM: readyz says 503, the request in flight ends well, the process ends with 0.
func TestDrain(t *testing.T) {
	up := newUpstream(t)
	file := writeFile(t, filepath.Join(t.TempDir(), "landline.yaml"), fmt.Sprintf(small, up.URL, "echo")+"shutdown: {delay: 500ms, grace: 10s}\n")
	n := startNode(t, file, t.TempDir())
	upload := startUpload(t, up, n.Public+"/v1/echo/slow-upload")
	n.signal(syscall.SIGTERM)
	eventually(t, patience, "readyz turns 503", func() bool { return get(t, n.Public+"/readyz") == http.StatusServiceUnavailable })
	if got := get(t, n.Public+"/v1/echo/late"); got != 200 {
		t.Errorf("within shutdown.delay requests are still served: %d", got)
	}
	if status := upload.finish(t); status != 200 {
		t.Errorf("the request in flight ended with %d", status)
	}
	if exit := n.wait(); exit != 0 {
		t.Errorf("exit code %d\n%s", exit, n.logs)
	}
	if !strings.Contains(n.logs.String(), `"msg":"stopped"`) {
		t.Errorf("no word of the end in the log:\n%s", n.logs)
	}
}

// A connection that is idle when the node leaves may have a request on its way:
// within shutdown.delay it is answered, as the last one of its connection.
func TestDrainAnswersOnIdleConnections(t *testing.T) {
	up := newUpstream(t)
	file := writeFile(t, filepath.Join(t.TempDir(), "landline.yaml"), fmt.Sprintf(small, up.URL, "echo")+"shutdown: {delay: 2s, grace: 10s}\n")
	n := startNode(t, file, t.TempDir())
	c, err := net.Dial("tcp", strings.TrimPrefix(n.Public, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	ask := func() *http.Response {
		if _, err := io.WriteString(c, "POST /v1/echo/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Fatal(err)
		}
		return res
	}
	if res := ask(); res.StatusCode != 200 || res.Close {
		t.Fatalf("%s, close=%v", res.Status, res.Close)
	}
	n.signal(syscall.SIGTERM)
	eventually(t, patience, "readyz turns 503", func() bool { return get(t, n.Public+"/readyz") == http.StatusServiceUnavailable })
	if res := ask(); res.StatusCode != 200 || !res.Close {
		t.Errorf("while the node leaves: %s, close=%v", res.Status, res.Close)
	}
	if exit := n.wait(); exit != 0 {
		t.Errorf("exit code %d\n%s", exit, n.logs)
	}
}

// What does not end in time is cut, and the exit code tells.
func TestDrainDeadline(t *testing.T) {
	up := newUpstream(t)
	file := writeFile(t, filepath.Join(t.TempDir(), "landline.yaml"), fmt.Sprintf(small, up.URL, "echo")+"shutdown: {grace: 300ms}\n")
	n := startNode(t, file, t.TempDir())
	upload := startUpload(t, up, n.Public+"/v1/echo/never-ends")
	defer upload.body.Close()
	n.signal(syscall.SIGTERM)
	if exit := n.wait(); exit != 75 {
		t.Errorf("exit code %d, want 75\n%s", exit, n.logs)
	}
}

// A reload swaps routes while requests run, and none fails; a bad file changes nothing.
func TestReload(t *testing.T) {
	up := newUpstream(t)
	file := writeFile(t, filepath.Join(t.TempDir(), "landline.yaml"), fmt.Sprintf(small, up.URL, "before"))
	n := startNode(t, file, t.TempDir())

	var failed, served atomic.Int64
	stop := make(chan struct{})
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				res, err := client.Post(n.Public+"/v1/execute/reload", "application/json", strings.NewReader("{}"))
				if err != nil {
					failed.Add(1)
					continue
				}
				res.Body.Close()
				if res.StatusCode != http.StatusBadRequest { // the key is missing on purpose: the cheapest answer of a configured route
					failed.Add(1)
				}
				served.Add(1)
			}
		})
	}
	for round := range 10 {
		name := fmt.Sprintf("after%d", round)
		writeFile(t, file, fmt.Sprintf(small, up.URL, name))
		n.signal(syscall.SIGHUP)
		eventually(t, patience, "the new route is there", func() bool { return get(t, n.Public+"/v1/"+name+"/x") == 200 })
	}
	close(stop)
	workers.Wait()
	if failed.Load() > 0 || served.Load() == 0 {
		t.Errorf("%d of %d requests failed during reloads", failed.Load(), served.Load())
	}
	if got := get(t, n.Public+"/v1/before/x"); got != 404 {
		t.Errorf("the old route: %d", got)
	}

	writeFile(t, file, "features: {broken: {routes: [{match: nonsense}]}}\n")
	n.signal(syscall.SIGHUP)
	eventually(t, patience, "the log says why", func() bool { return strings.Contains(n.logs.String(), "nothing was changed") })
	if got := get(t, n.Public+"/v1/after9/x"); got != 200 {
		t.Errorf("after a bad reload the route answers %d", got)
	}
	writeFile(t, file, strings.Replace(fmt.Sprintf(small, up.URL, "other"), "com.example.small", "com.example.renamed", 1))
	n.signal(syscall.SIGHUP)
	eventually(t, patience, "a key that needs a restart is named", func() bool { return strings.Contains(n.logs.String(), "app.id") })
	if got := get(t, n.Public+"/v1/other/x"); got != 404 {
		t.Errorf("half of a refused reload was applied: %d", got)
	}
}

// kill -9 loses no acknowledged write: sessions, keys and stored answers are there after the restart.
func TestKillAndRestart(t *testing.T) {
	up := newUpstream(t)
	file := writeFile(t, filepath.Join(t.TempDir(), "landline.yaml"), fmt.Sprintf(small, up.URL, "echo"))
	data := t.TempDir()
	n := startNode(t, file, data)
	type installed struct {
		Installation struct{ ID, Secret string }
		User         struct{ ID string }
		Session      struct {
			Refresh string `json:"refresh_token"`
		}
	}
	install := func(n *node, key string) (all installed) {
		req, err := http.NewRequest(http.MethodPost, n.Public+"/v1/installations", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Idempotency-Key", key)
		req.Header.Set("Content-Type", "application/json")
		res, body := do(t, req)
		if res.StatusCode/100 != 2 {
			t.Fatalf("install: %d %s", res.StatusCode, body)
		}
		if err := json.Unmarshal(body, &all); err != nil {
			t.Fatal(err)
		}
		return all
	}
	execute := func(n *node) *http.Response {
		req, err := http.NewRequest(http.MethodPost, n.Public+"/v1/execute/kill", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Idempotency-Key", "before-the-crash")
		res, _ := do(t, req)
		return res
	}
	first := install(n, "kill-and-restart-0001")
	if res := execute(n); res.StatusCode != 201 {
		t.Fatalf("execute: %d", res.StatusCode)
	}
	n.kill()

	n = startNode(t, file, data)
	if again := install(n, "kill-and-restart-0001"); again != first {
		t.Errorf("after the restart\n%+v, before\n%+v", again, first)
	}
	if res := execute(n); res.Header.Get("Idempotent-Replayed") != "true" || up.executions("kill") != 1 {
		t.Errorf("the write was executed %d times, replayed=%q", up.executions("kill"), res.Header.Get("Idempotent-Replayed"))
	}
	res, body := do(t, form(t, n.Public+"/oauth/token", "grant_type=refresh_token&refresh_token="+first.Session.Refresh))
	if res.StatusCode != 200 {
		t.Errorf("refresh after the restart: %d %s", res.StatusCode, body)
	}
	if info, err := os.Stat(filepath.Join(data, "master.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("master.key: %v, %v", info, err)
	}
	if logs := n.logs.String(); strings.Contains(logs, first.Session.Refresh) || strings.Contains(logs, first.Installation.Secret) {
		t.Error("the log holds a secret")
	}
}

// Two servers on one embedded database would each believe to be alone.
func TestOneServerPerDataDirectory(t *testing.T) {
	up := newUpstream(t)
	file := writeFile(t, filepath.Join(t.TempDir(), "landline.yaml"), fmt.Sprintf(small, up.URL, "echo"))
	data := t.TempDir()
	startNode(t, file, data)
	second, err := tryNode(t, file, data)
	if err == nil || second.Exit() != 69 || !strings.Contains(second.logs.String(), "in use by another landline") {
		t.Errorf("%v, exit %d\n%s", err, second.Exit(), second.logs)
	}
}

func form(t *testing.T, url, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return req
}

// The command line adds an operator, whose token opens the admin API, and every change leaves an audit entry.
func TestOperator(t *testing.T) {
	up := newUpstream(t)
	file := writeFile(t, filepath.Join(t.TempDir(), "landline.yaml"), fmt.Sprintf(small, up.URL, "echo"))
	data := t.TempDir()
	n := startNode(t, file, data)
	token, stderr, exit := run(t, nil, "operator", "add", "ada", "--role", "owner", "--config", file, "--data", data)
	if exit != 0 || !strings.HasPrefix(token, "llo_") {
		t.Fatalf("exit %d: %s%s", exit, token, stderr)
	}
	env := []string{"LANDLINE_ADMIN_URL=" + n.Admin, "LANDLINE_ADMIN_TOKEN=" + strings.TrimSpace(token)}
	for _, args := range [][]string{{"status"}, {"jobs", "list"}, {"reload"}} {
		if out, stderr, exit := run(t, env, args...); exit != 0 || out == "" {
			t.Errorf("landline %v: exit %d\n%s%s", args, exit, out, stderr)
		}
	}
	req, err := http.NewRequest(http.MethodGet, n.Admin+"/admin/v1/audit", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(token))
	res, body := do(t, req)
	if res.StatusCode != 200 || !strings.Contains(string(body), "operator.") || !strings.Contains(string(body), "config.reload") {
		t.Errorf("audit: %d %s", res.StatusCode, body)
	}
	if strings.Contains(n.logs.String(), strings.TrimSpace(token)) || strings.Contains(string(body), strings.TrimSpace(token)) {
		t.Error("the operator's token leaked")
	}
}

// The embedded database is backed up while it is in use, and the copy starts.
func TestBackup(t *testing.T) {
	up := newUpstream(t)
	file := writeFile(t, filepath.Join(t.TempDir(), "landline.yaml"), fmt.Sprintf(small, up.URL, "echo"))
	data := t.TempDir()
	startNode(t, file, data)
	copied := filepath.Join(t.TempDir(), "main.db")
	if _, stderr, exit := run(t, nil, "db", "backup", copied, "--config", file, "--data", data); exit != 0 {
		t.Fatalf("exit %d: %s", exit, stderr)
	}
	key, err := os.ReadFile(filepath.Join(data, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(filepath.Dir(copied), "master.key"), string(key))
	startNode(t, file, filepath.Dir(copied))
}

// upload is a request whose body is on its way.
type upload struct {
	body   *io.PipeWriter
	status chan int
}

// startUpload sends a first piece of the body and returns once the upstream has the request.
func startUpload(t *testing.T, up *upstream, url string) *upload {
	t.Helper()
	reader, writer := io.Pipe()
	u := &upload{body: writer, status: make(chan int, 1)}
	go func() {
		res, err := client.Post(url, "text/plain", reader)
		if err != nil {
			u.status <- 0
			return
		}
		res.Body.Close()
		u.status <- res.StatusCode
	}()
	if _, err := writer.Write([]byte("first piece")); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the upstream has the request", func() bool { return up.echoing.Load() > 0 })
	return u
}

func (u *upload) finish(t *testing.T) int {
	t.Helper()
	if err := u.body.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case status := <-u.status:
		return status
	case <-time.After(patience):
		t.Fatal("no answer to the upload")
		return 0
	}
}
