package bus_test

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"landline/internal/bus"
	"landline/internal/bus/bustest"
	"landline/internal/kv/kvtest"
	"landline/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func closing(t *testing.T, b bus.Bus) bus.Bus {
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func openRedis(t *testing.T, url, prefix string) bus.Bus {
	t.Helper()
	b, err := bus.NewRedis(url, prefix, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return closing(t, b)
}

func TestMemory(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bus.Bus { return closing(t, bus.NewMemory()) })
}

func TestRedis(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bus.Bus { return openRedis(t, testkit.Redis(t), testkit.RedisPrefix(t)) })
}

func TestRedisCarriesBetweenNodesOfOnePrefix(t *testing.T) {
	url, prefix := testkit.Redis(t), testkit.RedisPrefix(t)
	a, b, stranger := openRedis(t, url, prefix), openRedis(t, url, prefix), openRedis(t, url, prefix+"other:")
	inbox, strangers := bustest.Inbox(t, b, "topic"), bustest.Inbox(t, stranger, "topic")
	for node, payload := range map[bus.Bus]string{a: "from the other node", stranger: "from a stranger"} {
		if err := node.Publish(t.Context(), "topic", []byte(payload)); err != nil {
			t.Fatal(err)
		}
	}
	bustest.Want(t, inbox, "from the other node")
	bustest.Want(t, strangers, "from a stranger")
}

// After a restart of the server the gap is told once subscriptions work again,
// so that a state read in OnGap plus the messages after it miss nothing.
func TestRedisRestartTellsTheGapAndGoesOn(t *testing.T) {
	server := kvtest.StartServer(t)
	b := openRedis(t, server.URL, "t:")
	inbox := bustest.Inbox(t, b, "a")
	gapInbox := make(chan error, 100)
	t.Cleanup(b.OnGap(func() { gapInbox <- b.Publish(t.Context(), "a", []byte("published in OnGap")) }))
	publish(t, b, "one")
	bustest.Want(t, inbox, "one")

	server.Stop(t)
	if err := b.Publish(t.Context(), "a", []byte("lost")); !errors.Is(err, bus.ErrUnavailable) {
		t.Fatalf("with the server down: %v; want ErrUnavailable", err)
	}
	if err := b.Ping(t.Context()); !errors.Is(err, bus.ErrUnavailable) {
		t.Fatalf("Ping with the server down: %v; want ErrUnavailable", err)
	}
	late := make(chan string, 100) // subscribed while there is no server
	cancelLate := b.Subscribe("late", func(p []byte) { late <- string(p) })
	defer cancelLate()

	server.Start(t)
	select {
	case err := <-gapInbox:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("no gap was told after the restart")
	}
	bustest.Want(t, inbox, "published in OnGap")
	if err := b.Publish(t.Context(), "late", []byte("two")); err != nil {
		t.Fatal(err)
	}
	bustest.Want(t, late, "two")
	if err := b.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func publish(t *testing.T, b bus.Bus, payload string) {
	t.Helper()
	if err := b.Publish(t.Context(), "a", []byte(payload)); err != nil {
		t.Fatal(err)
	}
}

func TestRedisStartsLater(t *testing.T) {
	server := kvtest.StartServer(t)
	server.Stop(t)
	b := openRedis(t, server.URL, "t:")
	gaps := bustest.Gaps(t, b)
	inbox := bustest.Inbox(t, b, "a")
	server.Start(t)
	bustest.Wait(t, "the gap before the first connection is told", gaps)
	publish(t, b, "one")
	bustest.Want(t, inbox, "one")
}

// A network that swallows packets closes no connection; the heartbeat finds out.
func TestRedisConnectionThatGoesSilent(t *testing.T) {
	server := kvtest.StartServer(t)
	p := newProxy(t, strings.TrimPrefix(server.URL, "redis://"))
	b := openRedis(t, "redis://"+p.addr, "t:")
	gaps := bustest.Gaps(t, b)
	inbox := bustest.Inbox(t, b, "a")
	publish(t, b, "one")
	bustest.Want(t, inbox, "one")
	p.freeze()
	bustest.Wait(t, "the silence is noticed and told as a gap", gaps)
	kvtest.Eventually(t, "messages come again", func() bool { return b.Publish(t.Context(), "a", []byte("two")) == nil })
	bustest.Want(t, inbox, "two")
}

func TestRedisURLErrorShowsNoPassword(t *testing.T) {
	_, err := bus.NewRedis("http://:hunter2secret@h:1", "", slog.New(slog.DiscardHandler))
	if err == nil || strings.Contains(err.Error(), "hunter2secret") {
		t.Errorf("%v; want an error without the password", err)
	}
}

// proxy passes TCP on until frozen; then what is connected hears nothing more,
// and new connections work.
type proxy struct {
	addr  string
	mu    sync.Mutex
	conns []net.Conn
	alive []*pipe
}

type pipe struct {
	mu     sync.Mutex
	frozen bool
	to     io.Writer
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen {
		return len(b), nil
	}
	return p.to.Write(b)
}

func newProxy(t *testing.T, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				in.Close()
				continue
			}
			there, back := &pipe{to: out}, &pipe{to: in}
			p.mu.Lock()
			p.conns, p.alive = append(p.conns, in, out), append(p.alive, there, back)
			p.mu.Unlock()
			wg.Go(func() { io.Copy(there, in); out.Close() })
			wg.Go(func() { io.Copy(back, out); in.Close() })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		wg.Wait()
	})
	return p
}

func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.alive {
		a.mu.Lock()
		a.frozen = true
		a.mu.Unlock()
	}
	p.alive = nil
}
