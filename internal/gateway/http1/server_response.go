package http1

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// heldBody is how much of an answer is held back before its header is written,
// so that the length of a short one can be told. It is net/http's measure.
const heldBody = 2 << 10

// outBuffer holds what is written together.
const outBuffer = 4 << 10

// answerBuffers are what a connection needs while it answers.
type answerBuffers struct {
	out  []byte // header and body, ready for the wire
	held []byte // body that is not in out yet
}

var answerPool = sync.Pool{New: func() any {
	return &answerBuffers{out: make([]byte, 0, outBuffer), held: make([]byte, 0, heldBody)}
}}

// response is the answer to a request: an http.ResponseWriter with all that
// http.ResponseController looks for.
type response struct {
	conn   *serverConn
	req    *http.Request
	x      *incoming
	header http.Header
	buf    *answerBuffers

	mu sync.Mutex // of 100 Continue against the answer

	status     int  // 0 = WriteHeader was not called
	committed  bool // the header is complete, in buf.out or on its way
	chunked    bool
	done       bool // the handler has returned
	hijacked   bool
	expecting  bool // the request has Expect: 100-continue
	fullDuplex bool
	close      bool // the connection ends with this answer
	tooBig     bool // because too much of the request was unread

	length  int64 // as announced, -1 if not
	written int64 // by the handler

	fields answerFields
}

// begin makes it the answer to req.
func (r *response) begin(x *incoming, req *http.Request) {
	r.x, r.conn, r.req, r.length = x, x.conn, req, -1
	r.buf = answerPool.Get().(*answerBuffers)
}

// expects reads the Expect field; false means that it cannot be met.
func (x *incoming) expects() bool {
	values := x.res.req.Header["Expect"]
	if len(values) == 0 || values[0] == "" {
		return true
	}
	if !hasToken(values[:1], "100-continue") {
		return false
	}
	if x.res.req.ProtoMinor >= 1 && x.res.req.ContentLength != 0 {
		x.res.expecting = true
		x.body.waits.Store(true)
	}
	return true
}

// proceed tells the client to send its body, unless an answer has begun.
func (r *response) proceed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.x.body.waits.Swap(false) {
		return nil
	}
	return r.write([]byte("HTTP/1.1 100 Continue\r\n\r\n"), nil, nil)
}

func (r *response) noContinue() {
	if r.x.body.waits.Load() {
		r.mu.Lock()
		r.x.body.waits.Store(false)
		r.mu.Unlock()
	}
}

// Header is the header of the answer until WriteHeader is called, then that of
// the trailers.
func (r *response) Header() http.Header {
	if r.header == nil {
		r.header = make(http.Header)
	}
	return r.header
}

// WriteHeader sends an informational answer (1xx but 101), or fixes the status
// and the header of the final one.
func (r *response) WriteHeader(status int) {
	switch {
	case r.hijacked:
		r.conn.server.logf("http1: WriteHeader(%d) on a hijacked connection", status)
		return
	case r.status != 0 || r.done:
		r.conn.server.logf("http1: superfluous WriteHeader(%d) after %d", status, r.status)
		return
	case status < 100 || status > 999:
		panic(fmt.Sprintf("invalid WriteHeader code %v", status))
	}
	if status == http.StatusContinue || status == http.StatusSwitchingProtocols || status >= 200 {
		r.noContinue()
	}
	if status < 200 && status != http.StatusSwitchingProtocols {
		r.inform(status)
		return
	}
	r.status = status
	r.buf.out = r.appendStatus(r.buf.out[:0], status)
	r.buf.out = r.appendHeader(r.buf.out)
}

// inform sends an informational answer at once. HTTP/1.0 has none (RFC 9110 §15.2).
func (r *response) inform(status int) {
	if r.req.ProtoMinor == 0 {
		return
	}
	b := r.appendStatus(r.buf.out[:0], status)
	for key, values := range r.header {
		if key != "Content-Length" && key != "Transfer-Encoding" {
			b = appendValues(b, key, values)
		}
	}
	b = append(b, "\r\n"...)
	r.buf.out = b[:0]
	if r.write(b, nil, nil) != nil {
		return // the context has ended, and the final answer says so
	}
}

func (r *response) appendStatus(b []byte, status int) []byte {
	if r.req.ProtoMinor == 0 {
		b = append(b, "HTTP/1.0 "...)
	} else {
		b = append(b, "HTTP/1.1 "...)
	}
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	if text := http.StatusText(status); text != "" {
		b = append(b, text...)
	} else {
		b = append(b, "status code "...)
		b = strconv.AppendInt(b, int64(status), 10)
	}
	return append(b, "\r\n"...)
}

// Write writes a part of the body.
func (r *response) Write(p []byte) (int, error) {
	if err := r.admit(len(p)); err != nil || len(p) == 0 {
		return 0, err
	}
	return r.put(p)
}

// WriteString is Write.
func (r *response) WriteString(s string) (int, error) {
	if err := r.admit(len(s)); err != nil || s == "" {
		return 0, err
	}
	if held := r.buf.held; len(s) <= cap(held)-len(held) {
		r.buf.held = append(held, s...)
		return len(s), nil
	}
	return r.put([]byte(s))
}

// admit checks that n bytes may be written.
func (r *response) admit(n int) error {
	if r.hijacked {
		return http.ErrHijacked
	}
	if r.done {
		return errAnswered
	}
	r.noContinue()
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	if n == 0 {
		return nil
	}
	if !bodyAllowed(r.status) {
		return http.ErrBodyNotAllowed
	}
	if r.written += int64(n); r.length >= 0 && r.written > r.length {
		return http.ErrContentLength
	}
	return nil
}

// put takes p into the body: what fits is held back.
func (r *response) put(p []byte) (n int, err error) {
	for rest := p; len(rest) > 0; rest = p[n:] {
		held := r.buf.held
		room := cap(held) - len(held)
		switch {
		case len(rest) <= room:
			r.buf.held = append(held, rest...)
			return len(p), nil
		case len(held) == 0:
			r.commit(rest)
			return n + len(rest), r.emit(rest)
		}
		r.buf.held = append(held, rest[:room]...)
		n += room
		if err := r.pass(); err != nil {
			return n, err
		}
	}
	return n, nil
}

// pass moves what is held back on.
func (r *response) pass() error {
	held := r.buf.held
	r.commit(held)
	if len(held) == 0 {
		return nil
	}
	r.buf.held = held[:0]
	if r.req.Method == http.MethodHead {
		return nil
	}
	b := r.buf.out
	if r.chunked {
		b = appendSize(b, len(held))
	}
	b = append(b, held...)
	if r.chunked {
		b = append(b, "\r\n"...)
	}
	r.buf.out = b
	if len(b) >= outBuffer-heldBody {
		return r.send()
	}
	return nil
}

// emit writes a large piece of the body without copying it.
func (r *response) emit(p []byte) error {
	if r.req.Method == http.MethodHead {
		return nil
	}
	if r.chunked {
		r.buf.out = appendSize(r.buf.out, len(p))
	}
	head := r.buf.out
	r.buf.out = head[:0]
	var tail []byte
	if r.chunked {
		tail = lineEnd
	}
	return r.write(head, p, tail)
}

var lineEnd = []byte("\r\n")

func appendSize(b []byte, n int) []byte {
	return append(strconv.AppendInt(b, int64(n), 16), "\r\n"...)
}

// send writes what is ready.
func (r *response) send() error {
	b := r.buf.out
	if len(b) == 0 {
		return r.conn.outErr
	}
	r.buf.out = b[:0]
	return r.write(b, nil, nil)
}

// write writes to the connection. A client that takes nothing has gone.
func (r *response) write(head, body, tail []byte) error {
	err := r.conn.write(head, body, tail)
	if err != nil {
		r.x.ctx.end()
	}
	return err
}

// Flush is FlushError for callers of http.Flusher, who learn of a lost client at the next write.
func (r *response) Flush() {
	if r.FlushError() != nil {
		return
	}
}

// FlushError sends what is held back.
func (r *response) FlushError() error {
	if r.hijacked {
		return http.ErrHijacked
	}
	if r.done {
		return errAnswered
	}
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	if err := r.pass(); err != nil {
		return err
	}
	return r.send()
}

// ReadFrom writes what src has to say. If it is a file or a connection, and the
// length was announced, the system copies it.
func (r *response) ReadFrom(src io.Reader) (n int64, err error) {
	buf := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buf)
	if !r.committed { // not before it is known that there is something, and of what type
		n, err = io.CopyBuffer(writerOnly{r}, io.LimitReader(src, sniffed), buf[:])
		if err != nil || n < sniffed {
			return n, err
		}
		if err := r.FlushError(); err != nil {
			return n, err
		}
	}
	direct, ok := r.conn.net.(io.ReaderFrom)
	if !ok || r.chunked || r.length < 0 || !bodyAllowed(r.status) || r.req.Method == http.MethodHead || r.hijacked || r.done {
		more, err := io.CopyBuffer(writerOnly{r}, src, buf[:])
		return n + more, err
	}
	if err := r.FlushError(); err != nil {
		return n, err
	}
	if err := r.conn.exactly(); err != nil {
		return n, err
	}
	more, err := direct.ReadFrom(io.LimitReader(src, r.length-r.written))
	if r.written += more; err != nil {
		r.conn.outErr = err
		r.x.ctx.end()
	}
	if err == nil && r.written == r.length { // more than was announced is a fault
		var one [1]byte
		if extra, _ := io.ReadFull(src, one[:]); extra > 0 {
			r.written, err = r.written+1, http.ErrContentLength
		}
	}
	return n + more, err
}

const (
	sniffed    = 512
	copyBuffer = 32 << 10
)

var copyBuffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

// writerOnly hides ReadFrom from io.Copy.
type writerOnly struct{ io.Writer }

// Hijack hands the connection over, with what was read of it.
func (r *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if r.hijacked {
		return nil, nil, http.ErrHijacked
	}
	if r.done {
		return nil, nil, errAnswered
	}
	r.noContinue()
	if r.status != 0 {
		r.commit(nil)
		if err := r.send(); err != nil {
			return nil, nil, err
		}
	}
	c := r.conn
	c.in.unwatch()
	if err := c.net.SetDeadline(time.Time{}); err != nil {
		return nil, nil, err
	}
	c.in.released()
	if c.in.has {
		if _, err := c.br.Peek(c.br.Buffered() + 1); err != nil {
			return nil, nil, err
		}
	}
	r.hijacked = true
	c.server.forget(c)
	answerPool.Put(r.buf)
	r.buf = nil
	return c.net, bufio.NewReadWriter(c.br, bufio.NewWriterSize(c.net, outBuffer)), nil
}

// SetReadDeadline bounds reads of the body.
func (r *response) SetReadDeadline(t time.Time) error { return r.conn.in.until(t) }

// SetWriteDeadline bounds writes; the next request's have none.
func (r *response) SetWriteDeadline(t time.Time) error { return r.conn.writesUntil(t) }

// EnableFullDuplex leaves the body alone when the answer begins.
func (r *response) EnableFullDuplex() error {
	r.fullDuplex = true
	return nil
}
