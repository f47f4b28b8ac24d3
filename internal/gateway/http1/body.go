package http1

import (
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
)

type framing uint8

const (
	sized framing = iota
	chunked
	untilClose
)

// body is the body of an answer. Close may be called while Read is at work.
type body struct {
	x      *exchange
	how    framing
	left   int64     // of a sized one
	chunks io.Reader // of a chunked one
	err    error     // what Read says from now on
}

func (b *body) begin(x *exchange, how framing, length int64) {
	b.x, b.how, b.left = x, how, length
	if how == chunked {
		b.chunks = httputil.NewChunkedReader(x.buf.in)
	}
}

// Read reads from the body. The last bytes come together with io.EOF where
// their number is known.
func (b *body) Read(p []byte) (n int, err error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case len(p) == 0:
		return 0, nil
	}
	switch b.how {
	case sized:
		if int64(len(p)) > b.left {
			p = p[:b.left]
		}
		n, err = b.x.buf.in.Read(p)
		b.left -= int64(n)
		switch {
		case b.left == 0:
			err = io.EOF
		case errors.Is(err, io.EOF):
			err = io.ErrUnexpectedEOF
		}
	case chunked:
		n, err = b.chunks.Read(p)
		if errors.Is(err, io.EOF) {
			err = b.trailers()
		}
	default:
		n, err = b.x.buf.in.Read(p)
	}
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		b.x.finish()
	default:
		b.x.close(err)
		b.x.stop()
	}
	b.err = err
	return n, err
}

// trailers reads what is behind the last chunk: fields, or the empty line alone.
func (b *body) trailers() error {
	in := b.x.buf.in
	start, err := in.Peek(2)
	if err != nil {
		return io.ErrUnexpectedEOF
	}
	if start[0] == '\r' && start[1] == '\n' {
		if _, err := in.Discard(2); err != nil {
			return err
		}
		return io.EOF
	}
	if start[0] == '\n' { // no line of a chunked body may end so; taken for a first line, it would hide the end
		return fault("the last chunk is followed by a bare LF")
	}
	block, _, err := readBlock(in, nil, b.x.c.host.t.config.Header)
	if err != nil {
		return err
	}
	fields, err := parseFields(string(block))
	if err != nil {
		return err
	}
	res := &b.x.response
	for key, values := range fields {
		if !trailerName(key) {
			return fault("the answer has a trailer that cannot be one")
		}
		if res.Trailer == nil {
			res.Trailer = http.Header{}
		}
		res.Trailer[key] = values
	}
	return io.EOF
}

// errClosed is what a body says that was closed.
var errClosed = errors.New("http1: read after close")

// Close ends the exchange; unless the body was read to its end, the connection with it.
func (b *body) Close() error {
	b.x.leave()
	return nil
}
