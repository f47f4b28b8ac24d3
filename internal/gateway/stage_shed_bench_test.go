package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// BenchmarkRefusal is what turning one request away costs, client and network included.
func BenchmarkRefusal(b *testing.B) {
	c := newCrowd(b, func(s *Settings) { s.Overload.MaxInFlight = 1 })
	c.come("critical")
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.h.url, "http://"))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	request := "GET /interactive/x HTTP/1.1\r\nHost: api.example.test\r\n\r\n"
	r := bufio.NewReader(conn)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.WriteString(conn, request); err != nil {
			b.Fatal(err)
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != http.StatusServiceUnavailable {
			b.Fatal(res, err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			b.Fatal(err)
		}
	}
}
