package gateway

import (
	"bytes"
	"net/http"
	"strconv"
	"time"

	"landline/internal/gateway/overload"
	"landline/internal/problem"
)

// noRoomAnswer is the problem of requests that a node has no room for, rendered as
// far as it is the same for all: when a processor is the narrow part, what it
// does for those whom it turns away is taken from the others.
type noRoomAnswer struct {
	before, retry, trace, after []byte        // around instance, retry_after and trace_id
	cause                       error         // for the log
	wait                        time.Duration // at least, until they come again
}

// The values of the sample that the answer is cut out of.
const (
	sampleInstance = "/instance"
	sampleTrace    = "trace"
	sampleSeconds  = 86_399
)

var (
	problemType = []string{problem.MediaType}
	noStore     = []string{"no-store"}
	noSniff     = []string{"nosniff"}
)

// newNoRoomAnswer returns nil if the problem cannot be cut as expected.
func newNoRoomAnswer(rt *Route) *noRoomAnswer {
	p := problem.New(problem.Overloaded, noRoom).After(sampleSeconds * time.Second)
	if rt.Feature != NoFeature {
		p = p.With("feature", rt.Feature)
	}
	f := &noRoomAnswer{cause: rt.overloaded(noRoom), wait: rt.retryAfter}
	rest := p.Body(sampleInstance, sampleTrace, "")
	ok := true
	cut := func(member, value string) []byte {
		head, tail, found := bytes.Cut(rest, []byte(`"`+member+`":`+value))
		ok = ok && found
		rest = tail
		return append(bytes.Clone(head), `"`+member+`":`...)
	}
	f.before = cut("instance", strconv.Quote(sampleInstance))
	f.retry = cut("retry_after", strconv.Itoa(sampleSeconds))
	f.trace = cut("trace_id", strconv.Quote(sampleTrace))
	f.after = rest
	if !ok {
		return nil
	}
	return f
}

// write answers exactly as problem.Write would. It reports
// whether it did: not for a path that JSON must escape.
func (f *noRoomAnswer) write(x *Exchange, w http.ResponseWriter, r *http.Request) bool {
	path := r.URL.EscapedPath()
	if !isPlain(path) {
		return false
	}
	seconds := strconv.Itoa(int(overload.RetryAfter(f.wait) / time.Second))
	b := make([]byte, 0, 512)
	b = append(append(append(append(b, f.before...), '"'), path...), '"')
	b = append(append(b, f.retry...), seconds...)
	b = append(append(append(append(b, f.trace...), '"'), x.TraceID...), '"')
	b = append(b, f.after...)
	x.ErrorCode, x.Cause = string(problem.Overloaded), f.cause
	h := w.Header()
	h["Cache-Control"], h["X-Content-Type-Options"], h["Content-Type"] = noStore, noSniff, problemType
	h["Retry-After"], h["Content-Length"] = x.one(seconds), x.one(strconv.Itoa(len(b)))
	w.WriteHeader(http.StatusServiceUnavailable)
	if r.Method != http.MethodHead {
		w.Write(b) // #nosec G705 -- JSON with its own media type and nosniff; nothing of the request but its escaped path
	}
	return true
}

// isPlain reports whether encoding/json writes s as it stands.
func isPlain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < 0x20, c > 0x7e, c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}
