package differential

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// attack is what is written to the public listener, and what may come of it.
type attack struct {
	name string
	wire string
	// statuses of the answers in their order; 400 stands for a refusal of any
	// kind (4xx, 501, 505, or a closed connection), after which nothing may follow.
	want []int
	// upstream lists the request lines that may reach the upstream, at most
	// once each; none if it is empty.
	upstream []string
	body     string // of the first request that reaches the upstream
}

const (
	host     = "Host: api.example.test\r\n"
	smuggled = "GET /smuggled HTTP/1.1\r\n" + host + "\r\n"
	post     = "POST /meant HTTP/1.1"
	get      = "GET /meant HTTP/1.1"
)

// writes begins a POST with these field lines.
func writes(lines ...string) string {
	return post + "\r\n" + host + strings.Join(lines, "\r\n") + "\r\n\r\n"
}

var attacks = []attack{
	// Content-Length against Transfer-Encoding (RFC 9112 §6.1, §6.3).
	// Both together count as chunked, and the connection ends with the answer (§6.1).
	{name: "CL.TE", wire: writes("Content-Length: 6", "Transfer-Encoding: chunked") + "0\r\n\r\nX" + smuggled, want: []int{200}, upstream: []string{post}},
	{name: "TE.CL", wire: writes("Transfer-Encoding: chunked", "Content-Length: 4") + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled), want: []int{200}, upstream: []string{post}, body: smuggled},
	{name: "CL.TE on GET", wire: get + "\r\n" + host + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, want: []int{200}, upstream: []string{get}},
	{name: "CL.0", wire: get + "\r\n" + host + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(smuggled)) + smuggled, want: []int{200}, upstream: []string{get}, body: smuggled},

	// Content-Length.
	{name: "two different lengths", wire: writes("Content-Length: 5", "Content-Length: 6") + "hello" + smuggled, want: []int{400}},
	{name: "a list of different lengths", wire: writes("Content-Length: 5, 6") + "hello" + smuggled, want: []int{400}},
	{name: "the same length twice", wire: writes("Content-Length: 5", "Content-Length: 5") + "hello", want: []int{200}, upstream: []string{post}, body: "hello"},
	{name: "length with a plus", wire: writes("Content-Length: +5") + "hello" + smuggled, want: []int{400}},
	{name: "negative length", wire: writes("Content-Length: -1") + smuggled, want: []int{400}},
	{name: "length in hex", wire: writes("Content-Length: 0x5") + "hello" + smuggled, want: []int{400}},
	{name: "length with a digit of another script", wire: writes("Content-Length: \u0665") + "hello" + smuggled, want: []int{400}},
	{name: "length with a space inside", wire: writes("Content-Length: 1 0") + "hello" + smuggled, want: []int{400}},
	{name: "length beyond 64 bits", wire: writes("Content-Length: 18446744073709551621") + "hello" + smuggled, want: []int{400}},
	{name: "empty length", wire: writes("Content-Length:") + smuggled, want: []int{400}},
	{name: "length with a space before the colon", wire: writes("Content-Length : 5") + "hello" + smuggled, want: []int{400}},
	{name: "length under another name", wire: writes("Content_Length: 5", "Content-Length: 0") + "", want: []int{200}, upstream: []string{post}},

	// Transfer-Encoding and its variants.
	{name: "unknown coding", wire: writes("Transfer-Encoding: xchunked") + "0\r\n\r\n" + smuggled, want: []int{400}},
	{name: "identity", wire: writes("Transfer-Encoding: identity", "Content-Length: 5") + "hello" + smuggled, want: []int{400}},
	{name: "chunked twice", wire: writes("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + "0\r\n\r\n" + smuggled, want: []int{400}},
	{name: "chunked and another", wire: writes("Transfer-Encoding: chunked, identity") + "0\r\n\r\n" + smuggled, want: []int{400}},
	{name: "gzip before chunked", wire: writes("Transfer-Encoding: gzip, chunked") + "0\r\n\r\n" + smuggled, want: []int{400}},
	{name: "a second coding hides the first", wire: writes("Transfer-Encoding: chunked", "Transfer-Encoding: cow") + "0\r\n\r\n" + smuggled, want: []int{400}},
	{name: "coding with a vertical tab", wire: writes("Transfer-Encoding: \x0bchunked") + "0\r\n\r\n" + smuggled, want: []int{400}},
	{name: "coding in quotes", wire: writes(`Transfer-Encoding: "chunked"`) + "0\r\n\r\n" + smuggled, want: []int{400}},
	{name: "coding with a space before the colon", wire: writes("Transfer-Encoding : chunked", "Content-Length: 5") + "0\r\n\r\n" + smuggled, want: []int{400}},
	{name: "coding on a folded line", wire: writes("X-A: b\r\n Transfer-Encoding: chunked", "Content-Length: 5") + "0\r\n\r\n", want: []int{200}, upstream: []string{post}, body: "0\r\n\r\n"},
	{name: "coding with a semicolon", wire: writes("Transfer-Encoding: chunked;x") + "0\r\n\r\n" + smuggled, want: []int{400}},
	{name: "empty coding", wire: writes("Transfer-Encoding:", "Content-Length: 5") + "hello" + smuggled, want: []int{400}},
	{name: "capitals and space", wire: writes("transfer-ENCODING:   Chunked  ") + "5\r\nhello\r\n0\r\n\r\n", want: []int{200}, upstream: []string{post}, body: "hello"},

	// The chunked coding itself (RFC 9112 §7.1).
	{name: "chunk extension", wire: writes("Transfer-Encoding: chunked") + "5;a=\"b;c\"\r\nhello\r\n0;x\r\n\r\n", want: []int{200}, upstream: []string{post}, body: "hello"},
	{name: "chunk extension with a bare LF", wire: writes("Transfer-Encoding: chunked") + "5;a\nhello\r\n0\r\n\r\n" + smuggled, want: []int{400}},
	{name: "bare LF after the size", wire: writes("Transfer-Encoding: chunked") + "5\nhello\r\n0\r\n\r\n" + smuggled, want: []int{400}},
	{name: "bare LF after the data", wire: writes("Transfer-Encoding: chunked") + "5\r\nhello\n0\r\n\r\n" + smuggled, want: []int{400}},
	{name: "no CRLF after the data", wire: writes("Transfer-Encoding: chunked") + "5\r\nhello0\r\n\r\n" + smuggled, want: []int{400}},
	{name: "size in 0x", wire: writes("Transfer-Encoding: chunked") + "0x5\r\nhello\r\n0\r\n\r\n" + smuggled, want: []int{400}},
	{name: "negative size", wire: writes("Transfer-Encoding: chunked") + "-5\r\nhello\r\n0\r\n\r\n" + smuggled, want: []int{400}},
	{name: "size beyond 64 bits", wire: writes("Transfer-Encoding: chunked") + "fffffffffffffffff\r\nhello\r\n0\r\n\r\n" + smuggled, want: []int{400}},
	{name: "size that wraps around", wire: writes("Transfer-Encoding: chunked") + "10000000000000005\r\nhello\r\n0\r\n\r\n" + smuggled, want: []int{400}},
	{name: "empty size", wire: writes("Transfer-Encoding: chunked") + "\r\nhello\r\n0\r\n\r\n" + smuggled, want: []int{400}},
	{name: "endless chunk extensions", wire: writes("Transfer-Encoding: chunked") + strings.Repeat("1;"+strings.Repeat("x", 3000)+"\r\na\r\n", 40), want: []int{400}},
	{name: "trailers that set the framing", wire: writes("Transfer-Encoding: chunked", "Trailer: Content-Length") + "5\r\nhello\r\n0\r\nContent-Length: 9\r\nHost: evil\r\n\r\n", want: []int{400}},
	{name: "trailers that forge identity", wire: writes("Transfer-Encoding: chunked", "Trailer: Landline-Identity, X-Forwarded-For") + "5\r\nhello\r\n0\r\nLandline-Identity: x\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n",
		want: []int{200}, upstream: []string{post}, body: "hello"},

	// Lines and fields (RFC 9112 §2.2, §5).
	{name: "bare LF lines", wire: "GET /meant HTTP/1.1\nHost: api.example.test\n\n", want: []int{200}, upstream: []string{get}},
	{name: "bare CR in a value", wire: get + "\r\n" + host + "X-A: b\rX-Evil: 1\r\n\r\n", want: []int{400}},
	{name: "NUL in a value", wire: get + "\r\n" + host + "X-A: b\x00c\r\n\r\n", want: []int{400}},
	{name: "folded line", wire: get + "\r\n" + host + "X-A: b\r\n c\r\n\r\n", want: []int{200}, upstream: []string{get}},
	{name: "folded first line", wire: get + "\r\n X-A: b\r\n" + host + "\r\n", want: []int{400}},
	{name: "line without a colon", wire: get + "\r\n" + host + "nothing\r\n\r\n", want: []int{400}},
	{name: "field without a name", wire: get + "\r\n" + host + ": x\r\n\r\n", want: []int{400}},
	{name: "name with a space", wire: get + "\r\n" + host + "X A: b\r\n\r\n", want: []int{400}},
	{name: "name in UTF-8", wire: get + "\r\n" + host + "X-\u00e9: b\r\n\r\n", want: []int{400}},
	{name: "space before the first field", wire: get + "\r\n" + "Host : api.example.test\r\n\r\n", want: []int{400}},

	// Host (RFC 9112 §3.2).
	{name: "Host twice", wire: get + "\r\n" + host + "Host: evil.example.test\r\n\r\n", want: []int{400}},
	{name: "no Host", wire: get + "\r\n\r\n", want: []int{400}},
	{name: "Host with a space", wire: get + "\r\nHost: a b\r\n\r\n", want: []int{400}},
	{name: "Host with a path", wire: get + "\r\nHost: a/../b\r\n\r\n", want: []int{400}},
	{name: "absolute form", wire: "GET http://other.example.test/meant HTTP/1.1\r\n" + host + "\r\n", want: []int{200}, upstream: []string{get}},
	{name: "absolute form with credentials", wire: "GET http://a:b@other.example.test/meant HTTP/1.1\r\n" + host + "\r\n", want: []int{200}, upstream: []string{get}},
	{name: "authority form", wire: "GET api.example.test:80 HTTP/1.1\r\n" + host + "\r\n", want: []int{400}},
	{name: "CONNECT", wire: "CONNECT api.example.test:80 HTTP/1.1\r\n" + host + "\r\n", want: []int{400}},

	// Request line (RFC 9112 §3).
	{name: "two spaces", wire: "GET  /meant HTTP/1.1\r\n" + host + "\r\n", want: []int{400}},
	{name: "a tab", wire: "GET\t/meant\tHTTP/1.1\r\n" + host + "\r\n", want: []int{400}},
	{name: "a space in the target", wire: "GET /meant HTTP/1.1 /x HTTP/1.1\r\n" + host + "\r\n", want: []int{400}},
	{name: "HTTP/0.9", wire: "GET /meant\r\n\r\n", want: []int{400}},
	{name: "HTTP/2.0 in a request line", wire: "GET /meant HTTP/2.0\r\n" + host + "\r\n", want: []int{400}},
	{name: "HTTP/1.2", wire: "GET /meant HTTP/1.2\r\n" + host + "\r\n", want: []int{200}, upstream: []string{get}},
	{name: "http in lower case", wire: "GET /meant http/1.1\r\n" + host + "\r\n", want: []int{400}},
	{name: "control character in the target", wire: "GET /me\x01ant HTTP/1.1\r\n" + host + "\r\n", want: []int{400}},
	{name: "CRLF in an escape", wire: "GET /meant%0d%0aX-Evil:%201 HTTP/1.1\r\n" + host + "\r\n", want: []int{200}, upstream: []string{"GET /meant%0D%0AX-Evil:%201 HTTP/1.1"}},
	{name: "method with a control character", wire: "GE\x7fT /meant HTTP/1.1\r\n" + host + "\r\n", want: []int{400}},

	// HTTP/1.0 and pipelining.
	{name: "HTTP/1.0", wire: "GET /meant HTTP/1.0\r\n\r\n", want: []int{200}, upstream: []string{get}},
	{name: "HTTP/1.0 chunked", wire: "POST /meant HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, want: []int{200}, upstream: []string{post}},
	{name: "HTTP/1.0 chunked that stays", wire: "POST /meant HTTP/1.0\r\n" + host + "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + smuggled, want: []int{200}, upstream: []string{post}},
	{name: "HTTP/1.0 says nothing after its answer", wire: "GET /meant HTTP/1.0\r\n" + host + "\r\n" + smuggled, want: []int{200}, upstream: []string{get}},
	{name: "pipelined", wire: get + "\r\n" + host + "\r\n" + writes("Content-Length: 5") + "hello" + "GET /meant/2 HTTP/1.1\r\n" + host + "\r\n",
		want: []int{200, 200, 200}, upstream: []string{get, post, "GET /meant/2 HTTP/1.1"}},
	{name: "pipelined after Connection: close", wire: get + "\r\n" + host + "Connection: close\r\n\r\n" + smuggled, want: []int{200}, upstream: []string{get}},
	{name: "pipelined after a refusal", wire: "GET /../x HTTP/1.1\r\n" + host + "\r\n" + get + "\r\n" + host + "\r\n", want: []int{400, 200}, upstream: []string{get}},
	{name: "a body that a refused request left behind", wire: "POST /../x HTTP/1.1\r\n" + host + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(smuggled)) + smuggled + get + "\r\n" + host + "\r\n",
		want: []int{400, 200}, upstream: []string{get}},
	{name: "a body after Expect that was not asked for", wire: "POST /../x HTTP/1.1\r\n" + host + fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(smuggled)) + smuggled, want: []int{400}},
	{name: "an upgrade that leaves bytes", wire: get + "\r\n" + host + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n", want: []int{200}, upstream: []string{get}},
	{name: "Connection takes away the framing", wire: writes("Connection: close, Content-Length, Host, X-Forwarded-For", "Content-Length: 5") + "hello" + smuggled, want: []int{200}, upstream: []string{post}, body: "hello"},
}

// TestNothingIsSmuggled: the upstream sees each request that was meant once,
// in one unambiguous form, or nothing at all.
func TestNothingIsSmuggled(t *testing.T) {
	recorder := newRecorder(t, func(int) answer {
		return answer{Pieces: []string{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"}}
	})
	landline := startLandline(t, recorder.addr())
	before := 0
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			got := strike(t, landline, a.wire, len(a.want))
			seen := recorder.requests(0)[before:]
			before += len(seen)
			if !fits(got, a.want) {
				t.Errorf("answers %v, want %v\n%.600q", got, a.want, a.wire)
			}
			var lines []string
			for _, m := range seen {
				if m.Cut {
					continue // the upstream knows that it was not whole
				}
				lines = append(lines, m.Start)
				judge(t, m)
			}
			if !slices.Equal(lines, a.upstream) {
				t.Errorf("the upstream saw %q, want %q", lines, a.upstream)
			}
			if len(a.upstream) > 0 && a.body != "" && (len(seen) == 0 || seen[0].Body != a.body) {
				t.Errorf("the upstream did not get the body %q", a.body)
			}
			if faults := recorder.faults(); len(faults) > 0 {
				t.Fatalf("what reached the upstream was no request: %q", faults)
			}
		})
	}
}

// judge looks at one request as the upstream got it.
func judge(t *testing.T, m *message) {
	t.Helper()
	if len(values(m.Fields, "Host")) != 1 {
		t.Errorf("Host %q", values(m.Fields, "Host"))
	}
	for _, f := range slices.Concat(m.Fields, m.Trailers) {
		if strings.EqualFold(f.Name, "X-Evil") || strings.Contains(f.Value, "evil") {
			t.Errorf("%s: %s reached the upstream", f.Name, f.Value)
		}
	}
	for _, f := range m.Trailers {
		if strings.HasPrefix(strings.ToLower(f.Name), "landline-") || strings.EqualFold(f.Name, "X-Forwarded-For") {
			t.Errorf("the trailer %s reached the upstream", f.Name)
		}
	}
}

// fits compares statuses; any refusal, or a closed connection, is 400.
func fits(got, want []int) bool {
	return slices.EqualFunc(got, want, func(g, w int) bool { return g == w || w == 400 && (g > 400 && g < 500 || g == 501 || g == 505) })
}

// strike writes everything at once, reads as many answers as are expected, and
// then ends its side to see whether there is another. A connection that ends
// without an answer counts as a refusal.
func strike(t *testing.T, address, wire string, expected int) []int {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, wire); err != nil && !isTimeoutOrReset(err) {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	var statuses []int
	for {
		if len(statuses) == expected {
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil && !isTimeoutOrReset(err) {
				t.Fatal(err)
			}
		}
		m, err := readAnswer(r, "GET", func(*message) {})
		if err != nil {
			var network net.Error
			if errors.As(err, &network) && network.Timeout() {
				t.Fatalf("no answer to\n%.600q", wire)
			}
			if len(statuses) == 0 {
				statuses = append(statuses, 400)
			}
			return statuses
		}
		statuses = append(statuses, m.status())
		if m.Framing == "close" {
			return statuses
		}
	}
}
