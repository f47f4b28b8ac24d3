package differential

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// testCase is one request and what the upstream answers to it.
type testCase struct {
	ID       int
	Name     string
	Method   string
	Target   string
	Fields   []field
	Framing  string // none, length, chunked
	Body     string
	Trailers []field
	Expect   bool
	Answer   answer
	Note     string // what the answer is like
}

func (c *testCase) String() string {
	head, body := c.wire()
	return fmt.Sprintf("case %d %s\n--- request\n%.1500s%.200q\n--- answer (%s)\n%.900q", c.ID, c.Name, head, body, c.Note, strings.Join(c.Answer.Pieces, ""))
}

// wire is the request as it is sent, header and body.
func (c *testCase) wire() (head, body string) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: api.example.test\r\n%s: %d\r\n", c.Method, c.Target, caseField, c.ID)
	for _, f := range c.Fields {
		b.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	if c.Expect {
		b.WriteString("Expect: 100-continue\r\n")
	}
	switch c.Framing {
	case "length":
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(c.Body))
		return b.String(), c.Body
	case "chunked":
		b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		return b.String(), chunked(c.Body, c.Trailers, len(c.Body)/3+1, "")
	}
	b.WriteString("\r\n")
	return b.String(), ""
}

func chunked(body string, trailers []field, size int, extension string) string {
	var b strings.Builder
	for len(body) > 0 {
		n := min(size, len(body))
		fmt.Fprintf(&b, "%x%s\r\n%s\r\n", n, extension, body[:n])
		body = body[n:]
	}
	b.WriteString("0\r\n")
	for _, f := range trailers {
		b.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	b.WriteString("\r\n")
	return b.String()
}

// generator makes cases from a seed: the same seed, the same cases.
type generator struct{ *rand.Rand }

func newGenerator(seed uint64) *generator {
	return &generator{rand.New(rand.NewPCG(seed, seed))} //nolint:gosec // repeatable on purpose
}

func one[T any](g *generator, list ...T) T { return list[g.IntN(len(list))] }

// chance is true n times in 100.
func (g *generator) chance(n int) bool { return g.IntN(100) < n }

func (g *generator) testCase(id int) *testCase {
	c := &testCase{ID: id, Name: "generated", Framing: "none"}
	c.Method = one(g, "GET", "GET", "GET", "POST", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
	if g.chance(6) {
		c.Method = one(g, "PROPFIND", "REPORT", "MKCOL", "PURGE", "QUERY", "M-SEARCH", "LOCK", "X_Y")
	}
	c.Target = g.target()
	for range g.IntN(6) {
		c.Fields = append(c.Fields, g.requestField()...)
	}
	g.body(c)
	c.Answer, c.Note = g.answer(c.Method)
	if strings.Contains(c.Note, "after 103") {
		c.Fields = append(c.Fields, field{"Connection", "close"}) // nginx ends there; else it would wait for the next request
	}
	return c
}

var segments = []string{
	"flights", "LO123", "v1", "a", "zażółć", "%C5%BC", "a%20b", "a+b", "%2B", "%41%42", "%7Euser", "~user", "x%2Fy", "x%2fy", "50%25",
	"a;b=c", "a,b", "user@example.test", "08:30", "!$&'()*+,;=", "[1]", "...", ".well-known", "a.b.c", "..a", "%5Cx", "a%3Fb", "a%23b", "",
	"{id}", "a|b", "a^b", "a\"b", "<b>", "a`b", "%E2%82%AC", "%ff", "\xff", "%c5%bc%2f%7e", "-_.~",
}

func (g *generator) target() string {
	var b strings.Builder
	b.WriteString("/" + one(g, "v1", "v2", "api"))
	for range g.IntN(5) {
		b.WriteString("/" + one(g, segments...))
	}
	if g.chance(3) {
		b.WriteString("/" + strings.Repeat("long-", 400))
	}
	if g.chance(4) {
		b.WriteString("/" + one(g, ".", "..", "%2e", "%2E%2e", ".%2e/x"))
	}
	if g.chance(15) {
		b.WriteString("/")
	}
	if g.chance(45) {
		b.WriteString("?" + g.query())
	}
	return b.String()
}

func (g *generator) query() string {
	var parts []string
	for range g.IntN(4) {
		parts = append(parts, one(g, "a=1", "a=1&a=2", "q=a%20b", "q=a+b", "empty=", "novalue", "=x", "u=zażółć", "u=%C5%BC", "x=%2F%2f", "e=%zz", "e=%",
			"s=a;b", "h=?", "p=/../x", "b=[1]", "j={\"k\":1}", "pipe=a|b", "n=%00", "long="+strings.Repeat("x", 1500)))
	}
	return strings.Join(parts, "&")
}

func (g *generator) requestField() []field {
	pair := func(list ...string) []field {
		var fs []field
		for i := 0; i < len(list); i += 2 {
			fs = append(fs, field{list[i], list[i+1]})
		}
		return fs
	}
	return one(g,
		pair("Accept", "application/json"), pair("accept", "text/html;q=0.5, */*"), pair("Accept-Encoding", one(g, "gzip", "br, gzip;q=0.8", "identity", "*;q=0", "")),
		pair("Accept-Language", "pl,en;q=0.7"), pair("User-Agent", "App/4.2 (iOS 18.1; \"x\")"), pair("X-Lower-case", "v"), pair("x-all-lower", "v"),
		pair("X-ODD-cASE", "Mixed"), pair("X_Under_Score", "1"), pair("X!#$%&'*+.^`|~", "token"), pair("X-Empty", ""), pair("X-Blank", "   "),
		pair("X-Tab", "a\tb"), pair("X-Padded", "  padded  "), pair("X-Latin", "caf\xe9"), pair("X-Utf8", "zażółć"), pair("X-Long", strings.Repeat("y", 3000)),
		pair("X-Twice", "1", "X-Twice", "2"), pair("X-Twice", "1", "x-twice", "", "X-TWICE", "1, 2"), pair("Cookie", "a=1; b=2"), pair("Cookie", "a=1", "Cookie", "b=2"),
		pair("Range", one(g, "bytes=0-99", "bytes=-5", "bytes=0-1,5-6", "items=1-2")), pair("If-Range", "\"v1\"", "Range", "bytes=5-"),
		pair("If-None-Match", one(g, "\"v1\"", "W/\"v1\", \"v2\"", "*")), pair("If-Modified-Since", "Sat, 29 Oct 1994 19:43:31 GMT"), pair("If-Match", "\"x\""),
		pair("Referer", "https://example.test/a?b"), pair("Origin", "https://example.test"), pair("Cache-Control", "no-cache"), pair("Pragma", "no-cache"),
		pair("Content-Type", one(g, "application/json", "multipart/form-data; boundary=\"x y\"", "text/plain;charset=utf-8")), pair("Content-Language", "pl"),
		pair("Via", "1.1 edge"), pair("Max-Forwards", "3"), pair("DNT", "1"), pair("X-Requested-With", "XMLHttpRequest"), pair("Date", "Tue, 15 Nov 1994 08:12:31 GMT"),
		pair("Tracestate", "a=b"), pair("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), pair("Baggage", "k=v"), pair("Priority", "u=1"),
		pair("X-Forwarded-For", "203.0.113.7"), pair("X-Forwarded-Proto", "https"), pair("Forwarded", "for=203.0.113.7"), pair("X-Real-IP", "203.0.113.7"),
		pair("Landline-Identity", "forged"), pair("Idempotency-Key", "k-1"), pair("Sec-Fetch-Mode", "cors"), pair("Prefer", "return=minimal"),
		pair("Connection", "keep-alive"), pair("Connection", "close"), pair("Connection", "X-Drop", "X-Drop", "1"), pair("Keep-Alive", "timeout=5"),
		pair("TE", "trailers"), pair("Proxy-Connection", "keep-alive"), pair("Proxy-Authorization", "Basic eDp5"), pair("Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c", "HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA"),
		pair("Upgrade", "TLS/1.2"),
	)
}

func (g *generator) body(c *testCase) {
	likely := 8
	if c.Method == "POST" || c.Method == "PUT" || c.Method == "PATCH" {
		likely = 85
	}
	if c.Method == "HEAD" || !g.chance(likely) {
		return
	}
	c.Framing = one(g, "length", "length", "chunked")
	c.Body = g.text()
	if len(c.Body) > 0 && g.chance(12) {
		c.Expect = true
	}
	if c.Framing == "chunked" && g.chance(20) {
		c.Fields = append(c.Fields, field{"Trailer", "X-Checksum"})
		c.Trailers = []field{{"X-Checksum", "abc"}}
	}
}

func (g *generator) text() string {
	switch g.IntN(9) {
	case 0:
		return ""
	case 1:
		return strings.Repeat("0123456789abcdef", 1+g.IntN(12000)) // more than any buffer on the way
	case 2:
		b := make([]byte, 1+g.IntN(400))
		for i := range b {
			b[i] = byte(g.IntN(256))
		}
		return string(b)
	case 3:
		return "0\r\n\r\nGET /v1/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	}
	return fmt.Sprintf(`{"n":%d,"text":"zażółć %s"}`, g.IntN(1000), strings.Repeat("x", g.IntN(200)))
}

var reasons = map[int]string{200: "OK", 204: "No Content", 304: "Not Modified", 404: "Not Found", 500: "Internal Server Error"}

func (g *generator) answer(method string) (answer, string) {
	status := one(g, 200, 200, 200, 201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405, 406, 409, 410, 411, 412, 413,
		415, 416, 418, 422, 425, 428, 429, 431, 451, 500, 501, 502, 503, 504, 505, 511, 299, 399, 499, 599, 600, 799, 999)
	reason, known := reasons[status]
	if !known {
		reason = one(g, "Because", "", "zażółć reason")
	}
	version := "HTTP/1.1"
	note := strconv.Itoa(status)
	var head strings.Builder
	var interim string
	if g.chance(4) {
		interim, note = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n", note+" after 103"
	}
	for range g.IntN(6) {
		head.WriteString(g.answerField())
	}
	body := g.text()
	if g.chance(8) {
		body = gzipped(body)
		head.WriteString("Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n")
	}
	if g.chance(60) {
		head.WriteString("Content-Type: " + one(g, "application/json", "text/html; charset=utf-8", "application/octet-stream", "application/problem+json", "x/y; a=\"b\"") + "\r\n")
	}
	framing := one(g, "length", "length", "chunked", "close")
	bodyless := method == "HEAD" || status == 204 || status == 304
	a := answer{}
	switch {
	case bodyless && status == 204:
		framing = "none"
	case bodyless && framing == "length":
		fmt.Fprintf(&head, "Content-Length: %d\r\n", len(body))
	case bodyless && framing == "chunked" && method == "HEAD":
		head.WriteString("Transfer-Encoding: chunked\r\n")
	case bodyless:
		framing = "none"
	case framing == "length":
		fmt.Fprintf(&head, "Content-Length: %d\r\n", len(body))
		a.Pieces = []string{body}
	case framing == "chunked":
		head.WriteString("Transfer-Encoding: chunked\r\n")
		var trailers []field
		if g.chance(20) {
			head.WriteString("Trailer: X-Sum\r\n")
			trailers = []field{{"X-Sum", "42"}}
			note += " with trailers"
		}
		a.Pieces = []string{chunked(body, trailers, len(body)/(1+g.IntN(4))+1, one(g, "", "", ";ext=1", ";q=\"x;y\""))}
	case framing == "close":
		if g.chance(30) {
			version = "HTTP/1.0"
		} else {
			head.WriteString("Connection: close\r\n")
		}
		a.Close = true
		a.Pieces = []string{body}
	}
	note += " " + framing
	a.Pieces = append([]string{interim + version + " " + strconv.Itoa(status) + " " + reason + "\r\n" + head.String() + "\r\n"}, a.Pieces...)
	return a, note
}

func (g *generator) answerField() string {
	return one(g,
		"Set-Cookie: a=1; Path=/; HttpOnly\r\nSet-Cookie: b=2\r\nSet-Cookie: a=3\r\n", "Set-Cookie: x=\"q;z\"; Expires=Wed, 21 Oct 2015 07:28:00 GMT\r\n",
		"ETag: \"v1\"\r\n", "ETag: W/\"v1\"\r\nLast-Modified: Sat, 29 Oct 1994 19:43:31 GMT\r\n", "Cache-Control: max-age=60, public\r\nAge: 5\r\n",
		"Cache-Control: no-cache\r\nCache-Control: private\r\n", "Expires: 0\r\n", "Vary: Origin\r\nVary: Accept\r\n", "Location: /elsewhere?x=1#y\r\n",
		"Location: http://recorder/abs\r\n", "Refresh: 5; url=/x\r\n", "Server: team/1.0\r\n", "Date: Tue, 15 Nov 1994 08:12:31 GMT\r\n", "X-Powered-By: coffee\r\n",
		"WWW-Authenticate: Basic realm=\"a, b\"\r\nWWW-Authenticate: Bearer\r\n", "Link: <a>; rel=next\r\nLink: <b>; rel=prev\r\n", "X-Latin: caf\xe9\r\n",
		"X-Empty:\r\n", "X-Blank:   \r\n", "x-lower-case: 1\r\n", "X_Under: 1\r\n", "X-Twice: 1\r\nx-twice: 2\r\nX-TWICE:\r\n", "X-Long: "+strings.Repeat("z", 2000)+"\r\n",
		"Via: 1.1 inner\r\n", "Retry-After: 3\r\n", "Accept-Ranges: bytes\r\n", "Content-Range: bytes 0-99/500\r\n", "Content-Language: pl\r\n",
		"Content-Disposition: attachment; filename=\"a b.txt\"; filename*=UTF-8''a%20b.txt\r\n", "Keep-Alive: timeout=5\r\n", "Connection: keep-alive\r\n",
		"Connection: X-Private\r\nX-Private: 1\r\n", "Proxy-Authenticate: Basic\r\n", "Upgrade: h2,h2c\r\n", "Access-Control-Allow-Origin: *\r\n", "Alt-Svc: h3=\":443\"\r\n",
		"Strict-Transport-Security: max-age=1\r\n", "Server-Timing: db;dur=1\r\n", "Landline-Degraded: forged\r\n", "X-Content-Type-Options: nosniff\r\n", "Allow: GET, HEAD\r\n",
		"Warning: 110 - \"stale\"\r\n", "Clear-Site-Data: \"*\"\r\n", "X!#$%&'*+.^`|~: t\r\n")
}

func gzipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(s)); err != nil {
		panic(err) // a buffer takes everything
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.String()
}
