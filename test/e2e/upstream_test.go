package e2e

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// upstream is a service of the team's, with the manners and the faults that scenarios need.
type upstream struct {
	*httptest.Server
	mu      sync.Mutex
	counts  map[string]int // executions by name: the ledger
	broken  map[string]bool
	echoing atomic.Int64 // requests that echo is reading
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{counts: map[string]int{}, broken: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/echo/", u.echo)
	mux.HandleFunc("GET /ledger/{name}", u.ledger)
	mux.HandleFunc("/execute/{name}", u.execute)
	mux.HandleFunc("POST /hold/{name}", u.hold)
	mux.HandleFunc("PUT /broken/{name}/{state}", u.setBroken)
	mux.HandleFunc("GET /status/{code}", u.status)
	mux.HandleFunc("GET /hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("GET /events", u.events)
	mux.HandleFunc("GET /socket", u.socket)
	mux.HandleFunc("GET /file", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "file.txt", time.Unix(1700000000, 0), strings.NewReader(strings.Repeat("0123456789", 1000)))
	})
	mux.HandleFunc("GET /short", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		fmt.Fprint(w, "only this")
	})
	u.registerCache(mux)
	mux.HandleFunc("GET /trailers", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "Checksum")
		fmt.Fprint(w, "body")
		w.Header().Set("Checksum", "abc")
	})
	bodies(mux)
	contracts(mux)
	u.registerAggregate(mux)
	u.registerUpstreams(mux)
	u.Server = httptest.NewServer(mux)
	t.Cleanup(u.Close)
	return u
}

// echo answers with the request as the upstream saw it.
func (u *upstream) echo(w http.ResponseWriter, r *http.Request) {
	u.echoing.Add(1)
	defer u.echoing.Add(-1)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	headers := map[string]string{}
	for name, values := range r.Header {
		headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{
		"method": r.Method, "path": r.URL.EscapedPath(), "query": r.URL.RawQuery, "host": r.Host, "headers": headers, "body": string(body),
	})
}

// execute counts, so that a scenario can tell how often a write really happened.
func (u *upstream) execute(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	u.mu.Lock()
	broken := u.broken[name]
	u.counts[name]++
	n := u.counts[name]
	u.mu.Unlock()
	if broken {
		http.Error(w, "broken", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintf(w, `{"execution":%d}`, n)
}

func (u *upstream) executions(name string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.counts[name]
}

func (u *upstream) ledger(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"executed":%d}`, u.executions(r.PathValue("name")))
}

func (u *upstream) setBroken(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.broken[r.PathValue("name")] = r.PathValue("state") == "yes"
	w.WriteHeader(http.StatusNoContent)
}

func (u *upstream) status(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.PathValue("code"))
	if err != nil || code < 200 || code > 599 {
		http.Error(w, "bad code", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"code":%d}`, code)
}

// events sends one event, and the second only once the client has gone on to wait for it.
func (u *upstream) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "data: first\n\n")
	if err := http.NewResponseController(w).Flush(); err != nil {
		return
	}
	<-r.Context().Done()
}

// socket is a WebSocket that sends every byte back (RFC 6455 handshake; frames are not looked at).
func (u *upstream) socket(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		http.Error(w, "not a WebSocket", http.StatusUpgradeRequired)
		return
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	if rw.Flush() != nil {
		return
	}
	buffer := make([]byte, 4096)
	for {
		n, err := rw.Read(buffer)
		if n > 0 {
			if _, err := conn.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
