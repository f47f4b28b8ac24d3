package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"landline/test/internal/running"
)

// Servers that nobody here wrote stand behind Landline and work through it as
// without it: nginx as a file server, and Verdaccio used by npm.

const thirdParty = `profile: development
app: {id: com.example.third, public_url: "https://api.example.test"}
upstreams:
  files: {preserve_host: true, targets: [{url: "${FILES}"}]}
  registry: {preserve_host: true, targets: [{url: "${REGISTRY}"}]}
features:
  files:
    auth: none
    timeout: 30s
    max_body: 200MiB
    compression: off # so that every field can be compared
    routes: [{match: "/files/{rest...}", upstream: files}]
  registry:
    auth: anonymous
    timeout: 30s
    max_body: 50MiB
    routes: [{match: "/{rest...}", upstream: registry}]
`

// startServer runs a server until the test ends and waits until it answers.
func startServer(t *testing.T, address string, cmd *exec.Cmd) {
	t.Helper()
	running.Server(t, cmd, address, patience)
	eventually(t, patience, cmd.Path+" answers", func() bool { return get(t, "http://"+address+"/") != 0 })
}

func startNginx(t *testing.T) (base, dir string) {
	t.Helper()
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		nginx = "/usr/sbin/nginx"
	}
	dir = t.TempDir()
	for d := dir; d != os.TempDir() && len(d) > 1; d = filepath.Dir(d) { // nginx's workers run as another user
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "files", "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	address := running.FreeAddress(t)
	writeFile(t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(`
daemon off;
pid %[1]s/nginx.pid;
error_log stderr warn;
events { worker_connections 256; }
http {
  access_log off;
  types { text/plain txt; application/json json; }
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
  gzip on; gzip_types text/plain; gzip_min_length 100;
  server {
    listen %[2]s;
    root %[1]s;
    location /files/ { }
    location /files/moved { return 301 /files/a.txt; }
    location /files/upload { client_max_body_size 100m; return 204; }
  }
}`, dir, address))
	for name, size := range map[string]int{"a.txt": 5000, "empty.txt": 0, "sub/page with space.txt": 300, "large.bin": 20 << 20} {
		content := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		if err := os.WriteFile(filepath.Join(dir, "files", name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	startServer(t, address, exec.Command(nginx, "-p", dir, "-c", filepath.Join(dir, "nginx.conf")))
	return "http://" + address, dir
}

// answer is what must be the same with and without Landline.
type answer struct {
	Status  int
	Body    string
	Headers map[string]string
}

func ask(t *testing.T, base string, method, path string, headers map[string]string) answer {
	t.Helper()
	req, err := http.NewRequest(method, base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "files.example.test"
	req.Header.Set("Accept-Encoding", "identity")
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	res, body := do(t, req)
	a := answer{Status: res.StatusCode, Body: fmt.Sprintf("%d bytes %x", len(body), sha256.Sum256(body)), Headers: map[string]string{}}
	for _, name := range []string{"Content-Type", "Content-Length", "Content-Range", "Content-Encoding", "Accept-Ranges", "Etag", "Last-Modified", "Location", "Vary", "Allow"} {
		a.Headers[name] = res.Header.Get(name)
	}
	if strings.HasPrefix(a.Headers["Content-Type"], "multipart/byteranges") { // the boundary is random
		a.Headers["Content-Type"], a.Body, a.Headers["Content-Length"] = "multipart/byteranges", fmt.Sprint(strings.Count(string(body), "Content-Range")), ""
	}
	return a
}

func TestNginx(t *testing.T) {
	direct, _ := startNginx(t)
	file := writeFile(t, filepath.Join(t.TempDir(), "landline.yaml"), thirdParty)
	n := startNode(t, file, t.TempDir(), "FILES="+direct, "REGISTRY="+direct)
	etag := ask(t, direct, "GET", "/files/a.txt", nil).Headers["Etag"]
	modified := ask(t, direct, "GET", "/files/a.txt", nil).Headers["Last-Modified"]

	type request struct {
		method, path string
		headers      map[string]string
	}
	var requests []request
	for _, method := range []string{"GET", "HEAD"} {
		for _, path := range []string{"/files/a.txt", "/files/empty.txt", "/files/sub/page%20with%20space.txt", "/files/large.bin", "/files/missing", "/files/moved", "/files/a.txt?x=1&y=%2F", "/files/sub"} {
			requests = append(requests, request{method, path, nil})
		}
		for _, r := range []string{"bytes=0-0", "bytes=100-199", "bytes=-5", "bytes=4990-", "bytes=9999-", "bytes=0-1,10-11", "bytes=5-1", "lines=1-2"} {
			requests = append(requests, request{method, "/files/a.txt", map[string]string{"Range": r}})
			requests = append(requests, request{method, "/files/a.txt", map[string]string{"Range": r, "If-Range": etag}})
			requests = append(requests, request{method, "/files/a.txt", map[string]string{"Range": r, "If-Range": `"other"`}})
		}
		for name, value := range map[string]string{"If-None-Match": etag, "If-Match": `"other"`, "If-Modified-Since": modified, "If-Unmodified-Since": "Mon, 01 Jan 2001 00:00:00 GMT", "Accept-Encoding": "gzip"} {
			requests = append(requests, request{method, "/files/a.txt", map[string]string{name: value}})
		}
	}
	requests = append(requests, request{"POST", "/files/upload", nil}, request{"PUT", "/files/a.txt", nil}, request{"DELETE", "/files/a.txt", nil}, request{"OPTIONS", "/files/a.txt", nil})
	for _, r := range requests {
		want, got := ask(t, direct, r.method, r.path, r.headers), ask(t, n.Public, r.method, r.path, r.headers)
		if want.Headers["Content-Length"] == "" { // nginx sent chunks; a short body may leave Landline with its length
			got.Headers["Content-Length"] = ""
		}
		if fmt.Sprint(want) != fmt.Sprint(got) {
			t.Errorf("%s %s %v\nwithout Landline %v\nthrough Landline %v", r.method, r.path, r.headers, want, got)
		}
	}

	t.Run("curl resumes a download", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "large.bin")
		if err := os.WriteFile(path, bytes.Repeat([]byte("0123456789abcdef"), 1000), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("curl", "-sS", "--fail", "-C", "-", "-o", path, n.Public+"/files/large.bin").CombinedOutput()
		if err != nil {
			t.Fatalf("%v %s", err, out)
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, bytes.Repeat([]byte("0123456789abcdef"), 20<<16)) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("curl sends a large body after 100 Continue", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "upload")
		if err := os.WriteFile(path, make([]byte, 30<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("curl", "-sS", "-X", "POST", "-H", "Expect: 100-continue", "--data-binary", "@"+path, "-o", "/dev/null", "-w", "%{http_code}", n.Public+"/files/upload").CombinedOutput()
		if err != nil || string(out) != "204" {
			t.Errorf("%v %s", err, out)
		}
	})
}

func TestVerdaccioWithNPM(t *testing.T) {
	clients, err := filepath.Abs(filepath.Join("..", "clients"))
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(clients, "node_modules", "verdaccio", "bin", "verdaccio")
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("Verdaccio is not installed: run make test, or npm ci in test/clients (%v)", err)
	}
	dir, address := t.TempDir(), running.FreeAddress(t)
	config := writeFile(t, filepath.Join(dir, "verdaccio.yaml"), fmt.Sprintf(`
storage: %s/storage
uplinks: {}
packages: {"@*/*": {access: $all, publish: $all}, "**": {access: $all, publish: $all}}
web: {enable: false}
log: {type: stdout, format: pretty, level: warn}
`, dir))
	server := exec.Command("node", program, "--listen", address, "--config", config)
	server.Dir = dir
	server.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	startServer(t, address, server)
	n := startNode(t, writeFile(t, filepath.Join(dir, "landline.yaml"), thirdParty), t.TempDir(), "FILES=http://"+address, "REGISTRY=http://"+address)

	// npm gets an installation's access token: it is let in by Landline, and Verdaccio never sees the token.
	req, err := http.NewRequest(http.MethodPost, n.Public+"/v1/installations", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Idempotency-Key", "npm-is-an-app-0001")
	req.Header.Set("Content-Type", "application/json")
	_, body := do(t, req)
	var installed struct {
		Session struct {
			Token string `json:"access_token"`
		}
	}
	if err := json.Unmarshal(body, &installed); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	rc := writeFile(t, filepath.Join(dir, "npmrc"), fmt.Sprintf("registry=%s/\n//%s/:_authToken=%s\nupdate-notifier=false\naudit=false\nfund=false\n",
		n.Public, strings.TrimPrefix(n.Public, "http://"), installed.Session.Token))
	npm := func(in string, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, "npm", args...)
		cmd.Dir = in
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "npm_config_userconfig=" + rc, "npm_config_cache=" + t.TempDir(), "NO_COLOR=1"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("npm %v: %v\n%s\n%s", args, err, out, n.logs)
		}
		return string(out)
	}
	for _, name := range []string{"plain-package", "@team/scoped"} {
		source := t.TempDir()
		writeFile(t, filepath.Join(source, "package.json"), fmt.Sprintf(`{"name":%q,"version":"1.2.3","main":"index.js"}`, name))
		writeFile(t, filepath.Join(source, "index.js"), "module.exports = 'through landline'\n//"+strings.Repeat("x", 200_000))
		npm(source, "publish", "--access", "public")
		if got := strings.TrimSpace(npm(dir, "view", name, "version")); got != "1.2.3" {
			t.Errorf("npm view %s: %s", name, got)
		}
		app := t.TempDir()
		writeFile(t, filepath.Join(app, "package.json"), `{"name":"app","private":true}`)
		npm(app, "install", name)
		out, err := exec.Command("node", "-e", fmt.Sprintf("console.log(require(%q))", filepath.Join(app, "node_modules", name))).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "through landline" {
			t.Errorf("%s does not work: %v %s", name, err, out)
		}
	}
	if got := get(t, n.Public+"/plain-package"); got != http.StatusUnauthorized {
		t.Errorf("without a token the registry answers %d", got)
	}
}
