package http1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

// script is a connection on which the other side has said all it will say.
type script struct {
	net.Conn // nil: what is not overridden is not called
	in       io.Reader
	sent     bytes.Buffer
	closed   bool
}

func (s *script) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *script) Write(p []byte) (int, error) { return s.sent.Write(p) }
func (s *script) Close() error                { s.closed = true; return nil }

// portions gives at most so many bytes with each Read.
type portions struct {
	r    io.Reader
	most int
}

func (p portions) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), p.most)]) }

type noHooks struct{}

func (noHooks) Sending()                             {}
func (noHooks) Informational(int, http.Header) error { return nil }

// exchanged is what came of an answer.
type exchanged struct {
	Status  int
	Header  http.Header
	Length  int64
	Body    string
	Trailer http.Header
	Refused bool // no answer was made of it
	Cut     bool // its body did not end well
}

// hear lets a Transport read an answer, in portions of at most so many bytes.
func hear(answer []byte, method string, most int) exchanged {
	s := &script{in: portions{bytes.NewReader(answer), most}}
	h := &host{t: New(Config{Header: 64 << 10, IdleConnections: 1})}
	c := &conn{host: h, net: s}
	res, err := c.send(context.Background(), &Request{Method: method, Target: "/", Host: "x"}, noHooks{})
	if err != nil {
		return exchanged{Refused: true}
	}
	x := exchanged{Status: res.StatusCode, Header: res.Header, Length: res.ContentLength}
	body, err := io.ReadAll(res.Body)
	x.Body, x.Cut, x.Trailer = string(body), err != nil, full(res.Trailer)
	if cut := res.Body.Close(); cut != nil {
		x.Cut = true
	}
	return x
}

// full is h without announced names that never came, and nil for nothing.
func full(h http.Header) http.Header {
	out := http.Header{}
	for k, v := range h {
		if len(v) > 0 {
			out[k] = v
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// trimmed is h without spaces at the end of values, which net/http leaves behind
// a folded line that ends with an empty one.
func trimmed(h http.Header) http.Header {
	for _, values := range h {
		for i, v := range values {
			values[i] = strings.TrimRight(v, " ")
		}
	}
	return h
}

// standard is what net/http makes of the same answer.
func standard(answer []byte, method string) exchanged {
	r := bufio.NewReader(bytes.NewReader(answer))
	for {
		res, err := http.ReadResponse(r, &http.Request{Method: method})
		switch {
		case err != nil:
			return exchanged{Refused: true}
		case res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols:
			continue
		}
		x := exchanged{Status: res.StatusCode, Header: trimmed(res.Header), Length: res.ContentLength}
		body, err := io.ReadAll(res.Body)
		x.Body, x.Cut, x.Trailer = string(body), err != nil, trimmed(full(res.Trailer))
		if err := res.Body.Close(); err != nil {
			x.Cut = true
		}
		return x
	}
}

var answers = []string{
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, world",
	"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.0 200 OK\r\n\r\nuntil the end",
	"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
	"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
	"HTTP/1.1 200 OK\r\nX-A: one\r\n two\r\n\tthree\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 200 OK\r\n X-A: one\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nTrailer: X-T\r\n\r\n5;name=\"v\"\r\nhello\r\n0\r\nX-T: 1\r\nX-U: 2\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
	"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nX A: 5\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\n\n\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\n",
	"HTTP/1.1 200 OK\r\nX-A: a\rb\r\n\r\n",
	"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
	"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
	"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nEtag: \"1\"\r\n\r\n",
	"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
	"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
	"HTTP/2.0 200 OK\r\n\r\n",
	"HTTP/1.2 200 OK\r\n\r\n",
	"HTTP/1.1 2000 OK\r\n\r\n",
	"HTTP/1.1 20 OK\r\n\r\n",
	"HTTP/1.1  200 OK\r\n\r\n",
	"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
	"\r\nHTTP/1.1 200 OK\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 0",
	"",
	"HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("y", 9000) + "\r\ncontent-type: text/plain\r\nContent-Length: 2\r\n\r\nok",
}

// FuzzAnswer: whatever a service says, it is either refused or read as net/http
// reads it, to the last byte, and in however small portions it comes.
func FuzzAnswer(f *testing.F) {
	for _, a := range answers {
		f.Add([]byte(a), uint8(7), false)
		f.Add([]byte(a), uint8(0), true)
	}
	f.Fuzz(func(t *testing.T, answer []byte, most uint8, asHead bool) {
		method := http.MethodGet
		if asHead {
			method = http.MethodHead
		}
		ours, theirs := hear(answer, method, 1<<20), standard(answer, method)
		if again := hear(answer, method, int(most)+1); !reflect.DeepEqual(ours, again) {
			t.Fatalf("in one piece\n%+v\nin portions of %d\n%+v", ours, int(most)+1, again)
		}
		if ours.Refused {
			return
		}
		if ours.Cut && theirs.Cut { // how far each got before it saw the fault is of no interest
			n := min(len(ours.Body), len(theirs.Body))
			ours.Body, theirs.Body = ours.Body[:n], theirs.Body[:n]
			ours.Trailer, theirs.Trailer = nil, nil
		}
		if ours.Cut && !theirs.Cut { // stricter in trailers
			return
		}
		if asHead && ours.Header["Content-Length"] == nil { // net/http leaves a length beside chunked in the answer to HEAD
			delete(theirs.Header, "Content-Length")
			theirs.Length = ours.Length
		}
		if !reflect.DeepEqual(ours, theirs) {
			t.Fatalf("%q\nread as  %+v\nnet/http %+v", answer, ours, theirs)
		}
	})
}

// FuzzRequest: what is written is exactly one request, the one that was meant.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/a?b=c", "example.test", "X-A", "1", []byte(""), int64(0))
	f.Add("POST", "/", "example.test:80", "Content-Length", "99", []byte("hello"), int64(5))
	f.Add("POST", "/", "x", "Transfer-Encoding", "chunked", []byte("hello"), int64(-1))
	f.Add("GET", "/ HTTP/1.1\r\nX: y", "x", "X-A", "1\r\nX-B: 2", []byte(nil), int64(0))
	f.Fuzz(func(t *testing.T, method, target, hostName, key, value string, content []byte, length int64) {
		r := &Request{Method: method, Target: target, Host: hostName, Header: http.Header{key: {value}}}
		if length = max(length, -1); length != 0 {
			r.Body, r.ContentLength = bytes.NewReader(content), length
		}
		s := &script{in: strings.NewReader("HTTP/1.1 204 No Content\r\n\r\n")}
		c := &conn{host: &host{t: New(Config{Header: 64 << 10, Continue: time.Millisecond})}, net: s}
		if r.check() != nil || key == "Expect" || length > 1<<20 {
			return
		}
		res, err := c.send(context.Background(), r, noHooks{})
		if err != nil {
			return
		}
		if err := res.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if length < 0 || length > smallBody {
			return // another goroutine may still be writing
		}
		in := bufio.NewReader(&s.sent)
		got, err := http.ReadRequest(in)
		if err != nil { // net/http does not take every host or target that can be put on the wire
			if n := strings.Count(s.sent.String(), "\n"); n > 8 {
				t.Fatalf("%v: %d lines", err, n)
			}
			return
		}
		body, err := io.ReadAll(got.Body)
		if err != nil || got.Method != method || got.RequestURI != target || !bytes.Equal(body, content[:min(int64(len(content)), max(length, 0))]) {
			t.Fatalf("%s %s %q %v became %s %s %q", method, target, content, err, got.Method, got.RequestURI, body)
		}
		if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
			t.Fatalf("something behind the request: %v", err)
		}
	})
}
