package mail_test

import (
	"bytes"
	"io"
	"log/slog"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"landline/internal/clock"
	"landline/internal/config"
	"landline/internal/mail"
	"landline/internal/testkit"
)

func TestInjectionIsRefused(t *testing.T) {
	sink, err := mail.NewSink(t.TempDir(), mail.DefaultConfig(), clock.NewFake(now), testkit.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*mail.Message){
		"header in subject":     func(m *mail.Message) { m.Subject = "x\r\nBcc: eve@example.net" },
		"line feed in subject":  func(m *mail.Message) { m.Subject = "x\ny" },
		"separator in subject":  func(m *mail.Message) { m.Subject = "x\u2028y" },
		"null in subject":       func(m *mail.Message) { m.Subject = "x\x00y" },
		"no subject":            func(m *mail.Message) { m.Subject = "" },
		"long subject":          func(m *mail.Message) { m.Subject = strings.Repeat("x", 999) },
		"two recipients":        func(m *mail.Message) { m.To = "ann@example.net, eve@example.net" },
		"header in recipient":   func(m *mail.Message) { m.To = "ann@example.net\r\nBcc: eve@example.net" },
		"command in recipient":  func(m *mail.Message) { m.To = "ann@example.net>\r\nRCPT TO:<eve@example.net" },
		"recipient with a name": func(m *mail.Message) { m.To = "Ann <ann@example.net>" },
		"no recipient":          func(m *mail.Message) { m.To = "" },
		"long recipient":        func(m *mail.Message) { m.To = strings.Repeat("a", 250) + "@example.net" },
		"no key":                func(m *mail.Message) { m.Key = "" },
		"long key":              func(m *mail.Message) { m.Key = strings.Repeat("k", 513) },
		"no text":               func(m *mail.Message) { m.Text = "" },
		"long text":             func(m *mail.Message) { m.Text = strings.Repeat("x", 1<<20+1) },
		"text that is no text":  func(m *mail.Message) { m.Text = "\xff" },
	} {
		m := message("job")
		change(&m)
		if err := sink.Send(t.Context(), m); err == nil || mail.Temporary(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzSend looks for a message with more headers than it should have.
func FuzzSend(f *testing.F) {
	dir := f.TempDir()
	sink, err := mail.NewSink(dir, mail.DefaultConfig(), clock.NewFake(now), slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("job", "ann@example.net", "Hello", "text", "<p>html</p>")
	f.Add("job", "\"a b\"@example.net", "x\r\nBcc: eve@example.net", ".\r\n", "")
	f.Add("job", "ż@example.net", strings.Repeat("ż", 400), "a\rb", "\x00")
	f.Fuzz(func(t *testing.T, key, to, subject, text, html string) {
		if sink.Send(t.Context(), mail.Message{Key: key, To: to, Subject: subject, Text: text, HTML: html}) != nil {
			return
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.eml"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%v %v", files, err)
		}
		data, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(files[0]); err != nil {
			t.Fatal(err)
		}
		m, err := netmail.ReadMessage(bytes.NewReader(data))
		if err != nil {
			t.Fatalf("%v in\n%s", err, data)
		}
		for name, values := range m.Header {
			if len(values) != 1 || !strings.Contains(" From To Subject Date Message-Id Mime-Version Auto-Submitted X-Auto-Response-Suppress User-Agent X-Mailer Content-Type Content-Transfer-Encoding ", " "+name+" ") {
				t.Errorf("header %s: %q", name, values)
			}
		}
		if list, err := m.Header.AddressList("To"); err != nil || len(list) != 1 || list[0].Address != to {
			t.Errorf("to %q: %v %v", to, list, err)
		}
	})
}

func TestSinkWritesFilesAndLogsNoContent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "mail")
	var log bytes.Buffer
	c := mail.DefaultConfig()
	s, err := mail.Open(c, mail.Options{DataDir: filepath.Dir(dir), Clock: clock.NewFake(now), Log: slog.New(slog.NewJSONHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second replaces the first
		if err := s.Send(t.Context(), message("job")); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.eml"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v %v", files, err)
	}
	info, err := os.Stat(files[0])
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
	f, err := os.Open(files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := netmail.ReadMessage(f)
	if err != nil || m.Header.Get("To") != "<ann@example.net>" {
		t.Errorf("%v %v", m.Header, err)
	}
	if body, err := io.ReadAll(m.Body); err != nil || !strings.Contains(string(body), "123456") {
		t.Errorf("%v", err)
	}
	if text := log.String(); !strings.Contains(text, files[0]) || strings.Contains(text, "123456") || strings.Contains(text, "ann@") {
		t.Errorf("log: %s", text)
	}
	if _, err := mail.Open(c, mail.Options{Production: true, Clock: clock.System}); err != mail.ErrNoServer {
		t.Errorf("production without a server: %v", err)
	}
}

func TestConfiguration(t *testing.T) {
	for name, c := range map[string]struct{ yaml, fault string }{
		"defaults":          {"{}", ""},
		"all":               {`{from: "Flights <a@example.com>", reply_to: b@example.com, locale: pl-PL, smtp: {host: smtp.example.com, username: u, password: "${PW}", tls: implicit}}`, ""},
		"host alone":        {"{smtp: {host: smtp.example.com}}", "from"},
		"from":              {`{from: "nobody"}`, "not an address"},
		"two froms":         {`{from: "a@example.com, b@example.com"}`, "not an address"},
		"reply_to":          {`{reply_to: "x"}`, "not an address"},
		"locale":            {`{locale: "e"}`, "language tag"},
		"unknown locale":    {`{locale: xx}`, ""}, // falls back to en
		"templates":         {`{templates: nowhere}`, "templates"},
		"host with port":    {`{from: a@example.com, smtp: {host: "smtp.example.com:25"}}`, "bare host"},
		"port":              {`{smtp: {port: 70000}}`, "65535"},
		"timeout":           {`{smtp: {timeout: 1h}}`, "5m"},
		"connections":       {`{smtp: {connections: 0}}`, "1 to 100"},
		"no password":       {`{from: a@example.com, smtp: {host: h, username: u}}`, "belong together"},
		"password in clear": {`{from: a@example.com, smtp: {host: h, username: u, password: "${PW}", tls: none}}`, "in clear"},
		"mode":              {`{smtp: {tls: maybe}}`, "starttls"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := mail.DefaultConfig()
			env := config.Env{Lookup: func(string) (string, bool) { return "s3cret", true }}
			err := config.LoadBytes("landline.yaml", []byte("mail: "+c.yaml), []config.Section{mail.Section(&cfg)}, env)
			if c.fault == "" && err != nil || c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)) {
				t.Errorf("%v, want a fault about %q", err, c.fault)
			}
		})
	}
}
