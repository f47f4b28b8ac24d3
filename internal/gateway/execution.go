package gateway

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"landline/internal/gateway/idem"
)

// execution is the ResponseWriter of a write with an Idempotency-Key. It holds
// the answer back until its outcome is stored. An answer that cannot be kept
// (above max_body, or a stream) is passed on from the moment that is known,
// after the outcome was stored without it.
type execution struct {
	keeper *keeper
	lease  idem.Lease
	x      *Exchange
	w      http.ResponseWriter
	before http.Header // what earlier stages had set

	scope  scope           // of the rest of the way: the client's values, without its end
	limit  *time.Timer     // ends it before the lease does
	client context.Context //nolint:containedctx // ends it once the client reads along

	status  int
	body    bytes.Buffer
	passing bool  // the client gets what is written
	failed  error // why the answer may not be passed on
	settled bool
}

// Header is the client's: earlier stages read and write the same one.
func (e *execution) Header() http.Header { return e.w.Header() }

// WriteHeader notes the status; informational answers are passed on.
func (e *execution) WriteHeader(status int) {
	switch {
	case e.status != 0:
	case status >= 100 && status < 200:
		if status != http.StatusSwitchingProtocols {
			e.w.WriteHeader(status)
		}
	default:
		e.status = status
		if isStream(e.Header()) {
			e.pass()
		}
	}
}

func isStream(h http.Header) bool {
	switch mediaType(h) {
	case "text/event-stream", "application/x-ndjson", "application/jsonl", "application/json-seq", "multipart/x-mixed-replace":
		return true
	}
	return false
}

func (e *execution) Write(b []byte) (int, error) {
	if e.status == 0 {
		e.WriteHeader(http.StatusOK)
	}
	if e.failed == nil && !e.passing && int64(e.body.Len()+len(b)) > int64(e.keeper.config.MaxBody) {
		e.pass()
	}
	switch {
	case e.failed != nil:
		return 0, e.failed
	case e.passing:
		return e.w.Write(b)
	case e.body.Cap() == 0:
		e.reserve()
	}
	return e.body.Write(b)
}

// reserve makes room for the announced length, within what may be kept.
func (e *execution) reserve() {
	n, err := strconv.ParseInt(e.Header().Get("Content-Length"), 10, 64)
	if err == nil && n > 0 && n <= int64(e.keeper.config.MaxBody) {
		e.body.Grow(int(n))
	}
}

// pass stores that the execution took place and begins to send its answer.
func (e *execution) pass() {
	f := e.judge(nil)
	if f.answer != nil {
		f.answer = &idem.Answer{Status: e.status}
	}
	if err := e.settle(f); err != nil {
		e.failed = unavailable(mayBeExecuted, err)
		return
	}
	e.passing = true
	e.follow()
	e.w.WriteHeader(e.status)
	if e.body.Len() > 0 {
		if _, err := e.w.Write(e.body.Bytes()); err != nil {
			e.failed = errClientGone
		}
		e.body = bytes.Buffer{}
	}
}

// Flush is FlushError for callers of http.Flusher, who learn of a lost client at the next write.
func (e *execution) Flush() {
	if err := e.FlushError(); err != nil {
		return
	}
}

// FlushError does nothing while the answer is held back.
func (e *execution) FlushError() error {
	if e.passing {
		return http.NewResponseController(e.w).Flush()
	}
	return nil
}

// Hijack is refused: an upgraded connection is no answer that can be kept.
func (e *execution) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, http.ErrNotSupported
}

// Unwrap lets http.ResponseController reach the connection's deadlines.
func (e *execution) Unwrap() http.ResponseWriter { return e.w }

// follow is for answers that are passed on: from now on the client's leaving
// ends the execution, and its lease does not.
func (e *execution) follow() {
	e.limit.Stop()
	context.AfterFunc(e.client, func() { e.scope.end(context.Canceled) })
}

// over gives up what the execution holds.
func (e *execution) over() {
	e.limit.Stop()
	e.scope.end(context.Canceled)
}

// end settles the key after the rest of the way, and lets the answer go.
func (e *execution) end(err error) error {
	if e.failed != nil {
		err = e.failed
	}
	if e.passing {
		return err
	}
	if err == nil && e.status == 0 {
		e.status = http.StatusOK
	}
	if e.settled { // pass could not store the outcome
		e.forget()
		return err
	}
	f := e.judge(err)
	stored := e.settle(f)
	switch {
	case err != nil:
		e.forget()
		return err
	case stored != nil && f.answer != nil:
		e.forget()
		return unavailable(mayBeExecuted, stored)
	}
	e.w.WriteHeader(e.status)
	if e.body.Len() > 0 {
		if _, err := e.w.Write(e.body.Bytes()); err != nil {
			return errClientGone // it will come back for the stored answer
		}
	}
	return nil
}

const mayBeExecuted = "the write may have been executed, and a repetition with the same key is safe"

// forget takes back what the execution has put into the header.
func (e *execution) forget() {
	h := e.Header()
	clear(h)
	for name, values := range e.before {
		h[name] = values
	}
}

// stored is the part of the header that is the execution's answer: what was
// added since, without what belongs to one connection, one moment or one person's
// browser.
func (e *execution) stored() http.Header {
	h := e.Header()
	kept := make(http.Header, len(h))
	for name, values := range h {
		if notStored[name] || hopByHop[name] || strings.HasPrefix(name, http.TrailerPrefix) || slices.Equal(e.before[name], values) && len(values) > 0 {
			continue
		}
		kept[name] = values
	}
	return kept
}

var notStored = map[string]bool{
	"Age":                 true,
	"Alt-Svc":             true,
	"Date":                true,
	"Idempotent-Replayed": true,
	"Landline-Degraded":   true,
	"Landline-Trace-Id":   true,
	"Ratelimit":           true,
	"Ratelimit-Policy":    true,
	"Server-Timing":       true,
	"Set-Cookie":          true,
	"Via":                 true,
}
