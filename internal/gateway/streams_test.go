package gateway

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"landline/internal/config"
)

// echoSocket is a WebSocket upstream without masks: what comes in goes out.
func echoSocket(t testing.TB, greet string) string {
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" || r.Header.Get("Sec-Websocket-Key") == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nLandline-Forged: 1\r\n\r\n%s", greet)
		if rw.Flush() != nil {
			return
		}
		io.Copy(conn, rw)
	})
}

func (h *house) socket(extra string) (net.Conn, *bufio.Reader) {
	h.t.Helper()
	c := h.dial()
	fmt.Fprintf(c, "GET /socket HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n%s", extra)
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	if res.StatusCode != 101 || res.Header.Get("Sec-Websocket-Accept") != "x" || res.Header.Get("Landline-Forged") != "" {
		h.t.Fatalf("%d %v", res.StatusCode, res.Header)
	}
	return c, r
}

func expect(t testing.TB, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("%q %v, want %q", got[:n], err, want)
	}
}

func TestWebSocketPassesBothWays(t *testing.T) {
	h := proxy(t, echoSocket(t, "\x81\x02hi"), func(s *Settings) { s.Features["all"].Timeout = config.Duration(100 * time.Millisecond) })
	c, r := h.socket("\x81\x05early")
	expect(t, r, "\x81\x02hi")
	expect(t, r, "\x81\x05early")
	began := time.Now()
	until(t, "the timeout has passed", func() bool { return time.Since(began) > 200*time.Millisecond })
	io.WriteString(c, "\x81\x04late")
	expect(t, r, "\x81\x04late")
	c.Close()
	until(t, "the tunnel ends with its client", func() bool { return h.streams.count() == 0 })
}

func TestDrainEndsWebSocketsBetweenFrames(t *testing.T) {
	h := proxy(t, echoSocket(t, ""))
	_, idle := h.socket("")
	busy, r := h.socket("\x81\x05ab") // a frame that is not complete yet
	expect(t, r, "\x81\x05ab")
	until(t, "both tunnels are open", func() bool { return h.streams.count() == 2 })
	h.Drain()
	expect(t, idle, "\x88\x02\x03\xe9")
	if _, err := idle.ReadByte(); err != io.EOF {
		t.Errorf("the drained connection goes on: %v", err)
	}
	io.WriteString(busy, "cde\x81\x01z")
	expect(t, r, "cde\x88\x02\x03\xe9")
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("the drained connection goes on: %v", err)
	}
	until(t, "no stream is left", func() bool { return h.streams.count() == 0 })
}

func TestDrainEndsEventStreamsWithATimeToReconnect(t *testing.T) {
	up := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		io.WriteString(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	h := proxy(t, up)
	res, err := h.client.Get(h.url + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	r := bufio.NewReader(res.Body)
	expect(t, r, "data: 1\n\n")
	h.Drain()
	rest, err := io.ReadAll(r)
	if err != nil || !strings.HasPrefix(string(rest), "retry: ") || !strings.HasSuffix(string(rest), "\n\n") {
		t.Errorf("%q %v", rest, err)
	}
	if res, _ := h.get("/healthz"); res.StatusCode != 200 {
		t.Errorf("health while draining: %d", res.StatusCode)
	}
}

func TestDrainLetsRequestsFinish(t *testing.T) {
	arrived, goOn := make(chan struct{}), make(chan struct{})
	up := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-goOn
		io.WriteString(w, "done")
	})
	h := proxy(t, up)
	type result struct {
		body string
		err  error
	}
	got := make(chan result, 1)
	go func() {
		res, err := h.client.Do(h.request("GET", "/x", nil))
		if err != nil {
			got <- result{"", err}
			return
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		got <- result{string(b), err}
	}()
	<-arrived
	h.Drain()
	close(goOn)
	if r := <-got; r.body != "done" || r.err != nil {
		t.Errorf("%+v", r)
	}
}

func FuzzFrameTracker(f *testing.F) {
	f.Add([]byte("\x81\x05hello\x88\x02\x03\xe9"), uint8(3))
	f.Add(append([]byte{0x82, 126, 1, 0}, make([]byte, 256)...), uint8(7))
	f.Add([]byte{0x82, 127, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 0x81, 0x80, 1, 2, 3, 4}, uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, cut uint8) {
		var whole, pieces frameTracker
		whole.advance(data)
		for rest := data; len(rest) > 0; {
			n := min(len(rest), int(cut)+1)
			end := pieces.toBoundary(rest[:n])
			probe := pieces
			probe.advance(rest[:end])
			if end < n && !probe.atBoundary() {
				t.Fatal("toBoundary stops inside a frame")
			}
			pieces.advance(rest[:n])
			rest = rest[n:]
		}
		if whole.atBoundary() != pieces.atBoundary() || whole.left != pieces.left || whole.have != pieces.have {
			t.Fatalf("in one piece %+v, in pieces of %d %+v", whole, cut+1, pieces)
		}
	})
}

func TestHijackedConnectionsNeedAnUpgrade(t *testing.T) {
	up := serve(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q %q", r.Header["Upgrade"], r.Header["Connection"])
	})
	h := proxy(t, up)
	for _, header := range [][]string{{"Upgrade", "h2c", "Connection", "Upgrade, HTTP2-Settings", "HTTP2-Settings", "AAMAAABkAAQAAP__"}, {"Upgrade", "websocket"}, {"Connection", "Upgrade", "Upgrade", "websocket, h2c"}} {
		req := h.request("GET", "/x", nil, header...)
		if header[0] == "Connection" {
			req.Method = "POST" // a WebSocket begins with GET alone
		}
		if _, body := h.do(req.WithContext(context.Background())); body != `[] []` {
			t.Errorf("%v reaches the upstream as %s", header, body)
		}
	}
}

func TestEventBoundary(t *testing.T) {
	for s, want := range map[string]bool{"data: 1\n\n": true, "data: 1\r\n\r\n": true, "data: 1\r\r": true, "data: 1\n": false, "data": false} {
		if got := eventBoundary(bytes.NewBufferString(s).Bytes()); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}
