package gateway

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// minCompressed is the smallest body that is compressed: below, a packet is saved by nothing.
const minCompressed = 1 << 10

// maxJitter is how many bytes are added at most to answers for known callers.
const maxJitter = 64

// encoder is what zstd and gzip have in common.
type encoder interface {
	io.WriteCloser
	Flush() error
	Reset(io.Writer)
}

// Encoders keep large tables, so that they are used again. The windows are
// small: an answer to an app is, and RFC 9659 lets clients refuse large ones.
var (
	zstdEncoders = sync.Pool{New: func() any {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true), zstd.WithEncoderLevel(zstd.SpeedFastest))
		if err != nil {
			panic(err) // the options are constants
		}
		return e
	}}
	gzipEncoders = sync.Pool{New: func() any {
		e, err := gzip.NewWriterLevel(nil, 4)
		if err != nil {
			panic(err) // the level is a constant
		}
		return e
	}}
	compressWriters = sync.Pool{New: func() any { return new(compressWriter) }}
)

// jitterKey makes the jitter of an answer a secret of this process. It depends
// on the content, so that asking again does not average it out.
var jitterKey = sync.OnceValue(func() (key [32]byte) {
	rand.Read(key[:])
	return key
})

// compressWriter is the ResponseWriter behind compressStage. It holds the header
// back until it knows whether the body is worth compressing: from its announced
// length, from minCompressed bytes of it, or from a flush.
type compressWriter struct {
	http.ResponseWriter
	x *Exchange
	r *http.Request

	status  int    // of the final answer, 0 while there is none
	decided bool   // the header is on its way
	held    []byte // body before the decision
	enc     encoder
	name    string // of enc
	out     countingWriter
	raw     int64 // bytes put into enc
}

// countingWriter counts what leaves an encoder.
type countingWriter struct {
	w http.ResponseWriter
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func (c *compressWriter) begin(x *Exchange, w http.ResponseWriter, r *http.Request) {
	*c = compressWriter{ResponseWriter: w, x: x, r: r, held: c.held[:0]}
}

// WriteHeader decides at once where the header says enough.
func (c *compressWriter) WriteHeader(status int) {
	switch {
	case c.status != 0:
		return
	case status >= 100 && status < 200 && status != http.StatusSwitchingProtocols:
		c.ResponseWriter.WriteHeader(status)
		return
	}
	c.status = status
	h := c.Header()
	if length := h["Content-Length"]; len(length) > 0 {
		if n, err := strconv.ParseInt(length[0], 10, 64); err != nil || n < minCompressed {
			c.plain()
			return
		}
	}
	may, vary := mayCompress(status, h, c.r)
	if vary {
		addVary(h, "Accept-Encoding")
	}
	if may {
		c.name = acceptedEncoding(c.r.Header["Accept-Encoding"])
	}
	if c.name == "" {
		c.plain()
	}
}

// plain sends the header, and what is held, as they are.
func (c *compressWriter) plain() {
	c.decided = true
	c.ResponseWriter.WriteHeader(c.status)
}

func (c *compressWriter) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	if !c.decided {
		if len(c.held)+len(p) < minCompressed {
			c.held = append(c.held, p...)
			return len(p), nil
		}
		if err := c.compress(p); err != nil {
			return 0, err
		}
	}
	if c.enc == nil {
		return c.ResponseWriter.Write(p)
	}
	c.raw += int64(len(p))
	return c.enc.Write(p)
}

// compress begins the compressed answer with what is held; next is what comes then.
func (c *compressWriter) compress(next []byte) error {
	h := c.Header()
	delete(h, "Content-Length")
	delete(h, "Accept-Ranges")
	h["Content-Encoding"] = []string{c.name}
	if tag := h.Get("Etag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		h["Etag"] = []string{"W/" + tag}
	}
	c.decided = true
	c.ResponseWriter.WriteHeader(c.status)
	c.out = countingWriter{w: c.ResponseWriter}
	if c.name == encodingZstd {
		c.enc = zstdEncoders.Get().(*zstd.Encoder)
	} else {
		c.enc = gzipEncoders.Get().(*gzip.Writer)
	}
	c.enc.Reset(&c.out)
	if err := c.jitter(next); err != nil {
		return err
	}
	c.raw = int64(len(c.held))
	if len(c.held) == 0 {
		return nil
	}
	_, err := c.enc.Write(c.held)
	return err
}

// jitter pads the answer to a caller who is known: in gzip with a comment in the
// header, in zstd with a frame that decoders skip (RFC 8878 §3.1.2).
func (c *compressWriter) jitter(next []byte) error {
	if c.x.Principal == nil && c.r.Header["Authorization"] == nil && c.r.Header["Cookie"] == nil {
		return nil
	}
	key := jitterKey()
	sum := sha256.New()
	for _, part := range [][]byte{key[:], c.held, next[:min(len(next), 4<<10)]} {
		sum.Write(part)
	}
	digest := sum.Sum(nil)
	n := int(digest[0]) % maxJitter
	if c.name == encodingGzip {
		c.enc.(*gzip.Writer).Comment = strings.Repeat("x", n)
		return nil
	}
	frame := make([]byte, 8+n)
	binary.LittleEndian.PutUint32(frame, 0x184D2A50)
	binary.LittleEndian.PutUint32(frame[4:], uint32(n)) // #nosec -- below maxJitter
	_, err := c.out.Write(frame)
	return err
}

// Flush is FlushError for callers of http.Flusher, who learn of a lost client at the next write.
func (c *compressWriter) Flush() {
	if err := c.FlushError(); err != nil {
		return
	}
}

// FlushError sends what there is; an answer whose length is still unknown is
// compressed from here on.
func (c *compressWriter) FlushError() error {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	if !c.decided {
		if err := c.compress(nil); err != nil {
			return err
		}
	}
	if c.enc != nil && c.raw > 0 { // before the first byte an encoder has nothing to say
		if err := c.enc.Flush(); err != nil {
			return err
		}
	}
	return http.NewResponseController(c.ResponseWriter).Flush()
}

// Hijack hands the connection over; there is nothing left to compress.
func (c *compressWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(c.ResponseWriter).Hijack()
	c.decided = c.decided || err == nil
	return conn, rw, err
}

// Unwrap lets http.ResponseController reach the connection.
func (c *compressWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// end completes the answer after the rest of the way ended with err.
func (c *compressWriter) end(err error) error {
	if c.status != 0 && !c.decided {
		// Short after all, or cut short: then the part must be seen to be one.
		c.plain()
		if len(c.held) > 0 {
			if _, werr := c.ResponseWriter.Write(c.held); werr != nil && err == nil {
				err = errClientGone
			}
		}
	}
	if c.enc == nil {
		c.abandon()
		return err
	}
	if err == nil {
		if cerr := c.enc.Close(); cerr != nil {
			err = errClientGone
		}
		c.x.encoding, c.x.uncompressed = c.name, c.raw
	}
	c.abandon()
	return err
}

// abandon gives back what was borrowed.
func (c *compressWriter) abandon() {
	switch e := c.enc.(type) {
	case *zstd.Encoder:
		e.Reset(nil)
		zstdEncoders.Put(e)
	case *gzip.Writer:
		e.Reset(nil)
		gzipEncoders.Put(e)
	}
	*c = compressWriter{held: c.held[:0]}
	compressWriters.Put(c)
}
