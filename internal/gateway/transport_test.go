package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"landline/internal/config"
	"landline/internal/gateway/http1"
)

// seen is what a client has of a request: an answer, or the end of its connection.
type seen struct {
	Status  int
	Code    string // of a problem
	Header  http.Header
	Body    string
	Trailer http.Header
	Hints   int  // informational answers
	Cut     bool // the answer was not whole
	Asked   int  // requests that the service got
}

// scripted is a service that takes a request in, gives answer to it, and closes
// the connection if that is part of the script.
func scripted(t testing.TB, answer string, thenClose bool) (url string, asked func() int) {
	requests := make(chan struct{}, 100)
	url = rawUpstream(t, func(c net.Conn) {
		requests <- struct{}{}
		io.WriteString(c, answer)
		if !thenClose {
			hang(c)
		}
	})
	return url, func() int { return len(requests) }
}

// sendThrough sends a request through a gateway with the transport, and tells what came.
func sendThrough(t *testing.T, transport, method, answer string, thenClose bool) seen {
	t.Helper()
	url, asked := scripted(t, answer, thenClose)
	h := proxy(t, url, func(s *Settings) {
		s.Upstreams["up"].Transport = transport
		s.Upstreams["up"].ResponseHeader = 16 << 10
		s.Features["all"].Timeout = config.Duration(time.Second)
	})
	c := h.dial()
	body := ""
	if method == http.MethodPost {
		body = "hello"
	}
	fmt.Fprintf(c, "%s /x HTTP/1.1\r\nHost: client.test\r\nContent-Length: %d\r\n\r\n%s", method, len(body), body)
	r := bufio.NewReader(c)
	var out seen
	for {
		res, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			out.Cut, out.Asked = true, asked()
			return out
		}
		if res.StatusCode < 200 {
			out.Hints++
			continue
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		out.Status, out.Header, out.Body, out.Trailer, out.Cut = res.StatusCode, res.Header, string(text), res.Trailer, err != nil
		break
	}
	for _, name := range []string{"Date", "Landline-Trace-Id", "Server-Timing"} {
		out.Header.Del(name)
	}
	if out.Header.Get("Content-Type") == "application/problem+json" {
		if method != http.MethodHead {
			out.Code, out.Body = code(t, out.Body), ""
		}
		out.Header.Del("Content-Length")
	}
	if out.Cut { // how much of it had left is chance
		out.Body = ""
	}
	out.Asked = asked()
	return out
}

// TestBothTransportsLeadToTheSame holds the short way against net/http: the same
// bytes of a service must come to the same for a client.
func TestBothTransportsLeadToTheSame(t *testing.T) {
	chunked := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
	for name, c := range map[string]struct {
		answer string
		close  bool
	}{
		"length":                 {"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nX-Own: 1\r\nx-own: 2\r\n\r\nhello", false},
		"chunked":                {chunked + "\r\n5\r\nhello\r\n0\r\n\r\n", false},
		"extensions":             {chunked + "\r\n5;a=\"b\"\r\nhello\r\n0;c\r\n\r\n", false},
		"announced trailers":     {chunked + "Trailer: X-T\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n", false},
		"unannounced trailers":   {chunked + "\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n", false},
		"forbidden trailer name": {chunked + "Trailer: Content-Length\r\n\r\n0\r\n\r\n", false},
		"until the end":          {"HTTP/1.1 200 OK\r\n\r\nhello", true},
		"HTTP/1.0":               {"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", true},
		"no reason":              {"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", false},
		"bare LF":                {"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", false},
		"folded":                 {"HTTP/1.1 200 OK\r\nX-A: one\r\n two\r\nContent-Length: 5\r\n\r\nhello", false},
		"folded first":           {"HTTP/1.1 200 OK\r\n X-A: one\r\nContent-Length: 5\r\n\r\nhello", false},
		"no content":             {"HTTP/1.1 204 No Content\r\n\r\n", false},
		"not modified":           {"HTTP/1.1 304 Not Modified\r\nEtag: \"1\"\r\nContent-Length: 5\r\n\r\n", false},
		"same lengths":           {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", false},
		"different lengths":      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", false},
		"list of lengths":        {"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", false},
		"signed length":          {"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", false},
		"empty length":           {"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nhello", true},
		"huge length":            {"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\nhello", false},
		"length and chunked":     {chunked + "Content-Length: 2\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false},
		"chunked twice":          {chunked + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false},
		"gzip, chunked":          {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false},
		"identity":               {"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello", true},
		"chunk size overflows":   {chunked + "\r\n10000000000000000\r\nhello\r\n0\r\n\r\n", false},
		"chunk size in 0x":       {chunked + "\r\n0x5\r\nhello\r\n0\r\n\r\n", false},
		"chunk with bare LF":     {chunked + "\r\n5\nhello\n0\n\n", false},
		"chunk without CRLF":     {chunked + "\r\n5\r\nhelloXX0\r\n\r\n", false},
		"chunked, cut":           {chunked + "\r\n5\r\nhel", true},
		"chunked, no last":       {chunked + "\r\n5\r\nhello\r\n", true},
		"length, cut":            {"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello", true},
		"length, stalls":         {"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello", false},
		"control character":      {"HTTP/1.1 200 OK\r\nX-A: a\x01b\r\nContent-Length: 5\r\n\r\nhello", false},
		"NUL":                    {"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 5\r\n\r\nhello", false},
		"bare CR":                {"HTTP/1.1 200 OK\r\nX-A: a\rb\r\nContent-Length: 5\r\n\r\nhello", false},
		"no colon":               {"HTTP/1.1 200 OK\r\nwhat\r\n\r\n", false},
		"no name":                {"HTTP/1.1 200 OK\r\n: x\r\n\r\n", false},
		"two digits":             {"HTTP/1.1 20 OK\r\n\r\n", false},
		"four digits":            {"HTTP/1.1 2000 OK\r\n\r\n", false},
		"status 999":             {"HTTP/1.1 999 Odd\r\nContent-Length: 5\r\n\r\nhello", false},
		"status 099":             {"HTTP/1.1 099 Odd\r\nContent-Length: 5\r\n\r\nhello", false},
		"another protocol":       {"ICY 200 OK\r\n\r\n", false},
		"empty line first":       {"\r\nHTTP/1.1 200 OK\r\n\r\n", false},
		"early hints":            {"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false},
		"continue":               {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false},
		"flood of hints":         {strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", 2*http1.MaxInformational), false},
		"switches":               {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", false},
		"header without end":     {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: "+strings.Repeat("y", 1000)+"\r\n", 60), false},
		"header cut":             {"HTTP/1.1 200 OK\r\nX-A", true},
		"nothing":                {"", true},
		"silence":                {"", false},
		"events":                 {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\n", true},
		"connection options":     {"HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 5\r\n\r\nhello", true},
		"server error":           {"HTTP/1.1 503 Unavailable\r\nRetry-After: 3\r\nContent-Length: 5\r\n\r\nhello", false},
		"large":                  {"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("0123456789", 10_000), false},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
			t.Run(name+" "+method, func(t *testing.T) {
				t.Parallel()
				ours := sendThrough(t, TransportAuto, method, c.answer, c.close)
				theirs := sendThrough(t, TransportStandard, method, c.answer, c.close)
				if name == "length and chunked" && method == http.MethodHead { // see below
					theirs.Header.Del("Content-Length")
				}
				if !reflect.DeepEqual(ours, theirs) {
					t.Errorf("the short way\n%+v\nnet/http\n%+v", ours, theirs)
				}
			})
		}
	}
}

// TestWhereTheShortWayIsStricter lists what net/http lets pass and the short way does not.
func TestWhereTheShortWayIsStricter(t *testing.T) {
	for name, c := range map[string]struct {
		method, answer string
		ours, theirs   func(seen) bool
	}{
		// RFC 9112 §5.1: a proxy removes the space or refuses; the field must not get another meaning behind it.
		"space before the colon": {"GET", "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello", invalid, status200},
		"space in a name":        {"GET", "HTTP/1.1 200 OK\r\nX A: 5\r\nContent-Length: 5\r\n\r\nhello", invalid, status200},
		// §6.1: the framing of such an answer is faulty.
		"chunked in HTTP/1.0": {"GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", invalid, status200},
		// §2.3: another major version has another framing.
		"HTTP/2.0": {"GET", "HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", invalid, status200},
		"HTTP/1.2": {"GET", "HTTP/1.2 200 OK\r\nContent-Length: 5\r\n\r\nhello", invalid, status200},
		// §6.3: an intermediary removes Content-Length beside Transfer-Encoding.
		"both lengths of a HEAD": {"HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
			func(s seen) bool { return s.Status == 200 && s.Header.Get("Content-Length") == "" },
			func(s seen) bool { return s.Status == 200 && s.Header.Get("Content-Length") == "2" }},
		// RFC 9110 §7.6.1: what Connection names ends here, also beside close.
		"option beside close": {"GET", "HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nContent-Length: 5\r\n\r\nhello",
			func(s seen) bool { return s.Status == 200 && s.Header.Get("X-Hop") == "" },
			func(s seen) bool { return s.Status == 200 && s.Header.Get("X-Hop") == "1" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if s := sendThrough(t, TransportAuto, c.method, c.answer, true); !c.ours(s) {
				t.Errorf("the short way: %+v", s)
			}
			if s := sendThrough(t, TransportStandard, c.method, c.answer, true); !c.theirs(s) {
				t.Errorf("net/http: %+v", s)
			}
		})
	}
}

func invalid(s seen) bool   { return s.Status == 502 && s.Code == "upstream_invalid" }
func status200(s seen) bool { return s.Status == 200 }
