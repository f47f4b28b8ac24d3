package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is the other side: serve is called for each connection with its number.
type service struct {
	t       *testing.T
	address string
	opened  atomic.Int64
	closed  chan int // numbers of connections that the Transport closed
}

func open(t *testing.T, serve func(n int, c net.Conn, r *bufio.Reader)) *service {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, address: l.Addr().String(), closed: make(chan int, 100)}
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
			n := int(s.opened.Add(1))
			wg.Go(func() {
				serve(n, c, bufio.NewReader(c))
				c.Close()
				s.closed <- n
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
	return s
}

// answering gives the answers of a list, one to each request, and then waits for the end.
func answering(list ...string) func(int, net.Conn, *bufio.Reader) {
	return func(_ int, c net.Conn, r *bufio.Reader) {
		for _, a := range list {
			if !takeRequest(r) {
				return
			}
			io.WriteString(c, a)
		}
		io.Copy(io.Discard, r)
	}
}

// forEver gives the same answer to every request.
func forEver(answer string) func(int, net.Conn, *bufio.Reader) {
	return func(_ int, c net.Conn, r *bufio.Reader) {
		for takeRequest(r) {
			io.WriteString(c, answer)
		}
	}
}

func takeRequest(r *bufio.Reader) bool {
	req, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err == nil
}

func config() Config {
	return Config{Dial: (&net.Dialer{Timeout: 5 * time.Second}).DialContext, IdleConnections: 8, Header: 64 << 10, Continue: time.Second}
}

func transport(t *testing.T, c Config) *Transport {
	tr := New(c)
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// hooks notes what it is told.
type hooks struct {
	mu      sync.Mutex
	sending int
	hints   []string
}

func (h *hooks) Sending() {
	h.mu.Lock()
	h.sending++
	h.mu.Unlock()
}

func (h *hooks) Informational(status int, header http.Header) error {
	h.hints = append(h.hints, fmt.Sprint(status, header.Get("Link")))
	return nil
}

func (s *service) request(method string) *Request {
	return &Request{Method: method, Address: s.address, Host: "service.test", Target: "/", Header: http.Header{}}
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// fetch sends a request and reads its answer.
func (s *service) fetch(tr *Transport, r *Request) (string, error) {
	res, err := tr.Send(within(s.t), r, &hooks{})
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func TestConnectionIsUsedAgainOnlyAfterAWholeAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		again  bool
	}{
		"length":                  {ok, true},
		"chunked":                 {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", true},
		"trailers":                {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n", true},
		"no content":              {"HTTP/1.1 204 No Content\r\n\r\n", true},
		"not modified":            {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", true},
		"empty":                   {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true},
		"HTTP/1.0 and keep-alive": {"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok", true},
		"HTTP/1.0":                {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false},
		"close":                   {"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok", false},
		"both lengths":            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 99\r\n\r\n2\r\nok\r\n0\r\n\r\n", false},
		"more than its length":    {ok + "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", false},
		"behind the last chunk":   {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", false},
		"behind no content":       {"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nforged", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, forEver(c.answer))
			tr := transport(t, config())
			for range 3 {
				if body, err := s.fetch(tr, s.request("GET")); err != nil || body != "ok" && body != "" {
					t.Fatalf("%q %v", body, err)
				}
			}
			if n := s.opened.Load(); (n == 1) != c.again {
				t.Errorf("3 requests over %d connections", n)
			}
		})
	}
}

func TestBodyThatWasNotReadEndsTheConnection(t *testing.T) {
	s := open(t, forEver("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
	tr := transport(t, config())
	res, err := tr.Send(within(t), s.request("GET"), &hooks{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(res.Body, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	<-s.closed
	if _, err := res.Body.Read(make([]byte, 3)); err == nil {
		t.Error("a closed body can be read")
	}
}

func TestAnswerWithoutLengthEndsWithTheConnection(t *testing.T) {
	s := open(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if takeRequest(r) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nall of it")
		}
	})
	tr := transport(t, config())
	for range 2 {
		if body, err := s.fetch(tr, s.request("GET")); err != nil || body != "all of it" {
			t.Errorf("%q %v", body, err)
		}
	}
}

// A connection on which something came while it was unused must not be used:
// what came would be taken for the answer to somebody else's request.
func TestUnaskedAnswersReachNobody(t *testing.T) {
	for name, unasked := range map[string]string{"an answer": "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", "a timeout": "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "the end": ""} {
		t.Run(name, func(t *testing.T) {
			say, said := make(chan struct{}, 1), make(chan struct{}, 1)
			s := open(t, func(n int, c net.Conn, r *bufio.Reader) {
				if !takeRequest(r) {
					return
				}
				io.WriteString(c, ok)
				if n > 1 {
					io.Copy(io.Discard, r)
					return
				}
				<-say
				io.WriteString(c, unasked)
				if unasked == "" {
					c.Close()
				}
				said <- struct{}{}
				io.Copy(io.Discard, r)
			})
			tr := transport(t, config())
			if body, err := s.fetch(tr, s.request("GET")); err != nil || body != "ok" {
				t.Fatalf("%q %v", body, err)
			}
			say <- struct{}{}
			<-said
			noticed(t, tr, s.address)
			r := s.request("POST") // not to be repeated, and no need to
			if body, err := s.fetch(tr, r); err != nil || body != "ok" {
				t.Errorf("%q %v", body, err)
			}
		})
	}
}

// noticed waits until what the service did has arrived at the unused connection.
func noticed(t *testing.T, tr *Transport, address string) {
	t.Helper()
	h := tr.host(address)
	comes(t, "the connection is no good", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		n := len(h.idle)
		return n == 0 || !h.idle[n-1].alive()
	})
}

// cutting serves one request on each connection and closes it on the second,
// after having taken it in.
func cutting(got *atomic.Int64) func(int, net.Conn, *bufio.Reader) {
	return func(_ int, c net.Conn, r *bufio.Reader) {
		if !takeRequest(r) {
			return
		}
		got.Add(1)
		io.WriteString(c, ok)
		if takeRequest(r) {
			got.Add(1)
		}
	}
}

func TestOnlyWhatCannotBeExecutedTwiceIsRepeated(t *testing.T) {
	for _, c := range []struct {
		method, body string
		repeated     bool
	}{
		{"GET", "", true}, {"HEAD", "", true}, {"OPTIONS", "", true}, {"TRACE", "", true},
		{"POST", "", false}, {"PUT", "", false}, {"DELETE", "", false}, {"PATCH", "", false}, {"GET", "body", false}, {"POST", "body", false},
	} {
		t.Run(c.method+c.body, func(t *testing.T) {
			t.Parallel()
			var got atomic.Int64
			s := open(t, cutting(&got))
			tr := transport(t, config())
			if _, err := s.fetch(tr, s.request("GET")); err != nil {
				t.Fatal(err)
			}
			r, h := s.request(c.method), &hooks{}
			if c.body != "" {
				r.Body, r.ContentLength = strings.NewReader(c.body), int64(len(c.body))
			}
			res, err := tr.Send(within(t), r, h)
			if err == nil {
				res.Body.Close()
			}
			want := int64(2)
			if c.repeated {
				want = 3
			}
			if (err == nil) != c.repeated || got.Load() != want || h.sending != int(want)-1 {
				t.Errorf("%v; the service got %d requests, the transport told of %d", err, got.Load(), h.sending)
			}
		})
	}
}

func TestAFreshConnectionIsNoReasonToRepeat(t *testing.T) {
	var got atomic.Int64
	s := open(t, func(_ int, _ net.Conn, r *bufio.Reader) {
		if takeRequest(r) {
			got.Add(1)
		}
	})
	if _, err := s.fetch(transport(t, config()), s.request("GET")); err == nil || got.Load() != 1 {
		t.Errorf("%v; the service got %d requests", err, got.Load())
	}
}

func TestHalfAnAnswerIsNoReasonToRepeat(t *testing.T) {
	s := open(t, answering(ok, "HTTP/1.1 200 OK\r\nX-A"))
	tr := transport(t, config())
	if _, err := s.fetch(tr, s.request("GET")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := tr.Send(ctx, s.request("GET"), &hooks{}); !errors.Is(err, context.DeadlineExceeded) || s.opened.Load() != 1 {
		t.Errorf("%v over %d connections", err, s.opened.Load())
	}
}

func TestEndingTheContextEndsTheConnection(t *testing.T) {
	why := errors.New("the reason")
	for name, serve := range map[string]func(int, net.Conn, *bufio.Reader){
		"no answer":     func(_ int, _ net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) },
		"half a header": func(_ int, c net.Conn, r *bufio.Reader) { io.WriteString(c, "HTTP/1.1 200"); io.Copy(io.Discard, r) },
		"half a body":   func(_ int, c net.Conn, r *bufio.Reader) { io.WriteString(c, ok[:len(ok)-1]); io.Copy(io.Discard, r) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, serve)
			ctx, cancel := context.WithCancelCause(context.Background())
			result := make(chan error)
			began := make(chan struct{})
			go func() {
				h := &beginning{began: began}
				res, err := transport(t, config()).Send(ctx, s.request("GET"), h)
				if err == nil {
					_, err = io.ReadAll(res.Body)
					res.Body.Close()
					if err != nil {
						err = context.Cause(ctx)
					}
				}
				result <- err
			}()
			<-began
			cancel(why)
			if err := <-result; !errors.Is(err, why) {
				t.Errorf("%v", err)
			}
			<-s.closed
		})
	}
}

type beginning struct {
	noHooks
	began chan struct{}
}

func (b *beginning) Sending() { close(b.began) }

func TestInformationalAnswers(t *testing.T) {
	s := open(t, answering("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"+ok))
	h := &hooks{}
	res, err := transport(t, config()).Send(within(t), s.request("GET"), h)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if !slices.Equal(h.hints, []string{"103<a>", "102"}) {
		t.Errorf("%q", h.hints)
	}
	for name, answer := range map[string]string{
		"a flood":  strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", MaxInformational+1) + ok,
		"switches": "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
	} {
		s := open(t, answering(answer))
		if _, err := s.fetch(transport(t, config()), s.request("GET")); err == nil {
			t.Errorf("%s was taken", name)
		}
		<-s.closed
	}
}

func TestHeaderOfAnAnswerIsBounded(t *testing.T) {
	conf := config()
	conf.Header = 8 << 10
	for name, c := range map[string]struct {
		answer string
		taken  bool
	}{
		"many fields":  {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: 12345678\r\n", 400) + "Content-Length: 2\r\n\r\nok", true},
		"one long":     {"HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("y", 7<<10) + "\r\nContent-Length: 2\r\n\r\nok", true},
		"too many":     {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: 12345678\r\n", 600) + "Content-Length: 2\r\n\r\nok", false},
		"too long":     {"HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("y", 9<<10) + "\r\nContent-Length: 2\r\n\r\nok", false},
		"without end":  {"HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("y", 9<<10), false},
		"long trailer": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-T: " + strings.Repeat("y", 9<<10) + "\r\n\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, answering(c.answer))
			if body, err := s.fetch(transport(t, conf), s.request("GET")); (err == nil) != c.taken || c.taken && body != "ok" {
				t.Errorf("%q %v", body, err)
			}
		})
	}
}

func TestRequestsThatCannotBeWrittenAreRefused(t *testing.T) {
	s := open(t, forEver(ok))
	tr := transport(t, config())
	for name, change := range map[string]func(*Request){
		"method":       func(r *Request) { r.Method = "GET / HTTP/1.1\r\nX:" },
		"no method":    func(r *Request) { r.Method = "" },
		"target":       func(r *Request) { r.Target = "/ HTTP/1.1\r\nX: y" },
		"space":        func(r *Request) { r.Target = "/a b" },
		"no target":    func(r *Request) { r.Target = "" },
		"host":         func(r *Request) { r.Host = "a\r\nX: y" },
		"field name":   func(r *Request) { r.Header["X: y\r\nZ"] = []string{"1"} },
		"field value":  func(r *Request) { r.Header["X"] = []string{"1\r\nY: 2"} },
		"NUL":          func(r *Request) { r.Header["X"] = []string{"1\x00"} },
		"longer body":  func(r *Request) { r.Body, r.ContentLength = strings.NewReader("hello"), 4 },
		"shorter body": func(r *Request) { r.Body, r.ContentLength = strings.NewReader("hello"), 6 },
		"long, longer": func(r *Request) { r.Body, r.ContentLength = strings.NewReader(strings.Repeat("x", 100_000)), 99_999 },
		"long, short":  func(r *Request) { r.Body, r.ContentLength = strings.NewReader(strings.Repeat("x", 100_000)), 100_001 },
	} {
		r := s.request("POST")
		change(r)
		if _, err := s.fetch(tr, r); err == nil {
			t.Errorf("%s was sent", name)
		}
	}
}
