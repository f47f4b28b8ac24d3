// Command flat measures whether a request's cost stays the same while other
// things grow: 10 to 10,000 routes, 1 to 100,000 callers that a rate limit keeps
// apart, 10 to 10,000 connections that do nothing. The first row of each curve
// is 1. It needs some 11,000 file descriptors (ulimit -n).
//
//	make build && go run ./test/load/flat
package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"landline/test/load/internal/bench"
)

var (
	options = bench.Flags()
	before  = flag.String("before", "", "another binary to be measured in the same rounds of the first curve, such as one of an earlier commit")
)

func main() {
	bench.Main(func() error { return bench.Run(measure) }, map[string]func() error{
		"upstream": func() error { return bench.Serve(http.HandlerFunc(answer)) },
	})
}

const answered = `{"status":"on time"}`

func answer(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(answered)))
	fmt.Fprint(w, answered)
}

const config = `profile: development
app: {id: com.example.load}
log: {level: info}
listen: {trusted_proxies: [127.0.0.0/8]}
upstreams:
  team: {targets: [{url: "%s"}]}
features:
  limited:
    auth: none
    rate_limit: [{key: address, limit: 1000000, window: 10s, burst: 1000000}]
    routes: [{match: "GET /v1/limited", upstream: team, path: "/"}]
  routes:
    auth: none
    routes:
`

func configuration(upstream string, routes int) string {
	var s strings.Builder
	fmt.Fprintf(&s, config, upstream)
	for i := range routes {
		fmt.Fprintf(&s, "      - {match: \"GET /v1/area%d/{id}/part%d\", upstream: team, path: \"/\"}\n", i/10, i)
	}
	return s.String()
}

func measure(b *bench.Bench) error {
	upstream, err := b.Self("upstream", "upstream")
	if err != nil {
		return err
	}
	url := "http://" + upstream.Address
	if err := routes(b, url); err != nil {
		return err
	}
	landline, err := b.Landline(options.Landline, configuration(url, 10))
	if err != nil {
		return err
	}
	if err := keys(landline); err != nil {
		return err
	}
	return connections(landline)
}

func row(name string, p *bench.Process, request func([]byte, int, int) []byte) *bench.Row {
	return &bench.Row{Name: name, Process: p, Client: bench.Client{Address: p.Address, Request: request, Length: len(answered)}}
}

// routes asks for every route of a table, in turn.
func routes(b *bench.Bench, upstream string) error {
	rows, err := tables(b, options.Landline, upstream, "")
	if err != nil {
		return err
	}
	if *before != "" {
		theirs, err := tables(b, *before, upstream, ", before")
		if err != nil {
			return err
		}
		rows = append(rows, theirs...)
	}
	if err := options.Compare(rows); err != nil {
		return err
	}
	options.Print("Cost of a request by number of routes", rows, nil)
	for _, r := range rows {
		if err := r.Process.Stop(); err != nil {
			return err
		}
	}
	return nil
}

// tables starts a binary with tables of different sizes.
func tables(b *bench.Bench, binary, upstream, suffix string) (rows []*bench.Row, err error) {
	for _, n := range []int{10, 100, 1000, 10_000} {
		p, err := b.Landline(binary, configuration(upstream, n))
		if err != nil {
			return nil, err
		}
		rows = append(rows, row(fmt.Sprint(n, " routes", suffix), p, func(b []byte, connection, i int) []byte {
			at := (connection*7919 + i*31) % n // 31 and n have no common divisor: it meets every route
			return fmt.Appendf(b, "GET /v1/area%d/LO%d/part%d HTTP/1.1\r\nHost: load.example.test\r\n\r\n", at/10, i%1000, at)
		}))
		if err := rows[len(rows)-1].Warm(n); err != nil { // the first request of a route makes its metrics
			return nil, err
		}
	}
	largest := rows[len(rows)-1].Process // what of the difference is memory that is seldom touched
	return append(rows, row("10000 routes, one of them asked"+suffix, largest, bench.Get("/v1/area0/LO1/part1", ""))), nil
}

// keys asks for as many callers, in turn, as a rate limit counts apart.
func keys(p *bench.Process) error {
	var rows []*bench.Row
	for _, n := range []int{1, 100, 10_000, 100_000} {
		rows = append(rows, row(fmt.Sprint(n, " limited keys"), p, func(b []byte, connection, i int) []byte {
			k := (connection*7919 + i*31) % n
			return fmt.Appendf(b, "GET /v1/limited HTTP/1.1\r\nHost: load.example.test\r\nX-Forwarded-For: 10.%d.%d.%d\r\n\r\n", k>>16, k>>8&255, k&255)
		}))
	}
	if err := options.Compare(rows); err != nil {
		return err
	}
	options.Print("Cost of a request by number of callers that a limit knows", rows, nil)
	return nil
}

// connections measures beside connections that do nothing. Their number can
// only grow, so that the rounds of different numbers are not interleaved.
func connections(p *bench.Process) error {
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	var rows []*bench.Row
	for _, n := range []int{10, 100, 1000, 10_000} {
		for len(open) < n {
			c, err := net.Dial("tcp", p.Address)
			if err != nil {
				return fmt.Errorf("connection %d: %w (raise ulimit -n)", len(open)+1, err)
			}
			open = append(open, c)
			// One request makes it a connection that waits for the next.
			if _, err := fmt.Fprint(c, "GET /healthz HTTP/1.1\r\nHost: load.example.test\r\n\r\n"); err != nil {
				return err
			}
			if _, err := c.Read(make([]byte, 4<<10)); err != nil {
				return err
			}
		}
		r := row(fmt.Sprint(n, " idle connections"), p, bench.Get("/v1/area0/LO1/part1", ""))
		if err := options.Compare([]*bench.Row{r}); err != nil {
			return err
		}
		memory, _, err := p.Memory()
		if err != nil {
			return err
		}
		r.Name += fmt.Sprintf(", %d MB", memory>>20)
		rows = append(rows, r)
	}
	options.Print("Cost of a request beside idle connections, and the node's memory", rows, nil)
	return nil
}
