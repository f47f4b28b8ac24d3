package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"landline/test/process"
)

// hostile runs the binary that ships in front of a service that breaks every
// rule of HTTP/1.1, on many connections at once, beside one that behaves.

// villain is how a service may misbehave, and what a client may see of it.
type villain struct {
	name   string
	answer func(c net.Conn) // after the request's header was read; the connection is closed behind it
	want   []string         // acceptable outcomes: "502", "504", "cut", or "200 <body>"
}

func says(text string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, text) } // the other side may hang up
}

// then says text and holds the connection until the other side closes it.
func then(text string) func(net.Conn) {
	return func(c net.Conn) {
		says(text)(c)
		_, _ = io.Copy(io.Discard, c)
	}
}

// floods says text once and piece until the other side closes, or 64 MiB.
func floods(text, piece string) func(net.Conn) {
	return func(c net.Conn) {
		says(text)(c)
		for sent := 0; sent < 64<<20; sent += len(piece) {
			if _, err := io.WriteString(c, piece); err != nil {
				return
			}
		}
	}
}

func drips(text string) func(net.Conn) {
	return func(c net.Conn) {
		for i := range text {
			if _, err := c.Write([]byte{text[i]}); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond) // slower than the feature waits
		}
	}
}

const ok = "HTTP/1.1 200 OK\r\n"

var villains = []villain{
	{"hangs", then(""), []string{"504"}},
	{"hangs in the header", then(ok + "X-A: 1\r\n"), []string{"504"}},
	{"drips", drips(ok + strings.Repeat("X-Filler: y\r\n", 50) + "\r\n"), []string{"504"}},
	{"closes", says(""), []string{"502"}},
	{"half-closes", func(c net.Conn) { _ = c.(*net.TCPConn).CloseWrite(); _, _ = io.Copy(io.Discard, c) }, []string{"502"}},
	{"resets", func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }, []string{"502"}},
	{"half a header", says(ok + "Conte"), []string{"502"}},
	{"garbage", says("\x00\x01\x02 what?\r\n\r\n"), []string{"502"}},
	{"another protocol", says("SSH-2.0-OpenSSH_9.2\r\n"), []string{"502"}},
	{"HTTP 2 unasked", says("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), []string{"502"}},
	{"HTTP 0.9", says("<html>hello</html>"), []string{"502"}},
	{"status out of range", says("HTTP/1.1 99999 Huge\r\nContent-Length: 0\r\n\r\n"), []string{"502"}},
	{"negative length", says(ok + "Content-Length: -5\r\n\r\n"), []string{"502"}},
	{"two lengths", says(ok + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"), []string{"502"}},
	{"length beyond 64 bits", says(ok + "Content-Length: 99999999999999999999\r\n\r\nhello"), []string{"502"}},
	{"promises more", says(ok + "Content-Length: 1000\r\n\r\nhello"), []string{"502", "cut"}},
	{"promises more and hangs", then(ok + "Content-Length: 1000\r\n\r\nhello"), []string{"504", "cut"}},
	{"promises less", says(ok + "Content-Length: 5\r\n\r\nhello" + ok + "Content-Length: 7\r\n\r\nforgery"), []string{"200 hello", "502"}},
	{"a body where none may be", says("HTTP/1.1 204 No Content\r\n\r\n" + ok + "Content-Length: 7\r\n\r\nforgery"), []string{"204 ", "502"}},
	{"endless header", floods(ok, "X-Filler: "+strings.Repeat("y", 1000)+"\r\n"), []string{"502", "504"}},
	{"endless header line", floods(ok+"X-Filler: ", strings.Repeat("y", 1000)), []string{"502", "504"}},
	{"endless status line", floods("HTTP/1.1 200 ", strings.Repeat("O", 1000)), []string{"502", "504"}},
	{"flood of 103", floods("", "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"), []string{"502", "504"}},
	{"flood of 100", floods("", "HTTP/1.1 100 Continue\r\n\r\n"), []string{"502", "504"}},
	{"uninvited 101", says("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), []string{"502"}},
	{"huge chunk size", says(ok + "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nhello"), []string{"502", "cut"}},
	{"chunk size that is none", says(ok + "Transfer-Encoding: chunked\r\n\r\n-1\r\nhello\r\n0\r\n\r\n"), []string{"502", "cut"}},
	{"chunk never ends", says(ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"), []string{"502", "cut"}},
	{"endless chunk extension", floods(ok+"Transfer-Encoding: chunked\r\n\r\n5;", strings.Repeat("e", 1000)), []string{"502", "504", "cut"}},
	{"flood of trailers", floods(ok+"Trailer: X-A\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", "X-A: "+strings.Repeat("y", 1000)+"\r\n"), []string{"502", "504", "cut"}},
	{"unknown coding", says(ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), []string{"502"}},
	{"behaves", says(ok + "Content-Length: 4\r\nConnection: close\r\n\r\nfine"), []string{"200 fine"}},
}

// den is the listener of all villains: the path says who answers.
type den struct {
	listener net.Listener
	open     atomic.Int64
	served   atomic.Int64
	mu       sync.Mutex
	conns    map[net.Conn]bool
	done     sync.WaitGroup
}

func newDen() (*den, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &den{listener: l, conns: map[net.Conn]bool{}}
	d.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d.mu.Lock()
			d.conns[c] = true
			d.mu.Unlock()
			d.done.Go(func() { d.serve(c) })
		}
	})
	return d, nil
}

func (d *den) serve(c net.Conn) {
	d.open.Add(1)
	defer d.open.Add(-1)
	defer c.Close()
	r := bufio.NewReader(c)
	req, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	d.served.Add(1)
	name := strings.TrimPrefix(req.URL.Path, "/")
	for _, v := range villains {
		if strings.ReplaceAll(v.name, " ", "-") == name {
			v.answer(c)
		}
	}
	d.mu.Lock()
	delete(d.conns, c)
	d.mu.Unlock()
}

func (d *den) close() {
	_ = d.listener.Close()
	d.mu.Lock()
	for c := range d.conns {
		_ = c.Close()
	}
	d.mu.Unlock()
	d.done.Wait()
}

const hostileConfig = `profile: development
app: {id: com.example.chaos, public_url: "https://api.example.test"}
log: {level: error}
upstreams:
  den: {targets: [{url: "%s"}]}
  ledger: {targets: [{url: "%s"}]}
features:
  hostile:
    auth: none
    timeout: 700ms
    routes: [{match: "/v1/hostile/{name}", upstream: den, path: "/{name}"}]
  patient:
    auth: none
    timeout: 20s
    routes: [{match: "/v1/patient/{name}", upstream: den, path: "/{name}"}]
  guarded:
    auth: none
    timeout: 700ms
    routes: [{match: "GET /v1/guarded/{name}", upstream: den, path: "/{name}"}]
    breaker: {failure_ratio: 0.5, min_requests: 10, window: 10s, open: 1s}
  calm:
    auth: none
    timeout: 5s
    routes: [{match: "GET /v1/read/{n}", upstream: ledger, path: "/read/{n}"}]
`

func hostile(ctx context.Context, h *house, r *report) error {
	d, err := newDen()
	if err != nil {
		return err
	}
	defer d.close()
	l, err := newLedger(0)
	if err != nil {
		return err
	}
	defer l.close()
	n, err := h.shipped("hostile.yaml", fmt.Sprintf(hostileConfig, "http://"+d.listener.Addr().String(), l.URL))
	if err != nil {
		return err
	}
	calm := newCalm(n.Public + "/v1/read/7")
	calm.run(ctx, 2, time.Second) // a first second without villains
	before, err := settled(ctx, n, size{}, 0)
	if err != nil {
		return err
	}
	undisturbed := calm.took.quantile(0.99)
	calm = newCalm(n.Public + "/v1/read/7")
	calmDone := calm.start(ctx, 2)
	rounds, slowest, wrong := pick(h, 20, 2), time.Duration(0), 0
	// Without keep-alive: net/http would repeat a GET by itself that was cut off on a connection used before.
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	var mu sync.Mutex
	for range rounds {
		var all sync.WaitGroup
		for _, v := range villains {
			for range 2 {
				all.Go(func() {
					outcome, took := v.meet(ctx, client, n.Public)
					mu.Lock()
					defer mu.Unlock()
					slowest = max(slowest, took)
					if !v.accepts(outcome) {
						wrong++
						r.broken("a service that %s: %q, want one of %q", v.name, outcome, v.want)
					}
				})
			}
		}
		all.Wait()
	}
	calmDone()
	client.CloseIdleConnections()
	r.info("ways to misbehave, calls", "%d, %d", len(villains), rounds*2*len(villains))
	r.zero("answers that are no clear problem", wrong)
	r.within("slowest of them, with a timeout of 700 ms", slowest, 5*time.Second)
	r.zero("calls of other features that failed meanwhile", int(calm.failed.Load()))
	r.info("their p99 before / meanwhile", "%s / %s", ms(undisturbed), ms(calm.took.quantile(0.99)))
	_, err = eventually(ctx, patience, "no connection to the service is left", func() bool { return d.open.Load() == 0 })
	r.add("connections to the service that are left", fmt.Sprint(d.open.Load()), "0", err == nil)
	guarded(ctx, r, d, n.Public)
	after, err := settled(ctx, n, before, slack)
	if err != nil {
		return err
	}
	leaks(r, before, after)
	return stop(n)
}

// guarded wants the breaker to open, to leave the service alone, and to close again.
func guarded(ctx context.Context, r *report, d *den, base string) {
	client := &http.Client{Timeout: 10 * time.Second}
	closes, behaves := villain{name: "closes"}, villain{name: "behaves"}
	meet := func(v villain) string {
		outcome, _ := v.at(ctx, client, base+"/v1/guarded/")
		return outcome
	}
	_, err := eventually(ctx, patience, "the breaker opens", func() bool { return meet(closes) == "503" })
	served := d.served.Load()
	refused := 0
	for range 20 {
		if meet(closes) == "503" {
			refused++
		}
	}
	r.add("breaker: refused while open, and asked of the service", fmt.Sprintf("%d, %d", refused, d.served.Load()-served), "most, few", err == nil && refused >= 18 && d.served.Load()-served <= 2)
	took, err := eventually(ctx, patience, "the breaker closes", func() bool { return meet(behaves) == "200 fine" })
	r.add("breaker: closed again after", ms(took), "", err == nil)
}

func (v villain) accepts(outcome string) bool {
	for _, w := range v.want {
		if outcome == w {
			return true
		}
	}
	return false
}

// meet calls those who make a gateway wait with a short timeout. To the others it
// must answer by itself: their timeout is longer than the caller's patience.
func (v villain) meet(ctx context.Context, client *http.Client, base string) (string, time.Duration) {
	if slices.Contains(v.want, "504") {
		return v.at(ctx, client, base+"/v1/hostile/")
	}
	return v.at(ctx, client, base+"/v1/patient/")
}

// at calls the villain and says in short what came back: "502" for a problem, "200 text", "cut".
func (v villain) at(ctx context.Context, client *http.Client, prefix string) (string, time.Duration) {
	began := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, prefix+strings.ReplaceAll(v.name, " ", "-"), nil)
	if err != nil {
		return err.Error(), 0
	}
	res, err := client.Do(req)
	if err != nil {
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
			return "stuck", time.Since(began)
		}
		return "cut", time.Since(began)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	_ = res.Body.Close()
	switch {
	case err != nil:
		return "cut", time.Since(began)
	case res.StatusCode >= 500 && res.Header.Get("Content-Type") == "application/problem+json" && res.Header.Get("Retry-After") != "":
		return fmt.Sprint(res.StatusCode), time.Since(began)
	}
	return fmt.Sprintf("%d %.100s", res.StatusCode, body), time.Since(began)
}

// calm is a client that wants nothing special and must not notice anything.
type calm struct {
	url    string
	client *http.Client
	failed atomic.Int64
	took   times
}

func newCalm(url string) *calm {
	return &calm{url: url, client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
}

// start runs n of them until the returned function is called.
func (c *calm) start(ctx context.Context, n int) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for ctx.Err() == nil {
				c.once(ctx)
				time.Sleep(5 * time.Millisecond) // the pause of a person, much shortened
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
		c.client.CloseIdleConnections()
	}
}

func (c *calm) run(ctx context.Context, n int, d time.Duration) {
	stop := c.start(ctx, n)
	time.Sleep(d)
	stop()
}

func (c *calm) once(ctx context.Context) {
	began := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		return
	}
	res, err := c.client.Do(req)
	if err == nil {
		_, err = io.Copy(io.Discard, res.Body)
		err = errors.Join(err, res.Body.Close())
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil || res.StatusCode != http.StatusOK {
		c.failed.Add(1)
	}
	c.took.add(time.Since(began))
}

// shipped starts the binary that ships with a configuration of its own.
func (h *house) shipped(name, config string, env ...string) (*process.Node, error) {
	file := filepath.Join(h.dir, name)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	data, err := h.directory()
	if err != nil {
		return nil, err
	}
	return h.start(process.Options{Binary: h.landline, Config: file, Data: data, Env: env})
}
