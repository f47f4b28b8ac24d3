package mail

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	netmail "net/mail"
	"os"
	"path/filepath"

	"landline/internal/clock"
)

// Sink is a Sender for development: it writes messages as .eml files, which
// mail programs open, and logs where. What is in them is not logged.
type Sink struct {
	dir  string
	from *netmail.Address
	clk  clock.Clock
	log  *slog.Logger
}

// NewSink returns a Sink that writes into dir, which it makes (0700).
func NewSink(dir string, c Config, clk clock.Clock, log *slog.Logger) (*Sink, error) {
	from := &netmail.Address{Name: "Landline", Address: "landline@localhost"}
	if c.From != "" {
		var err error
		if from, err = parseAddress(c.From); err != nil {
			return nil, fmt.Errorf("mail: from %w", err)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	return &Sink{dir: dir, from: from, clk: clk, log: log}, nil
}

// Send implements Sender. A message under the same Key replaces the one before.
func (s *Sink) Send(ctx context.Context, m Message) error {
	now := s.clk.Now()
	msg, err := compose(&m, s.from, nil, now)
	if err != nil {
		return &Error{Stage: "message", Cause: err}
	}
	var text bytes.Buffer
	if _, err := msg.WriteTo(&text); err != nil {
		return &Error{Stage: "message", Cause: err}
	}
	name := filepath.Join(s.dir, MessageID(m.Key, "mail")[:32]+".eml")
	if err := writeFile(name, text.Bytes()); err != nil {
		return &Error{Temporary: true, Stage: "file", Cause: err}
	}
	s.log.InfoContext(ctx, "mail written to a file", "file", name)
	return nil
}

// Close does nothing.
func (s *Sink) Close() error { return nil }

// writeFile replaces name in one step, so that nobody reads half a message.
func writeFile(name string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	_, err = f.Write(text)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("mail: %w", err)
	}
	return nil
}
