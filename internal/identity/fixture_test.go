package identity

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/audit"
	"landline/internal/bus"
	"landline/internal/clock"
	"landline/internal/kv"
	"landline/internal/limit"
	"landline/internal/mail"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/queue"
	"landline/internal/rest"
	"landline/internal/secret"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

var testApp = module.App{ID: "com.example.flights", Name: "Flights", PublicURL: "https://api.example.com"}

// fixture is one node: the capability on a real store, behind HTTP as the gateway serves it.
type fixture struct {
	t       *testing.T
	db      *sqldb.DB
	dir     string // of the master key, shared by the nodes of one database
	clock   *clock.Fake
	ring    *secret.Ring
	audit   *audit.Log
	bus     bus.Bus
	logs    *testkit.Buffer
	metrics *prometheus.Registry
	service *Service
	auth    *authenticator
	handler http.Handler
	mux     *http.ServeMux
	config  Config
	people  *module.People

	outbox      mail.Sender
	development bool
	events      *recordedEvents
	queue       *queue.Queue
}

// recordedEvents are the events of committed transactions.
type recordedEvents struct {
	mu    sync.Mutex
	all   []string // type, user
	wants bool
}

func (e *recordedEvents) Emit(_ context.Context, tx *sqldb.Tx, eventType, user string, _ any) error {
	tx.OnCommit(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.all = append(e.all, eventType+" "+user)
	})
	return nil
}

func (e *recordedEvents) Wants(string) bool { return e.wants }

func (e *recordedEvents) list() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.all)
}

// fakeProvider proves whatever the code says: "subject", "subject email" or
// "subject email unverified". Each text is one credential.
type fakeProvider struct{ clock clock.Clock }

func (p fakeProvider) verify(_ context.Context, _ *module.Principal, c CredentialWire) (Proven, error) {
	words := strings.Fields(c.Code)
	if len(words) == 0 {
		return Proven{}, invalid("code", "is missing")
	}
	out := Proven{Provider: c.Provider, Profile: Profile{Issuer: "https://" + c.Provider, Subject: words[0]}, Methods: "fed",
		UseID: c.Nonce, UseUntil: p.clock.Now().Add(10 * time.Minute)}
	if len(words) > 1 {
		out.Profile.Email, out.EmailVerified = words[1], len(words) == 2
	}
	return out, nil
}

// engines runs fn with a fresh node on each engine.
func engines(t *testing.T, fn func(t *testing.T, f *fixture)) {
	t.Parallel()
	testkit.Engines(t, func(t *testing.T, open func(*testing.T, ...sqldb.Migrations) *sqldb.DB) {
		t.Parallel()
		fn(t, newFixture(t, open(t, secret.Migrations, queue.Migrations, audit.Migrations, Migrations)))
	})
}

func sqliteFixture(t *testing.T) *fixture {
	t.Helper()
	return newFixture(t, testkit.SQLite(t, secret.Migrations, queue.Migrations, audit.Migrations, Migrations))
}

func newFixture(t *testing.T, db *sqldb.DB) *fixture {
	t.Helper()
	return newFixtureWith(t, db, func(*Config) {})
}

func newFixtureWith(t *testing.T, db *sqldb.DB, change func(*Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, db: db, dir: t.TempDir(), clock: clock.NewFake(t0), config: defaultConfig()}
	f.config.Refresh.Limit = 100_000 // what is tested here is not how often
	f.config.Limits = LimitsConfig{Bootstrap: 1_000_000, Identity: 1_000_000}
	f.config.Clients["com.example.flights.web"] = ClientConfig{Name: "Web"}
	change(&f.config)
	return f.start(nil)
}

// another is a second node on the same database with its own memory, and no bus in common.
func (f *fixture) another() *fixture {
	f.t.Helper()
	n := &fixture{t: f.t, db: f.db, dir: f.dir, clock: f.clock, config: f.config}
	return n.start(nil)
}

// start builds the node; store replaces the real one when it is not nil.
func (f *fixture) start(store func(Store) Store) *fixture {
	f.t.Helper()
	f.logs = &testkit.Buffer{}
	log := slog.New(slog.NewJSONHandler(f.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if f.ring, err = secret.Open(f.t.Context(), f.db, secret.Options{Dir: f.dir, Clock: f.clock, Log: log}); err != nil {
		f.t.Fatal(err)
	}
	f.audit, f.bus, f.metrics = audit.New(f.db, f.clock), bus.NewMemory(), prometheus.NewRegistry()
	var s Store = NewSQLStore(f.db, f.audit)
	if store != nil {
		s = store(s)
	}
	fresh := f.queue == nil || f.outbox != nil
	if fresh {
		if f.queue, err = queue.New(f.db, queue.Options{Log: log}); err != nil {
			f.t.Fatal(err)
		}
		if err := f.queue.Migrate(f.t.Context()); err != nil {
			f.t.Fatal(err)
		}
	}
	f.events = &recordedEvents{}
	f.people = &module.People{}
	f.service, f.auth, err = newService(module.Deps{
		People: f.people, Queue: f.queue, DataDir: f.dir, Mail: f.outbox, Templates: must(mail.LoadTemplates("", "en")), Development: f.development,
		App: testApp, DB: f.db, KV: kv.NewMemory(f.clock, 1000), Bus: f.bus, Keys: f.ring, Audit: f.audit, Clock: f.clock, Log: log, Metrics: f.metrics, Limits: limit.NewShared(limit.New(f.clock), nil, 0, log, f.metrics),
	}, f.config, s)
	if err != nil {
		f.t.Fatal(err)
	}
	f.service.events = f.events
	f.service.verifiers["fake"], f.service.verifiers["other"] = fakeProvider{f.clock}, fakeProvider{f.clock}
	if fresh {
		f.service.registerJobs(f.queue)
	}
	f.t.Cleanup(func() {
		f.bus.Close()
		f.service.close()
	})
	mux := http.NewServeMux()
	f.mux = mux
	api := humago.New(mux, rest.Config("test", "1"))
	f.service.installationRoutes(api)
	f.service.accountRoutes(api)
	f.service.signInRoutes(api)
	f.service.deviceRoutes(api)
	f.service.adminRoutes(api)
	f.people.Register(f.service.profileParticipant())
	f.people.Register(f.service.conflictsParticipant())
	own := map[string]bool{} // routes that judge Authorization themselves
	for _, h := range slices.Concat(f.service.oauthHandlers(), f.service.hostedHandlers(), f.service.accountPageHandlers()) {
		mux.Handle(h.Match, h.Handler)
		own[h.Match] = h.Auth == module.AuthOwn
	}
	for _, h := range append(f.service.lifeHandlers(), f.service.noticeHandlers()...) {
		mux.HandleFunc(h.Match, func(w http.ResponseWriter, r *http.Request) {
			if err := h.Serve(w, r); err != nil {
				problem.Write(w, r, err)
			}
		})
	}
	f.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, match := mux.Handler(r); own[match] {
			mux.ServeHTTP(w, r)
			return
		}
		p, err := f.auth.Authenticate(r)
		if err == nil && p != nil {
			err = module.Demand{}.Check(p, f.clock.Now())
		}
		if err != nil {
			problem.Write(w, r, err)
			return
		}
		ctx := r.Context()
		if p != nil {
			ctx = module.WithPrincipal(ctx, p)
		}
		if strings.HasPrefix(r.URL.Path, "/admin/") {
			ctx = audit.WithActor(ctx, audit.Actor{Type: audit.TypeOperator, ID: "opr_test"})
		}
		if name := r.Header.Get("Test-Client"); name != "" {
			ctx = module.WithClient(ctx, &module.Client{App: name, Version: "4.2.0", Platform: "ios"})
		}
		mux.ServeHTTP(w, r.WithContext(ctx))
	})
	return f
}

// answer is what a request got.
type answer struct {
	Status int
	Header http.Header
	Body   map[string]any
	Raw    string
}

func (a answer) str(path ...string) string {
	var v any = a.Body
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = m[p]
	}
	s, _ := v.(string)
	return s
}

func (f *fixture) do(r *http.Request) answer {
	f.t.Helper()
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	a := answer{Status: w.Code, Header: w.Header(), Raw: w.Body.String()}
	if w.Body.Len() > 0 && strings.Contains(w.Header().Get("Content-Type"), "json") {
		if err := json.Unmarshal(w.Body.Bytes(), &a.Body); err != nil {
			f.t.Errorf("%s %s: %d with a body that is not JSON: %s", r.Method, r.URL, w.Code, a.Raw)
		}
	}
	return a
}

// post sends body as JSON with the headers given as name, value pairs.
func (f *fixture) post(path string, body any, header ...string) answer {
	f.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		f.t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(b))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return f.do(r)
}

func (f *fixture) get(path string, header ...string) answer {
	f.t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return f.do(r)
}

// form sends name, value pairs to an OAuth endpoint.
func (f *fixture) form(path string, pairs ...string) answer {
	f.t.Helper()
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(v.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return f.do(r)
}

func (f *fixture) token(refresh string, more ...string) answer {
	f.t.Helper()
	return f.form("/oauth/token", append([]string{"grant_type", "refresh_token", "refresh_token", refresh}, more...)...)
}

// launch is a first launch with an Idempotency-Key; it must succeed.
func (f *fixture) launch(key string) answer {
	f.t.Helper()
	a := f.post(registerPath, map[string]any{}, "Idempotency-Key", key)
	if a.Status != http.StatusCreated && a.Status != http.StatusOK {
		f.t.Fatalf("first launch: %d %s", a.Status, a.Raw)
	}
	return a
}

func (f *fixture) bearer(token string) answer {
	f.t.Helper()
	return f.get("/v1/me", "Authorization", "Bearer "+token)
}

// wantProblem checks status, code and shape of a problem.
func (a answer) wantProblem(t *testing.T, status int, code problem.Code) {
	t.Helper()
	if a.Status != status || a.str("code") != string(code) || a.Header.Get("Content-Type") != problem.MediaType {
		t.Errorf("got %d %q (%s), want %d %s: %s", a.Status, a.str("code"), a.Header.Get("Content-Type"), status, code, a.Raw)
	}
	if _, has := a.Body["error"]; has {
		t.Error("a problem has the member error, which signs AppAuth clients out")
	}
	if a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control is %q", a.Header.Get("Cache-Control"))
	}
}

// actions lists the audit log's actions, oldest first.
func (f *fixture) actions() []string {
	f.t.Helper()
	rows, _, err := f.audit.List(f.t.Context(), audit.Filter{Limit: 200})
	if err != nil {
		f.t.Fatal(err)
	}
	var all []string
	for i := len(rows) - 1; i >= 0; i-- {
		all = append(all, rows[i].Action)
	}
	return all
}

// device is an app with a key.
type device struct {
	t   *testing.T
	key *ecdsa.PrivateKey
}

func newDevice(t *testing.T) *device {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &device{t, key}
}

func (d *device) public() map[string]any {
	d.t.Helper()
	b, err := (&jose.JSONWebKey{Key: &d.key.PublicKey}).MarshalJSON()
	if err != nil {
		d.t.Fatal(err)
	}
	m := map[string]any{}
	if err := json.Unmarshal(b, &m); err != nil {
		d.t.Fatal(err)
	}
	return m
}

// proof signs the usual claims after change has had its way with them and the header.
func (d *device) proof(now time.Time, change func(header map[jose.HeaderKey]any, claims map[string]any)) string {
	d.t.Helper()
	header := map[jose.HeaderKey]any{jose.HeaderType: typeProof}
	claims := map[string]any{"jti": rand.Text(), "htm": "POST", "htu": testApp.PublicURL + registerPath, "iat": now.Unix()}
	if change != nil {
		change(header, claims)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: d.key}, &jose.SignerOptions{EmbedJWK: true, ExtraHeaders: header})
	if err != nil {
		d.t.Fatal(err)
	}
	b, err := json.Marshal(claims)
	if err != nil {
		d.t.Fatal(err)
	}
	jws, err := signer.Sign(b)
	if err != nil {
		d.t.Fatal(err)
	}
	s, err := jws.CompactSerialize()
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

// counted reads a counter of the node by its one label.
func counted(t *testing.T, f *fixture, name string) map[string]float64 {
	t.Helper()
	families, err := f.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		if family.GetName() == name {
			for _, m := range family.GetMetric() {
				got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	return got
}
