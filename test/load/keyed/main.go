// Command keyed measures what an Idempotency-Key costs: a proxied POST whose key
// and outcome are on the disk before the answer, against the same POST without a
// key (= 1). Every request has a new key. The data directory is on the disk of
// the working directory.
//
//	make build && go run ./test/load/keyed
package main

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"landline/test/load/internal/bench"
)

var options = bench.Flags()

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
upstreams:
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
	landline, err := b.Landline(options.Landline, fmt.Sprintf(config, "http://"+upstream.Address))
	if err != nil {
		return err
	}
	token, err := landline.Install()
	if err != nil {
		return err
	}
	caller, body := "Authorization: Bearer "+token+"\r\n", `{"from":"WAW","to":"LHR","on":"2026-05-01"}`
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	rounds := make([]int, options.Connections) // a connection's requests are numbered anew in each round
	keyed := func(b []byte, connection, n int) []byte {
		if n == 0 {
			rounds[connection]++
		}
		return append(b, bench.Post("/v1/trips", fmt.Sprintf("%sIdempotency-Key: %s-%d-%d-%d\r\n", caller, run, connection, rounds[connection], n), body)...)
	}
	rows := []*bench.Row{
		{Name: "POST", Process: landline, Client: bench.Client{Address: landline.Address, Request: bench.Static(bench.Post("/v1/trips", caller, body)), Length: len(created)}},
		{Name: "POST with a key", Process: landline, Client: bench.Client{Address: landline.Address, Request: keyed, Length: len(created), Without: "idempotent-replayed:"}},
	}
	if err := options.Compare(rows); err != nil {
		return err
	}
	options.Print("A POST whose key is durable before the answer", rows, map[string]string{"POST with a key": "≥ 0.5"})
	return options.SaveProfile(rows[1])
}
