package kv_test

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"landline/internal/clock"
	"landline/internal/kv"
	"landline/internal/kv/kvtest"
	"landline/internal/problem"
	"landline/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func openRedis(t *testing.T, url, prefix string) kv.Store {
	t.Helper()
	s, err := kv.NewRedis(url, prefix, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestMemory(t *testing.T) {
	kvtest.Run(t, func(t *testing.T) kv.Store { return kv.NewMemory(clock.System, 10_000) })
}

func TestRedis(t *testing.T) {
	kvtest.Run(t, func(t *testing.T) kv.Store { return openRedis(t, testkit.Redis(t), testkit.RedisPrefix(t)) })
}

func TestRedisPrefixesDoNotMeet(t *testing.T) {
	url, prefix := testkit.Redis(t), testkit.RedisPrefix(t)
	a, b := openRedis(t, url, prefix+"a:"), openRedis(t, url, prefix+"b:")
	if err := a.Set(t.Context(), "k", []byte("1"), time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(t.Context(), "k"); !errors.Is(err, kv.ErrNotFound) {
		t.Errorf("the other prefix's Get: %v, want ErrNotFound", err)
	}
}

func TestRedisDownAndBack(t *testing.T) {
	server := kvtest.StartServer(t)
	s := openRedis(t, server.URL, "t:")
	if err := s.Set(t.Context(), "k", []byte("1"), time.Minute); err != nil {
		t.Fatal(err)
	}
	server.Stop(t)
	for range 3 {
		_, err := s.Get(t.Context(), "k")
		if !errors.Is(err, kv.ErrUnavailable) || errors.Is(err, kv.ErrNotFound) {
			t.Fatalf("with the server down: %v; want ErrUnavailable and not ErrNotFound", err)
		}
		if !problem.HasCode(problem.From(err), problem.StorageUnavailable) {
			t.Fatalf("with the server down the client is told %v", problem.From(err))
		}
	}
	server.Start(t)
	kvtest.Eventually(t, "the store works again", func() bool { return s.Ping(t.Context()) == nil })
	if _, err := s.Get(t.Context(), "k"); !errors.Is(err, kv.ErrNotFound) {
		t.Errorf("after a restart that lost the data: %v; want ErrNotFound", err)
	}
	if n, err := s.Add(t.Context(), "n", 1, time.Minute); err != nil || n != 1 {
		t.Errorf("a script after the restart: %d, %v", n, err)
	}
}

// A server that accepts and then says nothing must not hold a request up.
func TestRedisThatHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-accepted })

	s := openRedis(t, "redis://"+l.Addr().String(), "t:")
	start := time.Now()
	_, err = s.Get(t.Context(), "k")
	if !errors.Is(err, kv.ErrUnavailable) {
		t.Fatalf("%v; want ErrUnavailable", err)
	}
	if took := time.Since(start); took > 10*time.Second { // half a second, and room for a busy machine
		t.Errorf("the call took %v", took)
	}
}

func TestRedisThatIsNone(t *testing.T) {
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
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	s := openRedis(t, "redis://"+l.Addr().String(), "t:")
	if err := s.Ping(t.Context()); !errors.Is(err, kv.ErrUnavailable) {
		t.Errorf("%v; want ErrUnavailable", err)
	}
}

func TestRedisWithWrongPassword(t *testing.T) {
	server := kvtest.StartServer(t)
	url := strings.Replace(server.URL, "redis://", "redis://user:hunter2secret@", 1)
	s := openRedis(t, url, "t:")
	err := s.Ping(t.Context())
	if !errors.Is(err, kv.ErrUnavailable) {
		t.Fatalf("%v; want ErrUnavailable", err)
	}
	if strings.Contains(err.Error(), "hunter2secret") {
		t.Errorf("the error shows the password: %v", err)
	}
}

func TestRedisURLErrorsNameTheWayOutAndNoPassword(t *testing.T) {
	for _, url := range []string{
		"", " ", "localhost:6379", "http://:hunter2secret@h:1", "redis://:hunter2secret@h:1/notanumber", "redis://:hunter2secret%zz@h:1",
		"redis://u:hunter2secret@h:port/0", "redis://hunter2secret/x@h:1/0/0", "redis://:hunter2secret@h:1?dial_timeout=hunter2secret", "redis://:hunter2secret@h:1/1/2", "\x7fredis://:hunter2secret@h",
	} {
		_, err := kv.NewRedis(url, "", quiet)
		if err == nil {
			t.Errorf("%q was accepted", url)
			continue
		}
		if s := err.Error(); strings.Contains(s, "hunter2secret") || !strings.Contains(s, "redis.url") || !strings.Contains(s, "redis://") {
			t.Errorf("%q: %v; want the key, the form, and no password", url, err)
		}
	}
}
