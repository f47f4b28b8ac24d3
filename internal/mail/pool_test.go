package mail

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"landline/internal/clock"
	"landline/internal/config"
	"landline/internal/mail/mailtest"
	"landline/internal/testkit"
)

func opened(t *testing.T, server *mailtest.Server) *SMTP {
	t.Helper()
	c := DefaultConfig()
	c.From, c.ReplyTo = "a@example.com", "Help <help@example.com>"
	c.SMTP.Host, c.SMTP.Port, c.SMTP.HELO, c.SMTP.Timeout = mailtest.Host, server.Port, "node-1.example.com", config.Duration(10*time.Second)
	s, err := Open(c, Options{Production: true, Trust: server.Trust(), Clock: clock.System, Log: testkit.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.(*SMTP)
}

func send(t *testing.T, s Sender, key string) {
	t.Helper()
	if err := s.Send(t.Context(), Message{Key: key, To: "ann@example.net", Subject: "x", Text: "x"}); err != nil {
		t.Fatal(err)
	}
}

func TestIdleConnectionsEnd(t *testing.T) {
	server := mailtest.Start(t)
	s := opened(t, server)
	send(t, s, "1")
	if e := server.Taken()[0]; !strings.Contains(e.Data, "Reply-To: \"Help\" <help@example.com>") {
		t.Errorf("%s", e.Data)
	}
	c := s.idle[0]
	s.expire(c) // as its timer would
	if len(s.idle) != 0 || c.client.HasConnection() {
		t.Error("the connection is still open")
	}
	s.expire(c) // too late: it has gone already
	send(t, s, "2")
	if n, _ := server.Connections(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

func TestConnectionsEndAfterManyMessages(t *testing.T) {
	server := mailtest.Start(t)
	s := opened(t, server)
	for i := range perConnection + 1 {
		send(t, s, fmt.Sprint(i))
	}
	if n, _ := server.Connections(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

func TestConfigurationThatWasNotChecked(t *testing.T) {
	c := DefaultConfig()
	c.SMTP.Host = "localhost"
	for name, change := range map[string]func(*Config){
		"no from": func(*Config) {}, "reply_to": func(c *Config) { c.From, c.ReplyTo = "a@example.com", "x" },
		"host": func(c *Config) { c.From, c.SMTP.Port = "a@example.com", 99999 },
	} {
		bad := c
		change(&bad)
		if _, err := NewSMTP(bad, nil, clock.System); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	c.From = "x"
	if _, err := NewSink(t.TempDir(), c, clock.System, testkit.Logger(t)); err == nil {
		t.Error("a sink from nobody")
	}
}

func TestSinkTellsDiskFaults(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mail")
	s, err := NewSink(dir, DefaultConfig(), clock.System, testkit.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	err = s.Send(t.Context(), Message{Key: "1", To: "ann@example.net", Subject: "x", Text: "x"})
	var e *Error
	if !errors.As(err, &e) || !e.Temporary || e.Stage != "file" || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewSink(dir, DefaultConfig(), clock.System, testkit.Logger(t)); err == nil {
		t.Error("a file is taken for a folder")
	}
}

func TestPlural(t *testing.T) {
	for _, c := range []struct {
		language string
		n        int
		want     string
	}{
		{"en", 0, "b"}, {"en", 1, "a"}, {"de", 2, "b"}, {"fr", 0, "a"}, {"fr", 1, "a"}, {"fr", 2, "b"}, {"ja", 5, "a"}, {"pl", 3, "b"}, {"pl", 13, "c"}, {"pl", 0, "c"},
	} {
		if got, err := plural(c.language, c.n, []string{"a", "b", "c"}); err != nil || got != c.want {
			t.Errorf("%s %d: %q %v", c.language, c.n, got, err)
		}
	}
	if got, err := plural("pl", 5, []string{"a", "b"}); err != nil || got != "b" {
		t.Errorf("too few words: %q %v", got, err)
	}
	if _, err := plural("en", 1, nil); err == nil {
		t.Error("no words")
	}
	if got := oneLine(strings.Repeat("ż", 300)); len([]rune(got)) != maxValue+1 {
		t.Errorf("%d characters", len([]rune(got)))
	}
}

func TestTemporary(t *testing.T) {
	for err, want := range map[error]bool{nil: false, errors.New("x"): true, &Error{Temporary: true}: true, &Error{}: false} {
		if Temporary(err) != want {
			t.Errorf("%v: %v", err, !want)
		}
	}
}
