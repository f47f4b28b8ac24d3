package clients

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	_ "modernc.org/sqlite" // to hold the database locked

	"landline/test/internal/running"
	"landline/test/process"
)

// Nothing takes that long unless it is broken, however busy the machine is.
const (
	startTime = time.Minute
	flowsTime = 15 * time.Minute // of all flows of a script
)

var binary string

func TestMain(m *testing.M) { running.Main(m, "clients", &binary) }

// TestSignIn: people sign in with providers that others wrote.
func TestSignIn(t *testing.T) {
	t.Parallel()
	runFlows(t, "signin.mjs", "Signing in with providers", startLandline)
}

// TestOAuth: OAuth clients that others wrote use Landline's authorization server.
func TestOAuth(t *testing.T) { t.Parallel(); runFlows(t, "oauth.mjs", "OAuth clients", startLandline) }

// TestHosted: a real browser on the hosted pages.
func TestHosted(t *testing.T) { t.Parallel(); runFlows(t, "hosted.mjs", "Hosted pages", startHosted) }

// outcome is what a script prints of a flow.
type outcome struct {
	Client string `json:"client"`
	Flow   string `json:"flow"`
	Error  string `json:"error"`
}

func (o outcome) name() string { return o.Client + ": " + o.Flow }

// runFlows runs a script and compares what it did with the list in the documentation.
func runFlows(t *testing.T, script, section string, start func(*testing.T) settings) {
	listed := listedFlows(t, section)
	got, printed, err := runScript(t, script, start)
	if err != nil {
		t.Errorf("%s: %v\n%s", script, err, printed)
	}
	results := map[string]outcome{}
	for _, o := range got {
		if _, twice := results[o.name()]; twice {
			t.Errorf("the flow %q ran twice", o.name())
		}
		results[o.name()] = o
	}
	var table strings.Builder
	for _, name := range listed {
		verdict := "pass"
		t.Run(name, func(t *testing.T) {
			o, ran := results[name]
			delete(results, name)
			switch {
			case !ran:
				verdict = "DID NOT RUN"
				t.Error("the flow did not run")
			case o.Error != "":
				verdict = "FAIL"
				t.Error(o.Error)
			}
		})
		fmt.Fprintf(&table, "%-12s %s\n", verdict, name)
	}
	for name := range results {
		t.Errorf("the flow %q is not in docs/reference/clients.md", name)
	}
	t.Logf("%s, %d flows:\n%s", section, len(listed), table.String())
}

var row = regexp.MustCompile(`^\| ([^|]+) \| ([^|]+) \|$`)

// listedFlows reads the table of a section of docs/reference/clients.md.
func listedFlows(t *testing.T, section string) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/reference/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n## "+section+"\n")
	if !found {
		t.Fatalf("docs/reference/clients.md has no section %q", section)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	var names []string
	for line := range strings.Lines(rest) {
		if m := row.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil && m[1] != "client" {
			names = append(names, outcome{Client: m[1], Flow: m[2]}.name())
		}
	}
	if len(names) == 0 {
		t.Fatalf("the section %q lists no flows", section)
	}
	return names
}

// runScript runs a script of this folder with Landline beside it. printed is what
// it wrote to standard error.
func runScript(t *testing.T, script string, start func(*testing.T) settings) (all []outcome, printed string, err error) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("these tests need Node.js 20 or later: %v", err)
	}
	if _, err := os.Stat("node_modules/oidc-provider"); err != nil {
		t.Fatalf("install the clients first, with npm ci in test/clients: %v", err)
	}
	s := start(t)
	settings, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), flowsTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, script)
	cmd.Env = append(os.Environ(), "CLIENTS_TEST="+string(settings), "NODE_NO_WARNINGS=1")
	cmd.WaitDelay = 5 * time.Second
	var stderr process.Log
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var o outcome
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			t.Errorf("%s printed %q", script, lines.Text())
			continue
		}
		all = append(all, o)
	}
	if err := lines.Err(); err != nil {
		t.Error(err)
	}
	return all, stderr.String(), cmd.Wait()
}

// settings are what the scripts know of the test.
type settings struct {
	Landline string            `json:"landline"`
	Issuers  map[string]string `json:"issuers"` // where the scripts start their providers
	Apple    appleTeam         `json:"apple"`
	Control  string            `json:"control"` // POST /lock and /unlock
	Secret   string            `json:"secret"`  // of every client that has one

	BackendKey *jose.JSONWebKey `json:"backendKey"` // of the client that has a key

	Mail     string `json:"mail"`     // folder that messages are written to
	Chromium string `json:"chromium"` // the program
	Shots    string `json:"shots"`    // folder for pictures of the pages, "" = none
}

type appleTeam struct {
	TeamID    string `json:"teamId"`
	KeyID     string `json:"keyId"`
	PublicKey string `json:"publicKey"` // PEM
}

// startLandline runs the binary until the test ends.
func startLandline(t *testing.T) settings {
	t.Helper()
	dir := t.TempDir()
	public := running.FreeAddress(t)
	s := settings{Landline: "http://" + public, Apple: appleTeam{TeamID: "ABCDE12345", KeyID: "FGHIJ67890"}, Secret: "pa:ss word+%/&" + rand.Text(),
		Issuers: map[string]string{"google": "http://" + running.FreeAddress(t), "apple": "http://" + running.FreeAddress(t), "acme": "http://" + running.FreeAddress(t)}}
	private, publicKey := appleKey(t)
	s.Apple.PublicKey = publicKey
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s.BackendKey = &jose.JSONWebKey{Key: key, KeyID: "backend-1", Algorithm: string(jose.ES256)}
	half := s.BackendKey.Public()
	backend, err := half.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	running.Node(t, process.Options{Binary: binary, Config: "landline.yaml", Data: data, Public: public,
		Env: []string{"PUBLIC_URL=" + s.Landline, "CLIENT_SECRET=" + s.Secret, "GOOGLE_SECRET=" + s.Secret, "ACME_SECRET=" + s.Secret,
			"GOOGLE=" + s.Issuers["google"], "APPLE=" + s.Issuers["apple"], "ACME=" + s.Issuers["acme"], "APPLE_KEY=" + private, "BACKEND_KEY=" + string(backend)}}, startTime)
	s.Control = startControl(t, filepath.Join(data, "main.db"))
	return s
}

// startControl lets a script hold Landline's database locked, as a disk that does
// not answer would.
func startControl(t *testing.T, path string) string {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	do := func(statement string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if _, err := db.ExecContext(r.Context(), statement); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		}
	}
	if _, err := db.Exec("PRAGMA busy_timeout = 10000"); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /lock", do("BEGIN IMMEDIATE"))
	mux.HandleFunc("POST /unlock", do("ROLLBACK"))
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		server.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return server.URL
}

// appleKey makes the key of a team at Apple, both halves as PEM.
func appleKey(t *testing.T) (private, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	half, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: half}))
}
