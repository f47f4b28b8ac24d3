// Command proxy measures what Landline adds to a proxied GET of 1 KiB, against
// the bare httputil.ReverseProxy with a tuned http.Transport that a Go team
// would write (= 1):
//
//	make build && go run ./test/load/proxy
//
// "Everything on" is a feature that verifies an access token, limits by
// installation, and has a timeout and a breaker; its clients send
// Landline-Client. Metrics, the access log and a trace id are on in all rows.
package main

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"landline/test/load/internal/bench"
)

const answerBytes = 1024

var (
	options = bench.Flags()
	target  = flag.String("target", "", "internal: what the baseline proxies to")
	before  = flag.String("before", "", "another binary to be measured in the same rounds, such as one of an earlier commit")
)

func main() {
	bench.Main(func() error { return bench.Run(measure) }, map[string]func() error{
		"upstream": func() error { return bench.Serve(http.HandlerFunc(answer)) },
		"baseline": func() error { return baseline(nil) },
		"pooled":   func() error { return baseline(&buffers{}) },
	})
}

func answer(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(answerBytes))
	fmt.Fprintf(w, `{"data":"%s"}`, strings.Repeat("x", answerBytes-11))
}

// buffers lets a ReverseProxy use the memory that it copies with again.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if buf, ok := b.pool.Get().(*[]byte); ok {
		return *buf
	}
	return make([]byte, 32<<10)
}

func (b *buffers) Put(buf []byte) { b.pool.Put(&buf) }

func baseline(pool httputil.BufferPool) error {
	u, err := url.Parse(*target)
	if err != nil {
		return err
	}
	return bench.Serve(&httputil.ReverseProxy{
		Rewrite:    func(r *httputil.ProxyRequest) { r.SetURL(u) },
		Transport:  &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute, DisableCompression: true},
		BufferPool: pool,
	})
}

const config = `profile: development
app: {id: com.example.load}
log: {level: info}
upstreams:
  team: {targets: [{url: "%[1]s"}]}
  standard: {transport: standard, targets: [{url: "%[1]s"}]}
features:
  open:
    auth: none
    routes: [{match: "GET /v1/open", upstream: team, path: "/"}]
  everything:
    auth: anonymous
    routes:
      - {match: "GET /v1/everything", upstream: team, path: "/"}
      - {match: "GET /v1/standard", upstream: standard, path: "/"}
    timeout: 2s
    breaker: {}
    rate_limit: [{key: installation, limit: 1000000, window: 10s, burst: 1000000}]
`

func measure(b *bench.Bench) error {
	upstream, err := b.Self("upstream", "upstream")
	if err != nil {
		return err
	}
	bare, err := b.Self("bare", "baseline", "-target", "http://"+upstream.Address)
	if err != nil {
		return err
	}
	pooled, err := b.Self("pooled", "pooled", "-target", "http://"+upstream.Address)
	if err != nil {
		return err
	}
	landline, caller, err := start(b, options.Landline, upstream, "")
	if err != nil {
		return err
	}
	standard, theirs, err := start(b, options.Landline, upstream, "listen: {server: standard}\n")
	if err != nil {
		return err
	}
	rows := []*bench.Row{
		{Name: "bare ReverseProxy", Process: bare, Client: client(bare, "/", caller)},
		{Name: "bare ReverseProxy with a BufferPool", Process: pooled, Client: client(pooled, "/", caller)},
		{Name: "nothing on", Process: landline, Client: client(landline, "/v1/open", "")},
		{Name: "everything on", Process: landline, Client: client(landline, "/v1/everything", caller)},
		{Name: "nothing on, listen.server: standard", Process: standard, Client: client(standard, "/v1/open", "")},
		{Name: "everything on, listen.server: standard", Process: standard, Client: client(standard, "/v1/everything", theirs)},
		{Name: "everything on, transport: standard", Process: landline, Client: client(landline, "/v1/standard", caller)},
	}
	if *before != "" {
		other, theirs, err := start(b, *before, upstream, "")
		if err != nil {
			return err
		}
		rows = append(rows,
			&bench.Row{Name: "nothing on, before", Process: other, Client: client(other, "/v1/open", "")},
			&bench.Row{Name: "everything on, before", Process: other, Client: client(other, "/v1/everything", theirs)})
	}
	if err := options.Compare(rows); err != nil {
		return err
	}
	options.Print("A proxied GET of 1 KiB", rows, map[string]string{"everything on": "≥ 1.2"})
	return options.SaveProfile(rows[3])
}

func client(p *bench.Process, path, header string) bench.Client {
	return bench.Client{Address: p.Address, Request: bench.Get(path, header), Length: answerBytes}
}

// start starts a binary, with more in its configuration, and returns the header lines of one who calls it.
func start(b *bench.Bench, binary string, upstream *bench.Process, more string) (node *bench.Process, caller string, err error) {
	if node, err = b.Landline(binary, fmt.Sprintf(config, "http://"+upstream.Address)+more); err != nil {
		return nil, "", err
	}
	token, err := node.Install()
	if err != nil {
		return nil, "", err
	}
	return node, "Authorization: Bearer " + token + "\r\nLandline-Client: app=\"com.example.load\", version=\"4.2.0\", build=1042, platform=ios\r\n", nil
}
