package observe

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// Bounds of what Lines keep back.
const (
	lineDelay  = 100 * time.Millisecond
	lineBuffer = 32 << 10
)

// lineWriter is where a logger's lines go. What is written to it is written at
// once, behind what was kept back before; lines that are many and of little
// weight (an access log's) are kept for at most lineDelay or lineBuffer bytes,
// so that they cost no system call each. A process that is killed loses no more
// than that of them.
type lineWriter struct {
	mu    sync.Mutex
	w     io.Writer
	kept  []byte
	timer *time.Timer // nil until something was kept
	armed bool
	err   error // of the last flush
}

// Write writes p and what was kept before it.
func (l *lineWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, p...)
	if l.flush(); l.err != nil {
		return 0, l.err
	}
	return len(p), nil
}

// now is Write for a line whose writer can do nothing about a failure, as with slog.
func (l *lineWriter) now(p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, p...)
	l.flush()
}

// keep writes p soon.
func (l *lineWriter) keep(p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, p...)
	switch {
	case len(l.kept) >= lineBuffer:
		l.flush()
	case l.armed:
	case l.timer == nil:
		l.armed = true
		l.timer = time.AfterFunc(lineDelay, l.late)
	default:
		l.armed = true
		l.timer.Reset(lineDelay)
	}
}

func (l *lineWriter) late() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = false
	l.flush()
}

// flush writes what is kept; mu is held.
func (l *lineWriter) flush() {
	if len(l.kept) == 0 {
		return
	}
	_, l.err = l.w.Write(l.kept)
	l.kept = l.kept[:0]
	if cap(l.kept) > 4*lineBuffer {
		l.kept = nil
	}
}

// Lines writes JSON lines to a logger's output without the detour through
// slog: for one line per request. They look like the logger's own.
type Lines struct {
	out  *lineWriter
	pool sync.Pool
}

// LinesOf returns the Lines of a logger made by NewLogger, or nil when they
// would not look like its own: it writes for people, has attributes or groups
// of its own, or was not made here.
func LinesOf(log *slog.Logger) *Lines {
	h, ok := log.Handler().(*traceHandler)
	if !ok {
		return nil
	}
	return h.lines
}

// Line is one line that is being put together, by one goroutine.
type Line struct {
	lines *Lines
	level slog.Level
	b     []byte
}

// Begin begins a line. The logger's level is the caller's to ask.
func (n *Lines) Begin(at time.Time, level slog.Level, message string) *Line {
	l, ok := n.pool.Get().(*Line)
	if !ok {
		l = &Line{lines: n, b: make([]byte, 0, 1024)}
	}
	l.level = level
	l.b = append(l.b[:0], `{"time":"`...)
	l.b = at.AppendFormat(l.b, time.RFC3339Nano)
	l.b = append(l.b, `","level":"`...)
	l.b = append(l.b, level.String()...)
	l.b = append(l.b, `","msg":`...)
	l.b = appendText(l.b, message)
	return l
}

// Text adds a text unless it is empty; secrets in it are redacted.
func (l *Line) Text(key, value string) {
	if value != "" {
		l.Plain(key, loggable(value))
	}
}

// Plain adds a text, unless it is empty, that holds no secret and is short: an
// id, an address, a name from the configuration.
func (l *Line) Plain(key, value string) {
	if value != "" {
		l.key(key)
		l.b = appendText(l.b, value)
	}
}

// Addr adds an address without a zone.
func (l *Line) Addr(key string, a netip.Addr) {
	l.key(key)
	l.b = append(a.WithZone("").AppendTo(append(l.b, '"')), '"')
}

// Int adds a number.
func (l *Line) Int(key string, value int64) {
	l.key(key)
	l.b = strconv.AppendInt(l.b, value, 10)
}

// Float adds a finite number.
func (l *Line) Float(key string, value float64) {
	l.key(key)
	l.b = strconv.AppendFloat(l.b, value, 'f', -1, 64)
}

// Bool adds a truth value.
func (l *Line) Bool(key string, value bool) {
	l.key(key)
	l.b = strconv.AppendBool(l.b, value)
}

// Fixed adds what Fixed has made.
func (l *Line) Fixed(fields []byte) { l.b = append(l.b, fields...) }

// Fixed makes the part of a line that is the same in many: texts without
// secrets, key after value; empty ones are left out.
func Fixed(pairs ...string) []byte {
	var l Line
	for i := 0; i+1 < len(pairs); i += 2 {
		l.Plain(pairs[i], pairs[i+1])
	}
	return l.b
}

// End writes the line: at once from level WARN on, else soon. The line must
// not be used any more.
func (l *Line) End() {
	l.b = append(l.b, "}\n"...)
	out := l.lines.out
	if l.level < slog.LevelWarn {
		out.keep(l.b)
	} else {
		out.now(l.b)
	}
	if cap(l.b) <= 16<<10 {
		l.lines.pool.Put(l)
	}
}

func (l *Line) key(key string) {
	l.b = append(l.b, ',', '"')
	l.b = append(l.b, key...)
	l.b = append(l.b, '"', ':')
}

// appendText writes s as a JSON string.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil { // never for a string
				return append(b, `"[not loggable]"`...)
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
