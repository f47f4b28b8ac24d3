package differential

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"landline/test/internal/running"
	"landline/test/process"
)

// patience bounds every wait; nothing takes that long unless it is broken.
const patience = 20 * time.Second

var binary string

func TestMain(m *testing.M) { running.Main(m, "differential", &binary) }

// isTimeoutOrReset tells the ends of a connection that say nothing about a message.
func isTimeoutOrReset(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

const landlineConfig = `profile: development
app: {id: com.example.differential}
log: {level: info}
upstreams:
  recorder:
    targets: [{url: "http://%s"}]
    preserve_host: true
features:
  everything:
    auth: none
    max_body: 64MiB
    compression: off
    routes: [{match: "/{rest...}", upstream: recorder}]
`

// startLandline returns the address of a node that proxies to upstream.
func startLandline(t *testing.T, upstream string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "landline.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, landlineConfig, upstream), 0o600); err != nil {
		t.Fatal(err)
	}
	n := running.Node(t, process.Options{Binary: binary, Config: file, Data: filepath.Join(dir, "data")}, patience)
	return strings.TrimPrefix(n.Public, "http://")
}

const nginxConfig = `daemon off;
worker_processes 1;
pid %[1]s/nginx.pid;
error_log stderr error;
events { worker_connections 512; }
http {
  access_log off;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  large_client_header_buffers 8 32k;
  client_max_body_size 64m;
  ignore_invalid_headers off;
  underscores_in_headers on;
  merge_slashes off;
  upstream recorder { server %[2]s; keepalive 8; }
  server {
    listen %[3]s;
    location / {
      proxy_pass http://recorder;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_pass_header Server;
      proxy_pass_header Date;
      proxy_redirect off;
      proxy_request_buffering off;
      proxy_buffering off;
      proxy_buffer_size 64k;
      proxy_buffers 8 64k;
      proxy_next_upstream off;
    }
  }
}
`

// startNginx returns the address of an nginx that proxies to upstream.
func startNginx(t *testing.T, upstream string) string {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx" // not on every user's PATH
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("nginx is not installed (`make test` installs it): %v", err)
	}
	address := running.FreeAddress(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, nginxConfig, dir, upstream, address), 0o600); err != nil {
		t.Fatal(err)
	}
	running.Server(t, exec.Command(program, "-e", "stderr", "-p", dir, "-c", file), address, patience)
	return address
}

// send writes a request on a connection of its own and reads the answer.
func send(t *testing.T, address string, c *testCase) (*message, error) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	head, body := c.wire()
	if !c.Expect {
		head, body = head+body, ""
	}
	if _, err := io.WriteString(conn, head); err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	return readAnswer(r, c.Method, func(m *message) {
		if m.status() == 100 && body != "" {
			if _, err := io.WriteString(conn, body); err != nil {
				t.Errorf("%s: write the body: %v", c.Name, err)
			}
			body = ""
		}
	})
}
