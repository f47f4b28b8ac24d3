package gateway

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"landline/internal/problem"
)

// switchProtocols joins the client's connection with the upstream's after a
// 101 and copies both ways until one side ends. A drain ends it with a
// WebSocket close frame, status 1001 (RFC 6455 §7.4.1).
func (c *call) switchProtocols(res *http.Response) error {
	backend, ok := res.Body.(io.ReadWriteCloser)
	if !ok || !c.upgrade || !strings.EqualFold(res.Header.Get("Upgrade"), "websocket") {
		res.Body.Close()
		return c.problem(problem.UpstreamInvalid, "gave an invalid answer", errors.New("101 for another protocol than was asked for"))
	}
	defer backend.Close()
	c.x.countdown.endless()
	c.x.tries.begins()
	c.x.settle(good)

	h := c.w.Header()
	copyAnswerHeader(h, res.Header)
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	c.w.WriteHeader(http.StatusSwitchingProtocols)
	conn, buffered, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		return c.problem(problem.Internal, "could not be joined with the client", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return errClientGone
	}
	if err := buffered.Flush(); err != nil {
		return errClientGone
	}
	t := &tunnel{client: conn, backend: backend, patience: c.x.write}
	s := c.gateway.streams.add(t.drain, true)
	defer c.gateway.streams.remove(s)
	t.run(io.MultiReader(io.LimitReader(buffered, int64(buffered.Reader.Buffered())), conn))
	return nil
}

// tunnel copies an upgraded connection both ways.
type tunnel struct {
	client   net.Conn
	backend  io.ReadWriteCloser
	patience time.Duration // how long a write to the client may take

	mu       sync.Mutex // held while a piece goes to the client
	frames   frameTracker
	draining bool
	closed   bool
}

func (t *tunnel) run(fromClient io.Reader) {
	var wg sync.WaitGroup
	wg.Go(func() {
		defer t.close()
		buf := buffers.Get().(*[bufferSize]byte)
		defer buffers.Put(buf)
		for {
			n, err := fromClient.Read(buf[:])
			if n > 0 {
				if _, werr := t.backend.Write(buf[:n]); werr != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	wg.Go(func() {
		defer t.close()
		buf := buffers.Get().(*[bufferSize]byte)
		defer buffers.Put(buf)
		for {
			n, err := t.backend.Read(buf[:])
			if n > 0 && !t.deliver(buf[:n]) {
				return
			}
			if err != nil {
				return
			}
		}
	})
	wg.Wait()
}

// deliver sends a piece to the client; false ends the tunnel.
func (t *tunnel) deliver(p []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	if t.draining {
		// Only up to the end of the frame that is under way.
		p = p[:t.frames.toBoundary(p)]
	}
	if t.patience > 0 {
		if err := t.client.SetWriteDeadline(time.Now().Add(t.patience)); err != nil {
			return false
		}
	}
	if _, err := t.client.Write(p); err != nil {
		return false
	}
	t.frames.advance(p)
	if t.draining && t.frames.atBoundary() {
		t.sayGoodbye()
		return false
	}
	return true
}

// drain ends the tunnel between two frames: now, or when the current one is
// complete. It does not wait for a client that is slow to take a frame.
func (t *tunnel) drain() {
	go func() { // ends with the write that holds the lock, at the latest when its deadline does
		t.mu.Lock()
		t.draining = true
		idle := t.frames.atBoundary() && !t.closed
		if idle {
			t.sayGoodbye()
		}
		t.mu.Unlock()
		if idle {
			t.close()
		}
	}()
}

// sayGoodbye writes an unmasked close frame with status 1001, going away.
func (t *tunnel) sayGoodbye() {
	if err := t.client.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return // closed already
	}
	if _, err := t.client.Write([]byte{0x88, 0x02, 0x03, 0xE9}); err != nil {
		return // gone without goodbye
	}
	t.closed = true
}

func (t *tunnel) close() {
	t.client.Close()
	t.backend.Close()
}

// frameTracker follows the borders of WebSocket frames (RFC 6455 §5.2) in the
// bytes that an upstream sends, without keeping them.
type frameTracker struct {
	header [10]byte
	have   int    // bytes of the header seen
	left   uint64 // bytes of the payload to come
}

func (f *frameTracker) atBoundary() bool { return f.have == 0 && f.left == 0 }

// step consumes from p as much as belongs to the current header or payload.
func (f *frameTracker) step(p []byte) int {
	if f.left > 0 {
		n := uint64(len(p))
		n = min(n, f.left)
		f.left -= n
		return int(n) // #nosec -- at most len(p)
	}
	f.header[f.have] = p[0]
	f.have++
	need := 2
	if f.have >= 2 {
		switch f.header[1] & 0x7F {
		case 126:
			need = 4
		case 127:
			need = 10
		}
	}
	if f.have < 2 || f.have < need {
		return 1
	}
	switch length := f.header[1] & 0x7F; length {
	case 126:
		f.left = uint64(f.header[2])<<8 | uint64(f.header[3])
	case 127:
		for _, b := range f.header[2:10] {
			f.left = f.left<<8 | uint64(b)
		}
	default:
		f.left = uint64(length)
	}
	if f.header[1]&0x80 != 0 {
		f.left += 4
	}
	f.have = 0
	return 1
}

func (f *frameTracker) advance(p []byte) {
	for len(p) > 0 {
		p = p[f.step(p):]
	}
}

// toBoundary is how many bytes of p complete the frame that is under way.
func (f *frameTracker) toBoundary(p []byte) int {
	look, n := *f, 0
	for n < len(p) && !look.atBoundary() {
		n += look.step(p[n:])
	}
	return n
}
