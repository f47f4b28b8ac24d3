package http1

import (
	"bufio"
	"io"
	"net/http"
	"testing"
	"time"
)

// endless is a connection whose client sends one request after another.
type endless struct {
	clientScript
	request string
}

func (c *endless) Read(p []byte) (int, error)  { return copy(p, c.request), nil }
func (c *endless) Write(p []byte) (int, error) { return len(p), nil }

const typical = " /v1/flights/LO123/status?fields=gate HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: app/4.2.0\r\nAccept: application/json\r\n" +
	"Accept-Encoding: gzip\r\nAuthorization: Bearer x\r\nLandline-Client: app=\"com.example.flights\", version=\"4.2.0\"\r\n"

// onOneConnection returns what serves one request with each call.
func onOneConnection(wire string, h http.HandlerFunc) func() {
	s := NewServer(&http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute})
	c := s.newConn(&endless{request: wire})
	c.since, c.br = c.born, bufio.NewReaderSize(&c.in, readBuffer)
	return func() {
		if err := c.ready(); err != nil || !c.serve() {
			panic(err)
		}
	}
}

var answerType, answerLength = []string{"application/json"}, []string{"512"}

func answer512(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h["Content-Type"], h["Content-Length"] = answerType, answerLength
	w.Write(oneHalf[:])
}

var oneHalf [512]byte

// TestServerAllocationBudget bounds what the Server allocates for one request,
// the handler's part left out. One that needs more is either at fault or has a
// reason to be written down here with its new budget.
func TestServerAllocationBudget(t *testing.T) {
	for _, c := range []struct {
		name   string
		budget float64
		wire   string
		h      http.HandlerFunc
	}{
		// The request and its answer, http.Request, the text of the header, its map (2) and its values, the answer's map (2).
		{"GET", 8, "GET" + typical + "\r\n", answer512},
		// The same, and the handler's buffer.
		{"POST", 9, "POST" + typical + "Content-Length: 5\r\n\r\nhello", func(w http.ResponseWriter, r *http.Request) {
			var b [8]byte
			if n, err := r.Body.Read(b[:]); n != 5 || err != io.EOF {
				panic(err)
			}
			answer512(w, r)
		}},
		// A context of the standard library, its channel, the timer that is there already.
		{"GET whose context is waited for", 11, "GET" + typical + "\r\n", func(w http.ResponseWriter, r *http.Request) {
			if r.Context().Done() == nil {
				panic("no channel")
			}
			answer512(w, r)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := testing.AllocsPerRun(200, onOneConnection(c.wire, c.h))
			t.Logf("%.1f allocations, budget %.0f", got, c.budget)
			if got > c.budget {
				t.Errorf("%.1f allocations, budget %.0f", got, c.budget)
			}
		})
	}
}

// BenchmarkServed is one request without a network.
func BenchmarkServed(b *testing.B) {
	once := onOneConnection("GET"+typical+"\r\n", answer512)
	b.ReportAllocs()
	for b.Loop() {
		once()
	}
}
