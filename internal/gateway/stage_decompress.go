package gateway

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"

	"landline/internal/problem"
)

// Guards against bodies that decode to far more than they are.
const (
	maxZstdWindow = 8 << 20 // RFC 9659
	maxRatio      = 200     // decoded bytes per byte, beyond freeDecoded
	freeDecoded   = 1 << 20
)

// decompressStage decodes request bodies with Content-Encoding gzip or zstd, so
// that services and modules read them as if they had come plain. limit bounds
// the decoded size; a body that grows more than maxRatio times is refused before.
func decompressStage(limit int64) Stage {
	return func(next Handler) Handler {
		return func(x *Exchange, w http.ResponseWriter, r *http.Request) error {
			encoding := strings.ToLower(strings.TrimSpace(strings.Join(r.Header["Content-Encoding"], ",")))
			switch encoding {
			case "", "identity":
				return next(x, w, r)
			case encodingGzip, "x-gzip", encodingZstd:
			default:
				return problem.New(problem.MediaTypeUnsupported, "bodies can be plain, or encoded with gzip or zstd alone").WithHeader("Accept-Encoding", "zstd, gzip")
			}
			if x.body == nil {
				return next(x, w, r)
			}
			d := &decodedBody{encoded: countedReader{r: r.Body}, zstd: encoding == encodingZstd, limit: limit, client: x.body}
			defer d.end()
			again := *r
			again.Header = shallow(r.Header)
			delete(again.Header, "Content-Encoding")
			delete(again.Header, "Content-Length")
			again.ContentLength, again.Body = -1, d
			return next(x, w, &again)
		}
	}
}

type countedReader struct {
	r io.Reader
	n int64
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

var zstdDecoders = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow))
	if err != nil {
		panic(err) // the options are constants
	}
	return d
}}

// decodedBody is a request body while it is decoded. Transports may read it on
// a goroutine of their own; after end it gives nothing more.
type decodedBody struct {
	mu      sync.Mutex
	encoded countedReader
	zstd    bool
	limit   int64
	client  *requestBody // told of faults, so that they are answered as the client's

	decoder io.Reader
	decoded int64
	err     error
}

// Read decodes.
func (d *decodedBody) Read(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil || len(p) == 0 {
		return 0, d.err
	}
	if d.decoder == nil {
		if err := d.open(); err != nil {
			return 0, d.fail(err)
		}
	}
	n, err := d.decoder.Read(p)
	if d.decoded += int64(n); d.decoded > d.limit {
		return max(n-int(d.decoded-d.limit), 0), d.fail(&http.MaxBytesError{Limit: d.limit})
	}
	if d.decoded > freeDecoded && d.decoded > maxRatio*d.encoded.n {
		return 0, d.fail(problem.New(problem.BodyTooLarge, "the request body grows more than %d times when it is decoded", maxRatio))
	}
	if err != nil {
		return n, d.fail(err)
	}
	return n, nil
}

// open begins to decode; it reads the first bytes.
func (d *decodedBody) open() error {
	if !d.zstd {
		gz, err := gzip.NewReader(&d.encoded)
		d.decoder = gz
		if err != nil {
			d.decoder = nil
		}
		return err
	}
	z := zstdDecoders.Get().(*zstd.Decoder)
	d.decoder = z
	return z.Reset(&d.encoded)
}

// fail notes how the body ended. What the client sent wrong becomes its fault;
// what its connection did is known already.
func (d *decodedBody) fail(err error) error {
	d.err = err
	switch fault := d.client.fault(); {
	case err == io.EOF, fault != nil:
		return err
	case errors.Is(err, errRecalled):
		return err
	}
	var p *problem.Error
	var tooLarge *http.MaxBytesError
	if !errors.As(err, &p) && !errors.As(err, &tooLarge) {
		d.err = problem.New(problem.InvalidRequest, "the request body is not what its Content-Encoding says").Wrap(fmt.Errorf("decode: %w", err))
	}
	d.client.blame(d.err)
	return d.err
}

// Close does nothing: end does.
func (d *decodedBody) Close() error { return nil }

func (d *decodedBody) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = errRecalled
	}
	if z, ok := d.decoder.(*zstd.Decoder); ok {
		if err := z.Reset(nil); err == nil {
			zstdDecoders.Put(z)
		}
	}
	d.decoder = nil
}

// blame makes err what the client's body failed with.
func (b *requestBody) blame(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
}
