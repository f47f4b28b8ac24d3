package gateway

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"landline/internal/config"
)

// rawUpstream accepts connections, reads a request's header, and does the rest as told.
func rawUpstream(t testing.TB, answer func(c net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					if line == "\r\n" {
						break
					}
				}
				answer(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return "http://" + l.Addr().String()
}

// says is an upstream that writes text and closes.
func says(text string) func(net.Conn) {
	return func(c net.Conn) { io.WriteString(c, text) }
}

// hang keeps the connection open until the other side closes it.
func hang(c net.Conn) { io.Copy(io.Discard, c) }

func closedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return "http://" + l.Addr().String()
}

func code(t testing.TB, body string) string {
	t.Helper()
	var p struct {
		Code string `json:"code"`
	}
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("no problem: %q: %v", body, err)
	}
	return p.Code
}

func TestHostileUpstreamsBecomeProblems(t *testing.T) {
	for name, c := range map[string]struct {
		url    string
		status int
		code   string
	}{
		"refused":             {closedPort(t), 502, "upstream_unreachable"},
		"no such host":        {"http://no-such-host.invalid:9", 502, "upstream_unreachable"},
		"no TLS there":        {strings.Replace(serve(t, echo), "http", "https", 1), 502, "upstream_unreachable"},
		"hangs":               {rawUpstream(t, hang), 504, "upstream_timeout"},
		"hangs in the header": {rawUpstream(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nX-A: 1\r\n"); hang(c) }), 504, "upstream_timeout"},
		"closes":              {rawUpstream(t, func(net.Conn) {}), 502, "upstream_invalid"},
		"half a header":       {rawUpstream(t, says("HTTP/1.1 200 OK\r\nConte")), 502, "upstream_invalid"},
		"garbage":             {rawUpstream(t, says("\x00\x01\x02 what?\r\n\r\n")), 502, "upstream_invalid"},
		"bad length":          {rawUpstream(t, says("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n")), 502, "upstream_invalid"},
		"two lengths":         {rawUpstream(t, says("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello")), 502, "upstream_invalid"},
		"endless header": {rawUpstream(t, func(c net.Conn) {
			says("HTTP/1.1 200 OK\r\n" + strings.Repeat("X-Filler: "+strings.Repeat("y", 1000)+"\r\n", 200) + "\r\n")(c)
			hang(c)
		}), 502, "upstream_invalid"},
		"1xx flood":     {rawUpstream(t, func(c net.Conn) { says(strings.Repeat("HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n", 1000))(c); hang(c) }), 502, "upstream_invalid"},
		"uninvited 101": {rawUpstream(t, says("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")), 502, "upstream_invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := proxy(t, c.url, func(s *Settings) { s.Features["all"].Timeout = config.Duration(300 * time.Millisecond) })
			res, body := h.get("/x")
			if res.StatusCode != c.status || code(t, body) != c.code {
				t.Errorf("%d %s", res.StatusCode, body)
			}
			if res.Header.Get("Content-Type") != "application/problem+json" || res.Header.Get("Retry-After") == "" {
				t.Errorf("%v", res.Header)
			}
			if strings.Contains(body, "127.0.0.1:") || strings.Contains(body, "invalid:9") {
				t.Errorf("the client sees our upstream: %s", body)
			}
		})
	}
}

func TestAnswerCutShortIsNoWholeOne(t *testing.T) {
	for name, answer := range map[string]func(net.Conn){
		"length":       says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"),
		"chunked":      says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
		"bad chunk":    says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"),
		"stalls":       func(c net.Conn) { says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")(c); hang(c) },
		"event stream": says("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := proxy(t, rawUpstream(t, answer), func(s *Settings) { s.Features["all"].Timeout = config.Duration(300 * time.Millisecond) })
			res, err := h.client.Get(h.url + "/x")
			if err != nil {
				if errors.Is(err, io.EOF) || strings.Contains(err.Error(), "EOF") || strings.Contains(err.Error(), "reset") {
					return // aborted before the header had left
				}
				t.Fatal(err)
			}
			defer res.Body.Close()
			if body, err := io.ReadAll(res.Body); err == nil && res.StatusCode < 500 { // a problem, where the client had seen nothing yet
				t.Errorf("half an answer was passed off as whole: %q", body)
			}
		})
	}
}

func TestTimeoutLeavesASlowClientAlone(t *testing.T) {
	const size = 8 << 20 // more than the sockets between hold
	up := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		w.Write(make([]byte, size))
	})
	h := proxy(t, up, func(s *Settings) { s.Features["all"].Timeout = config.Duration(200 * time.Millisecond) })
	c := h.dial()
	io.WriteString(c, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	began := time.Now()
	until(t, "the timeout has long passed", func() bool { return time.Since(began) > 600*time.Millisecond })
	if n, err := io.Copy(io.Discard, res.Body); err != nil || n != size {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestTimeoutLeavesASlowUploadAlone(t *testing.T) {
	h := proxy(t, serve(t, echo), func(s *Settings) {
		b := breakerConfig(func(c *BreakerConfig) { c.MinRequests = 1 })
		s.Features["all"].Timeout, s.Features["all"].Breaker = config.Duration(150*time.Millisecond), &b
	})
	c := h.dial()
	io.WriteString(c, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
	began := time.Now()
	for i, piece := range []string{"a", "b", "c", "d"} {
		until(t, "time passes", func() bool { return time.Since(began) > time.Duration(i)*100*time.Millisecond })
		io.WriteString(c, piece)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != 200 || !strings.Contains(string(body), "abcd") {
		t.Errorf("%d %s %v", res.StatusCode, body, err)
	}
}

func TestClientThatTakesNothingIsCutOff(t *testing.T) {
	gone := make(chan struct{}, 2)
	up := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/events" {
			w.Header().Set("Content-Type", "text/event-stream")
		}
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				break
			}
		}
		gone <- struct{}{}
	})
	h := proxy(t, up, func(s *Settings) { s.Limits.WriteTimeout = config.Duration(200 * time.Millisecond) })
	for _, path := range []string{"/file", "/events"} {
		io.WriteString(h.dial(), "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n") // and reads nothing
		select {
		case <-gone:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: the client holds the upstream's connection", path)
		}
	}
}

func TestSilentStreamOverHTTP2OutlivesTheWriteTimeout(t *testing.T) {
	next := make(chan struct{})
	up := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Write(make([]byte, 2*freeWindow))
		w.(http.Flusher).Flush()
		<-next
		io.WriteString(w, "end")
	})
	h := proxy(t, up, func(s *Settings) { s.Limits.WriteTimeout = config.Duration(100 * time.Millisecond) })
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Transport{Protocols: &protocols}
	defer client.CloseIdleConnections()
	h.client.Transport = client
	res, err := h.client.Get(h.url + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadFull(res.Body, make([]byte, 2*freeWindow)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	until(t, "the write timeout has passed", func() bool { return time.Since(began) > 250*time.Millisecond })
	close(next)
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "end" {
		t.Errorf("%q %v", b, err)
	}
}

func TestClientBodyFaults(t *testing.T) {
	up := serve(t, echo)
	h := proxy(t, up, func(s *Settings) {
		s.Features["all"].MaxBody = 1000
		s.Limits.BodyTimeout = config.Duration(200 * time.Millisecond)
	})
	t.Run("too large", func(t *testing.T) {
		res, body := h.do(h.request("POST", "/x", strings.NewReader(strings.Repeat("x", 1001))))
		if res.StatusCode != 413 || code(t, body) != "body_too_large" {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	})
	t.Run("too large without a length", func(t *testing.T) {
		res, body := h.do(h.request("POST", "/x", io.LimitReader(strings.NewReader(strings.Repeat("x", 5000)), 5000)))
		if res.StatusCode != 413 || code(t, body) != "body_too_large" {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	})
	t.Run("at the limit", func(t *testing.T) {
		if a := h.ask(h.request("POST", "/x", io.LimitReader(strings.NewReader(strings.Repeat("x", 1000)), 5000))); len(a.Body) != 1000 {
			t.Errorf("%d bytes", len(a.Body))
		}
	})
	t.Run("waits to be asked for, and is refused", func(t *testing.T) {
		c := h.dial()
		io.WriteString(c, "POST /x/../y HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != 400 || !res.Close {
			t.Errorf("%d %s %v", res.StatusCode, body, err)
		}
	})
	t.Run("stops coming", func(t *testing.T) {
		c := h.dial()
		io.WriteString(c, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 408 || code(t, string(body)) != "request_timeout" {
			t.Errorf("%d %s %v", res.StatusCode, body, err)
		}
	})
}

func TestGuards(t *testing.T) {
	h := proxy(t, serve(t, echo), func(s *Settings) {
		s.Features["all"].Routes = []RouteConfig{{Match: "GET /v1/x/{rest...}", Upstream: "up"}, {Match: "POST /v1/y", Upstream: "up"}, {Match: "/v1/any", Upstream: "up"}}
		s.Limits.URI = 300
	})
	for _, c := range []struct {
		request string
		status  int
		code    string
		allow   string
	}{
		{"GET /v1/x/../y", 400, "invalid_request", ""},
		{"GET /v1/x/%2e%2E/y", 400, "invalid_request", ""},
		{"GET /v1/x/a%2f..%2fb", 400, "invalid_request", ""},
		{"GET /v1/x/%00", 400, "invalid_request", ""},
		{"GET /v1/z", 404, "route_not_found", ""},
		{"GET //v1/x/a", 404, "route_not_found", ""},
		{"PUT /v1/y", 405, "method_not_allowed", "OPTIONS, POST"},
		{"TRACE /v1/x/a", 405, "method_not_allowed", "GET, HEAD, OPTIONS"},
		{"TRACE /v1/any", 405, "method_not_allowed", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"},
		{"OPTIONS /v1/y", 204, "", "OPTIONS, POST"},
		{"OPTIONS *", 204, "", ""},
		{"GET /v1/x/" + strings.Repeat("a", 300), 414, "uri_too_long", ""},
		{"GET /healthz", 200, "", ""},
		{"GET /readyz", 503, "", ""},
		{"POST /healthz", 405, "method_not_allowed", "GET, HEAD"},
	} {
		conn := h.dial()
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", c.request)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", c.request, err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != c.status || res.Header.Get("Allow") != c.allow {
			t.Errorf("%s: %d %q %s %v", c.request, res.StatusCode, res.Header.Get("Allow"), body, err)
			continue
		}
		if c.code != "" && code(t, string(body)) != c.code {
			t.Errorf("%s: %s", c.request, body)
		}
	}
	h.options.Health.SetReady(true)
	until(t, "ready", func() bool { res, _ := h.get("/readyz"); return res.StatusCode == 200 })
}

func TestWritesAreNeverSentTwice(t *testing.T) {
	for name, body := range map[string]string{"with a body": `{"amount":1}`, "without a body": ""} {
		t.Run(name, func(t *testing.T) {
			var posts atomic.Int64
			up := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					posts.Add(1)
					panic(http.ErrAbortHandler) // executed, then the connection is lost
				}
				io.WriteString(w, "warm")
			})
			h := proxy(t, up)
			for i := range 10 {
				h.get("/x") // leaves a connection to be used again, where net/http would retry
				res, answer := h.do(h.request("POST", "/x", strings.NewReader(body), "Idempotency-Key", "k"))
				if res.StatusCode != 502 {
					t.Errorf("%d %s", res.StatusCode, answer)
				}
				if n := posts.Load(); n != int64(i+1) {
					t.Fatalf("%d requests reached the upstream as %d", i+1, n)
				}
			}
		})
	}
}
