package observe

import (
	"context"
	"io"
	"log/slog"
)

// NewLogger returns a logger that writes to w: one JSON object a line, or short
// lines for people if pretty. Secrets are redacted (see Redact). Records made
// under a context with a trace (WithTrace) carry trace_id, at the top level
// even inside a group.
func NewLogger(w io.Writer, level slog.Leveler, pretty bool) *slog.Logger {
	if pretty {
		base := newPrettyHandler(w, level)
		return slog.New(&traceHandler{root: base, current: base})
	}
	out := &lineWriter{w: w}
	base := slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: redactAttr})
	return slog.New(&traceHandler{root: base, current: base, lines: &Lines{out: out}})
}

// traceHandler adds the trace id of the context. A handler's open groups take
// in whatever a record brings, so for a record inside groups the id is given to
// the root and the groups are opened again; that is rare and costs some.
type traceHandler struct {
	root, current slog.Handler
	steps         []func(slog.Handler) slog.Handler // from root to current
	grouped       bool
	lines         *Lines // of the root alone; nil for people's lines
}

func (h *traceHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return h.current.Enabled(ctx, l)
}

func (h *traceHandler) Handle(ctx context.Context, r slog.Record) error {
	id := TraceID(ctx)
	if id == "" {
		return h.current.Handle(ctx, r)
	}
	attr := slog.String("trace_id", id)
	if !h.grouped {
		r = r.Clone()
		r.AddAttrs(attr)
		return h.current.Handle(ctx, r)
	}
	with := h.root.WithAttrs([]slog.Attr{attr})
	for _, step := range h.steps {
		with = step(with)
	}
	return with.Handle(ctx, r)
}

func (h *traceHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	return h.step(h.grouped, func(s slog.Handler) slog.Handler { return s.WithAttrs(attrs) })
}

func (h *traceHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return h.step(true, func(s slog.Handler) slog.Handler { return s.WithGroup(name) })
}

func (h *traceHandler) step(grouped bool, step func(slog.Handler) slog.Handler) slog.Handler {
	steps := append(h.steps[:len(h.steps):len(h.steps)], step)
	return &traceHandler{root: h.root, current: step(h.current), steps: steps, grouped: grouped}
}
