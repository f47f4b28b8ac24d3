package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
)

// unreadBody is how much of a body that nobody has read is taken in, so that the
// connection can be used again. It is net/http's bound.
const unreadBody = 256 << 10

// maxTrailers bounds the fields behind a chunked body, as net/http's buffer does.
const maxTrailers = 4 << 10

// requestBody is the body of a request. It may be read on another goroutine
// than its handler's.
type requestBody struct {
	x     *incoming
	whole atomic.Bool // read to its end; known without the lock, which a read holds for as long as it waits
	waits atomic.Bool // the client waits for 100 Continue before it sends it (RFC 9110 §10.1.1)

	mu     sync.Mutex
	in     *bufio.Reader
	left   int64     // of one with a length
	chunks io.Reader // of one in chunks
	err    error     // what Read says from now on
}

// begin makes it a body of so many bytes, -1 = in chunks.
func (b *requestBody) begin(x *incoming, in *bufio.Reader, length int64) {
	b.x, b.in, b.left = x, in, length
	if length < 0 {
		b.chunks = httputil.NewChunkedReader(in)
	}
}

// Read reads from the client. The last bytes of a body with a length come
// together with io.EOF. Once the handler has returned it fails with
// http.ErrBodyReadAfterClose.
func (b *requestBody) Read(p []byte) (int, error) {
	if b.waits.Load() {
		if err := b.x.res.proceed(); err != nil {
			return 0, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.read(p)
}

func (b *requestBody) read(p []byte) (n int, err error) {
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	if b.chunks != nil {
		if n, err = b.chunks.Read(p); errors.Is(err, io.EOF) {
			err = b.trailers()
		}
	} else {
		n, err = b.in.Read(p[:min(int64(len(p)), b.left)])
		switch b.left -= int64(n); {
		case b.left == 0:
			err = io.EOF
		case errors.Is(err, io.EOF):
			err = io.ErrUnexpectedEOF
		}
	}
	if b.err = err; err == io.EOF { //nolint:errorlint // io.Reader's
		b.whole.Store(true)
		b.x.ctx.whole()
	}
	return n, err
}

// trailers reads what is behind the last chunk: fields, or the empty line alone.
func (b *requestBody) trailers() error {
	start, err := b.in.Peek(2)
	switch {
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	case err != nil:
		return err
	case start[0] == '\r' && start[1] == '\n':
		if _, err := b.in.Discard(2); err != nil {
			return err
		}
		return io.EOF
	case bytes.IndexByte(start, '\n') == 0: // taken for a first line, it would hide the end
		return errBareLF
	}
	block, _, err := readBlock(b.in, nil, maxTrailers)
	if err != nil {
		return err
	}
	if bytes.Count(block, lineEnd) != bytes.Count(block, lineEnd[1:]) {
		return errBareLF
	}
	fields, err := parseFields(string(block))
	if err != nil {
		return err
	}
	req := b.x.res.req
	for key, values := range fields {
		if !trailerName(key) {
			return errTrailer
		}
		if req.Trailer == nil {
			req.Trailer = http.Header{}
		}
		req.Trailer[key] = values
	}
	return io.EOF
}

var (
	errBareLF  = errors.New("http1: a bare LF behind the last chunk")
	errTrailer = errors.New("http1: the request has a trailer that cannot be one")
)

// Close ends reading. What was not read by then is the server's.
func (b *requestBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = http.ErrBodyReadAfterClose
	}
	return nil
}

// drain reads what is left, if that is not too much, and reports whether the
// end was reached.
func (b *requestBody) drain() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if closed := b.err; errors.Is(closed, http.ErrBodyReadAfterClose) {
		b.err = nil
		defer func() { b.err = closed }()
	}
	if b.err != nil || b.left >= unreadBody {
		return b.whole.Load()
	}
	var scrap [4 << 10]byte
	for taken := 0; taken <= unreadBody && b.err == nil; {
		n, err := b.read(scrap[:])
		if taken += n; err != nil {
			break
		}
	}
	return b.whole.Load()
}
