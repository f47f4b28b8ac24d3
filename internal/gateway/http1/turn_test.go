package http1

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestRequestThatFindsNoRoomIsWrittenWhole sends headers that no socket's buffer
// holds at once over a connection that was used before.
func TestRequestThatFindsNoRoomIsWrittenWhole(t *testing.T) {
	long := strings.Repeat("x", 16<<20)
	filled := make(chan struct{})
	arrived := make(chan string, 1)
	s := open(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if !takeRequest(r) {
			return
		}
		io.WriteString(c, ok)
		<-filled // the request is on its way, and is not read
		req, err := http.ReadRequest(bufio.NewReaderSize(r, len(long)+1<<10))
		if err != nil {
			arrived <- err.Error()
			return
		}
		arrived <- req.Header.Get("Long")
		io.WriteString(c, ok)
	})
	tr := transport(t, config())
	if _, err := s.fetch(tr, s.request("GET")); err != nil {
		t.Fatal(err)
	}
	r := s.request("GET")
	r.Header.Set("Long", long)
	h := &signal{sent: filled}
	res, err := tr.Send(within(t), r, h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Error(err)
	}
	if got := <-arrived; got != long {
		t.Errorf("%d bytes have arrived, %d were sent", len(got), len(long))
	}
	if n := s.opened.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// signal tells when the request is about to be written.
type signal struct {
	hooks
	sent chan struct{}
}

func (s *signal) Sending() { close(s.sent) }

// TestRequestIsNotSentOnAConnectionThatHasEnded counts a request as sent only
// where it may have been.
func TestRequestIsNotSentOnAConnectionThatHasEnded(t *testing.T) {
	for _, body := range []string{"", "short", strings.Repeat("long", smallBody)} {
		s := open(t, func(_ int, c net.Conn, r *bufio.Reader) {
			takeRequest(r)
			io.WriteString(c, ok)
		})
		tr := transport(t, config())
		if _, err := s.fetch(tr, s.request("GET")); err != nil {
			t.Fatal(err)
		}
		<-s.closed
		tr.config.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no way") }
		r, h := s.request("POST"), &hooks{}
		if body != "" {
			r.Body, r.ContentLength = strings.NewReader(body), int64(len(body))
		}
		if _, err := tr.Send(within(t), r, h); err == nil || err.Error() != "no way" {
			t.Errorf("%d bytes: %v", len(body), err)
		}
		if h.sending != 0 {
			t.Errorf("%d bytes: the request counts as sent", len(body))
		}
	}
}

// TestEndingTheContextEndsTheWait ends a request that waits for its answer on a
// connection that was used before.
func TestEndingTheContextEndsTheWait(t *testing.T) {
	asked := make(chan struct{})
	s := open(t, func(_ int, c net.Conn, r *bufio.Reader) {
		takeRequest(r)
		io.WriteString(c, ok)
		takeRequest(r)
		close(asked)
		io.Copy(io.Discard, r)
	})
	tr := transport(t, config())
	if _, err := s.fetch(tr, s.request("GET")); err != nil {
		t.Fatal(err)
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(within(t))
	go func() {
		<-asked
		cancel(why)
	}()
	if _, err := tr.Send(ctx, s.request("GET"), &hooks{}); !errors.Is(err, why) {
		t.Error(err)
	}
	<-s.closed
}
