package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const patience = 60 * time.Second

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "monolith-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "monolith")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// program is the example, started again and again on one address and one database.
type program struct {
	t       *testing.T
	config  string
	data    string
	address string
	env     []string
	client  *http.Client

	cmd *exec.Cmd
	log strings.Builder
}

func newProgram(t *testing.T, config string, env ...string) *program {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, config: config, data: t.TempDir(), address: l.Addr().String(), env: env, client: &http.Client{Timeout: 10 * time.Second}}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p.start()
	t.Cleanup(func() {
		p.end(syscall.SIGTERM)
		if t.Failed() {
			t.Log(p.log.String())
		}
	})
	return p
}

// start returns once the program takes traffic.
func (p *program) start() {
	p.t.Helper()
	cmd := exec.Command(binary, "--config", p.config, "--data", p.data, "--public", p.address, "--admin", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), p.env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	cmd.Stderr = &p.log
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(line, "ready ") {
		p.t.Fatalf("not ready: %q %v\n%v\n%s", line, err, cmd.Wait(), p.log.String())
	}
	p.cmd = cmd
}

func (p *program) end(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
	err := p.cmd.Wait()
	if sig == syscall.SIGTERM && err != nil {
		p.t.Errorf("the program ended with %v", err)
	}
}

type answer struct {
	status   int
	replayed bool
	body     string
}

var errDown = errors.New("no answer")

func (p *program) call(method, path, token, key, body string) (answer, error) {
	req, err := http.NewRequest(method, "http://"+p.address+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	res, err := p.client.Do(req)
	if err != nil {
		return answer{}, errDown
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, errDown
	}
	return answer{res.StatusCode, res.Header.Get("Idempotent-Replayed") == "true", string(text)}, nil
}

// must is call while the program runs.
func (p *program) must(want int, method, path, token, key, body string) answer {
	p.t.Helper()
	a, err := p.call(method, path, token, key, body)
	if err != nil || a.status != want {
		p.t.Fatalf("%s %s: %d %s %v, want %d", method, path, a.status, a.body, err, want)
	}
	return a
}

func (p *program) install() (token string) {
	p.t.Helper()
	var session struct {
		Session struct {
			AccessToken string `json:"access_token"`
		} `json:"session"`
	}
	a := p.must(201, "POST", "/v1/installations", "", "install-"+p.t.Name(), "{}")
	if err := json.Unmarshal([]byte(a.body), &session); err != nil || session.Session.AccessToken == "" {
		p.t.Fatalf("%v %s", err, a.body)
	}
	return session.Session.AccessToken
}

func (p *program) trips(token string) (list []trip) {
	p.t.Helper()
	var page struct{ Data []trip }
	if err := json.Unmarshal([]byte(p.must(200, "GET", "/v1/trips", token, "", "").body), &page); err != nil {
		p.t.Fatal(err)
	}
	return page.Data
}

func TestMonolith(t *testing.T) {
	p := newProgram(t, "landline.yaml")
	token := p.install()
	const book = `{"flight":"WA100","seats":2}`
	first := p.must(201, "POST", "/v1/trips", token, "one", book)
	again := p.must(201, "POST", "/v1/trips", token, "one", book)
	if again.body != first.body || !again.replayed || first.replayed {
		t.Errorf("%+v and %+v", first, again)
	}
	for _, c := range []struct {
		status            int
		method, path, key string
		token, body, says string
	}{
		{200, "GET", "/v1/airports/waw", "", "", "", `"Warsaw Chopin"`},
		{404, "GET", "/v1/airports/xxx", "", "", "", `"code":"not_found"`},
		{401, "POST", "/v1/trips", "two", "", book, `"code":"token_missing"`},
		{401, "GET", "/v1/airports/waw", "", "wrong", "", `"code":"token_invalid"`},
		{400, "POST", "/v1/trips", "", token, book, `"code":"idempotency_key_missing"`},
		{422, "POST", "/v1/trips", "one", token, `{"flight":"WA100","seats":3}`, `"code":"idempotency_key_reused"`},
		{400, "POST", "/v1/trips", "two", token, `{"flight":"WA100","seets":3}`, `"code":"unknown_field"`},
		{400, "POST", "/v1/trips", "two", token, `{"flight":"WA100","seats":"3"}`, `body.seats: expected int`},
		{400, "POST", "/v1/trips", "two", token, `{"flight":"WA100","seats":30}`, `1 to 9 seats`},
		{405, "PUT", "/v1/trips", "two", token, book, `"code":"method_not_allowed"`},
	} {
		if a := p.must(c.status, c.method, c.path, c.token, c.key, c.body); !strings.Contains(a.body, c.says) {
			t.Errorf("%s %s: %s, want %s", c.method, c.path, a.body, c.says)
		}
	}
	for i := range 22 { // the 23rd time 9 seats do not fit into 198
		p.must(201, "POST", "/v1/trips", token, fmt.Sprint("full-", i), `{"flight":"WA100","seats":9}`)
	}
	sold := p.must(409, "POST", "/v1/trips", token, "late", `{"flight":"WA100","seats":1}`)
	for _, want := range []string{`"code":"sold_out"`, `"seats_left":0`, `"title":"The flight is sold out."`, `"trace_id"`} {
		if !strings.Contains(sold.body, want) {
			t.Errorf("no %s in %s", want, sold.body)
		}
	}
	p.must(201, "POST", "/v1/trips", token, "late", `{"flight":"WA200","seats":1}`) // the refusal has freed the key

	deadline := time.Now().Add(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		confirmed := 0
		for _, trip := range p.trips(token) {
			if trip.Confirmed {
				confirmed++
			}
		}
		if confirmed == 24 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of 24 jobs have run", confirmed)
		}
		<-tick.C
	}
}

// landline.yaml overrides the policy that the program has written.
func TestPolicyComesFromTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "landline.yaml")
	text := "features:\n  trips:\n    idempotency: {required: false}\n    rate_limit: [{key: installation, limit: 1, window: 1h, burst: 1}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newProgram(t, file)
	token := p.install()
	p.must(201, "POST", "/v1/trips", token, "", `{"flight":"WA100","seats":2}`)
	p.must(429, "POST", "/v1/trips", token, "", `{"flight":"WA100","seats":2}`)
	if n := len(p.trips(p.otherInstall())); n != 0 {
		t.Errorf("another user sees %d trips", n)
	}
}

func (p *program) otherInstall() string {
	p.t.Helper()
	a := p.must(201, "POST", "/v1/installations", "", "install-of-another-app", "{}")
	_, rest, _ := strings.Cut(a.body, `"access_token":"`)
	token, _, _ := strings.Cut(rest, `"`)
	return token
}

// The program is killed again and again while apps book and repeat. Every
// booking that was answered is there once, its repetition gets the same answer,
// and no key is lost.
func TestKilledProgramNeverBooksTwice(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { killLoop(t) })
	t.Run("postgres", func(t *testing.T) { killLoop(t, postgres(t)) })
}

func killLoop(t *testing.T, env ...string) {
	config := filepath.Join(t.TempDir(), "landline.yaml")
	text := "features: {trips: {rate_limit: [{key: installation, limit: 1000000, window: 1m}]}}\ndatabase: {url: \"${MONOLITH_DATABASE:-}\"}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newProgram(t, config, env...)
	token := p.install()

	const apps, each, kills = 6, 20, 6
	var acked, repeated, inFlight atomic.Int64
	answers := make([][each]string, apps)
	var workers sync.WaitGroup
	for app := range apps {
		workers.Go(func() {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			deadline := time.Now().Add(patience)
			for i := range each {
				key, body := fmt.Sprintf("app-%d-%d", app, i), fmt.Sprintf(`{"flight":"F%d-%d","seats":1}`, app, i)
				for answers[app][i] == "" && time.Now().Before(deadline) {
					a, err := p.call("POST", "/v1/trips", token, key, body)
					switch {
					case err != nil || a.status == 503:
						repeated.Add(1)
						<-tick.C
					case a.status == 409:
						inFlight.Add(1)
						<-tick.C
					case a.status == 201:
						answers[app][i] = a.body
						acked.Add(1)
					default:
						t.Errorf("%s: %d %s", key, a.status, a.body)
						return
					}
				}
			}
		})
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for kill := range kills {
		for deadline := time.Now().Add(patience); acked.Load() < int64((kill+1)*apps*each/(kills+1)) && time.Now().Before(deadline); {
			<-tick.C
		}
		p.end(syscall.SIGKILL)
		p.start()
	}
	workers.Wait()
	p.end(syscall.SIGKILL)
	p.start()

	if n := acked.Load(); n != apps*each {
		t.Fatalf("%d of %d bookings were answered", n, apps*each)
	}
	for app := range apps {
		for i := range each {
			a := p.must(201, "POST", "/v1/trips", token, fmt.Sprintf("app-%d-%d", app, i), fmt.Sprintf(`{"flight":"F%d-%d","seats":1}`, app, i))
			if !a.replayed || a.body != answers[app][i] {
				t.Errorf("app-%d-%d: answered %s, then %+v", app, i, answers[app][i], a)
			}
		}
	}
	flights := map[string]int{}
	for _, trip := range p.trips(token) {
		flights[trip.Flight]++
	}
	for flight, n := range flights {
		if n != 1 {
			t.Errorf("%s was booked %d times", flight, n)
		}
	}
	if len(flights) != apps*each {
		t.Errorf("%d flights were booked, want %d", len(flights), apps*each)
	}
	t.Logf("%d bookings over %d kills: each once; %d tries met no answer or 503, %d met 409", apps*each, kills+1, repeated.Load(), inFlight.Load())
}
