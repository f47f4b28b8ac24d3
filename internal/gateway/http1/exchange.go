package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
)

const (
	readBuffer = 4 << 10
	keptHead   = 16 << 10 // a larger buffer for headers is not kept

	// smallBody is sent together with its header, by the goroutine that asks. It
	// may wait for the client as long as nothing of the request has been sent.
	smallBody = 4 << 10
)

// buffers are what a connection needs while it is used.
type buffers struct {
	in   *bufio.Reader
	head []byte // the request's header, then that of the answer if it is long
}

var spare = sync.Pool{New: func() any {
	return &buffers{in: bufio.NewReaderSize(nil, readBuffer), head: make([]byte, 0, 1<<10)}
}}

// exchange is one request and its answer on a connection.
type exchange struct {
	c   *conn
	buf *buffers

	mu      sync.Mutex
	over    bool  // the connection was closed, or given back
	cause   error // why it was closed, if that was our doing
	sending bool  // the upload is under way
	read    bool  // the answer was read to its end; the connection is given back when the upload is over

	stop func() bool // watching the context
	once bool        // the connection ends with this exchange

	response http.Response
	body     body
}

// send sends r on c, which is the exchange's from here on, and reads the header
// of the answer. errStale asks for another connection.
func (c *conn) send(ctx context.Context, r *Request, hooks Hooks) (*http.Response, error) {
	x := &exchange{c: c, buf: spare.Get().(*buffers)}
	x.buf.in.Reset(c)
	x.stop = afterFunc(ctx, x.abort)
	res, err := x.run(r, hooks)
	if err == nil {
		return res, nil
	}
	x.close(nil)
	x.stop()
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	x.mu.Lock()
	cause := x.cause
	x.mu.Unlock()
	if cause != nil {
		return nil, cause
	}
	return nil, err
}

// afterFunc is context.AfterFunc, without a context of its own where ctx can
// do it itself.
func afterFunc(ctx context.Context, f func()) (stop func() bool) {
	if own, ok := ctx.(interface{ AfterFunc(f func()) func() bool }); ok {
		return own.AfterFunc(f)
	}
	return context.AfterFunc(ctx, f)
}

func (x *exchange) run(r *Request, hooks Hooks) (*http.Response, error) {
	upload, err := x.start(r, hooks)
	if err != nil {
		return nil, err
	}
	defer upload.refuse() // what has not begun by the time of the answer is not wanted
	for n := 0; ; n++ {
		h, err := x.readHead(r)
		if err != nil {
			if n == 0 {
				err = x.stale(r, err)
			}
			return nil, err
		}
		switch {
		case h.status >= 200:
			return x.answer(h), nil
		case h.status == http.StatusSwitchingProtocols:
			return nil, fault("the answer switches protocols, which nobody asked for")
		case n >= MaxInformational:
			return nil, fault("more than %d informational answers", MaxInformational)
		case h.status == http.StatusContinue:
			upload.proceed()
		}
		if err := hooks.Informational(h.status, h.header); err != nil {
			return nil, err
		}
	}
}

// stale is errStale instead of err, for which no header came, if the request may
// be sent once more: nothing of it was written, or it may be executed twice.
func (x *exchange) stale(r *Request, err error) error {
	if !x.c.reused || errors.Is(err, errStale) {
		return err
	}
	var write *writeError
	switch unread := x.buf.in.Buffered() == 0 && !errors.Is(err, io.ErrUnexpectedEOF) && len(x.buf.head) == 0; {
	case errors.As(err, &write):
		if write.sent == 0 && r.Body == nil {
			return errStale
		}
	case unread && r.replayable():
		return errStale
	}
	return err
}

// readHead reads one header; the request's own is not needed any more.
func (x *exchange) readHead(r *Request) (head, error) {
	block, grown, err := readBlock(x.buf.in, x.buf.head[:0], x.c.host.t.config.Header)
	x.buf.head = grown
	if err != nil {
		return head{}, err
	}
	return parseHead(block, r.Method)
}

// start sends the request as far as that needs no second goroutine. On a
// connection that was used before, a short request is left to be written by the
// first read, with the wait for the answer.
func (x *exchange) start(r *Request, hooks Hooks) (*upload, error) {
	x.once = x.c.host.t.config.IdleConnections == 0
	if r.Body != nil && (r.ContentLength < 0 || r.ContentLength > smallBody || hasToken(r.Header["Expect"], "100-continue")) {
		if x.c.reused && !x.c.alive() {
			return nil, errStale
		}
		hooks.Sending()
		return x.upload(r)
	}
	length := int64(0)
	if r.Body != nil {
		length = r.ContentLength
	}
	b, err := r.appendHead(x.buf.head[:0], length, x.once)
	if err != nil {
		return nil, err
	}
	if r.Body != nil {
		if b, err = appendBody(b, r.Body, int(length)); err != nil {
			return nil, err
		}
	}
	x.buf.head = b[:0]
	if x.c.reused {
		x.c.turn.out, x.c.turn.hooks = b, hooks
		return nil, nil
	}
	hooks.Sending()
	if _, err := x.c.net.Write(b); err != nil {
		return nil, fmt.Errorf("http1: writing the request: %w", err)
	}
	return nil, nil
}

// appendBody appends a body of a known length, and sees to it that it is that long.
func appendBody(b []byte, body io.Reader, length int) ([]byte, error) {
	began := len(b)
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := body.Read(b[len(b):min(cap(b), began+length+1)])
		b = b[:len(b)+n]
		switch have := len(b) - began; {
		case have > length:
			return b, errBodyTooLong
		case errors.Is(err, io.EOF) && have == length:
			return b, nil
		case errors.Is(err, io.EOF):
			return b, errBodyTooShort
		case err != nil:
			return b, err
		}
	}
}

var (
	errBodyTooLong  = errors.New("http1: the body of the request is longer than its Content-Length")
	errBodyTooShort = errors.New("http1: the body of the request is shorter than its Content-Length")
)

// answer makes the answer of a final header.
func (x *exchange) answer(h head) *http.Response {
	if h.close {
		x.last()
	}
	res := &x.response
	*res = http.Response{
		Status: h.reason, StatusCode: h.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: h.minor,
		Header: h.header, Trailer: h.trailer, ContentLength: h.length, Close: h.close,
	}
	if h.minor == 0 {
		res.Proto = "HTTP/1.0"
	}
	switch {
	case h.bodiless, h.length == 0:
		res.Body = http.NoBody
		x.finish()
		return res
	case h.chunked:
		res.TransferEncoding = chunkedCoding
		x.body.begin(x, chunked, 0)
	case h.length > 0:
		x.body.begin(x, sized, h.length)
	default:
		x.last()
		x.body.begin(x, untilClose, 0)
	}
	res.Body = &x.body
	return res
}

var chunkedCoding = []string{"chunked"}

// last makes the exchange the last one on its connection.
func (x *exchange) last() {
	x.mu.Lock()
	x.once = true
	x.mu.Unlock()
}

// finish gives the connection back after a whole answer, or leaves that to the
// upload if that is still under way. Bytes behind the answer would be taken for
// the next one.
func (x *exchange) finish() {
	x.mu.Lock()
	if x.over {
		x.mu.Unlock()
		return
	}
	if x.once || x.buf.in.Buffered() > 0 {
		x.mu.Unlock()
		x.close(nil)
		x.stop()
		return
	}
	if x.sending {
		x.read = true
		x.mu.Unlock()
		return // the context still ends an upload that nobody takes
	}
	x.over = true
	x.mu.Unlock()
	x.giveBack()
}

// giveBack must be called by the one who set x.over, with nobody reading or writing.
func (x *exchange) giveBack() {
	c, b := x.c, x.buf
	x.stop()
	b.in.Reset(nil)
	if cap(b.head) > keptHead {
		b.head = make([]byte, 0, 1<<10)
	}
	spare.Put(b)
	c.release()
}

// abort is close for a context that has ended.
func (x *exchange) abort() { x.close(nil) }

// leave is close for one who wants no more of the answer. If there is no more,
// the upload may still go on.
func (x *exchange) leave() {
	x.mu.Lock()
	read := x.read
	x.mu.Unlock()
	if !read {
		x.close(errClosed)
		x.stop()
	}
}

// close ends the connection, unless it was given back. Buffers are left to the
// garbage collector: somebody may still be reading into them.
func (x *exchange) close(cause error) {
	x.mu.Lock()
	if x.over {
		x.mu.Unlock()
		return
	}
	x.over, x.cause = true, cause
	x.mu.Unlock()
	x.c.close()
}

// uploaded notes the end of an upload.
func (x *exchange) uploaded(err error) {
	if err != nil {
		x.close(err)
		return
	}
	x.mu.Lock()
	x.sending = false
	both := x.read && !x.over
	free := both && !x.once
	x.over = x.over || free
	x.mu.Unlock()
	switch {
	case free:
		x.giveBack()
	case both:
		x.close(nil)
		x.stop()
	}
}
