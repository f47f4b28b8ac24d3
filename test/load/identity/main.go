// Command identity measures what phones do most with identity: the first
// launch, the refresh, the sign-in, and the access token on every call.
//
//	make build && eval "$(scripts/testdb env)" && go run ./test/load/identity
//
// New installations stand beside raw inserts of rows of the same sizes, made as
// durable (= 1): on SQLite by one writer that shares a commit among all who wait,
// on PostgreSQL by single inserts, each its own commit. Refreshes and sign-ins,
// which are durable too, stand beside a bare net/http server that reads and
// writes JSON of the size of a refresh and keeps nothing. The rate limits of
// these features are lifted by configuration, as is the audit entry of an
// installation but in the row that says so. Data directories are on the disk of
// the working directory, PostgreSQL's database is one of its own on
// TEST_POSTGRES_URL and is dropped at the end.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"landline/test/load/internal/bench"
)

var (
	options = bench.Flags()
	keys    = flag.String("keys", "", "internal: the JWK Set that the role issuer publishes")
	engines = flag.String("engines", "sqlite,postgres", "what to measure on; on postgres new installations alone")
	crowd   = flag.Int("crowd", 128, "connections that make installations on SQLite at the same time")
	before  = flag.String("before", "", "another binary to be measured in the same rounds, such as one of an earlier commit")
	row     = flag.String("profiled", "refresh", "what -profile is of: installation, installation-postgres, refresh or sign-in")
)

func main() {
	bench.Main(func() error { return bench.Run(measure) }, map[string]func() error{
		"bare":     func() error { return bench.Serve(http.HandlerFunc(bare)) },
		"issuer":   func() error { return bench.Serve(issuer(*keys)) },
		"upstream": func() error { return bench.Serve(http.HandlerFunc(answer)) },
	})
}

// config has limits that nobody reaches; installing and signing in would
// otherwise be limited by address and by installation.
const config = `profile: development
app: {id: com.example.load}
log: {level: info}
%[1]sidentity:
  audit_installations: %[2]t
  verified_tokens: 1000
  refresh: {limit: 100000}
  limits: {bootstrap: 1000000, identity: 1000000}
  providers: {oidc: {load: {issuer: "%[3]s", client_ids: [load]}}}
upstreams:
  team: {targets: [{url: "%[4]s"}]}
features:
  installations: {rate_limit: [{key: address, limit: 1000000, window: 1s, burst: 1000000}]}
  sign-in: {rate_limit: [{key: installation, limit: 1000000, window: 1s, burst: 1000000}]}
  open:
    auth: none
    routes: [{match: "GET /v1/open", upstream: team, path: "/"}]
  signed-in:
    auth: anonymous
    routes: [{match: "GET /v1/signed-in", upstream: team, path: "/"}]
`

// set is what is measured and what stands beside it.
type set struct {
	b        *bench.Bench
	issuer   *bench.Process
	upstream *bench.Process
	bare     *bench.Process
	people   *people
}

func (s *set) landline(database string, audited bool) (*bench.Process, error) {
	return s.start(options.Landline, database, audited)
}

func (s *set) start(binary, database string, audited bool) (*bench.Process, error) {
	return s.b.Landline(binary, fmt.Sprintf(config, database, audited, "http://"+s.issuer.Address, "http://"+s.upstream.Address))
}

func measure(b *bench.Bench) error {
	options.Latency, options.Generator = true, true
	s := &set{b: b}
	var err error
	if s.people, err = newPeople(); err != nil {
		return err
	}
	for _, p := range []struct {
		name string
		to   **bench.Process
		args []string
	}{
		{"issuer", &s.issuer, []string{"-keys", s.people.keySet()}}, {"upstream", &s.upstream, nil}, {"bare", &s.bare, nil},
	} {
		if *p.to, err = b.Self(p.name, p.name, p.args...); err != nil {
			return err
		}
	}
	s.people.issuer = "http://" + s.issuer.Address
	var quiet *bench.Process
	if onEngine("sqlite") {
		if quiet, err = s.landline("", false); err != nil {
			return err
		}
		if err := s.onSQLite(quiet); err != nil {
			return fmt.Errorf("SQLite: %w", err)
		}
	}
	if onEngine("postgres") {
		if err := s.onPostgres(); err != nil {
			return fmt.Errorf("PostgreSQL: %w", err)
		}
	}
	if quiet == nil {
		return nil
	}
	return errors.Join(s.refreshAndSignIn(quiet), s.verification(quiet))
}

// onSQLite measures new installations at quiet, at a node that writes an audit
// entry of each, and raw.
func (s *set) onSQLite(quiet *bench.Process) (err error) {
	audited, err := s.landline("", true)
	if err != nil {
		return err
	}
	raw, err := openRawSQLite(s.b.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, raw.close()) }()
	many := *options
	many.Connections = *crowd
	rows := []*bench.Row{
		{Name: "raw inserts, commits shared", Client: bench.Client{Do: raw.insert}},
		{Name: "new installation", Process: quiet, Client: installing(quiet)},
		{Name: "new installation, audited", Process: audited, Client: installing(audited)},
	}
	if *before != "" {
		other, err := s.start(*before, "", false)
		if err != nil {
			return err
		}
		rows = append(rows, &bench.Row{Name: "new installation, before", Process: other, Client: installing(other)})
	}
	if err := many.Compare(rows); err != nil {
		return err
	}
	many.Print("New installations on SQLite, durable before the answer", rows, map[string]string{"new installation": "≥ 12,000/s on two quiet cores"})
	if *row == "installation" {
		return errors.Join(many.SaveProfile(rows[1]), audited.Stop())
	}
	return audited.Stop()
}

func (s *set) onPostgres() (fault error) {
	database, drop, err := bench.Database()
	if err != nil {
		return err
	}
	defer func() { fault = errors.Join(fault, drop()) }()
	raw, err := openRawPostgres(database, options.Connections)
	if err != nil {
		return err
	}
	defer func() { fault = errors.Join(fault, raw.close()) }()
	spent, end, err := bench.ServerCPU(database)
	if err != nil {
		return err
	}
	defer func() { fault = errors.Join(fault, end()) }()
	rows := []*bench.Row{{Name: "raw inserts, a commit each", Client: bench.Client{Do: raw.insert}, Server: spent}}
	for _, one := range []struct{ name, binary, variable string }{
		{"new installation", options.Landline, "LOAD_DATABASE_URL"}, {"new installation, before", *before, "LOAD_DATABASE_URL_BEFORE"},
	} {
		if one.binary == "" {
			continue
		}
		r, end, err := s.postgresRow(one.name, one.binary, one.variable)
		if err != nil {
			return err
		}
		defer func() { fault = errors.Join(fault, end()) }()
		rows = append(rows, r)
	}
	if err := options.Compare(rows); err != nil {
		return err
	}
	options.Print("New installations on PostgreSQL, durable before the answer", rows, map[string]string{"new installation": "≥ 0.5"})
	if *row == "installation-postgres" {
		return options.SaveProfile(rows[1])
	}
	return nil
}

// postgresRow starts a binary on a database of its own; the configuration knows
// its URL by the environment variable.
func (s *set) postgresRow(name, binary, variable string) (r *bench.Row, end func() error, err error) {
	database, drop, err := bench.Database()
	if err != nil {
		return nil, nil, err
	}
	if err := os.Setenv(variable, database); err != nil {
		return nil, nil, errors.Join(err, drop())
	}
	node, err := s.start(binary, fmt.Sprintf("database: {url: \"${%s}\", max_connections: %d}\n", variable, max(2, options.Connections)), false)
	if err != nil {
		return nil, nil, errors.Join(err, drop())
	}
	spent, leave, err := bench.ServerCPU(database)
	if err != nil {
		return nil, nil, errors.Join(err, node.Stop(), drop())
	}
	return &bench.Row{Name: name, Process: node, Client: installing(node), Server: spent},
		func() error { return errors.Join(leave(), node.Stop(), drop()) }, nil
}

// refreshAndSignIn measures both on people who are there already.
func (s *set) refreshAndSignIn(node *bench.Process) error {
	const each = 8 // installations of one connection, which takes them in turn
	devices, err := install(node, options.Connections, each)
	if err != nil {
		return err
	}
	rows := []*bench.Row{
		{Name: "bare net/http, JSON, nothing kept", Process: s.bare, Client: bench.Client{Address: s.bare.Address, Request: bench.Static(bench.Post("/", "", bareQuestion)), Answer: bareAnswer}},
		{Name: "refresh", Process: node, Client: devices.refreshing(node)},
		{Name: "sign-in by OIDC, keys cached", Process: node, Client: s.people.signingIn(node, devices)},
	}
	if *before != "" {
		other, err := s.start(*before, "", false)
		if err != nil {
			return err
		}
		theirs, err := install(other, options.Connections, each)
		if err != nil {
			return err
		}
		rows = append(rows, &bench.Row{Name: "refresh, before", Process: other, Client: theirs.refreshing(other)},
			&bench.Row{Name: "sign-in by OIDC, before", Process: other, Client: s.people.signingIn(other, theirs)})
	}
	if err := options.Compare(rows); err != nil {
		return err
	}
	options.Print("Refresh and sign-in on SQLite, durable before the answer", rows, map[string]string{"refresh": "≥ 12,000/s on two quiet cores"})
	switch *row {
	case "refresh":
		return options.SaveProfile(rows[1])
	case "sign-in":
		return options.SaveProfile(rows[2])
	}
	return nil
}

// verification measures what an access token costs a proxied GET: one whose
// signature was verified before, and ones that the node no longer remembers, as
// its memory (verified_tokens) holds fewer than there are.
func (s *set) verification(node *bench.Process) error {
	const each = 256
	connections := min(options.Connections, 16) // 4096 tokens; a thousand are remembered
	devices, err := install(node, connections, each)
	if err != nil {
		return err
	}
	few := *options
	few.Connections = connections
	get := func(path string, token func(connection, n int) string) bench.Client {
		return bench.Client{Address: node.Address, Length: len(upstreamAnswer), Request: func(b []byte, connection, n int) []byte {
			b = append(append(b, "GET "...), path...)
			b = append(b, " HTTP/1.1\r\nHost: load.example.test\r\nAuthorization: Bearer "...)
			return append(append(b, token(connection, n)...), "\r\n\r\n"...)
		}}
	}
	same := func(int, int) string { return devices.all[0][0].access }
	fresh := func(connection, n int) string { return devices.all[connection][n%each].access }
	rows := []*bench.Row{
		{Name: "no verification", Process: node, Client: get("/v1/open", same)},
		{Name: "a token seen before", Process: node, Client: get("/v1/signed-in", same)},
		{Name: "mostly tokens not remembered", Process: node, Client: get("/v1/signed-in", fresh)},
	}
	if err := few.Compare(rows); err != nil {
		return err
	}
	few.Print("Verification of the access token of a proxied GET", rows, nil)
	return nil
}

const app = `{"app":{"version":"4.2.0","build":1042,"platform":"ios","os":"18.1","device":"iPhone15,3","locale":"pl-PL"}}`

var installed atomic.Int64 // so that no Idempotency-Key comes twice

// installing makes a new installation with every request.
func installing(p *bench.Process) bench.Client {
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	head := "POST /v1/installations HTTP/1.1\r\nHost: load.example.test\r\nContent-Type: application/json\r\nContent-Length: " +
		strconv.Itoa(len(app)) + "\r\nIdempotency-Key: load-" + run + "-"
	return bench.Client{Address: p.Address, Request: func(b []byte, _, _ int) []byte {
		b = append(b, head...)
		b = strconv.AppendInt(b, 1_000_000_000+installed.Add(1), 10)
		return append(append(b, "\r\n\r\n"...), app...)
	}, Answer: func(_ int, body []byte) error {
		if member(body, "secret") == nil || member(body, "access_token") == nil || member(body, "refresh_token") == nil {
			return fmt.Errorf("an installation without its secret or its tokens: %s", body)
		}
		return nil
	}}
}

// device is one installation; its connection alone uses it.
type device struct{ access, refresh string }

// devices are those of each connection.
type devices struct {
	all  [][]device
	next []int // whose turn it is
}

func (d *devices) turn(connection int) *device {
	mine := d.all[connection]
	d.next[connection]++
	return &mine[d.next[connection]%len(mine)]
}

func (d *devices) now(connection int) *device {
	mine := d.all[connection]
	return &mine[d.next[connection]%len(mine)]
}

// install makes so many installations for each connection.
func install(p *bench.Process, connections, each int) (*devices, error) {
	d := &devices{all: make([][]device, connections), next: make([]int, connections)}
	r := &bench.Row{Name: "installations", Process: p, Client: installing(p)}
	r.Answer = func(connection int, body []byte) error {
		access, refresh := member(body, "access_token"), member(body, "refresh_token")
		if access == nil || refresh == nil {
			return fmt.Errorf("an installation without tokens: %s", body)
		}
		d.all[connection] = append(d.all[connection], device{string(access), string(refresh)})
		return nil
	}
	return d, r.Prepare(connections, each)
}

// refreshing presents with each request a device's newest refresh token.
func (d *devices) refreshing(p *bench.Process) bench.Client {
	return bench.Client{Address: p.Address,
		Request: func(b []byte, connection, _ int) []byte {
			const form = "grant_type=refresh_token&client_id=com.example.load&refresh_token="
			token := d.turn(connection).refresh
			b = append(b, "POST /oauth/token HTTP/1.1\r\nHost: load.example.test\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: "...)
			b = strconv.AppendInt(b, int64(len(form)+len(token)), 10)
			return append(append(append(b, "\r\n\r\n"...), form...), token...)
		},
		Answer: func(connection int, body []byte) error {
			token := member(body, "refresh_token")
			if token == nil || member(body, "access_token") == nil {
				return fmt.Errorf("a refresh without its tokens: %s", body)
			}
			d.now(connection).refresh = string(token)
			return nil
		}}
}

// member is the text of a member of a JSON object whose text needs no escapes.
func member(body []byte, name string) []byte {
	_, rest, ok := bytes.Cut(body, []byte(`"`+name+`":"`))
	if !ok {
		return nil
	}
	text, _, ok := bytes.Cut(rest, []byte{'"'})
	if !ok {
		return nil
	}
	return text
}

const upstreamAnswer = `{"flight":"LO123"}`

func answer(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(upstreamAnswer)))
	io.WriteString(w, upstreamAnswer) //nolint:errcheck // the caller went away
}
