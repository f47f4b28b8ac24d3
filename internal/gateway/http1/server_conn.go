package http1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// States of a connection, for those who look at it from outside.
const (
	stateNew    uint32 = iota // has not sent a request
	stateIdle                 // waits for the next one
	stateActive               // a request was read
	stateClosed               // by Shutdown; no request may begin
)

// serverConn is a connection of a client. One goroutine at a time serves it.
type serverConn struct {
	server *Server
	net    net.Conn
	remote string
	born   time.Time
	state  atomic.Uint32
	idle   atomic.Int64 // since when it waits for a request, in ns

	in    input
	br    *bufio.Reader // over in; nil while it rests
	since time.Time     // waits since
	due   time.Time     // waits until; zero = for ever
	post  bool          // the last request was a POST

	watcher *time.Timer // calls watch; made when first needed

	outAt  moment // deadline of writes, under outMu
	outMu  sync.Mutex
	outErr error // why no more can be written
	pieces [3][]byte
	unsent net.Buffers // of pieces
}

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readBuffer) }}

// begin serves a new connection.
func (c *serverConn) begin() {
	c.since = c.born
	if d := c.server.headerTimeout(); d > 0 {
		c.due = c.born.Add(d)
	}
	c.run()
}

// run serves one request after another, until the connection ends or rests.
func (c *serverConn) run() {
	c.br = readers.Get().(*bufio.Reader)
	c.br.Reset(&c.in)
	for {
		switch c.ready() {
		case nil:
		case errRest:
			c.release()
			go c.rest()
			return
		default:
			c.close()
			return
		}
		if !c.serve() {
			return
		}
	}
}

// rest waits for a byte in a goroutine of its own, whose stack is small.
func (c *serverConn) rest() {
	if c.in.until(c.due) != nil || c.in.await() != nil {
		c.close()
		return
	}
	c.run()
}

func (c *serverConn) release() {
	if c.br != nil {
		c.br.Reset(nil)
		readers.Put(c.br)
		c.br = nil
	}
}

func (c *serverConn) close() {
	c.net.Close()
	c.release()
	c.server.forget(c)
}

var errRest = errors.New("http1: the connection rests")

// ready waits for the first byte of a request.
func (c *serverConn) ready() error {
	if c.br.Buffered() > 0 {
		return nil
	}
	until := c.since.Add(c.server.rest)
	if !c.due.IsZero() && c.due.Before(until) {
		until = c.due
	}
	if err := c.in.until(until); err != nil {
		return err
	}
	_, err := c.br.Peek(1)
	if err != nil && isTimeout(err) && !until.Equal(c.due) {
		return errRest
	}
	return err
}

// serve reads a request, has it handled and answers it. It reports whether the
// connection waits for another one.
func (c *serverConn) serve() bool {
	x := &incoming{conn: c}
	x.ctx.x, x.ctx.began = x, time.Now()
	if err := c.readRequest(x); err != nil {
		return c.refuse(err)
	}
	from := c.state.Load()
	if from == stateClosed || !c.state.CompareAndSwap(from, stateActive) {
		c.close() // Shutdown came first
		return false
	}
	c.in.handles(x)
	if !x.expects() {
		x.res.Header().Set("Connection", "close")
		x.res.WriteHeader(http.StatusExpectationFailed)
	} else if !c.handle(x) {
		return false
	}
	x.ctx.end()
	again := x.res.finish()
	c.in.unwatch()
	if !again {
		c.leave(x)
		return false
	}
	if x.res.req.MultipartForm != nil {
		if err := x.res.req.MultipartForm.RemoveAll(); err != nil {
			c.server.logf("http1: files of a form: %v", err)
		}
	}
	c.post = x.res.req.Method == http.MethodPost
	c.since = time.Now()
	c.idle.Store(c.since.UnixNano())
	c.due = time.Time{}
	if d := c.server.idleTimeout(); d > 0 {
		c.due = c.since.Add(d)
	}
	if err := c.writesUntil(time.Time{}); err != nil || !c.state.CompareAndSwap(stateActive, stateIdle) || c.server.closing.Load() && c.state.CompareAndSwap(stateIdle, stateClosed) {
		c.close()
		return false
	}
	return true
}

// handle calls the handler and reports whether the answer can be finished.
func (c *serverConn) handle(x *incoming) (finished bool) {
	defer func() {
		if finished {
			return
		}
		if cause := recover(); cause != nil && cause != http.ErrAbortHandler { //nolint:errorlint // as net/http has it
			c.server.logf("http1: panic serving %v: %v\n%s", c.remote, cause, debug.Stack())
		}
		x.ctx.end()
		if !x.res.hijacked {
			x.res.abort()
			c.in.unwatch()
			c.close()
		}
	}()
	c.server.std.Handler.ServeHTTP(&x.res, x.res.req)
	if x.res.hijacked {
		x.ctx.end()
		return false
	}
	return true
}

// readRequest reads the header of a request, of which the first byte is there.
func (c *serverConn) readRequest(x *incoming) error {
	if c.post { // RFC 9112 §2.2: some end a body with a CRLF that is not part of it
		c.post = false
		for n := 0; n < 4; n++ {
			b, err := c.br.Peek(1)
			if err != nil {
				return err
			}
			if b[0] != '\r' && b[0] != '\n' {
				break
			}
			if _, err := c.br.Discard(1); err != nil {
				return err
			}
			if err := c.slowly(x); err != nil {
				return err
			}
		}
	}
	most := c.server.maxHeader()
	seen, err := c.br.Peek(c.br.Buffered())
	if err != nil {
		return err
	}
	if n := blockEnd(seen); n > 0 && c.state.Load() != stateNew {
		if err := x.parse(seen[:n], c.br); err != nil {
			return err
		}
		_, err := c.br.Discard(n)
		return err
	}
	if err := c.slowly(x); err != nil {
		return err
	}
	if c.state.Load() == stateNew {
		http2, err := c.preface()
		if http2 {
			err = errHTTP2
		}
		if err != nil {
			return err
		}
	}
	block, _, err := readBlock(c.br, nil, most)
	switch {
	case errors.Is(err, errHeaderTooLarge):
		return errTooLarge
	case err != nil:
		return err
	}
	return x.parse(block, c.br)
}

// slowly bounds how long the rest of a header may take.
func (c *serverConn) slowly(x *incoming) error {
	if c.state.Load() == stateNew {
		return c.in.until(c.due)
	}
	until := time.Time{}
	if d := c.server.headerTimeout(); d > 0 {
		until = x.ctx.began.Add(d)
	}
	return c.in.until(until)
}

var (
	preface  = []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") // RFC 9113 §3.4
	errHTTP2 = errors.New("http1: the connection speaks HTTP/2")
)

// preface reports whether the connection begins with that of HTTP/2.
func (c *serverConn) preface() (bool, error) {
	for n := 1; n <= len(preface); n++ {
		n = max(n, min(c.br.Buffered(), len(preface)))
		seen, err := c.br.Peek(n)
		if !bytes.HasPrefix(preface, seen) {
			return false, nil
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// replayed is a connection of which something was read already.
type replayed struct {
	net.Conn
	first []byte
}

func (r *replayed) Read(p []byte) (int, error) {
	if len(r.first) > 0 {
		n := copy(p, r.first)
		r.first = r.first[n:]
		return n, nil
	}
	return r.Conn.Read(p)
}

// handOver gives the connection to the server of HTTP/2.
func (c *serverConn) handOver() {
	seen, err := c.br.Peek(c.br.Buffered())
	if err == nil {
		err = c.net.SetReadDeadline(time.Time{})
	}
	if err != nil {
		c.close()
		return
	}
	first := bytes.Clone(seen)
	c.release()
	c.server.forget(c)
	c.server.h2.give(&replayed{Conn: c.net, first: first})
}

// refuse ends a connection on which something came that is not a request. It
// answers in the words of net/http.
func (c *serverConn) refuse(err error) bool {
	var r *refusal
	switch {
	case errors.Is(err, errHTTP2):
		c.handOver()
		return false
	case errors.As(err, &r):
	case errors.Is(err, io.ErrUnexpectedEOF): // of a client that still listens
		r = errMalformed
	default: // the client has gone, or is too slow
		c.close()
		return false
	}
	const header = "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
	line := fmt.Sprintf("%d %s", r.status, http.StatusText(r.status))
	text := line
	switch {
	case r == errTransfer:
		text = r.why
	case r.why != "":
		line += ": " + r.why
		text = line
	}
	if c.write([]byte("HTTP/1.1 "+line+header+text), nil, nil) == nil {
		c.linger()
	}
	c.close()
	return false
}

// lingerTime is how long the rest of what a client sends is taken in when its
// connection ends: to close it under the client would reset it, and the answer
// be lost (RFC 9112 §9.6).
const lingerTime = 500 * time.Millisecond

func (c *serverConn) linger() {
	half, ok := c.net.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.in.until(time.Now().Add(lingerTime)) != nil {
		return
	}
	if _, err := io.Copy(io.Discard, &c.in); err != nil {
		return // it did not end in time
	}
}

// leave ends the connection after an answer.
func (c *serverConn) leave(x *incoming) {
	if c.outErr == nil && (c.br.Buffered() > 0 || !x.body.whole.Load()) {
		c.linger()
	}
	c.close()
}

// watchSoon has the client watched if its request takes long. It is called
// with the lock of a context that has not ended.
func (c *serverConn) watchSoon() {
	if c.watcher != nil {
		c.watcher.Reset(watchAfter)
		return
	}
	c.watcher = time.AfterFunc(watchAfter, func() {
		c.in.mu.Lock()
		x := c.in.current
		c.in.mu.Unlock()
		c.in.watch(x)
	})
}

// writesUntil sets the deadline of writes.
func (c *serverConn) writesUntil(t time.Time) error {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	c.outAt.wanted = t
	if c.outAt.due() {
		return c.armWrites()
	}
	return nil
}

// exactly tells the connection the deadline of writes that others make.
func (c *serverConn) exactly() error {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	return c.armWrites()
}

func (c *serverConn) armWrites() error {
	c.outAt.armed = c.outAt.wanted
	return c.net.SetWriteDeadline(c.outAt.wanted)
}

// write writes the pieces with one system call, unless the client is slow, until the deadline.
func (c *serverConn) write(head, body, tail []byte) error {
	if c.outErr != nil {
		return c.outErr
	}
	c.pieces = [3][]byte{head, body, tail}
	c.unsent = c.pieces[:]
	if len(body)+len(tail) == 0 {
		c.unsent = c.pieces[:1]
	}
	for {
		var err error
		if len(c.unsent) == 1 {
			var n int
			n, err = c.net.Write(c.unsent[0])
			c.unsent[0] = c.unsent[0][n:]
		} else {
			_, err = c.unsent.WriteTo(c.net)
		}
		if err != nil && isTimeout(err) && c.early() {
			continue
		}
		c.pieces, c.unsent = [3][]byte{}, nil
		c.outErr = err
		return err
	}
}

// early moves a deadline that has ended a write which had more time.
func (c *serverConn) early() bool {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	return !c.outAt.passed() && c.armWrites() == nil
}
