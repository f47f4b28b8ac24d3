package http1

import (
	"errors"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

var errAnswered = errors.New("http1: the handler has returned")

// answerFields is what the header that a handler made says about its answer.
type answerFields struct {
	typed      bool     // has a Content-Type, be it an empty list
	encoded    bool     // has a Content-Encoding
	sized      bool     // has a Content-Length
	dated      bool     // has a Date
	upgrades   bool     // has an Upgrade
	coding     string   // Transfer-Encoding
	connection []string // Connection
	connects   bool     // has one, be it an empty list
	trailers   bool     // trailers may follow
	declared   []string // names in Trailer
}

// appendHeader appends the handler's header, but for what depends on how long
// the body is.
func (r *response) appendHeader(b []byte) []byte {
	f := &r.fields
	for key, values := range r.header {
		switch key {
		case "Content-Length":
			f.sized = true
			b = r.announce(b, values)
			continue
		case "Connection":
			f.connection, f.connects = values, true
			continue
		case "Transfer-Encoding":
			if len(values) > 0 {
				f.coding = values[0]
			}
			continue
		case "Content-Type":
			if f.typed = true; r.status == http.StatusNotModified {
				continue
			}
		case "Content-Encoding":
			f.encoded = len(values) > 0 && values[0] != ""
		case "Date":
			f.dated = true
		case "Upgrade":
			f.upgrades = len(values) > 0 && values[0] != ""
		case "Trailer":
			f.trailers = f.trailers || len(values) > 0
			f.declare(values)
		default:
			if strings.HasPrefix(key, http.TrailerPrefix) {
				f.trailers = true
				continue
			}
			if strings.EqualFold(key, "Content-Length") || strings.EqualFold(key, "Transfer-Encoding") {
				continue // framing is ours to say, however it is written
			}
		}
		b = appendValues(b, key, values)
	}
	return b
}

// announce notes the Content-Length. It is written with commit.
func (r *response) announce(b []byte, values []string) []byte {
	if len(values) == 0 || values[0] == "" {
		return b
	}
	n, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil || n < 0 {
		r.conn.server.logf("http1: invalid Content-Length of %q", values[0])
		delete(r.header, "Content-Length")
		r.fields.sized = false
		return b
	}
	r.length = n
	return b
}

func (f *answerFields) declare(values []string) {
	for _, v := range values {
		for name := range strings.SplitSeq(v, ",") {
			name = textproto.CanonicalMIMEHeaderKey(strings.Trim(name, " \t"))
			if trailerName(name) && !slices.Contains(f.declared, name) {
				f.declared = append(f.declared, name)
			}
		}
	}
}

// appendValues appends a field's lines. A name that is no token is left out; in
// a value a control character, such as the end of a line, becomes a space.
func appendValues(b []byte, key string, values []string) []byte {
	if !isToken(key) {
		return b
	}
	for _, v := range values {
		b = append(b, key...)
		b = append(b, ": "...)
		if !isFieldValue(v) {
			v = plainValue(v)
		}
		b = append(b, strings.Trim(v, " \t")...)
		b = append(b, "\r\n"...)
	}
	return b
}

// plainValue is v with a space for each control character.
func plainValue(v string) string {
	b := []byte(v)
	for i, c := range b {
		if class[c]&valueByte == 0 {
			b[i] = ' '
		}
	}
	return string(b)
}

// commit completes the header. first is the first piece of the body, or all of
// it if the handler has returned.
func (r *response) commit(first []byte) {
	if r.committed {
		return
	}
	r.committed = true
	f, b := &r.fields, r.buf.out
	head := r.req.Method == http.MethodHead
	allowed := bodyAllowed(r.status)
	if r.done && !f.trailers && f.coding == "" && allowed && !f.sized && (!head || len(first) > 0) {
		r.length = int64(len(first))
	}
	connection := r.persistence(allowed, head)
	if r.req.ContentLength != 0 && !r.close && !r.fullDuplex && !r.x.body.drain() {
		r.close, r.tooBig = true, true
		connection = "close"
	}
	if allowed && !f.encoded && !f.typed && f.coding == "" && len(first) > 0 {
		b = append(b, "Content-Type: "...)
		b = append(b, http.DetectContentType(first)...)
		b = append(b, "\r\n"...)
	}
	if !f.dated {
		b = append(b, "Date: "...)
		b = append(b, date(time.Now())...)
		b = append(b, "\r\n"...)
	}
	b = r.appendFraming(b, allowed, head)
	b = r.appendConnection(b, connection)
	r.buf.out = append(b, "\r\n"...)
}

// persistence decides whether the connection goes on (RFC 9112 §9.3), as far as
// the length of the body does not, and returns what Connection is to say.
func (r *response) persistence(allowed, head bool) (connection string) {
	f := &r.fields
	keeps := r.req.ProtoMinor == 0 && hasToken(r.req.Header["Connection"], "keep-alive")
	switch {
	case keeps && !r.req.Close && (head || r.length >= 0 || !allowed):
		if !f.connects {
			connection = "keep-alive"
		}
	case r.req.ProtoMinor == 0, r.req.Close:
		r.close = true
	}
	if len(f.connection) > 0 && hasToken(f.connection, "close") || r.conn.server.closing.Load() {
		r.close = true
	}
	if r.expecting && !r.x.body.whole.Load() {
		r.close = true // nobody knows whether the body is going to come
	}
	return connection
}

// appendFraming says how long the body is (RFC 9112 §6).
func (r *response) appendFraming(b []byte, allowed, head bool) []byte {
	coding := r.fields.coding
	sized := r.length >= 0
	if sized && coding != "" && coding != "identity" {
		r.conn.server.logf("http1: an answer with both Transfer-Encoding %q and Content-Length %d", coding, r.length)
		sized = false
	}
	switch {
	case !allowed:
		return b
	case sized:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, r.length, 10)
		return append(b, "\r\n"...)
	case head:
		return b
	case r.req.ProtoMinor == 0, coding == "identity":
		r.close = true
		return b
	}
	r.chunked = true
	r.length = -1
	return append(b, "Transfer-Encoding: chunked\r\n"...)
}

func (r *response) appendConnection(b []byte, connection string) []byte {
	f := &r.fields
	switch {
	case !r.close, r.status == http.StatusSwitchingProtocols && f.upgrades, hasToken(f.connection, "close"):
		b = appendValues(b, "Connection", f.connection)
	case r.req.ProtoMinor >= 1:
		connection = "close"
	default:
		connection = ""
	}
	if connection != "" {
		b = append(b, "Connection: "...)
		b = append(b, connection...)
		b = append(b, "\r\n"...)
	}
	return b
}

// finish completes the answer when the handler has returned, and reports
// whether the connection can be used again.
func (r *response) finish() bool {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	r.done = true
	err := r.pass()
	if r.chunked {
		r.buf.out = r.appendTrailers(append(r.buf.out, "0\r\n"...))
	}
	if sent := r.send(); err == nil {
		err = sent
	}
	if cap(r.buf.out) <= keptHead {
		r.buf.out = r.buf.out[:0]
		answerPool.Put(r.buf)
	}
	r.buf = nil
	short := r.length >= 0 && r.written != r.length && r.req.Method != http.MethodHead && bodyAllowed(r.status)
	if err != nil || short {
		r.close = true
	}
	again := !r.close && (r.x.body.whole.Load() || r.x.body.drain())
	if r.req.ContentLength != 0 {
		if cerr := r.x.body.Close(); cerr != nil {
			return false
		}
	}
	return again
}

// abort sends what was ready when the handler gave up.
func (r *response) abort() {
	if r.committed {
		if r.send() != nil {
			return // nobody is there to see it
		}
	}
}

func (r *response) appendTrailers(b []byte) []byte {
	for _, key := range r.fields.declared {
		b = appendValues(b, key, r.header[key])
	}
	for key, values := range r.header {
		if name, ok := strings.CutPrefix(key, http.TrailerPrefix); ok && trailerName(name) {
			b = appendValues(b, name, values)
		}
	}
	return append(b, "\r\n"...)
}

// bodyAllowed reports whether an answer of that status has a body (RFC 9110 §6.4.1).
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// dateText is the Date field of one second.
type dateText struct {
	second int64
	text   string
}

var lastDate atomic.Pointer[dateText]

func date(now time.Time) string {
	second := now.Unix()
	if d := lastDate.Load(); d != nil && d.second == second {
		return d.text
	}
	d := &dateText{second, now.UTC().Format(http.TimeFormat)}
	lastDate.Store(d)
	return d.text
}
