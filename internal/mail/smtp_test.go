package mail_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"landline/internal/clock"
	"landline/internal/config"
	"landline/internal/mail"
	"landline/internal/mail/mailtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func settings(s *mailtest.Server, mode mail.TLSMode) mail.Config {
	c := mail.DefaultConfig()
	c.From = "Łódź Flights <no-reply@example.com>"
	c.SMTP.Host, c.SMTP.Port, c.SMTP.TLS = mailtest.Host, s.Port, mode
	c.SMTP.Timeout = config.Duration(10 * time.Second)
	return c
}

func sender(t *testing.T, c mail.Config, trust *tls.Config) *mail.SMTP {
	t.Helper()
	s, err := mail.NewSMTP(c, trust, clock.NewFake(now))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func message(key string) mail.Message {
	return mail.Message{Key: key, To: "ann@example.net", Subject: "Zażółć: 123456",
		Text: "kod 123456\n.\n..dots\n", HTML: "<p>kod <b>123456</b></p>"}
}

func TestSendOverEveryKindOfConnection(t *testing.T) {
	for name, c := range map[string]struct {
		server []mailtest.Option
		mode   mail.TLSMode
		user   string
	}{
		"starttls":          {nil, mail.STARTTLS, ""},
		"starttls and auth": {[]mailtest.Option{mailtest.Password("s3cret")}, mail.STARTTLS, "user"},
		"implicit":          {[]mailtest.Option{mailtest.Implicit}, mail.Implicit, ""},
		"implicit and auth": {[]mailtest.Option{mailtest.Implicit, mailtest.Password("s3cret")}, mail.Implicit, "user"},
		"none":              {[]mailtest.Option{mailtest.Plain}, mail.NoTLS, ""},
	} {
		t.Run(name, func(t *testing.T) {
			server := mailtest.Start(t, c.server...)
			conf := settings(server, c.mode)
			if c.user != "" {
				conf.SMTP.Username, conf.SMTP.Password = c.user, "s3cret"
			}
			s := sender(t, conf, server.Trust())
			for i := range 3 {
				if err := s.Send(t.Context(), message(fmt.Sprint("job", i))); err != nil {
					t.Fatal(err)
				}
			}
			taken := server.Taken()
			if len(taken) != 3 {
				t.Fatalf("%d messages taken", len(taken))
			}
			e := taken[2]
			if e.From != "no-reply@example.com" || e.To != "ann@example.net" || e.User != c.user || e.Encrypted != (c.mode != mail.NoTLS) {
				t.Errorf("%+v", e)
			}
			if opened, _ := server.Connections(); opened != 1 {
				t.Errorf("%d connections for three messages one after the other", opened)
			}
			readMessage(t, e.Data)
		})
	}
}

// readMessage reads the message as a mail program would.
func readMessage(t *testing.T, data string) {
	t.Helper()
	m, err := netmail.ReadMessage(strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil || subject != "Zażółć: 123456" {
		t.Errorf("subject %q %v", subject, err)
	}
	from, err := m.Header.AddressList("From")
	if err != nil || from[0].Name != "Łódź Flights" {
		t.Errorf("from %v %v", from, err)
	}
	if date, err := m.Header.Date(); err != nil || !date.Equal(now) {
		t.Errorf("date %v %v", date, err)
	}
	if id := m.Header.Get("Message-Id"); id != "<"+mail.MessageID("job2", "example.com")+">" {
		t.Errorf("message id %q", id)
	}
	if m.Header.Get("Auto-Submitted") != "auto-generated" {
		t.Error("not marked as generated")
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for _, want := range []string{"kod 123456\n.\n..dots\n", "<p>kod <b>123456</b></p>"} {
		part, err := parts.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(quotedprintable.NewReader(part))
		if err != nil || strings.TrimRight(strings.ReplaceAll(string(body), "\r\n", "\n"), "\n") != strings.TrimRight(want, "\n") {
			t.Errorf("part %q %v, want %q", body, err, want)
		}
	}
}

func TestFailuresSayWhetherAnotherAttemptHelps(t *testing.T) {
	for name, c := range map[string]struct {
		command, reply string
		temporary      bool
		stage          string
		code           int
		enhanced       string
	}{
		"greylisted":          {"RCPT", "451 4.7.1 <ann@example.net> greylisted", true, "send", 451, "4.7.1"},
		"mailbox full":        {"RCPT", "452 4.2.2 full", true, "send", 452, "4.2.2"},
		"no such mailbox":     {"RCPT", "550 5.1.1 <ann@example.net>: no such user ann", false, "send", 550, "5.1.1"},
		"sender refused":      {"MAIL", "553 5.7.1 not yours", false, "send", 553, "5.7.1"},
		"shutting down":       {"MAIL", "421 4.3.2 going away", true, "send", 421, "4.3.2"},
		"no data":             {"DATA", "451 4.3.0 later", true, "send", 451, "4.3.0"},
		"content refused":     {"DATA.", "554 5.7.1 spam: code 123456", false, "send", 554, "5.7.1"},
		"content later":       {"DATA.", "451 4.3.0 later", true, "send", 451, "4.3.0"},
		"hangs up before":     {"MAIL", "", true, "send", 0, ""},
		"hangs up at the end": {"DATA.", "", true, "send", 0, ""},
		"greeting":            {"CONNECT", "554 5.3.2 no service", true, "connect", 554, ""},
		"greeting hang-up":    {"CONNECT", "", true, "connect", 0, ""},
		"bad password":        {"AUTH", "535 5.7.8 no", true, "connect", 535, ""},
		"no encryption now":   {"STARTTLS", "454 4.7.0 TLS not available", true, "connect", 454, ""},
	} {
		t.Run(name, func(t *testing.T) {
			server := mailtest.Start(t, mailtest.Password("s3cret"))
			conf := settings(server, mail.STARTTLS)
			conf.SMTP.Username, conf.SMTP.Password = "user", "s3cret"
			s := sender(t, conf, server.Trust())
			server.Reply(c.command, c.reply)
			err := s.Send(t.Context(), message("job"))
			var e *mail.Error
			if !errors.As(err, &e) {
				t.Fatalf("%v", err)
			}
			if e.Temporary != c.temporary || mail.Temporary(err) != c.temporary || e.Stage != c.stage || e.Code != c.code || e.Enhanced != c.enhanced {
				t.Errorf("%+v", e)
			}
			if text := err.Error(); strings.Contains(text, "ann") || strings.Contains(text, "s3cret") || strings.Contains(text, "123456") {
				t.Errorf("the error tells too much: %s", text)
			}
			if n := len(server.Taken()); n != 0 {
				t.Fatalf("%d messages taken", n)
			}
			if err := s.Send(t.Context(), message("job")); err != nil || len(server.Taken()) != 1 {
				t.Errorf("the next attempt: %v", err)
			}
		})
	}
}

func TestServerThatCannotEncryptGetsNothing(t *testing.T) {
	for _, password := range []config.Secret{"", "s3cret"} {
		server := mailtest.Start(t, mailtest.Plain, mailtest.Password("s3cret"))
		conf := settings(server, mail.STARTTLS)
		if password != "" {
			conf.SMTP.Username, conf.SMTP.Password = "user", password
		}
		if err := sender(t, conf, server.Trust()).Send(t.Context(), message("job")); !mail.Temporary(err) || len(server.Taken()) != 0 {
			t.Errorf("%v", err)
		}
	}
}

func TestCertificateIsVerified(t *testing.T) {
	for _, mode := range []mail.TLSMode{mail.STARTTLS, mail.Implicit} {
		var options []mailtest.Option
		if mode == mail.Implicit {
			options = append(options, mailtest.Implicit)
		}
		server := mailtest.Start(t, options...)
		if err := sender(t, settings(server, mode), nil).Send(t.Context(), message("job")); err == nil || len(server.Taken()) != 0 {
			t.Errorf("%s: a certificate that nobody trusts: %v", mode, err)
		}
		conf := settings(server, mode)
		conf.SMTP.Host = "127.0.0.1" // not the name in the certificate
		if err := sender(t, conf, server.Trust()).Send(t.Context(), message("job")); err == nil || len(server.Taken()) != 0 {
			t.Errorf("%s: a certificate of another name: %v", mode, err)
		}
	}
}

func TestConnectionsAreBoundedAndKept(t *testing.T) {
	server := mailtest.Start(t)
	conf := settings(server, mail.STARTTLS)
	conf.SMTP.Connections = 3
	s := sender(t, conf, server.Trust())
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if err := s.Send(t.Context(), message(fmt.Sprint(i))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, top := server.Connections(); len(server.Taken()) != 40 || top > 3 {
		t.Errorf("%d messages over %d connections", len(server.Taken()), top)
	}
}

func TestHungUpIdleConnectionsCostNoMessage(t *testing.T) {
	server := mailtest.Start(t)
	s := sender(t, settings(server, mail.STARTTLS), server.Trust())
	for i := range 3 {
		if err := s.Send(t.Context(), message(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		server.HangUp()
	}
	if n := len(server.Taken()); n != 3 {
		t.Errorf("%d messages taken", n)
	}
}

func TestCancelledSendEndsAtOnce(t *testing.T) {
	deaf, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never greets
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	reached := make(chan net.Conn, 1)
	go func() {
		if c, err := deaf.Accept(); err == nil {
			reached <- c
		}
	}()
	conf := mail.DefaultConfig()
	conf.From, conf.SMTP.Host, conf.SMTP.Port = "a@example.com", "127.0.0.1", deaf.Addr().(*net.TCPAddr).Port
	conf.SMTP.Connections = 1
	s := sender(t, conf, nil)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- s.Send(ctx, message("job")) }()
	conn := <-reached
	defer conn.Close()
	full, expire := context.WithCancel(t.Context())
	expire()
	if err := s.Send(full, message("other")); !errors.Is(err, context.Canceled) || !mail.Temporary(err) {
		t.Errorf("waiting for a connection: %v", err)
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) || !mail.Temporary(err) {
		t.Errorf("%v", err)
	}
	s.Close()
	if err := s.Send(t.Context(), message("late")); err == nil {
		t.Error("a closed sender sends")
	}
}
