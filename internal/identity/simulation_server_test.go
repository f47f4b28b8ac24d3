package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/audit"
	"landline/internal/bus"
	"landline/internal/clock"
	"landline/internal/gateway"
	"landline/internal/gateway/idem"
	"landline/internal/kv"
	"landline/internal/limit"
	"landline/internal/mail"
	"landline/internal/module"
	"landline/internal/observe"
	"landline/internal/queue"
	"landline/internal/secret"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// The simulations of this package run in three forms: a share of a few seconds in
// the ordinary suite, and the whole and about a sixteenth of it, which
// test/chaos/identity starts with these variables and whose figures it
// prints.
const (
	simWhole = "LANDLINE_SIMULATION"      // "whole": the counts of the published figures; "brief": a sixteenth
	simSeed  = "LANDLINE_SIMULATION_SEED" // first seed; "" = 1
)

// simCount is small in the ordinary suite.
func simCount(small, whole int) int {
	switch os.Getenv(simWhole) {
	case "whole":
		return whole
	case "brief":
		return max(small, whole/16)
	}
	return small
}

func simFirstSeed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv(simSeed)
	if text == "" {
		return 1
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q is no number", simSeed, text)
	}
	return seed
}

// simFigure prints one figure where test/chaos/identity finds it.
func simFigure(t *testing.T, id string, values map[string]float64) {
	t.Helper()
	if os.Getenv(simWhole) == "" {
		return
	}
	line, err := json.Marshal(map[string]any{"id": id, "values": values})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(os.Stdout, "\nFIGURE %s\n", line)
}

// simRand is the one source of chance of a simulation.
func simRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x6c616e646c696e65)) }

// simServer is one server: the capability behind the real gateway on a real
// database, which can be backed up, killed and restored.
type simServer struct {
	t       *testing.T
	dir     string // of keys, journal and, with SQLite, the database
	url     string // of PostgreSQL; "" = SQLite
	clock   *clock.Fake
	db      *sqldb.DB
	queue   *queue.Queue
	service *Service
	gateway *gateway.Gateway
	backups int
}

func newSimServer(t *testing.T, postgres bool) *simServer {
	t.Helper()
	s := &simServer{t: t, dir: t.TempDir(), clock: clock.NewFake(t0)}
	if postgres {
		s.url = testkit.PostgresURL(t)
	}
	s.open()
	t.Cleanup(s.close)
	return s
}

// must ends the simulation when the house itself fails.
func (s *simServer) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// open starts the process: what it knows comes from the database and dir alone.
func (s *simServer) open() {
	s.t.Helper()
	ctx, log, registry := context.Background(), slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	var err error
	s.db, err = sqldb.Open(ctx, sqldb.Options{URL: s.url, Dir: s.dir, Log: log, MaxConns: 4})
	s.must(err)
	s.must(s.db.Migrate(ctx, secret.Migrations, queue.Migrations, audit.Migrations, idem.Migrations, Migrations, simMigrations))
	s.queue, err = queue.New(s.db, queue.Options{Log: log})
	s.must(err)
	s.must(s.queue.Migrate(ctx))
	ring, err := secret.Open(ctx, s.db, secret.Options{Dir: s.dir, Clock: s.clock, Log: log})
	s.must(err)
	people, limits := &module.People{}, limit.NewShared(limit.New(s.clock), nil, 0, log, registry)
	config := defaultConfig()
	config.Refresh.Limit = 100_000 // what is simulated is not how often
	config.Limits = LimitsConfig{Bootstrap: 1_000_000, Identity: 1_000_000}
	config.Deletion.Grace = 0
	trail := audit.New(s.db, s.clock)
	var auth *authenticator
	s.service, auth, err = newService(module.Deps{
		App: testApp, DB: s.db, KV: kv.NewMemory(s.clock, 1000), Bus: bus.NewMemory(), Queue: s.queue, Keys: ring, Audit: trail, People: people,
		Templates: must(mail.LoadTemplates("", "en")), Limits: limits, Clock: s.clock, Log: log, Metrics: registry, DataDir: s.dir,
	}, config, NewSQLStore(s.db, trail))
	s.must(err)
	s.service.events = &recordedEvents{}
	s.service.registerJobs(s.queue)
	s.service.verifiers["fake"] = fakeProvider{s.clock}
	people.Register(s.service.profileParticipant())
	records := &simRecords{s.db}
	for _, one := range records.participants() {
		people.Register(one)
	}
	s.must(s.service.replayJournal(ctx))
	s.must(s.service.revocations.poll(ctx))
	s.gateway, err = gateway.New(gateway.Options{
		App: testApp, DB: s.db, Bus: bus.NewMemory(), KV: kv.NewMemory(s.clock, 1000), Clock: s.clock, Log: log, Registry: registry,
		Tracer: observe.NewTracer(observe.TracerConfig{}, http.DefaultClient, log, registry), Auth: auth, Health: observe.NewHealth(), Limits: limits,
	})
	s.must(err)
	s.must(s.gateway.Apply(gateway.DefaultSettings(), []*module.Module{{Authenticator: auth, Features: []module.Feature{
		{Name: "installations", Routes: s.service.installationRoutes},
		{Name: "tokens", Handlers: s.service.oauthHandlers()},
		{Name: "account", Routes: s.service.accountRoutes, Handlers: s.service.lifeHandlers()},
		{Name: "sign-in", Routes: s.service.signInRoutes},
		{Name: "records", Keys: &module.Keys{Required: true}, Handlers: records.handlers()},
	}}}))
}

// close is a kill: nothing is drained.
func (s *simServer) close() {
	if s.gateway != nil {
		s.gateway.Close()
		s.gateway = nil
		s.must(s.service.close())
		s.must(s.db.Close())
	}
}

// backup copies the database as it is now.
func (s *simServer) backup() string {
	s.t.Helper()
	s.backups++
	path := filepath.Join(s.t.TempDir(), fmt.Sprintf("backup%d.db", s.backups))
	s.must(s.db.Backup(context.Background(), path))
	return path
}

// restore puts an older copy in the place of the database, as an operator does:
// the process is stopped, and the journal of erasures stays.
func (s *simServer) restore(path string) {
	s.t.Helper()
	s.close()
	name := filepath.Join(s.dir, sqldb.DefaultFile)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(name + suffix); err != nil && !os.IsNotExist(err) {
			s.t.Fatal(err)
		}
	}
	from, err := os.ReadFile(path)
	s.must(err)
	s.must(os.WriteFile(name, from, 0o600))
	s.open()
}

// simAnswer is what a request got.
type simAnswer struct {
	status int
	header http.Header
	body   map[string]any
	raw    string
}

func (a simAnswer) str(path ...string) string { return answer{Body: a.body}.str(path...) }

// call sends a request to the server; token "" sends none.
func (s *simServer) call(method, path, token string, body any, header ...string) simAnswer {
	s.t.Helper()
	var reader io.Reader
	media := "application/json"
	switch b := body.(type) {
	case nil:
	case url.Values:
		reader, media = strings.NewReader(b.Encode()), "application/x-www-form-urlencoded"
	default:
		raw, err := json.Marshal(b)
		s.must(err)
		reader = bytes.NewReader(raw)
	}
	r := httptest.NewRequest(method, path, reader)
	if reader != nil {
		r.Header.Set("Content-Type", media)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.gateway.ServeHTTP(w, r)
	a := simAnswer{status: w.Code, header: w.Header(), raw: w.Body.String()}
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &a.body); err != nil {
			s.t.Fatalf("%s %s: %d with a body that is not JSON: %s", method, path, w.Code, a.raw)
		}
	}
	return a
}

func (s *simServer) refresh(token string) simAnswer {
	s.t.Helper()
	return s.call(http.MethodPost, "/oauth/token", "", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {testApp.ID}})
}
