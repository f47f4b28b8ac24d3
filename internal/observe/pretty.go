package observe

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// prettyHandler writes a line a record for a developer's terminal:
//
//	15:04:05.000 INFO  ready  public=127.0.0.1:8080 took=12ms
type prettyHandler struct {
	level  slog.Leveler
	out    *lockedWriter
	groups []string
	attrs  []byte // those of WithAttrs, written out
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func newPrettyHandler(w io.Writer, level slog.Leveler) *prettyHandler {
	return &prettyHandler{level: level, out: &lockedWriter{w: w}}
}

func (h *prettyHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

func (h *prettyHandler) Handle(_ context.Context, r slog.Record) error {
	var b bytes.Buffer
	if !r.Time.IsZero() {
		b.WriteString(r.Time.Local().Format("15:04:05.000 "))
	}
	level := r.Level.String()
	b.WriteString(level + strings.Repeat(" ", max(1, 6-len(level))))
	b.WriteString(printable(loggable(r.Message), false))
	if len(h.attrs) > 0 || r.NumAttrs() > 0 {
		b.WriteByte(' ')
	}
	b.Write(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		writePretty(&b, h.groups, a)
		return true
	})
	b.WriteByte('\n')
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	_, err := h.out.w.Write(b.Bytes())
	return err
}

func (h *prettyHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	b := bytes.NewBuffer(bytes.Clone(h.attrs))
	for _, a := range attrs {
		writePretty(b, h.groups, a)
	}
	c := *h
	c.attrs = b.Bytes()
	return &c
}

func (h *prettyHandler) WithGroup(name string) slog.Handler {
	c := *h
	c.groups = append(h.groups[:len(h.groups):len(h.groups)], name)
	return &c
}

// writePretty writes " group.key=value", a group as its members.
func writePretty(b *bytes.Buffer, groups []string, a slog.Attr) {
	a.Value = a.Value.Resolve()
	if a.Value.Kind() == slog.KindGroup {
		if a.Key != "" {
			groups = append(groups[:len(groups):len(groups)], a.Key)
		}
		for _, member := range a.Value.Group() {
			writePretty(b, groups, member)
		}
		return
	}
	if a.Equal(slog.Attr{}) {
		return
	}
	a = redactAttr(groups, a)
	b.WriteByte(' ')
	for _, g := range groups {
		b.WriteString(printable(g, true) + ".")
	}
	b.WriteString(printable(a.Key, true) + "=" + printable(a.Value.String(), true))
}

// printable quotes what could break the line, hide part of it or, in a value,
// look like the next key: log lines hold text that clients chose.
func printable(s string, value bool) string {
	quote := value && s == "" || !utf8.ValidString(s)
	for _, r := range s {
		if !unicode.IsPrint(r) || value && (r == ' ' || r == '"' || r == '=') {
			quote = true
			break
		}
	}
	if quote {
		return strconv.Quote(s)
	}
	return s
}
