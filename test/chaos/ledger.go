package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

// ledger is the team's service: it notes every execution of every write and
// every job that reaches it, so that the truth can be compared with what
// clients were told.
type ledger struct {
	URL    string
	server *http.Server
	slow   time.Duration // longest time that a write takes

	mu      sync.Mutex
	writes  map[string]int // Idempotency-Key → executions
	jobs    map[string]int // order → executions of its job
	ordinal int
}

func newLedger(slow time.Duration) (*ledger, error) {
	l := &ledger{slow: slow, writes: map[string]int{}, jobs: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /execute/{key}", l.execute)
	mux.HandleFunc("POST /job/{order}", l.job)
	mux.HandleFunc("GET /read/{n}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"n":%q}`, r.PathValue("n"))
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l.URL = "http://" + listener.Addr().String()
	l.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = l.server.Serve(listener) }() // ends with Close
	return l, nil
}

func (l *ledger) close() error { return l.server.Close() }

// execute counts once the request is there in whole; the answer takes a while,
// so that faults fall between the effect and the answer.
func (l *ledger) execute(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	l.mu.Lock()
	l.ordinal++
	n := l.ordinal
	l.writes[r.PathValue("key")]++
	l.mu.Unlock()
	if l.slow > 0 {
		time.Sleep(rand.N(l.slow)) // the work of a real service
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintf(w, `{"execution":%d}`, n)
}

func (l *ledger) job(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	l.jobs[r.PathValue("order")]++
	l.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (l *ledger) executions(key string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.writes[key]
}

func (l *ledger) jobRuns(order string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.jobs[order]
}
