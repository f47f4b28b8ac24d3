package gateway

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"landline/internal/problem"
)

// requestBody is the client's body for everything behind the listener. It
// bounds its size and the client's pauses, and remembers whose fault a failure was.
type requestBody struct {
	in      *http.Request
	body    io.ReadCloser
	control *http.ResponseController
	pause   time.Duration // longest silence of the client, 0 = any

	mu       sync.Mutex
	limit    int64 // bytes that may come in all, -1 = any
	read     int64
	deadline time.Time
	err      error // what the client's side failed with
	done     bool  // read to its end, or failed

	whole atomic.Bool // read to its end; known without the lock, which a read holds for as long as it waits
}

// newRequestBody wraps the body of r, which must have one.
func newRequestBody(w http.ResponseWriter, r *http.Request, pause time.Duration) *requestBody {
	b := &requestBody{in: r, body: r.Body, control: http.NewResponseController(w), pause: pause, limit: -1}
	b.extend() // also bounds how long the server waits for a body that nobody reads
	return b
}

// Read reads from the client.
func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.err != nil:
		return 0, b.err
	case b.done:
		return 0, io.EOF
	case b.limit >= 0 && int64(len(p)) > b.limit-b.read+1:
		p = p[:max(b.limit-b.read+1, 1)]
	}
	b.extend()
	n, err := b.body.Read(p)
	if b.read += int64(n); b.limit >= 0 && b.read > b.limit {
		n, err = max(n-int(b.read-b.limit), 0), &http.MaxBytesError{Limit: b.limit}
	}
	if err == nil {
		return n, nil
	}
	b.done = true
	if err == io.EOF {
		b.whole.Store(true)
		b.never()
		b.cleanTrailers()
		return n, io.EOF
	}
	b.err = err
	return n, err
}

// atMost bounds the body to n bytes.
func (b *requestBody) atMost(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit = n
}

// extend gives the client another pause. The deadline is moved only when a
// quarter of it is used up: moving it is not free. A writer that knows no
// deadlines belongs to a test; then the feature's timeout is all.
func (b *requestBody) extend() {
	if b.pause <= 0 {
		return
	}
	now := time.Now()
	if b.deadline.Sub(now) > b.pause-b.pause/4 {
		return
	}
	b.deadline = now.Add(b.pause)
	b.setDeadline(b.deadline)
}

// never lifts the deadline: the server now watches the connection for its end.
func (b *requestBody) never() {
	if b.pause > 0 {
		b.setDeadline(time.Time{})
	}
}

func (b *requestBody) setDeadline(at time.Time) {
	if err := b.control.SetReadDeadline(at); err != nil && !errors.Is(err, http.ErrNotSupported) && b.err == nil {
		b.err = err
	}
}

// cleanTrailers removes trailer fields that only the gateway may set.
func (b *requestBody) cleanTrailers() {
	for key := range b.in.Trailer {
		forwarding, always := ours(key)
		if forwarding || always || underscored(key) || hopByHop[key] || key == "Authorization" || key == "Cookie" || strings.HasPrefix(key, "Landline-") {
			delete(b.in.Trailer, key)
		}
	}
}

// Close does not close the client's body: the server does when the request ends.
func (b *requestBody) Close() error { return nil }

// fault is the problem of a body that could not be read; nil if it could.
func (b *requestBody) fault() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var tooLarge *http.MaxBytesError
	var known *problem.Error
	switch {
	case b.err == nil:
		return nil
	case errors.As(b.err, &known):
		return known
	case errors.As(b.err, &tooLarge):
		return problem.From(b.err)
	case errors.Is(b.err, os.ErrDeadlineExceeded):
		return problem.New(problem.RequestTimeout, "the request body stopped coming").Wrap(b.err)
	case errors.Is(b.err, io.ErrUnexpectedEOF):
		return errClientGone
	}
	return problem.New(problem.InvalidRequest, "the request body could not be read").Wrap(b.err)
}

// forgive forgets an expired deadline that we set ourselves.
func (b *requestBody) forgive() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deadline = time.Time{}
	if errors.Is(b.err, os.ErrDeadlineExceeded) {
		b.err, b.done = nil, false
	}
}

// Bounds of linger.
const (
	lingerBytes = 16 << 20
	lingerTime  = 5 * time.Second
)

// linger takes in what a client still sends after its answer, within bounds: to
// close the connection under it would reset it, and the answer be lost
// (RFC 9112 §9.6). How it ends makes no difference to an answer that is out.
func (b *requestBody) linger() {
	until := time.Now().Add(lingerTime)
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	for taken := 0; taken < lingerBytes && time.Now().Before(until); {
		n, err := b.Read(buf[:])
		if err != nil {
			return
		}
		taken += n
	}
}

// loan lends a request's body to an upstream's transport, which goes on reading
// on its own goroutine: once recall returns, it reads no more.
type loan struct {
	mu       sync.Mutex
	body     io.Reader
	client   *requestBody // nil for a body in memory
	clock    *countdown   // stands still while we wait for the client
	trial    *countdown   // so does that of one try; nil without one
	recalled bool
}

var errRecalled = errors.New("the request is over")

// Read reads from the request's body while the loan lasts.
func (l *loan) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.recalled {
		return 0, errRecalled
	}
	l.clock.pause()
	defer l.clock.resume()
	if l.trial != nil {
		l.trial.pause()
		defer l.trial.resume()
	}
	return l.body.Read(p)
}

// Close does nothing: the server closes the body when the request ends.
func (l *loan) Close() error { return nil }

// complete reports whether there is nothing left to read. The transport may be
// reading even so, to see that the body is no longer than announced.
func (l *loan) complete() bool { return l.client == nil || l.client.whole.Load() }

// recall ends the loan. A read that waits for the client is ended by an expired deadline.
func (l *loan) recall() {
	if l.mu.TryLock() {
		l.recalled = true
		l.mu.Unlock()
		return
	}
	if l.client == nil || l.client.control.SetReadDeadline(time.Unix(1, 0)) != nil {
		return // a body in memory, or no connection: nothing to protect
	}
	l.mu.Lock()
	l.recalled = true
	l.mu.Unlock()
	l.client.forgive()
}
