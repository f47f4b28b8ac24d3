package gateway

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"net/http"
	"strings"

	"landline/internal/gateway/spool"
	"landline/internal/problem"
)

// maxInMemory bounds a keyed body that is held in memory whole.
const maxInMemory = 64 << 20

// mostRequest is the largest body that may carry a key.
func (k *keeper) mostRequest() int64 {
	if k.config.MaxRequest > 0 {
		return int64(k.config.MaxRequest)
	}
	return int64(k.rt.Policy.MaxBody)
}

// spoolBody takes the body in, so that it can be compared before anything is
// executed, and returns it with the request's fingerprint: a body that does not
// come whole is never executed in part.
func (k *keeper) spoolBody(x *Exchange, r *http.Request) (*spool.Body, [sha256.Size]byte, error) {
	var print [sha256.Size]byte
	h := newFingerprint(r)
	in, said := io.Reader(r.Body), r.ContentLength
	if r.Body == nil || r.Body == http.NoBody || said == 0 {
		in, said = http.NoBody, 0
	}
	body, err := k.o.Spool.Read(in, said, int64(k.config.Memory), k.mostRequest(), h)
	switch {
	case err == nil:
		h.Sum(print[:0])
		return body, print, nil
	case errors.Is(err, spool.ErrTooLarge):
		return nil, print, k.tooLarge()
	case errors.Is(err, spool.ErrFull):
		return nil, print, problem.New(problem.Overloaded, "too many large requests with an Idempotency-Key are under way; nothing was executed").Wrap(err)
	case errors.Is(err, spool.ErrDisk):
		return nil, print, unavailable("nothing was executed", err)
	case x.body != nil && x.body.fault() != nil:
		return nil, print, x.body.fault()
	}
	return nil, print, errClientGone // it ended before it was complete
}

// done gives a body's file back.
func (k *keeper) done(body *spool.Body) {
	if err := body.Close(); err != nil {
		k.o.Log.Warn("the file of a request body could not be closed", "error", err)
	}
}

func (k *keeper) tooLarge() error {
	return problem.New(problem.BodyTooLarge, "a request with an Idempotency-Key may have a body of at most %d bytes here", k.mostRequest())
}

// readBody takes the body into memory.
func (k *keeper) readBody(x *Exchange, r *http.Request) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil, nil
	}
	most := min(k.mostRequest(), maxInMemory)
	if r.ContentLength > most {
		return nil, k.tooLarge()
	}
	var body []byte
	var err error
	if r.ContentLength > 0 {
		body = make([]byte, r.ContentLength)
		if _, err = io.ReadFull(r.Body, body); err == nil {
			_, err = io.Copy(io.Discard, r.Body) // to the end, which frees the connection's deadline
		}
	} else {
		body, err = io.ReadAll(io.LimitReader(r.Body, most+1))
	}
	switch {
	case err != nil && x.body != nil && x.body.fault() != nil:
		return nil, x.body.fault()
	case err != nil:
		return nil, errClientGone // it ended before it was complete
	case int64(len(body)) > most:
		return nil, k.tooLarge()
	}
	return body, nil
}

// fingerprint hashes what makes two requests the same.
func fingerprint(r *http.Request, body []byte) (sum [sha256.Size]byte) {
	h := newFingerprint(r)
	h.Write(body)
	h.Sum(sum[:0])
	return sum
}

// newFingerprint begins a fingerprint; the body is written to it last. Every
// part before it is preceded by its length, so that nothing can move from one
// part to the next.
func newFingerprint(r *http.Request) hash.Hash {
	h := sha256.New()
	var room [256]byte // one write costs less than many
	head := room[:0]
	for _, part := range [...]string{r.Method, r.URL.EscapedPath(), r.URL.RawQuery, strings.Join(r.Header["Content-Type"], ",")} {
		head = binary.BigEndian.AppendUint64(head, uint64(len(part)))
		head = append(head, part...)
	}
	h.Write(head)
	return h
}

// restore gives a request its body back, as often as it is asked for.
func restore(r *http.Request, body []byte) {
	restoreFrom(r, int64(len(body)), func() io.Reader { return bytes.NewReader(body) })
}

func restoreFrom(r *http.Request, size int64, body func() io.Reader) {
	if size == 0 {
		r.Body, r.ContentLength = http.NoBody, 0
		return
	}
	r.ContentLength, r.TransferEncoding = size, nil
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(body()), nil }
	r.Body = io.NopCloser(body())
}
