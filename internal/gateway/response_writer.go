package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// responseWriter notes what becomes of an answer: status, size, and when its
// header was written. It passes everything else on, so that streams, upgrades
// and sendfile work as without it.
type responseWriter struct {
	http.ResponseWriter
	x        *Exchange
	status   int       // of the final answer, 0 while there is none
	bytes    int64     // of its body
	headerAt time.Time // when status was written
	hijacked bool
}

// WriteHeader passes informational answers on and notes the final one.
func (w *responseWriter) WriteHeader(status int) {
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status, w.headerAt = status, time.Now()
		w.addTiming()
		w.x.answerBegins(status, w.ResponseWriter.Header())
		w.x.edits.apply(w.x, status, w.ResponseWriter.Header())
	}
	w.ResponseWriter.WriteHeader(status)
}

// addTiming adds to Server-Timing (W3C, milliseconds) what joins the app's own
// measurement of the request with ours: our time, that of the upstream if the
// answer is the upstream's, and the trace.
func (w *responseWriter) addTiming() {
	x := w.x
	b := make([]byte, 0, 128)
	ours := w.headerAt.Sub(x.Start)
	if x.answered {
		ours = max(ours-x.UpstreamTook, 0)
	}
	b = append(b, "app;dur="...)
	b = appendMillis(b, ours)
	if x.answered {
		b = append(b, ", upstream;dur="...)
		b = appendMillis(b, x.UpstreamTook)
	}
	b = append(b, `, traceparent;desc="00-`...)
	b = append(b, x.TraceID...)
	b = append(b, '-')
	b = append(b, x.SpanID...)
	if x.Sampled {
		b = append(b, `-01"`...)
	} else {
		b = append(b, `-00"`...)
	}
	h := w.ResponseWriter.Header()
	if before := h["Server-Timing"]; len(before) > 0 { // the upstream's own
		h["Server-Timing"] = append(before[:len(before):len(before)], string(b))
	} else {
		h["Server-Timing"] = x.one(string(b))
	}
}

// appendMillis appends a duration in milliseconds, to a tenth.
func appendMillis(b []byte, d time.Duration) []byte {
	const tenth = time.Millisecond / 10
	tenths := int64((max(d, 0) + tenth/2) / tenth)
	b = strconv.AppendInt(b, tenths/10, 10)
	return append(b, '.', byte('0'+tenths%10)) // #nosec G115 -- a digit
}

func (w *responseWriter) Write(b []byte) (int, error) {
	w.begin()
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// WriteString saves io.WriteString a copy.
func (w *responseWriter) WriteString(s string) (int, error) {
	w.begin()
	n, err := io.WriteString(w.ResponseWriter, s)
	w.bytes += int64(n)
	return n, err
}

// ReadFrom lets the connection take the bytes straight from src.
func (w *responseWriter) ReadFrom(src io.Reader) (int64, error) {
	w.begin()
	n, err := io.Copy(w.ResponseWriter, src)
	w.bytes += n
	return n, err
}

func (w *responseWriter) begin() {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
}

// Flush is FlushError for callers of http.Flusher, who learn of a lost client at the next write.
func (w *responseWriter) Flush() {
	if err := w.FlushError(); err != nil {
		return
	}
}

// FlushError sends what is buffered.
func (w *responseWriter) FlushError() error {
	w.begin()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack hands the connection over; from then on nothing is counted.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	w.hijacked = w.hijacked || err == nil
	return conn, rw, err
}

// Unwrap lets http.ResponseController reach the connection's deadlines.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// started reports whether the client may have seen a part of the answer.
func (w *responseWriter) started() bool { return w.status != 0 || w.hijacked }

// countingBody counts the bytes of a request body. The transport may still be
// reading it when the answer is there already.
type countingBody struct {
	io.ReadCloser
	bytes atomic.Int64
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.bytes.Add(int64(n))
	return n, err
}
