package e2e

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const anyFeature = "upstreams: {team: {targets: [{url: \"http://127.0.0.1:9\"}]}}\nfeatures: {any: {auth: none, routes: [{match: \"/{rest...}\", upstream: team}]}}\n"

// What an owner does from the command line: keys, operators, webhooks.
func TestOperatorsCommands(t *testing.T) {
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	genuine := make(chan bool, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.%s", r.Header.Get("Webhook-Id"), r.Header.Get("Webhook-Timestamp"), body)
		genuine <- r.Header.Get("Webhook-Signature") == "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}))
	defer receiver.Close()
	dir := t.TempDir()
	config := writeFile(t, filepath.Join(dir, "landline.yaml"), anyFeature+
		"webhooks: {endpoints: {billing: {url: \""+receiver.URL+"\", secrets: [\"${HOOK}\"], allow_private: true}}}\n")
	data := t.TempDir()
	n := startNode(t, config, data, "HOOK="+secret)
	token, stderr, exit := run(t, []string{"HOOK=" + secret}, "operator", "add", "root", "--role", "owner", "--config", config, "--data", data)
	if exit != 0 {
		t.Fatal(stderr)
	}
	env := []string{"LANDLINE_ADMIN_URL=" + n.Admin, "LANDLINE_ADMIN_TOKEN=" + strings.TrimSpace(token)}
	command := func(want int, args ...string) string {
		t.Helper()
		out, errs, exit := run(t, env, args...)
		if exit != want {
			t.Fatalf("landline %v: exit %d, want %d\n%s%s", args, exit, want, out, errs)
		}
		return out + errs
	}
	has := func(out string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("%q is not in\n%s", want, out)
			}
		}
	}

	has(command(0, "keys", "list"), "PURPOSE", "identity.access-token", "current", "next")
	before := command(0, "keys", "list")
	has(command(0, "keys", "rotate", "identity.access-token", "--reason", "drill"), "current: key_", "next: key_", "previous: key_")
	if after := command(0, "keys", "list"); after == before || !strings.Contains(after, "previous") {
		t.Errorf("the keys are those of before:\n%s", after)
	}
	has(command(64, "keys", "rotate", "nothing"), "there are no keys of that purpose")

	if out, errs, exit := run(t, []string{"HOOK=" + secret}, "operator", "add", "leaver", "--role", "viewer", "--config", config, "--data", data); exit != 0 {
		t.Fatal(out, errs)
	}
	has(command(0, "operator", "list"), "root", "leaver", "never")
	has(command(0, "operator", "remove", "leaver", "--reason", "left the company"), "leaver is removed")
	has(command(64, "operator", "remove", "leaver"), "no operator is called leaver")
	has(command(64, "operator", "remove", "root"), "last owner")

	has(command(0, "webhooks", "ping", "billing"), "status 200")
	if !<-genuine {
		t.Error("the ping does not verify")
	}
	has(command(64, "webhooks", "ping", "nobody"), "there is no such endpoint")
	has(command(0, "webhooks", "disable", "billing", "--reason", "moving"), "billing is disabled")
	has(command(0, "webhooks", "endpoints"), "disabled", "moving")
	has(command(0, "webhooks", "enable", "billing"), "billing is enabled")
	has(command(0, "webhooks", "list", "--state", "dead"), "DELIVERY")
	has(command(0, "webhooks", "replay", "--endpoint", "billing", "--since", "36h"), "replays them")
	has(command(64, "webhooks", "replay", "--endpoint", "billing"), "name an event")
	has(command(64, "webhooks", "replay", "--endpoint", "billing", "--since", "yesterday"), "write for example")
	has(command(64, "webhooks", "show", "whd_unknown"), "there is no such delivery")
}

// config check finds what start would find in other files and by name.
func TestConfigCheckLooksAtCertificatesAndNames(t *testing.T) {
	dir := t.TempDir()
	issue(t, dir, "good", "api.example.test")
	issue(t, dir, "other", "api.example.test")
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, c := range map[string]struct {
		yaml string
		want string // "" = it is valid
	}{
		"good":          {"listen: {tls: {cert: " + at("good.pem") + ", key: " + at("good.key") + "}}\n", ""},
		"no such file":  {"listen:\n  tls: {cert: " + at("none.pem") + ", key: " + at("good.key") + "}\n", "listen.tls: certificate"},
		"another's key": {"listen:\n  tls: {cert: " + at("good.pem") + ", key: " + at("other.key") + "}\n", "private key does not match"},
		"a further one": {"listen:\n  tls:\n    cert: " + at("good.pem") + "\n    key: " + at("good.key") + "\n    certificates:\n      - {cert: " + at("good.pem") + ", key: " + at("gone.key") + "}\n",
			"landline.yaml:6:"},
		"maintenance of a feature": {"maintenance: {allow: [any, account]}\n", ""},
		"maintenance of nothing":   {"maintenance:\n  allow: [any, emergncy]\n", `maintenance.allow: there is no feature "emergncy"`},
		"versions in Host":         {"versions: {header: Host}\n", "means something else"},
	} {
		t.Run(name, func(t *testing.T) {
			config := writeFile(t, at("landline.yaml"), c.yaml+anyFeature)
			out, errs, exit := run(t, nil, "config", "check", "--config", config)
			switch {
			case c.want == "" && exit != 0:
				t.Errorf("exit %d: %s", exit, errs)
			case c.want != "" && (exit != 78 || !strings.Contains(errs, c.want) || !strings.Contains(errs, "landline.yaml:")):
				t.Errorf("exit %d: %s%s, want %q", exit, out, errs, c.want)
			}
		})
	}
}

// A header beyond limits.header is answered with a problem, one far beyond it
// by the server itself.
func TestAHeaderThatIsTooLargeIsAProblem(t *testing.T) {
	config := writeFile(t, filepath.Join(t.TempDir(), "landline.yaml"), anyFeature+"limits: {header: 16KiB}\n")
	n := startNode(t, config, t.TempDir())
	for size, want := range map[int]string{20 << 10: "header_too_large", 100 << 10: ""} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(n.Public, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		go fmt.Fprintf(conn, "GET /v1/x HTTP/1.1\r\nHost: x\r\nX-Long: %s\r\n\r\n", strings.Repeat("x", size))
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		var problem struct{ Code string }
		if want != "" {
			err = json.NewDecoder(res.Body).Decode(&problem)
		}
		if err != nil || res.StatusCode != http.StatusRequestHeaderFieldsTooLarge || problem.Code != want {
			t.Errorf("%d bytes: %d %v, code %q, want %q (%v)", size, res.StatusCode, res.Header, problem.Code, want, err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The access log keeps as much of an address as log.client_ip says; a reload changes it.
func TestTheAccessLogKeepsWhatItMayOfAddresses(t *testing.T) {
	dir := t.TempDir()
	config := writeFile(t, filepath.Join(dir, "landline.yaml"), anyFeature)
	n := startNode(t, config, t.TempDir())
	for i, c := range []struct{ yaml, want string }{
		{"", `"client_ip":"127.0.0.0"`}, {"log: {client_ip: full}\n", `"client_ip":"127.0.0.1"`}, {"log: {client_ip: none}\n", ""},
	} {
		if err := os.WriteFile(config, []byte(anyFeature+c.yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			n.signal(syscall.SIGHUP)
			eventually(t, patience, "the configuration is reloaded", func() bool { return strings.Count(n.logs.String(), `"configuration reloaded"`) == i })
		}
		path := fmt.Sprintf("/v1/log-%d", i)
		res, err := http.Get(n.Public + path)
		if err != nil {
			t.Fatal(err)
		}
		trace := res.Header.Get("Landline-Trace-Id")
		if err := res.Body.Close(); err != nil {
			t.Fatal(err)
		}
		line := ""
		eventually(t, patience, "the line of the access log", func() bool {
			for l := range strings.Lines(n.logs.String()) {
				if strings.Contains(l, trace) && strings.Contains(l, `"msg":"request"`) {
					line = l
				}
			}
			return line != ""
		})
		if has := strings.Contains(line, `"client_ip"`); has != (c.want != "") || !strings.Contains(line, c.want) {
			t.Errorf("%q: want %s in %s", c.yaml, c.want, line)
		}
	}
}
