package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"landline/test/process"
)

// cpu offers a node five times what its processor can do. The node has one
// processor, the generator and the services have the others; the services
// answer at once, so that nothing but the node's processor is narrow.
//
// Requests cost very different amounts, and which of them are turned away is the
// point. So goodput is work: the sum over what was answered of what one request
// of its kind costs when nothing else is under way. It is told per second of
// processor time that the node got, which other programs on the machine take
// little from, together with how much of the processor stayed idle.
const cpuConfig = `profile: development
app: {id: com.example.chaos, public_url: "https://api.example.test"}
log: {level: error}
identity:
  audit_installations: false
  refresh: {limit: 100000}
  limits: {bootstrap: 1000000, identity: 1000000}
  email_code: {on: true}
  password: {on: true}
upstreams:
  quick: {targets: [{url: "%[1]s"}]}
features:
  installations:
    rate_limit: [{key: address, limit: 1000000, window: 1m, burst: 1000000}]
  sign-in:
    rate_limit: [{key: address, limit: 1000000, window: 1m, burst: 1000000}]
  read:
    auth: anonymous
    timeout: 5s
    routes: [{match: "GET /v1/read", upstream: quick, path: /read}]
  list:
    auth: anonymous
    timeout: 5s
    routes: [{match: "GET /v1/list", upstream: quick, path: /list}]
  keyed:
    auth: anonymous
    timeout: 5s
    routes: [{match: "POST /v1/keyed", upstream: quick, path: /read}]
    idempotency: {required: true}
`

// The mix at capacity, as parts of the node's processor time.
var cpuMix = map[string]float64{"read": 0.01, "list": 0.70, "keyed": 0.17, "install": 0.03, "refresh": 0.05, "sign-in": 0.04}

const (
	cpuClients   = 24 // that keep the processor busy
	cpuOverload  = 5
	cpuPatience  = 2 * time.Second // from the end of the overload until everything is as before
	cpuSignIns   = 8               // of one person; then it is told to wait
	cpuPassword  = "seventeen green bottles"
	criticalLate = time.Second
)

func cpu(ctx context.Context, h *house, r *report) (err error) {
	back, err := keepOff(0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, back()) }()
	quick, err := newQuick()
	if err != nil {
		return err
	}
	defer quick.Close()
	n, err := h.pinned("cpu.yaml", fmt.Sprintf(cpuConfig, quick.URL), "GOMEMLIMIT=256MiB", "GOMAXPROCS=1")
	if err != nil {
		return err
	}
	a := &assault{h: h, r: r, node: n, base: n.Public}
	defer a.watch(ctx)()
	s := &siege{assault: a, fleet: newFleet(func() string { return n.Public }, nil, r)}
	if err := errors.Join(s.priceOfRefusal(ctx, quick.URL), s.prepare(ctx), s.price(ctx)); err != nil {
		return fmt.Errorf("%w\n%s", err, tail(n.Logs.String()))
	}
	if err := s.rounds(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, tail(n.Logs.String()))
	}
	r.atMost("most memory of the process in MiB, with GOMEMLIMIT=256MiB", int(a.peak.Load()>>20), 320)
	return stop(n)
}

// newQuick is a service whose answers cost next to nothing.
func newQuick() (*quickService, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	var list strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&list, `{"flight":"LL%d","from":"WAW","to":"%c%c%c","seats":%d,"gate":"%d"},`, 1000+i*7919%9000, 'A'+i%26, 'A'+i*7%26, 'A'+i*11%26, i*37%189, i%60)
	}
	lists, read := []byte("["+strings.TrimSuffix(list.String(), ",")+"]"), []byte(`{"flight":"LL1042","status":"boarding"}`)
	mux := http.NewServeMux()
	answer := func(body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				panic(http.ErrAbortHandler)
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(body)
		}
	}
	mux.HandleFunc("/read", answer(read))
	mux.HandleFunc("/list", answer(lists))
	mux.HandleFunc("/wait", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s := &quickService{URL: "http://" + l.Addr().String(), Server: &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}}
	go func() { _ = s.Serve(l) }() // ends with Close
	return s, nil
}

type quickService struct {
	*http.Server
	URL string
}

// siege is the node with those who call it.
type siege struct {
	*assault
	fleet *fleet
	gun   gun

	sessions chan *caller // each has one refresh under way at most
	people   chan *caller // the same for sign-ins with a password
	keys     atomic.Int64
	refusal  time.Duration // processor time of one
}

// caller is an installation that somebody calls from.
type caller struct {
	installation
	email string
	left  int // sign-ins that it may still do
}

// prepare makes installations, accounts and the requests of each kind.
func (s *siege) prepare(ctx context.Context) error {
	sessions, people := pick(s.h, 4000, 1500), pick(s.h, 120, 24)
	s.sessions, s.people = make(chan *caller, sessions), make(chan *caller, people)
	var all sync.WaitGroup
	var broken atomic.Value
	for range 16 {
		all.Go(func() {
			for len(s.sessions) < sessions && ctx.Err() == nil && broken.Load() == nil {
				c, err := s.newcomer(ctx)
				if err != nil {
					broken.Store(err)
					return
				}
				select {
				case s.sessions <- c:
				default:
				}
			}
		})
	}
	all.Wait()
	if err, bad := broken.Load().(error); bad {
		return err
	}
	for i := range people {
		c, err := s.newcomer(ctx)
		if err != nil {
			return err
		}
		if err := s.signUp(ctx, c, fmt.Sprintf("person-%d@example.com", i)); err != nil {
			return err
		}
		s.people <- c
	}
	s.load()
	return nil
}

func (s *siege) newcomer(ctx context.Context) (*caller, error) {
	c := &caller{left: cpuSignIns}
	c.key = fmt.Sprintf("siege-%d-%016d", s.keys.Add(1), s.h.seed)
	if p := (&phone{f: s.fleet}); !p.install(ctx, &c.installation) || c.id == "" {
		return nil, errors.New("an installation was not answered")
	}
	return c, nil
}

var mailedCode = regexp.MustCompile(`\b[0-9]{6,8}\b`)

// signUp gives an account with a password to c, with the code that was mailed.
func (s *siege) signUp(ctx context.Context, c *caller, email string) error {
	a := s.fleet.call(ctx, http.MethodPost, "/v1/auth/email-code", fmt.Sprintf(`{"email":%q}`, email), jsonType, "", c.access)
	if a.status/100 != 2 {
		return fmt.Errorf("email code: %d %.300s", a.status, a.body)
	}
	code := ""
	if _, err := eventually(ctx, patience, "the code is mailed", func() bool {
		code = s.mailed(email)
		return code != ""
	}); err != nil {
		return err
	}
	a = s.fleet.call(ctx, http.MethodPost, "/v1/auth/sign-up", fmt.Sprintf(`{"email":%q,"code":%q,"password":%q}`, email, code, cpuPassword), jsonType, "", c.access)
	if a.status/100 != 2 {
		return fmt.Errorf("sign-up: %d %.300s", a.status, a.body)
	}
	c.email = email
	return c.take(a.body)
}

// mailed is the code in the message to an address, "" if there is none yet.
func (s *siege) mailed(email string) string {
	files, err := filepath.Glob(filepath.Join(s.node.Data, "mail", "*"))
	if err != nil {
		return ""
	}
	for _, file := range slices.Backward(files) {
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), email) {
			continue
		}
		if _, subject, ok := strings.Cut(string(text), "Subject: "); ok {
			line, _, _ := strings.Cut(subject, "\n")
			return mailedCode.FindString(line)
		}
	}
	return ""
}

// take keeps the tokens that an answer gave.
func (c *caller) take(body []byte) error {
	var r struct {
		registered
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return err
	}
	access, refresh := r.Access, r.Refresh
	if r.Session.Access != "" {
		access, refresh = r.Session.Access, r.Session.Refresh
	}
	if access != "" {
		c.access = access
	}
	if refresh != "" {
		c.refresh = refresh
	}
	return nil
}

func request(method, path, kind, body, token string, more ...string) []byte {
	text := method + " " + path + " HTTP/1.1\r\nHost: api.example.test\r\n" + strings.Join(more, "")
	if token != "" {
		text += "Authorization: Bearer " + token + "\r\n"
	}
	if body != "" {
		text += fmt.Sprintf("Content-Type: %s\r\nContent-Length: %d\r\n", kind, len(body))
	}
	return []byte(text + "\r\n" + body)
}

// load makes the kinds of requests.
func (s *siege) load() {
	reader := <-s.sessions // its access token alone is used
	read := request(http.MethodGet, "/v1/read", "", "", reader.access)
	list := request(http.MethodGet, "/v1/list", "", "", reader.access, "Accept-Encoding: gzip\r\n")
	key := func() string { return fmt.Sprintf("Idempotency-Key: siege-%d-%016d\r\n", s.keys.Add(1), s.h.seed) }
	s.gun = gun{address: strings.TrimPrefix(s.base, "http://"), barrels: pick(s.h, 2000, 1000), kinds: []*ammunition{
		{name: "read", next: func() ([]byte, *caller) { return read, nil }},
		{name: "list", next: func() ([]byte, *caller) { return list, nil }},
		{name: "keyed", next: func() ([]byte, *caller) {
			return request(http.MethodPost, "/v1/keyed", jsonType, `{"seats":1}`, reader.access, key()), nil
		}},
		{name: "install", next: func() ([]byte, *caller) {
			return request(http.MethodPost, "/v1/installations", jsonType, "{}", "", key()), nil
		}},
		{name: "refresh", next: s.refresh, done: s.refreshed},
		{name: "sign-in", next: s.signIn, done: s.signedIn},
	}}
}

func (s *siege) refresh() ([]byte, *caller) {
	select {
	case c := <-s.sessions:
		return request(http.MethodPost, "/oauth/token", formType, "grant_type=refresh_token&refresh_token="+c.refresh, ""), c
	default:
		return nil, nil
	}
}

func (s *siege) refreshed(c *caller, status int, body []byte) {
	if status == http.StatusOK && c.take(body) != nil {
		s.r.broken("refresh: %.200s", body)
	}
	s.sessions <- c
}

func (s *siege) signIn() ([]byte, *caller) {
	select {
	case c := <-s.people:
		return request(http.MethodPost, "/v1/auth/sign-in", jsonType, fmt.Sprintf(`{"provider":"password","email":%q,"password":%q}`, c.email, cpuPassword), c.access), c
	default:
		return nil, nil
	}
}

func (s *siege) signedIn(c *caller, status int, body []byte) {
	if status == http.StatusOK && c.take(body) != nil {
		s.r.broken("sign-in: %.200s", body)
	}
	if c.left--; c.left > 0 {
		s.people <- c
	}
}

// pinned is shipped on the first processor; everything else stays off it.
func (h *house) pinned(name, config string, env ...string) (*process.Node, error) {
	restore, err := onProcessor(0)
	if err != nil {
		return nil, err
	}
	n, err := h.shipped(name, config, env...) // a child runs where the thread runs that starts it
	return n, errors.Join(err, restore())
}
