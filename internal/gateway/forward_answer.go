package gateway

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"landline/internal/problem"
)

// answer passes the upstream's answer on.
func (c *call) answer(res *http.Response) error {
	c.noMore1xx()
	x := c.x
	x.status = res.StatusCode
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		return c.switchProtocols(res)
	case res.StatusCode < 200:
		res.Body.Close()
		return c.problem(problem.UpstreamInvalid, "gave an invalid answer", errors.New("final status "+strconv.Itoa(res.StatusCode)))
	case res.StatusCode >= 500 && x.tries != nil && x.tries.againAfter(x, c.in, res):
		res.Body.Close()
		return errUpstream5xx
	case res.StatusCode >= 500 && x.stock5xx:
		discard(res.Body)
		return errUpstream5xx
	}
	defer res.Body.Close()
	if causeOf(c.in.Context()) != nil {
		return c.failed(c.in.Context().Err())
	}
	x.tries.answered()
	kind, first := streamKind(res), begun{}
	if kind == finite && c.in.Method != http.MethodHead {
		if first = begin(res); first.buf != nil {
			defer buffers.Put(first.buf)
		}
		if first.broken() {
			return c.cutShort(first.err) // the client has seen nothing: it gets a problem, or the answer of another try
		}
	}
	x.tries.begins()
	return c.pass(res, kind, first)
}

// pass sends the answer's header and body to the client; first is what was read
// of the body.
func (c *call) pass(res *http.Response, kind bodyKind, first begun) error {
	x, h := c.x, c.w.Header()
	copyAnswerHeader(h, res.Header)
	for key := range res.Trailer {
		if trailerAllowed(key) {
			h.Add("Trailer", key)
		}
	}
	x.answered = true
	announced := len(res.Trailer)
	early, err := c.beforeAnswer()
	if err != nil {
		return err
	}
	c.w.WriteHeader(res.StatusCode)

	if kind != finite {
		x.countdown.endless()
		if res.StatusCode < 500 {
			x.settle(good) // a stream's end may be hours away
		}
		err = c.stream(res, kind)
	} else if c.in.Method != http.MethodHead {
		err = c.copyBody(res, first)
	}
	if err != nil {
		return err
	}
	c.trailers(res, announced)
	if early && res.ContentLength >= 0 { // a chunked answer ends with the handler, so that the client would wait
		if err := http.NewResponseController(c.w).Flush(); err != nil {
			return nil // the client is gone with a whole answer on its way
		}
		c.body.recall()
		c.x.body.linger()
	}
	return nil
}

// beforeAnswer lets an answer begin while the request's body still comes: the
// server must neither eat the rest of the body, which belongs to the upstream,
// nor use the connection again, since it cannot know where the body ends.
// It reports whether that is so.
func (c *call) beforeAnswer() (early bool, err error) {
	if c.in.ProtoMajor != 1 || c.body.complete() {
		return false, nil
	}
	c.w.Header().Set("Connection", "close")
	if err := http.NewResponseController(c.w).EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return true, errClientGone
	}
	return true, nil
}

type bodyKind uint8

const (
	finite bodyKind = iota // ends within the feature's timeout
	lines                  // a stream of unknown length
	events                 // Server-Sent Events
)

// streamKind tells answers that go on for as long as both sides like.
func streamKind(res *http.Response) bodyKind {
	ct, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	switch strings.ToLower(strings.TrimSpace(ct)) {
	case "text/event-stream":
		if res.Header.Get("Content-Encoding") == "" {
			return events
		}
		return lines
	case "application/x-ndjson", "application/jsonl", "application/json-seq", "multipart/x-mixed-replace", "application/grpc", "application/grpc-web":
		return lines
	}
	if res.ContentLength < 0 && res.Header.Get("X-Accel-Buffering") == "no" {
		return lines
	}
	return finite
}

const bufferSize = 32 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// heldBack is how much of an answer of known length is read before its header
// goes to the client: what the server would hold in its buffers anyway.
const heldBack = 4 << 10

// begun is the beginning of a body.
type begun struct {
	buf *[bufferSize]byte // nil for an answer without a body
	n   int               // bytes read
	err error             // of the last read
}

// begin reads the first bytes of an answer, and all of one that is short: an
// answer that breaks by then becomes a problem instead of a cut connection. Of an
// answer of unknown length, whose pieces are sent as they come, it is the first piece.
func begin(res *http.Response) begun {
	if res.Body == http.NoBody {
		return begun{err: io.EOF}
	}
	b := begun{buf: buffers.Get().(*[bufferSize]byte)}
	for b.err == nil && (b.n == 0 || b.n < heldBack && res.ContentLength >= 0) {
		var n int
		n, b.err = res.Body.Read(b.buf[b.n:])
		b.n += n
	}
	return b
}

// broken reports whether the body ended otherwise than it should.
func (b *begun) broken() bool {
	return b.err != nil && b.err != io.EOF //nolint:errorlint // io.Reader's
}

// copyBody copies an answer that ends, of which first was read. The feature's
// timeout runs while we wait for the upstream, not while the client is slow.
func (c *call) copyBody(res *http.Response, first begun) error {
	out := c.pieces(res.ContentLength < 0)
	for n, err := first.n, first.err; ; n, err = res.Body.Read(first.buf[:]) {
		switch {
		case err == io.EOF: // nothing is left to wait for but the client
			c.x.countdown.forget()
			if n > 0 && out.write(first.buf[:n], true) != nil {
				return errClientGone
			}
			return nil
		case n > 0:
			c.x.countdown.pause()
			if werr := out.write(first.buf[:n], err != nil); werr != nil {
				return errClientGone
			}
			c.x.countdown.resume()
		}
		if err != nil {
			return c.cutShort(err)
		}
	}
}

// pieces writes an answer to the client piece by piece.
type pieces struct {
	w        http.ResponseWriter
	control  *http.ResponseController
	flush    bool // each piece at once
	deadline writeDeadline
}

func (c *call) pieces(flush bool) *pieces {
	control := http.NewResponseController(c.w)
	return &pieces{w: c.w, control: control, flush: flush, deadline: writeDeadline{control: control, pause: c.x.write, http2: c.in.ProtoMajor == 2}}
}

// write sends p; the last piece is sent with the end of the answer.
func (o *pieces) write(p []byte, last bool) error {
	if err := o.deadline.before(len(p)); err != nil {
		return err
	}
	if _, err := o.w.Write(p); err != nil {
		return err
	}
	if o.flush && !last {
		if err := o.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
	}
	return o.deadline.after()
}

// cutShort says why an answer that has begun cannot be completed.
func (c *call) cutShort(err error) error {
	ctx := c.in.Context()
	if cause := causeOf(ctx); cause != nil {
		if errors.Is(cause, errTimeout) {
			return c.problem(problem.UpstreamTimeout, "did not finish its answer in time", err)
		}
		return errClientGone
	}
	return c.problem(problem.UpstreamInvalid, "cut its answer short", err)
}

// stream copies an answer without end, each piece at once. When the gateway
// drains, a stream of events ends between two events with a time to reconnect.
func (c *call) stream(res *http.Response, kind bodyKind) error {
	out := c.pieces(true)
	if err := out.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return errClientGone
	}
	if c.in.Method == http.MethodHead {
		return nil
	}
	s := c.gateway.streams.add(func() { res.Body.Close() }, kind == events)
	defer c.gateway.streams.remove(s)
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	boundary := true
	for {
		n, err := res.Body.Read(buf[:])
		if n > 0 {
			if out.write(buf[:n], false) != nil {
				return errClientGone
			}
			boundary = eventBoundary(buf[:n])
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil && s.ended.Load() && kind == events:
			if boundary {
				if out.write([]byte("retry: "+strconv.Itoa(reconnectMillis())+"\n\n"), true) != nil {
					return errClientGone
				}
			}
			return nil
		case err != nil:
			return c.cutShort(err)
		}
	}
}

// eventBoundary reports whether b ends with the empty line that ends an event.
func eventBoundary(b []byte) bool {
	return bytes.HasSuffix(b, []byte("\n\n")) || bytes.HasSuffix(b, []byte("\r\n\r\n")) || bytes.HasSuffix(b, []byte("\r\r"))
}

// trailers passes the fields after the body on.
func (c *call) trailers(res *http.Response, announced int) {
	if len(res.Trailer) == 0 {
		return
	}
	if announced == 0 || len(res.Trailer) > announced {
		// A flush makes the answer chunked, which trailers need.
		if err := http.NewResponseController(c.w).Flush(); err != nil {
			return // the client is gone, or the writer has no connection
		}
	}
	h := c.w.Header()
	for key, values := range res.Trailer {
		if !trailerAllowed(key) {
			continue
		}
		if len(res.Trailer) == announced {
			h[key] = values
		} else {
			h[http.TrailerPrefix+key] = values
		}
	}
}

// trailerAllowed keeps framing and what only the gateway may say out of trailers.
func trailerAllowed(key string) bool {
	return !hopByHop[key] && key != "Content-Length" && !strings.HasPrefix(key, "Landline-")
}
