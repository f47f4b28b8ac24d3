package http1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

// clientScript is a connection whose client has said all it will say.
type clientScript struct {
	mu     sync.Mutex
	in     io.Reader
	sent   bytes.Buffer
	closed chan struct{}
	once   sync.Once
}

func (s *clientScript) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.in.Read(p)
}

func (s *clientScript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent.Write(p)
}
func (s *clientScript) Close() error                     { s.once.Do(func() { close(s.closed) }); return nil }
func (s *clientScript) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *clientScript) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *clientScript) SetDeadline(time.Time) error      { return nil }
func (s *clientScript) SetReadDeadline(time.Time) error  { return nil }
func (s *clientScript) SetWriteDeadline(time.Time) error { return nil }

// oneConn is a listener with one connection.
type oneConn struct{ c chan net.Conn }

func (l oneConn) Accept() (net.Conn, error) {
	c, ok := <-l.c
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (oneConn) Close() error   { return nil }
func (oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// heard is what a handler learns of a request.
type heard struct {
	Method, Target, Proto, Host, URL string
	Header, Trailer                  http.Header
	Length                           int64
	Coding                           []string
	Close                            bool
	Body                             string
	Cut                              bool // the body did not end well
}

// listening has serve serve what a client says, and returns what its handler heard.
func listening(wire []byte, most int, serve func(http.Handler, net.Conn)) []heard {
	var mu sync.Mutex
	var all []heard
	c := &clientScript{in: portions{bytes.NewReader(wire), most}, closed: make(chan struct{})}
	serve(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		h := heard{Method: r.Method, Target: r.RequestURI, Proto: r.Proto, Host: r.Host, URL: fmt.Sprintf("%#v", *r.URL), Header: trimmed(r.Header.Clone()),
			Length: r.ContentLength, Coding: r.TransferEncoding, Close: r.Close}
		body, err := io.ReadAll(r.Body)
		h.Body, h.Cut, h.Trailer = string(body), err != nil, trimmed(full(r.Trailer))
		mu.Lock()
		defer mu.Unlock()
		all = append(all, h)
	}), c)
	<-c.closed
	mu.Lock()
	defer mu.Unlock()
	return all
}

func byUs(h http.Handler, c net.Conn) {
	s := NewServer(&http.Server{Handler: h, MaxHeaderBytes: 16 << 10})
	if c := s.newConn(c); c != nil {
		c.begin()
	}
	s.h2.Close() // a connection that was handed over ends
}

func byNetHTTP(h http.Handler, c net.Conn) {
	s := &http.Server{Handler: h, MaxHeaderBytes: 16 << 10, ErrorLog: standardServer(nil).ErrorLog, DisableGeneralOptionsHandler: true}
	l := oneConn{make(chan net.Conn, 1)}
	l.c <- c
	close(l.c)
	if err := s.Serve(l); !errors.Is(err, net.ErrClosed) {
		panic(err)
	}
}

// FuzzServed: whatever comes, our handler hears of no request that net/http's
// would not have heard of at that place, and hears the same of it.
func FuzzServed(f *testing.F) {
	for _, wire := range scripts() {
		if len(wire) < 20<<10 {
			f.Add([]byte(wire), uint8(7))
		}
	}
	for _, wire := range []string{
		"GET /%2f%zz HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a%2fb?c=%&d;e HTTP/1.1\r\nHost: x\r\n\r\n", "GET /? HTTP/1.1\r\nHost: x\r\n\r\n", "GET /?? HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET //x/y HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", "GET /(a)!*' HTTP/1.1\r\nHost: x\r\n\r\n", "GET /\xc3\xa4?\xff HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /a:b HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET http:///a HTTP/1.1\r\nHost: x\r\n\r\n", "GET /[a] HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a\"b?c\"d HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nPragma: no-cache\r\nConnection: , keep-alive\t,close ,\r\n\r\n", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\nX-T: a\r\n b\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nTrailer: X-A\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: 1\r\nX-B: 2\r\n\r\n", "CONNECT /a HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: 1\n\n",
	} {
		f.Add([]byte(wire), uint8(0))
	}
	f.Fuzz(func(t *testing.T, wire []byte, most uint8) {
		ours := listening(wire, 1<<20, byUs)
		if again := listening(wire, int(most)+1, byUs); !reflect.DeepEqual(ours, again) {
			t.Fatalf("%q in one piece\n%+v\nin portions of %d\n%+v", wire, ours, int(most)+1, again)
		}
		theirs := listening(wire, 1<<20, byNetHTTP)
		for i, h := range ours {
			if i >= len(theirs) {
				t.Fatalf("%q: a request that net/http does not see\n%+v", wire, h)
			}
			want := theirs[i]
			if h.Cut { // how far each got before it saw the fault is of no interest; we see more of them
				if i != len(ours)-1 {
					t.Fatalf("%q: a request behind one that was cut: %+v", wire, ours)
				}
				n := min(len(h.Body), len(want.Body))
				h.Body, want.Body, h.Trailer, want.Trailer, want.Cut = h.Body[:n], want.Body[:n], nil, nil, true
			}
			if !reflect.DeepEqual(h, want) {
				t.Fatalf("%q\nread as  %+v\nnet/http %+v", wire, h, want)
			}
		}
	})
}

// FuzzServedAnswer: whatever a handler puts into its header, a client reads one
// answer with that body.
func FuzzServedAnswer(f *testing.F) {
	f.Add("X-A", "1", uint16(200), []byte("body"), false)
	f.Add("Content-Length", "3", uint16(200), []byte("body"), false)
	f.Add("Content-Length", " +4", uint16(404), []byte("body"), true)
	f.Add("Transfer-Encoding", "chunked", uint16(200), []byte("body"), false)
	f.Add("Connection", "close\r\nX-Forged: 1", uint16(503), []byte("body"), true)
	f.Add("Trailer:X-A", "a\nb", uint16(204), []byte(""), true)
	f.Add("X\r\nForged", "\r\n\r\n", uint16(304), bytes.Repeat([]byte("x"), 5000), false)
	f.Fuzz(func(t *testing.T, key, value string, status uint16, content []byte, flush bool) {
		if status = status%800 + 200; key == "Transfer-Encoding" && value != "chunked" && value != "identity" {
			return // codings are the handler's business
		}
		c := &clientScript{in: strings.NewReader("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), closed: make(chan struct{})}
		byUs(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header()[key] = []string{value}
			w.WriteHeader(int(status))
			if flush {
				w.(http.Flusher).Flush()
			}
			for part := range bytes.SplitAfterSeq(content, []byte("x")) {
				if _, err := w.Write(part); err != nil {
					return
				}
			}
		}), c)
		<-c.closed
		in := bufio.NewReader(&c.sent)
		res, err := http.ReadResponse(in, &http.Request{Method: http.MethodGet})
		if err != nil {
			t.Fatalf("%v\n%q", err, c.sent.String())
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if res.Header["X-Forged"] != nil || res.StatusCode != int(status) {
			t.Fatalf("%d %v", res.StatusCode, res.Header)
		}
		want := string(content)
		if !bodyAllowed(int(status)) {
			want = ""
		}
		if err == nil && res.ContentLength < 0 && string(body) != want || len(body) > len(want) || string(body) != want[:len(body)] {
			t.Fatalf("%q, want %q, %v", body, want, err)
		}
		if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
			t.Fatalf("behind the answer: %q %v", rest, err)
		}
	})
}
