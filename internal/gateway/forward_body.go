package gateway

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"landline/internal/problem"
)

// requestBody hands the client's body to the transport. It bounds the client's
// pauses, remembers whose fault a failure was, and can be taken away from the
// transport: once detach returns, nobody reads from the client any more.
type requestBody struct {
	in      *http.Request
	control *http.ResponseController
	pause   time.Duration

	mu       sync.Mutex
	err      error // what the client's side failed with
	detached bool
	done     bool
}

func newRequestBody(w http.ResponseWriter, r *http.Request, pause time.Duration) *requestBody {
	return &requestBody{in: r, control: http.NewResponseController(w), pause: pause}
}

var errDetached = errors.New("the request is over")

// Read reads from the client.
func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.detached:
		return 0, errDetached
	case b.done:
		return 0, io.EOF
	}
	b.deadline(b.pause)
	n, err := b.in.Body.Read(p)
	if err == nil {
		return n, nil
	}
	b.deadline(0)
	b.done = true
	if err == io.EOF {
		b.cleanTrailers()
		return n, io.EOF
	}
	b.err = err
	return n, err
}

// deadline sets when the client's silence ends the read; 0 = never. A writer
// that knows no deadlines belongs to a test: then the feature's timeout is all.
func (b *requestBody) deadline(d time.Duration) {
	var at time.Time
	if d > 0 {
		at = time.Now().Add(d)
	} else if b.pause == 0 {
		return
	}
	if err := b.control.SetReadDeadline(at); err != nil && !errors.Is(err, http.ErrNotSupported) && b.err == nil {
		b.err = err
	}
}

// cleanTrailers removes trailer fields that only the gateway may set.
func (b *requestBody) cleanTrailers() {
	for key := range b.in.Trailer {
		forwarding, always := ours(key)
		if forwarding || always || hopByHop[key] || key == "Authorization" || key == "Cookie" || strings.HasPrefix(key, "Landline-") {
			delete(b.in.Trailer, key)
		}
	}
}

// Close does not close the client's body: the server does when the request ends.
func (b *requestBody) Close() error { return nil }

// detach takes the body away from the transport. A read that waits for the
// client is ended by an expired deadline.
func (b *requestBody) detach() {
	if b.mu.TryLock() {
		b.detached = true
		b.mu.Unlock()
		return
	}
	if err := b.control.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return // no deadlines, so no connection: nothing to protect
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.detached = true
	if errors.Is(b.err, os.ErrDeadlineExceeded) {
		b.err = nil // ours, not the client's
	}
}

// fault is the problem of a body that could not be read; nil if it could.
func (b *requestBody) fault() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var tooLarge *http.MaxBytesError
	switch {
	case b.err == nil:
		return nil
	case errors.As(b.err, &tooLarge):
		return problem.From(b.err)
	case errors.Is(b.err, os.ErrDeadlineExceeded):
		return problem.New(problem.RequestTimeout, "the request body stopped coming").Wrap(b.err)
	case errors.Is(b.err, io.ErrUnexpectedEOF):
		return errClientGone
	}
	return problem.New(problem.InvalidRequest, "the request body could not be read").Wrap(b.err)
}
