package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// received is a request as the service got it.
type received struct {
	header  http.Header
	coding  []string
	length  int64
	body    string
	trailer http.Header
	err     error
}

// receiving answers every request when it is complete.
func receiving(t *testing.T) (*service, chan received) {
	got := make(chan received, 10)
	return open(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if req.Header.Get("Expect") == "100-continue" {
				io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			}
			body, err := io.ReadAll(req.Body)
			got <- received{req.Header, req.TransferEncoding, req.ContentLength, string(body), req.Trailer, err}
			if err != nil {
				return
			}
			io.WriteString(c, ok)
		}
	}), got
}

func TestBodiesAreSentWhole(t *testing.T) {
	s, got := receiving(t)
	tr := transport(t, config())
	for _, size := range []int{0, 1, smallBody - 1, smallBody, smallBody + 1, pieceSize - pieceRoom - 2, pieceSize, pieceSize + 1, 1 << 20} {
		for _, known := range []bool{true, false} {
			for _, expect := range []bool{true, false} {
				content := strings.Repeat("0123456789abcdef", size/16+1)[:size]
				r := s.request("POST")
				r.Body, r.ContentLength = strings.NewReader(content), int64(size)
				if !known {
					r.ContentLength = -1
				} else if size == 0 {
					r.Body = nil
				}
				if expect && r.Body != nil && size > 0 {
					r.Header["Expect"] = []string{"100-continue"}
				}
				if body, err := s.fetch(tr, r); err != nil || body != "ok" {
					t.Fatalf("%d bytes: %q %v", size, body, err)
				}
				in := <-got
				want := int64(size)
				if !known && size > 0 {
					want = -1
				}
				if in.err != nil || in.body != content || in.length != want {
					t.Fatalf("%d bytes became %d of %d (%v)", size, len(in.body), in.length, in.err)
				}
			}
		}
	}
	// The end of an upload may come after that of the answer; then the
	// connection is given back too.
	comes(t, "no connection was closed", func() bool {
		h := tr.host(s.address)
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.idle) == int(s.opened.Load())
	})
}

func TestTrailersOfARequest(t *testing.T) {
	s, got := receiving(t)
	r := s.request("POST")
	r.Trailer = http.Header{"X-Sum": nil, "Content-Length": {"5"}}
	r.Body, r.ContentLength = io.MultiReader(strings.NewReader("hello"), after(func() { r.Trailer["X-Sum"] = []string{"42"} })), -1
	if _, err := s.fetch(transport(t, config()), r); err != nil {
		t.Fatal(err)
	}
	if in := <-got; in.body != "hello" || in.trailer.Get("X-Sum") != "42" || len(in.trailer) != 1 {
		t.Errorf("%+v", in)
	}
}

// after is an empty body that does something when it is read.
type after func()

func (a after) Read([]byte) (int, error) { a(); return 0, io.EOF }

// paused is a body that waits before it goes on.
type paused struct {
	goOn chan struct{}
	rest io.Reader
}

func (p *paused) Read(b []byte) (int, error) { <-p.goOn; return p.rest.Read(b) }

func TestAnAnswerMayComeBeforeTheBody(t *testing.T) {
	for name, length := range map[string]int64{"known length": 100_000, "unknown length": -1} {
		t.Run(name, func(t *testing.T) {
			s := open(t, func(_ int, c net.Conn, r *bufio.Reader) {
				if _, err := http.ReadRequest(r); err == nil {
					io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nlong")
				}
				io.Copy(io.Discard, r)
			})
			body := &paused{goOn: make(chan struct{}), rest: strings.NewReader(strings.Repeat("x", 60_000))}
			r := s.request("POST")
			r.Body, r.ContentLength = io.MultiReader(strings.NewReader(strings.Repeat("x", 40_000)), body), length
			tr := transport(t, config())
			res, err := tr.Send(within(t), r, &hooks{})
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(res.Body)
			if err != nil || string(text) != "long" || res.StatusCode != 413 {
				t.Errorf("%d %q %v", res.StatusCode, text, err)
			}
			res.Body.Close()
			close(body.goOn) // the upload goes on to its end, and the connection is good again
			comes(t, "the connection is kept", func() bool {
				h := tr.host(s.address)
				h.mu.Lock()
				defer h.mu.Unlock()
				return len(h.idle) == 1
			})
		})
	}
}

func TestABodyThatBreaksOffBreaksTheRequestOff(t *testing.T) {
	why := errors.New("the client is gone")
	for name, c := range map[string]struct {
		length int64
		before int
	}{"small": {100, 50}, "long": {100_000, 50_000}, "unknown": {-1, 50_000}, "unknown and small": {-1, 10}} {
		t.Run(name, func(t *testing.T) {
			s, got := receiving(t)
			r := s.request("POST")
			r.Body, r.ContentLength = io.MultiReader(bytes.NewReader(make([]byte, c.before)), broken{why}), c.length
			if _, err := s.fetch(transport(t, config()), r); !errors.Is(err, why) {
				t.Errorf("%v", err)
			}
			<-s.closed
			select {
			case in := <-got:
				if in.err == nil {
					t.Error("the service took it for whole")
				}
			default: // it did not even see a header
			}
		})
	}
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

func TestExpectedBodyIsNotSentToOneWhoRefuses(t *testing.T) {
	left := make(chan string, 1)
	s := open(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
		rest, _ := io.ReadAll(r) // it ends, however
		left <- string(rest)
	})
	r := s.request("POST")
	r.Header["Expect"] = []string{"100-continue"}
	r.Body, r.ContentLength = strings.NewReader("secret"), 6
	conf := config()
	conf.Continue = time.Hour
	if body, err := s.fetch(transport(t, conf), r); err != nil || body != "no" {
		t.Errorf("%q %v", body, err)
	}
	if rest := <-left; rest != "" {
		t.Errorf("the service got %q", rest)
	}
}

func TestExpectedBodyIsSentWhenNobodyAsks(t *testing.T) {
	s := open(t, forEver(ok))
	r := s.request("POST")
	r.Header["Expect"] = []string{"100-continue"}
	r.Body, r.ContentLength = strings.NewReader("hello"), 5
	conf := config()
	conf.Continue = time.Millisecond
	if body, err := s.fetch(transport(t, conf), r); err != nil || body != "ok" {
		t.Errorf("%q %v", body, err)
	}
}

// A service may answer and close without having read the body.
func TestAnswerThatComesWithTheEndIsHeard(t *testing.T) {
	s := open(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlong")
		if tcp, is := c.(*net.TCPConn); is {
			tcp.CloseWrite()
		}
		io.Copy(io.Discard, r)
	})
	r := s.request("POST")
	r.Body, r.ContentLength = bytes.NewReader(make([]byte, 8<<20)), 8<<20
	if body, err := s.fetch(transport(t, config()), r); err != nil || body != "long" {
		t.Errorf("%q %v", body, err)
	}
}

func TestCloseWhileReading(t *testing.T) {
	s := open(t, answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"))
	res, err := transport(t, config()).Send(within(t), s.request("GET"), &hooks{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(res.Body, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	read := make(chan error)
	go func() {
		_, err := res.Body.Read(make([]byte, 5))
		read <- err
	}()
	res.Body.Close()
	if err := <-read; err == nil || errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
	<-s.closed
}
