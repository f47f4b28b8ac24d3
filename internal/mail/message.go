package mail

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	netmail "net/mail"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail"
)

// Message is one message to one person.
type Message struct {
	Key     string // names the work, for example the job's id; not empty, at most 512 bytes
	To      string // bare address (RFC 5321), at most 254 bytes
	Subject string // one line, at most 998 bytes
	Text    string // plain text, at most 1 MiB
	HTML    string // the same as HTML, at most 1 MiB; "" = none
}

// Sender sends messages. Send returns nil when the message was taken over, and
// an *Error otherwise; errors.Is(err, context.Canceled) and the like hold too.
type Sender interface {
	Send(ctx context.Context, m Message) error
}

// Error is a message that was not taken over.
type Error struct {
	Temporary bool   // another attempt, later, may succeed
	Stage     string // "message", "wait", "connect", "send" or "file"
	Code      int    // SMTP reply code, 0 = none
	Enhanced  string // enhanced status code (RFC 3463), "" = none
	Cause     error  // without the recipient's address
}

func (e *Error) Error() string {
	kind := "permanently"
	if e.Temporary {
		kind = "for now"
	}
	return fmt.Sprintf("mail: not sent, %s, at stage %s: %v", kind, e.Stage, e.Cause)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Temporary reports whether err allows for another attempt: an *Error that does,
// or an error that is none.
func Temporary(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Temporary
	}
	return err != nil
}

const (
	maxKey     = 512
	maxAddress = 254
	maxSubject = 998
	maxBody    = 1 << 20
)

// check refuses what must not go into a message.
func (m *Message) check() error {
	parsed, err := netmail.ParseAddress(m.To)
	switch {
	case m.Key == "" || len(m.Key) > maxKey:
		return fmt.Errorf("the key has %d bytes, wanted 1 to %d", len(m.Key), maxKey)
	case len(m.To) > maxAddress || err != nil || parsed.Address != m.To || !printable(m.To):
		return fmt.Errorf("the recipient is not a bare address of at most %d bytes", maxAddress)
	case m.Subject == "" || len(m.Subject) > maxSubject || !printable(m.Subject):
		return fmt.Errorf("the subject is not one line of 1 to %d bytes", maxSubject)
	case m.Text == "" || len(m.Text) > maxBody || len(m.HTML) > maxBody:
		return fmt.Errorf("the text has %d and the HTML %d bytes, wanted at most %d, and a text", len(m.Text), len(m.HTML), maxBody)
	case !utf8.ValidString(m.Text) || !utf8.ValidString(m.HTML):
		return fmt.Errorf("the text or the HTML is not UTF-8")
	}
	return nil
}

// printable reports whether s is valid UTF-8 without control and line characters.
func printable(s string) bool {
	for _, r := range s {
		if unicode.IsControl(r) || r == utf8.RuneError || r == '\u2028' || r == '\u2029' {
			return false
		}
	}
	return true
}

// MessageID is what a message under key is called, without the angle brackets:
// always the same for the same key and domain.
func MessageID(key, domain string) string {
	sum := sha256.Sum256([]byte("landline mail\x00" + key))
	return hex.EncodeToString(sum[:16]) + "@" + domain
}

// compose makes the message as it goes over the wire.
func compose(m *Message, from, replyTo *netmail.Address, now time.Time) (*gomail.Msg, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	msg := gomail.NewMsg(gomail.WithEncoding(gomail.EncodingQP))
	msg.FromMailAddress(from)
	msg.ToMailAddress(&netmail.Address{Address: m.To})
	if replyTo != nil {
		if err := msg.ReplyTo(replyTo.String()); err != nil {
			return nil, fmt.Errorf("reply_to: %w", err)
		}
	}
	msg.Subject(m.Subject)
	msg.SetDateWithValue(now)
	msg.SetMessageIDWithValue(MessageID(m.Key, from.Address[strings.LastIndexByte(from.Address, '@')+1:]))
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no answers from holidays
	msg.SetGenHeader("X-Auto-Response-Suppress", "All")
	msg.SetUserAgent("Landline")
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	if m.HTML != "" {
		msg.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	}
	return msg, nil
}
