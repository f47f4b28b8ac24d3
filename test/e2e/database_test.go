package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// movable is small on whichever database the environment names.
const movable = small + `database: {url: "${E2E_POSTGRES:-}"}
secrets: {master_key: "${E2E_MASTER_KEY:-}"}
`

func movableFile(t *testing.T, up *upstream) string {
	t.Helper()
	return writeFile(t, filepath.Join(t.TempDir(), "landline.yaml"), fmt.Sprintf(movable, up.URL, "echo"))
}

// phone is an app: what it has stored.
type phone struct {
	Installation struct{ ID, Secret string }
	User         struct{ ID string }
	Session      struct {
		ID      string
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
}

func installPhone(t *testing.T, n *node, key string) (p phone) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, n.Public+"/v1/installations", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Idempotency-Key", key)
	req.Header.Set("Content-Type", "application/json")
	res, body := do(t, req)
	if res.StatusCode/100 != 2 || json.Unmarshal(body, &p) != nil || p.Session.Refresh == "" {
		t.Fatalf("install: %d %s", res.StatusCode, body)
	}
	return p
}

// refresh uses the stored token once and stores the next one; it reports the answer's status.
func (p *phone) refreshOn(t *testing.T, n *node) (status int, body string) {
	t.Helper()
	res, raw := do(t, form(t, n.Public+"/oauth/token", "grant_type=refresh_token&refresh_token="+p.Session.Refresh))
	var next struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if res.StatusCode == http.StatusOK {
		if err := json.Unmarshal(raw, &next); err != nil {
			t.Fatal(err)
		}
		p.Session.Access, p.Session.Refresh = next.Access, next.Refresh
	}
	return res.StatusCode, string(raw)
}

func (p *phone) signOutOn(t *testing.T, n *node) {
	t.Helper()
	if status := p.callOn(t, n, http.MethodPost, "/v1/auth/sign-out"); status/100 != 2 {
		t.Fatalf("sign out: %d", status)
	}
}

func (p *phone) callOn(t *testing.T, n *node, method, path string) int {
	t.Helper()
	req, err := http.NewRequest(method, n.Public+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.Session.Access)
	res, _ := do(t, req)
	return res.StatusCode
}

func (n *node) stop() {
	n.t.Helper()
	n.signal(syscall.SIGTERM)
	if code := n.wait(); code != 0 {
		n.t.Fatalf("exit %d\n%s", code, n.logs)
	}
}

// The restore drill: every session that was not ended survives, whatever it did
// after the backup; every session that was ended stays ended; what a crash left
// of the old write-ahead log is not played into the backup.
func TestRestoreDrill(t *testing.T) {
	up := newUpstream(t)
	file, data, copied := movableFile(t, up), t.TempDir(), filepath.Join(t.TempDir(), "backup.db")
	n := startNode(t, file, data)
	phones := make([]phone, 40)
	for i := range phones {
		phones[i] = installPhone(t, n, fmt.Sprintf("restore-drill-%04d", i))
		for range i % 3 {
			phones[i].refreshOn(t, n)
		}
	}
	if _, stderr, exit := run(t, nil, "db", "backup", copied, "--config", file, "--data", data); exit != 0 {
		t.Fatalf("backup: exit %d: %s", exit, stderr)
	}
	var ended []phone
	for i := range phones { // life goes on after the backup
		for range i % 4 {
			if status, body := phones[i].refreshOn(t, n); status != 200 {
				t.Fatalf("refresh: %d %s", status, body)
			}
		}
		if i%5 == 4 {
			phones[i].signOutOn(t, n)
			ended = append(ended, phones[i])
		}
	}
	late := installPhone(t, n, "restore-drill-after-the-backup")
	if _, stderr, exit := run(t, nil, "db", "restore", copied, "--config", file, "--data", data); exit != 69 || !strings.Contains(stderr, "in use by another landline") {
		t.Errorf("a restore under a running server: exit %d: %s", exit, stderr)
	}
	n.kill()

	began := time.Now()
	out, stderr, exit := run(t, nil, "db", "restore", copied, "--config", file, "--data", data, "--reason", "drill")
	if exit != 0 || !strings.Contains(out, fmt.Sprintf("%d sessions", len(ended))) || !strings.Contains(out, "believed until") {
		t.Fatalf("restore: exit %d: %s%s", exit, out, stderr)
	}
	n = startNode(t, file, data)
	took := time.Since(began)
	alive, survived := 0, 0
	for i := range phones {
		status, body := phones[i].refreshOn(t, n)
		switch {
		case i%5 == 4 && status != 400:
			t.Errorf("phone %d had signed out and is back: %d %s", i, status, body)
		case i%5 == 4:
			if status := phones[i].callOn(t, n, http.MethodGet, "/v1/me"); status != 401 {
				t.Errorf("phone %d had signed out and its access token is good: %d", i, status)
			}
		default:
			if alive++; status == 200 {
				survived++
			} else {
				t.Errorf("phone %d is signed out by the restore: %d %s", i, status, body)
			}
		}
	}
	t.Logf("%d of %d sessions that had not ended survived, %d of %d ended ones stayed ended; from the restore to serving %d ms",
		survived, alive, len(ended), len(ended), took.Milliseconds())
	if status, _ := late.refreshOn(t, n); status == 200 {
		t.Error("a session that the backup does not know was refreshed")
	}
	if again := installPhone(t, n, "restore-drill-after-the-backup"); again.User.ID == late.User.ID {
		t.Error("the old write-ahead log was played into the backup")
	}
	n.stop()
	if out, stderr, exit := run(t, nil, "db", "verify", "--config", file, "--data", data); exit != 0 || !strings.Contains(out, "is sound") {
		t.Errorf("verify: exit %d: %s%s", exit, out, stderr)
	}
	kept, err := filepath.Glob(filepath.Join(data, "replaced", "*", "main.db"))
	if err != nil || len(kept) != 1 {
		t.Errorf("the replaced database is not kept: %v, %v", kept, err)
	}
}

// damage overwrites bytes of a file.
func damage(t *testing.T, path string, at, n int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(strings.Repeat("damage", int(n)/6+1)[:n]), at); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// A damaged database has an exit code and a message that name the way out, and
// the way out works: without what ended after the backup the window stays shut.
func TestDamagedDatabase(t *testing.T) {
	up := newUpstream(t)
	file, data, copied := movableFile(t, up), t.TempDir(), filepath.Join(t.TempDir(), "backup.db")
	n := startNode(t, file, data)
	p := installPhone(t, n, "damaged-database-0001")
	if _, stderr, exit := run(t, nil, "db", "backup", copied, "--config", file, "--data", data); exit != 0 {
		t.Fatalf("backup: exit %d: %s", exit, stderr)
	}
	p.refreshOn(t, n)
	n.stop()
	main := filepath.Join(data, "main.db")
	where := []string{"--config", file, "--data", data}
	damage(t, main, 8192, 3*4096)
	if _, stderr, exit := run(t, nil, append([]string{"db", "verify"}, where...)...); exit != 65 || !strings.Contains(stderr, "landline db restore FILE") {
		t.Errorf("verify of a damaged database: exit %d: %s", exit, stderr)
	}
	damage(t, main, 0, 4096)
	refused, err := tryNode(t, file, data)
	if err == nil || refused.exit != 65 || !strings.Contains(refused.logs.String(), "landline db restore FILE") || !strings.Contains(refused.logs.String(), filepath.Join(data, "backups")) {
		t.Errorf("serve on a damaged database: %v, exit %d: %s", err, refused.exit, refused.logs)
	}
	broken := filepath.Join(t.TempDir(), "broken.db")
	raw, err := os.ReadFile(copied)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, broken, string(raw))
	damage(t, broken, 8192, 4096)
	for _, c := range []struct {
		args []string
		exit int
		says string
	}{
		{[]string{"db", "verify", broken}, 65, "damaged"},
		{[]string{"db", "verify", filepath.Join(t.TempDir(), "none.db")}, 64, "there is no file"},
		{[]string{"db", "verify", writeFile(t, filepath.Join(t.TempDir(), "text.db"), strings.Repeat("no database ", 1000))}, 65, "damaged"},
		{[]string{"db", "restore", broken}, 65, "damaged"},
		{[]string{"db", "restore", copied, "--window", "1000h"}, 64, "--window"},
	} {
		_, stderr, exit := run(t, nil, append(c.args, where...)...)
		if exit != c.exit || !strings.Contains(stderr, c.says) {
			t.Errorf("%v: exit %d, want %d: %s", c.args, exit, c.exit, stderr)
		}
	}
	out, stderr, exit := run(t, nil, append([]string{"db", "restore", copied}, where...)...)
	if exit != 0 || !strings.Contains(out, "is shut") || !strings.Contains(out, "may be alive again") {
		t.Fatalf("restore: exit %d: %s%s", exit, out, stderr)
	}
	out, stderr, exit = run(t, nil, append([]string{"db", "restore", copied, "--open-window-anyway"}, where...)...)
	if exit != 0 || !strings.Contains(out, "believed until") {
		t.Fatalf("restore: exit %d: %s%s", exit, out, stderr)
	}
	n = startNode(t, file, data)
	if status, body := p.refreshOn(t, n); status != 200 {
		t.Errorf("refresh with a token that is newer than the backup: %d %s", status, body)
	}
	n.stop()
	interrupted := writeFile(t, filepath.Join(data, "restoring"), "")
	if refused, err = tryNode(t, file, data); err == nil || refused.exit != 65 || !strings.Contains(refused.logs.String(), "interrupted") {
		t.Errorf("serve in the middle of a restore: %v, exit %d: %s", err, refused.exit, refused.logs)
	}
	if _, stderr, exit := run(t, nil, append([]string{"db", "restore", copied, "--open-window-anyway"}, where...)...); exit != 0 {
		t.Fatalf("repeat an interrupted restore: exit %d: %s", exit, stderr)
	}
	if _, err := os.Stat(interrupted); err == nil {
		t.Error("the restore is done and the directory still says that it is not")
	}
	startNode(t, file, data)
}

// A backup that another master key belongs to is refused before anything is touched.
func TestRestoreOfAnotherInstallation(t *testing.T) {
	up := newUpstream(t)
	file, own, other := movableFile(t, up), t.TempDir(), t.TempDir()
	copied := filepath.Join(t.TempDir(), "backup.db")
	for _, data := range []string{own, other} {
		n := startNode(t, file, data)
		installPhone(t, n, "another-installation")
		n.stop()
	}
	if _, stderr, exit := run(t, nil, "db", "backup", copied, "--config", file, "--data", other); exit != 0 {
		t.Fatalf("exit %d: %s", exit, stderr)
	}
	before, err := os.ReadFile(filepath.Join(own, "main.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, stderr, exit := run(t, nil, "db", "restore", copied, "--config", file, "--data", own); exit != 78 || !strings.Contains(stderr, "master key") {
		t.Errorf("exit %d: %s", exit, stderr)
	}
	after, err := os.ReadFile(filepath.Join(own, "main.db"))
	if err != nil || string(before) != string(after) {
		t.Errorf("a refused restore touched the database: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(own, "restore.db*"))
	if err != nil || len(left) > 0 {
		t.Errorf("a refused restore left %v, %v", left, err)
	}
}

// An embedded installation moves to PostgreSQL with its people, keys, stored
// answers, operators and audit log.
func TestCopyToPostgres(t *testing.T) {
	up := newUpstream(t)
	file, data, database := movableFile(t, up), t.TempDir(), newDatabase(t)
	n := startNode(t, file, data)
	p := installPhone(t, n, "copy-to-postgres-0001")
	p.refreshOn(t, n)
	gone := installPhone(t, n, "copy-to-postgres-0002")
	gone.signOutOn(t, n)
	execute := func(n *node) *http.Response {
		req, err := http.NewRequest(http.MethodPost, n.Public+"/v1/execute/copied", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Idempotency-Key", "before-the-copy")
		res, _ := do(t, req)
		return res
	}
	execute(n)
	where := []string{"--config", file, "--data", data}
	token, stderr, exit := run(t, nil, append([]string{"operator", "add", "ada", "--role", "owner"}, where...)...)
	if exit != 0 {
		t.Fatalf("exit %d: %s", exit, stderr)
	}
	env := []string{"LANDLINE_COPY_TO=" + database}
	if _, stderr, exit := run(t, env, append([]string{"db", "copy"}, where...)...); exit != 69 || !strings.Contains(stderr, "in use") {
		t.Errorf("copy under a running server: exit %d: %s", exit, stderr)
	}
	n.stop()
	for _, c := range []struct {
		args []string
		exit int
		says string
	}{
		{[]string{"db", "copy", "--to", ""}, 64, "LANDLINE_COPY_TO"},
		{[]string{"db", "copy", "--to", "postgres://127.0.0.1:1/none"}, 69, "--to"},
		{[]string{"db", "copy", "--to", "mysql://127.0.0.1:1/none"}, 69, "postgres://"},
	} {
		if _, stderr, exit := run(t, nil, append(c.args, where...)...); exit != c.exit || !strings.Contains(stderr, c.says) {
			t.Errorf("%v: exit %d, want %d: %s", c.args, exit, c.exit, stderr)
		}
	}
	out, stderr, exit := run(t, env, append([]string{"db", "copy"}, where...)...)
	if exit != 0 || !strings.Contains(out, "every row was compared") {
		t.Fatalf("copy: exit %d: %s%s", exit, out, stderr)
	}
	if _, stderr, exit := run(t, env, append([]string{"db", "copy"}, where...)...); exit != 64 || !strings.Contains(stderr, "not empty") {
		t.Errorf("a second copy: exit %d: %s", exit, stderr)
	}

	key, err := os.ReadFile(filepath.Join(data, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	moved := []string{"E2E_POSTGRES=" + database, "E2E_MASTER_KEY=" + strings.TrimSpace(string(key))}
	n = startNode(t, file, t.TempDir(), moved...)
	if status := p.callOn(t, n, http.MethodGet, "/v1/me"); status != 200 {
		t.Errorf("an access token from before: %d", status)
	}
	if status, body := p.refreshOn(t, n); status != 200 {
		t.Errorf("a refresh token from before: %d %s", status, body)
	}
	if status, _ := gone.refreshOn(t, n); status != 400 {
		t.Errorf("a session that had ended: %d", status)
	}
	if again := installPhone(t, n, "copy-to-postgres-0001"); again.Installation != p.Installation {
		t.Errorf("a repeated first launch made %v, had %v", again.Installation.ID, p.Installation.ID)
	}
	if res := execute(n); res.Header.Get("Idempotent-Replayed") != "true" || up.executions("copied") != 1 {
		t.Errorf("a keyed write was executed %d times", up.executions("copied"))
	}
	env = []string{"LANDLINE_ADMIN_URL=" + n.Admin, "LANDLINE_ADMIN_TOKEN=" + strings.TrimSpace(token)}
	if _, stderr, exit := run(t, env, "reload"); exit != 0 { // leaves an audit entry behind those of before
		t.Errorf("an operator's token from before: exit %d: %s", exit, stderr)
	}
	n.stop()
	if out, stderr, exit := run(t, moved, append([]string{"db", "verify"}, where...)...); exit != 0 || !strings.Contains(out, "is sound") {
		t.Errorf("verify on PostgreSQL: exit %d: %s%s", exit, out, stderr)
	}
}
