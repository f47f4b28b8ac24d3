// Command keyed measures what an Idempotency-Key costs: a proxied POST whose key
// and outcome are on the disk before the answer, against the same POST without a
// key (= 1). Every request has a new key. SQLite is measured with few connections
// and with many: those that are there at the same time share commits. The data directory is on the disk of
// the working directory; PostgreSQL's database is one of its own on
// TEST_POSTGRES_URL and is dropped at the end.
//
//	make build && eval "$(scripts/testdb env)" && go run ./test/load/keyed
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"landline/test/load/internal/bench"
)

var (
	options = bench.Flags()
	engines = flag.String("engines", "sqlite,postgres", "where the keys are kept")
	crowd   = flag.Int("crowd", 128, "connections of a second measurement on SQLite; 0 = none")
	before  = flag.String("before", "", "another binary to be measured in the same rounds, such as one of an earlier commit")
)

func main() {
	bench.Main(func() error { return bench.Run(measure) }, map[string]func() error{
		"upstream": func() error { return bench.Serve(http.HandlerFunc(answer)) },
	})
}

const created = `{"id":"trip_1","status":"created"}`

func answer(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(created)))
	w.WriteHeader(http.StatusCreated)
	io.WriteString(w, created) //nolint:errcheck // the caller went away
}

const config = `profile: development
app: {id: com.example.load}
log: {level: info}
%supstreams:
  team: {targets: [{url: "%s"}]}
features:
  trips:
    auth: anonymous
    timeout: 5s
    idempotency: {}
    routes: [{match: "POST /v1/trips", upstream: team, path: "/"}]
`

func measure(b *bench.Bench) error {
	upstream, err := b.Self("upstream", "upstream")
	if err != nil {
		return err
	}
	for _, engine := range strings.Split(*engines, ",") {
		if err := on(b, engine, upstream, options.Connections); err != nil {
			return fmt.Errorf("%s: %w", engine, err)
		}
		if engine == "sqlite" && *crowd > 0 {
			if err := on(b, engine, upstream, *crowd); err != nil {
				return fmt.Errorf("%s: %w", engine, err)
			}
		}
	}
	return nil
}

// on measures on one engine.
func on(b *bench.Bench, engine string, upstream *bench.Process, connections int) (fault error) {
	binaries, rows := []string{options.Landline}, []*bench.Row{}
	if *before != "" {
		binaries = append(binaries, *before)
	}
	for i, binary := range binaries {
		database := ""
		if engine == "postgres" {
			address, drop, err := bench.Database()
			if err != nil {
				return err
			}
			defer func() { fault = errors.Join(fault, drop()) }()
			variable := fmt.Sprintf("LOAD_DATABASE_URL_%d", i)
			if err := os.Setenv(variable, address); err != nil {
				return err
			}
			database = fmt.Sprintf("database: {url: \"${%s}\", max_connections: %d}\n", variable, max(2, connections))
		}
		node, err := b.Landline(binary, fmt.Sprintf(config, database, "http://"+upstream.Address))
		if err != nil {
			return err
		}
		defer func() { fault = errors.Join(fault, node.Stop()) }()
		clients, err := posting(node, connections)
		if err != nil {
			return err
		}
		suffix := []string{"", ", before"}[i]
		rows = append(rows, &bench.Row{Name: "POST" + suffix, Process: node, Client: clients[0]},
			&bench.Row{Name: "POST with a key" + suffix, Process: node, Client: clients[1]})
	}
	these := *options
	these.Connections = connections
	if err := these.Compare(rows); err != nil {
		return err
	}
	these.Print("A POST whose key is durable before the answer, "+names[engine], rows, map[string]string{"POST with a key": reach[engine]})
	if connections != options.Connections {
		return nil
	}
	return options.SaveProfile(rows[1])
}

var (
	names = map[string]string{"sqlite": "SQLite", "postgres": "PostgreSQL"}
	reach = map[string]string{"sqlite": "≥ 0.5"}
)

// posting are the requests without a key and those with one.
func posting(node *bench.Process, connections int) (clients [2]bench.Client, err error) {
	token, err := node.Install()
	if err != nil {
		return clients, err
	}
	caller, body := "Authorization: Bearer "+token+"\r\n", `{"from":"WAW","to":"LHR","on":"2026-05-01"}`
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	rounds := make([]int, connections) // a connection's requests are numbered anew in each round
	keyed := func(b []byte, connection, n int) []byte {
		if n == 0 {
			rounds[connection]++
		}
		return append(b, bench.Post("/v1/trips", fmt.Sprintf("%sIdempotency-Key: %s-%d-%d-%d\r\n", caller, run, connection, rounds[connection], n), body)...)
	}
	return [2]bench.Client{
		{Address: node.Address, Request: bench.Static(bench.Post("/v1/trips", caller, body)), Length: len(created)},
		{Address: node.Address, Request: keyed, Length: len(created), Without: "idempotent-replayed:"},
	}, nil
}
