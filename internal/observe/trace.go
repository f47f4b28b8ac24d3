package observe

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strings"
)

// NewTraceID returns a random trace id: 32 lower-case hexadecimal digits, not all zero.
func NewTraceID() string { return randomHex(16) }

// NewSpanID returns a random span id: 16 lower-case hexadecimal digits, not all zero.
func NewSpanID() string { return randomHex(8) }

func randomHex(bytes int) string {
	var b [16]byte
	var s [32]byte
	for {
		// The runtime's ChaCha8: an id must be unique, it is no secret.
		binary.LittleEndian.PutUint64(b[:8], rand.Uint64()) // #nosec G404 -- unique, not secret
		binary.LittleEndian.PutUint64(b[8:], rand.Uint64()) // #nosec G404 -- unique, not secret
		if hex.Encode(s[:], b[:bytes]); [8]byte(b[:8]) != [8]byte{} {
			return string(s[:2*bytes])
		}
	}
}

// ParseTraceparent reads a W3C Trace Context header
// (https://www.w3.org/TR/trace-context/#traceparent-header):
// "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01". Versions after 00
// may have more behind the flags, separated by a dash; ff is no version. What
// breaks the grammar is not ok, and the caller starts a trace of its own.
func ParseTraceparent(s string) (traceID, spanID string, sampled, ok bool) {
	const size = 55
	if len(s) < size || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return "", "", false, false
	}
	version, traceID, spanID, flags := s[:2], s[3:35], s[36:52], s[53:size]
	switch {
	case !isHex(version) || version == "ff" || !isHex(flags):
		return "", "", false, false
	case version == "00" && len(s) != size, len(s) > size && s[size] != '-':
		return "", "", false, false
	case !nonZeroHex(traceID, 32) || !nonZeroHex(spanID, 16):
		return "", "", false, false
	}
	return traceID, spanID, unhex(flags[1])&1 == 1, true
}

// Traceparent writes the header that ParseTraceparent reads, in version 00.
func Traceparent(traceID, spanID string, sampled bool) string {
	if sampled {
		return "00-" + traceID + "-" + spanID + "-01"
	}
	return "00-" + traceID + "-" + spanID + "-00"
}

// ParseSentryTrace reads the sentry-trace header of Sentry's SDKs
// (https://develop.sentry.dev/sdk/telemetry/traces/#header-sentry-trace):
// trace id, span id and, if decided, "1" or "0" for sampled, with dashes between.
func ParseSentryTrace(s string) (traceID, spanID string, sampled, ok bool) {
	s = strings.Trim(s, " \t")
	switch len(s) {
	case 49:
	case 51:
		if s[49] != '-' || s[50] != '0' && s[50] != '1' {
			return "", "", false, false
		}
		sampled = s[50] == '1'
	default:
		return "", "", false, false
	}
	traceID, spanID = s[:32], s[33:49]
	if s[32] != '-' || !nonZeroHex(traceID, 32) || !nonZeroHex(spanID, 16) {
		return "", "", false, false
	}
	return traceID, spanID, sampled, true
}

// isHex reports whether s has nothing but lower-case hexadecimal digits.
func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func nonZeroHex(s string, size int) bool {
	return len(s) == size && isHex(s) && strings.Trim(s, "0") != ""
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c - 'a' + 10
}

type traceKey struct{}

// traceContext is a context with a trace, in one piece of memory: every request has one.
type traceContext struct {
	context.Context //nolint:containedctx // it is one

	traceID, spanID string
	sampled         bool
}

// Value gives the traceContext itself for its key.
func (t *traceContext) Value(key any) any {
	if _, ours := key.(traceKey); ours {
		return t
	}
	return t.Context.Value(key)
}

// WithTrace returns a context that belongs to the given span. Logs under it
// carry the trace id, outgoing calls a traceparent that is not sampled.
func WithTrace(ctx context.Context, traceID, spanID string) context.Context {
	return &traceContext{ctx, traceID, spanID, false}
}

// WithSampledTrace is WithTrace for a trace that is recorded if sampled.
func WithSampledTrace(ctx context.Context, traceID, spanID string, sampled bool) context.Context {
	return &traceContext{ctx, traceID, spanID, sampled}
}

// TraceID returns the trace id of ctx, or "".
func TraceID(ctx context.Context) string {
	traceID, _, _ := TraceOf(ctx)
	return traceID
}

// TraceOf returns what WithTrace or WithSampledTrace put on ctx; the ids are "" without.
func TraceOf(ctx context.Context) (traceID, spanID string, sampled bool) {
	if t, ok := ctx.Value(traceKey{}).(*traceContext); ok {
		return t.traceID, t.spanID, t.sampled
	}
	return "", "", false
}
