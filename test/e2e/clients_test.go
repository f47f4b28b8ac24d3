package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// OAuth clients that nobody here wrote sign people in on the hosted pages: a
// browser without JavaScript reads the pages, and the code from the mail.

const oauthClients = `profile: development
app: {id: com.example.clients, name: Clients}
identity:
  email_code: {on: true}
  clients:
    com.example.spa: {name: Single page, redirect_uris: ["https://client.example/cb"], post_logout_redirect_uris: ["https://client.example/bye"]}
    partner: {name: Partner, kind: third_party, redirect_uris: ["https://client.example/cb"], client_secret: "${CLIENT_SECRET}"}
    backend: {name: Backend, redirect_uris: ["https://client.example/cb"], client_secret: "${CLIENT_SECRET}"}
`

func TestOAuthClients(t *testing.T) {
	clients, err := filepath.Abs("../clients")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(clients, "node_modules", "openid-client")); err != nil {
		t.Fatalf("the clients are not installed: run make test, or npm ci in test/clients (%v)", err)
	}
	const secret = "pa:ss word+%/0123456789abcdef0123456789"
	dir := t.TempDir()
	n := startNode(t, writeFile(t, filepath.Join(dir, "landline.yaml"), oauthClients), filepath.Join(dir, "data"), "CLIENT_SECRET="+secret)
	for _, script := range []string{"oauth4webapi.mjs", "openid-client.mjs"} {
		t.Run(script, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "node", script)
			cmd.Dir = clients
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LANDLINE_URL=" + n.Public, "MAIL_DIR=" + filepath.Join(n.Data, "mail"), "CLIENT_SECRET=" + secret}
			out, err := cmd.CombinedOutput()
			if err != nil || strings.Contains(string(out), "not ok") || !strings.Contains(string(out), "ok ") {
				t.Errorf("%v\n%s\n%s", err, out, n.logs)
			}
			t.Logf("%s", out)
		})
	}
}
