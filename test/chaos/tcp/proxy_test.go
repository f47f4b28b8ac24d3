package tcp

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mirror sends back what it gets.
func mirror(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

// trip sends payload through p and returns what came back.
func trip(t *testing.T, p *Proxy, payload []byte) ([]byte, error) {
	t.Helper()
	c, err := net.Dial("tcp", p.Address())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	go func() {
		if _, err := c.Write(payload); err == nil {
			c.(*net.TCPConn).CloseWrite()
		}
	}()
	return io.ReadAll(c)
}

func TestFaults(t *testing.T) {
	target := mirror(t)
	payload := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	for _, c := range []struct {
		fault Fault
		whole bool // all bytes come back
	}{{None, true}, {Delay, true}, {Slice, true}, {Cut, false}, {Reset, false}, {Half, false}, {Refuse, false}} {
		t.Run(c.fault.String(), func(t *testing.T) {
			p, err := New(target, Config{Seed: 7, Delay: time.Millisecond, Bytes: 20000})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			p.Set(c.fault)
			got, err := trip(t, p, payload)
			if !bytes.HasPrefix(payload, got) {
				t.Error("bytes were changed")
			}
			if whole := err == nil && len(got) == len(payload); whole != c.whole {
				t.Errorf("%d of %d bytes, %v", len(got), len(payload), err)
			}
			if injured, _ := p.Injured(); (injured > 0) == c.whole {
				t.Errorf("%d connections counted as injured", injured)
			}
			p.Set(None)
			if got, err := trip(t, p, payload); err != nil || !bytes.Equal(got, payload) {
				t.Errorf("after healing: %d bytes, %v", len(got), err)
			}
		})
	}
}

// What a stall held back arrives when it ends.
func TestStall(t *testing.T) {
	p, err := New(mirror(t), Config{Seed: 7})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c, err := net.Dial("tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p.Set(Stall)
	if _, err := c.Write([]byte("held back")); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 20)
	var timeout net.Error
	if n, err := c.Read(b); n != 0 || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("%d bytes, %v", n, err)
	}
	p.Set(None)
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(b); string(b[:n]) != "held back" {
		t.Errorf("%q, %v", b[:n], err)
	}
}

// After a switch new connections reach the other target.
func TestSwitch(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	p, err := New(silent.Addr().String(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.Switch(mirror(t))
	if got, err := trip(t, p, []byte("hello")); string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
}
