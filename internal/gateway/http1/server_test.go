package http1

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

type served struct {
	*Server
	t    *testing.T
	addr string
}

func standardServer(h http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		Protocols: protocols, ErrorLog: log.New(io.Discard, "", 0), DisableGeneralOptionsHandler: true}
}

// startServer serves h until the test ends, and then sees to it that nothing is left.
func startServer(t *testing.T, h http.Handler, change func(*http.Server, *Server)) *served {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	std := standardServer(h)
	s := NewServer(std)
	if change != nil {
		change(std, s)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
			s.Close()
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
		goleak.VerifyNone(t, ignore, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait")) // of the server it is compared with
	})
	return &served{Server: s, t: t, addr: l.Addr().String()}
}

func startStandard(t *testing.T, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := standardServer(h)
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-ended })
	return l.Addr().String()
}

// dial opens a connection and says something on it.
func (s *served) dial(wire string) (net.Conn, *bufio.Reader) {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.WriteString(c, wire); err != nil {
		s.t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

// wants reads one answer with status 200 and that body.
func (s *served) wants(r *bufio.Reader, body string) {
	s.t.Helper()
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	if got, err := io.ReadAll(res.Body); err != nil || res.StatusCode != 200 || string(got) != body {
		s.t.Fatalf("%d %q %v", res.StatusCode, got, err)
	}
}

// ends reads the end of the connection.
func (s *served) ends(r *bufio.Reader) {
	s.t.Helper()
	if rest, err := io.ReadAll(r); len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		s.t.Fatalf("%q, %v", rest, err)
	}
}

// only is the one connection that there is.
func (s *served) only() *serverConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		return c
	}
	return nil
}

// eventually waits for what another goroutine brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

func TestLeavingClientEndsTheContext(t *testing.T) {
	began, ended := make(chan string), make(chan string)
	s := startServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if r.URL.Path == "/early" { // asked before the body is read, as database/sql does
			var cancel context.CancelFunc
			ctx, cancel = context.WithCancel(ctx)
			defer cancel()
		}
		if _, err := io.ReadAll(r.Body); err != nil {
			ended <- "body " + err.Error()
			return
		}
		began <- r.URL.Path
		switch r.URL.Path {
		case "/polled":
			for ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
		case "/after":
			done := make(chan struct{})
			context.AfterFunc(context.WithValue(ctx, http.LocalAddrContextKey, ""), func() { close(done) })
			<-done
		case "/written":
			for {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					break
				}
			}
		default:
			<-ctx.Done()
		}
		ended <- ctx.Err().Error()
	}), nil)
	for _, wire := range []string{gets("/plain"), gets("/polled"), gets("/after"), gets("/written"), posts("/body", "hello"), posts("/early", "hello"), sends("/chunked", "1\r\nx\r\n0\r\n\r\n")} {
		c, _ := s.dial(wire)
		<-began
		c.Close()
		if got := <-ended; got != context.Canceled.Error() {
			t.Errorf("%.12q: %s", wire, got)
		}
	}
	c, _ := s.dial("POST /cut" + hostLine + "Content-Length: 9\r\n\r\nhel")
	c.Close()
	if got := <-ended; !strings.HasPrefix(got, "body unexpected EOF") && !strings.Contains(got, "reset") {
		t.Error(got)
	}
}

func TestContextEndsWithTheHandler(t *testing.T) {
	kept := make(chan context.Context, 2)
	s := startServer(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { kept <- r.Context() }), nil)
	_, r := s.dial(gets("/") + gets("/"))
	s.wants(r, "")
	s.wants(r, "")
	for range 2 {
		ctx := <-kept
		<-ctx.Done()
		if ctx.Err() == nil || ctx.Value(http.ServerContextKey) == nil || ctx.Value(http.LocalAddrContextKey) == nil {
			t.Error(ctx.Err())
		}
	}
}

// TestNextRequestComesEarly: what watching has read belongs to the next request.
func TestNextRequestComesEarly(t *testing.T) {
	began, goOn := make(chan struct{}), make(chan struct{})
	s := startServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			r.Context().Done()
			close(began)
			<-goOn
		}
		io.WriteString(w, r.URL.Path)
	}), nil)
	c, r := s.dial(gets("/slow"))
	<-began
	in := &s.only().in
	watching := func() bool { in.mu.Lock(); defer in.mu.Unlock(); return in.watching }
	eventually(t, "it is watched", watching)
	if _, err := io.WriteString(c, gets("/next")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a byte has come", func() bool { return !watching() })
	close(goOn)
	s.wants(r, "/slow")
	s.wants(r, "/next")
}

func TestSlowHeaderAndIdleConnections(t *testing.T) {
	s := startServer(t, exchanges(), func(std *http.Server, s *Server) {
		std.ReadHeaderTimeout, std.IdleTimeout, s.rest = 600*time.Millisecond, 700*time.Millisecond, 20*time.Millisecond
	})
	_, silent := s.dial("")
	_, first := s.dial("GET /plain HTT")
	_, second := s.dial(gets("/plain") + "GET /plain HTT")
	_, idle := s.dial(gets("/plain"))
	s.ends(silent)
	s.ends(first)
	s.wants(second, "GET /plain")
	s.ends(second)
	s.wants(idle, "GET /plain")
	s.ends(idle)
}

// TestRestingConnection: a connection that has waited long is as good as any.
func TestRestingConnection(t *testing.T) {
	s := startServer(t, exchanges(), func(_ *http.Server, s *Server) { s.rest = time.Millisecond })
	c, r := s.dial("")
	conn := func() *serverConn { c := s.only(); return c }
	eventually(t, "it is there", func() bool { return conn() != nil })
	in := &conn().in
	for range 3 {
		eventually(t, "it rests", func() bool { in.mu.Lock(); defer in.mu.Unlock(); return in.reading && in.resting })
		for _, part := range []string{"GE", "T /plain HTTP/1.1\r\n", "Host: x\r\n\r\n"} {
			if _, err := io.WriteString(c, part); err != nil {
				t.Fatal(err)
			}
		}
		s.wants(r, "GET /plain")
	}
}

func TestShutdownWaits(t *testing.T) {
	began, goOn := make(chan struct{}), make(chan struct{})
	s := startServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(began)
			<-goOn
		}
		io.WriteString(w, r.URL.Path)
	}), nil)
	_, idle := s.dial(gets("/idle"))
	s.wants(idle, "/idle")
	_, active := s.dial(gets("/slow"))
	<-began
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown with a request under way: %v", err)
	}
	s.ends(idle)
	if _, err := net.Dial("tcp", s.addr); err == nil {
		t.Error("it still accepts")
	}
	close(goOn)
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	s.wants(active, "/slow")
	s.ends(active)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("serve after shutdown: %v", err)
	}
}

func TestCloseCutsEverything(t *testing.T) {
	began := make(chan struct{})
	s := startServer(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { close(began); <-r.Context().Done() }), nil)
	_, r := s.dial(gets("/"))
	<-began
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s.ends(r)
}

func TestHTTP2WithPriorKnowledge(t *testing.T) {
	s := startServer(t, exchanges(), nil)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Post("http://"+s.addr+"/echo", "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || res.ProtoMajor != 2 || !strings.Contains(string(body), `"hello"`) {
		t.Errorf("%s %q %v", res.Proto, body, err)
	}
	for _, wire := range []string{"PRI * HTTP/2.0\r\n\r\nSX", "PRIVATE / HTTP/1.1\r\nHost: x\r\n\r\n"} {
		if said := tell(t, s.addr, wire); !strings.HasPrefix(said, "HTTP/1.1 ") {
			t.Errorf("%q: %q", wire, said)
		}
	}
}

// TestDeadlinesOfAHandler: those of one request end with it, and one that is
// moved on in time counts from there.
func TestDeadlinesOfAHandler(t *testing.T) {
	s := startServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		switch r.URL.Path {
		case "/read":
			c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			_, err := io.ReadAll(r.Body)
			io.WriteString(w, errorKind(err))
		case "/moved":
			c.SetReadDeadline(time.Now().Add(600 * time.Millisecond))
			time.AfterFunc(5*time.Millisecond, func() { c.SetReadDeadline(time.Now().Add(10 * time.Second)) })
			_, err := io.ReadAll(r.Body)
			io.WriteString(w, errorKind(err))
		case "/recalled":
			time.AfterFunc(20*time.Millisecond, func() { c.SetReadDeadline(time.Unix(1, 0)) })
			_, err := io.ReadAll(r.Body)
			io.WriteString(w, errorKind(err))
		case "/write":
			c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
			for {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					if !errors.Is(err, os.ErrDeadlineExceeded) {
						panic(err)
					}
					return
				}
			}
		case "/past":
			c.SetReadDeadline(time.Unix(1, 0))
			c.SetWriteDeadline(time.Unix(1, 0))
			c.SetWriteDeadline(time.Time{})
			io.WriteString(w, "past")
		}
	}), nil)
	part := hostLine + "Content-Length: 2\r\n\r\nx"
	for _, path := range []string{"/read", "/recalled"} {
		_, r := s.dial("POST " + path + part)
		s.wants(r, "timeout")
		s.ends(r)
	}
	c, r := s.dial("POST /moved" + part)
	time.AfterFunc(700*time.Millisecond, func() { io.WriteString(c, "y"+gets("/past")+gets("/past")) })
	s.wants(r, "<nil>")
	s.wants(r, "past")
	s.wants(r, "past")
	_, r = s.dial(gets("/write"))
	if n, err := io.Copy(io.Discard, r); n == 0 {
		t.Error(n, err)
	}
}

func errorKind(err error) string {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case err != nil:
		return err.Error()
	}
	return "<nil>"
}

// TestExpectedBodyIsAskedForOnce: 100 Continue goes out with the first read, and
// not at all behind the beginning of an answer.
func TestExpectedBodyIsAskedForOnce(t *testing.T) {
	s := startServer(t, exchanges(), nil)
	c, r := s.dial("POST /echo" + hostLine + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != 100 {
		t.Fatal(res, err)
	}
	if _, err := io.WriteString(c, "hi"); err != nil {
		t.Fatal(err)
	}
	s.wants(r, `2 "hi" <nil> [] map[] false`)
	_, r = s.dial("POST /plain" + hostLine + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
	s.wants(r, "POST /plain")
	s.ends(r)
}

// TestManyAtOnce: connections do not get in each other's way.
func TestManyAtOnce(t *testing.T) {
	var inside atomic.Int64
	s := startServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inside.Add(1)
		defer inside.Add(-1)
		ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
		defer cancel()
		body, err := io.ReadAll(r.Body)
		if err != nil || ctx.Err() != nil {
			panic(err)
		}
		w.Header().Set("X-Path", r.URL.Path)
		w.Write(body)
	}), nil)
	errs := make(chan error)
	for i := range 8 {
		go func() {
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
			for j := range 50 {
				want := strings.Repeat(string(rune('a'+i)), j*j*7)
				res, err := client.Post("http://"+s.addr+"/"+want[:min(len(want), 9)], "", io.MultiReader(strings.NewReader(want)))
				if err != nil {
					errs <- err
					return
				}
				got, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || string(got) != want {
					errs <- errors.Join(err, errors.New("another answer"))
					return
				}
			}
			errs <- nil
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := inside.Load(); n != 0 {
		t.Error(n)
	}
}

// TestWatchingEndsNothing: a client that waits is not taken for one that has
// gone, whatever deadlines the connection had before.
func TestWatchingEndsNothing(t *testing.T) {
	s := startServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
		defer cancel()
		c := http.NewResponseController(w)
		if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			panic(err)
		}
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = c.SetReadDeadline(time.Time{})
		}
		if len(body) == 0 {
			err = errors.Join(err, c.SetReadDeadline(time.Now().Add(3*time.Millisecond)))
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(len(r.URL.Path)) * time.Millisecond):
		}
		io.WriteString(w, errorKind(errors.Join(err, ctx.Err(), r.Context().Err())))
	}), func(_ *http.Server, s *Server) { s.rest = 12 * time.Millisecond })
	ended := make(chan struct{})
	for i := range 8 {
		go func() {
			defer func() { ended <- struct{}{} }()
			client := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
			defer client.CloseIdleConnections()
			for j := range 20 {
				body := strings.Repeat("b", j%3)
				res, err := client.Post("http://"+s.addr+"/"+strings.Repeat("a", (i*7+j*5)%30), "", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || string(got) != "<nil>" {
					t.Errorf("%q %v", got, err)
				}
				time.Sleep(time.Duration((i+j)%20) * time.Millisecond) // the clients differ in how long they leave it unused
			}
		}()
	}
	for range 8 {
		<-ended
	}
}
