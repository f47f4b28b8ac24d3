package cache

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Validators puts e's validators into the header of a request to the upstream,
// in place of the client's, so that it may answer 304 (RFC 9111 §4.3.1).
func (e *Entry) Validators(h http.Header) {
	Unconditional(h)
	if tag := e.Header.Get("Etag"); tag != "" {
		h["If-None-Match"] = []string{tag}
	}
	if modified := e.Header.Get("Last-Modified"); modified != "" {
		h["If-Modified-Since"] = []string{modified}
	}
}

// Validated reports whether e can be asked about with Validators.
func (e *Entry) Validated() bool {
	return e.Header.Get("Etag") != "" || e.Header.Get("Last-Modified") != ""
}

// Unconditional removes everything that would make the answer less than whole.
func Unconditional(h http.Header) {
	for _, name := range [...]string{"If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "If-Range", "Range"} {
		delete(h, name)
	}
}

// Selects reports whether a request with the header and e's Key gets e.
func (e *Entry) Selects(h http.Header) bool { return e.matchesVary(h) }

// Confirms reports whether a 304 with the header speaks of e (§4.3.4): its
// ETag, if it has one, is e's.
func (e *Entry) Confirms(h http.Header) bool {
	tag := h.Get("Etag")
	if tag == "" {
		return true
	}
	own := e.Header.Get("Etag")
	if strings.HasPrefix(tag, "W/") || strings.HasPrefix(own, "W/") {
		return weak(tag) == weak(own)
	}
	return tag == own
}

// NotModified reports whether the client that sent h has what e holds already
// (§4.3.2). Only 200 answers are compared: conditions mean nothing on others.
func (e *Entry) NotModified(h http.Header) bool {
	if e.Status != http.StatusOK {
		return false
	}
	if lines := h["If-None-Match"]; len(lines) > 0 {
		return matchesAny(lines, e.Header.Get("Etag"))
	}
	since := h["If-Modified-Since"]
	if len(since) != 1 {
		return false
	}
	at, err := http.ParseTime(since[0])
	if err != nil {
		return false
	}
	modified, err := http.ParseTime(e.Header.Get("Last-Modified"))
	return err == nil && !modified.After(at)
}

// matchesAny is the weak comparison of RFC 9110 §8.8.3.2 with each of a list.
func matchesAny(lines []string, own string) bool {
	for _, line := range lines {
		for rest := line; rest != ""; {
			rest = strings.TrimLeft(rest, " \t,")
			if strings.HasPrefix(rest, "*") {
				return true
			}
			tag, after, ok := scanTag(rest)
			if !ok {
				break
			}
			if own != "" && weak(tag) == weak(own) {
				return true
			}
			rest = after
		}
	}
	return false
}

// scanTag reads one entity-tag.
func scanTag(s string) (tag, rest string, ok bool) {
	start := 0
	if strings.HasPrefix(s, "W/") {
		start = 2
	}
	if len(s) <= start || s[start] != '"' {
		return "", "", false
	}
	end := strings.IndexByte(s[start+1:], '"')
	if end < 0 {
		return "", "", false
	}
	end += start + 2
	return s[:end], s[end:], true
}

func weak(tag string) string { return strings.TrimPrefix(tag, "W/") }

// A Span is a part of a body.
type Span struct{ From, Length int64 }

// Part says how a Range request on e is to be answered: with one part
// (part=true), not at all (unsatisfiable=true: 416), or with the whole
// (neither). Several ranges, other units and a failed If-Range get the whole,
// as RFC 9110 §14.2 and §13.1.5 allow or demand.
func (e *Entry) Part(h http.Header) (s Span, part, unsatisfiable bool) {
	lines := h["Range"]
	if len(lines) != 1 || e.Status != http.StatusOK {
		return Span{}, false, false
	}
	if condition := h["If-Range"]; len(condition) > 0 && !e.sameAs(condition) {
		return Span{}, false, false
	}
	return parseRange(lines[0], int64(len(e.Body)))
}

// sameAs is If-Range's strong comparison.
func (e *Entry) sameAs(condition []string) bool {
	if len(condition) != 1 {
		return false
	}
	v := strings.TrimSpace(condition[0])
	if strings.HasPrefix(v, `"`) {
		return v == e.Header.Get("Etag")
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return false
	}
	modified, err := http.ParseTime(e.Header.Get("Last-Modified"))
	if err != nil || !modified.Equal(at) {
		return false
	}
	date, err := http.ParseTime(e.Header.Get("Date"))
	return err == nil && date.Sub(modified) >= time.Second // else the date is a weak validator (RFC 9110 §8.8.2.2)
}

// parseRange reads "bytes=" with one range of a body of size bytes.
func parseRange(s string, size int64) (span Span, part, unsatisfiable bool) {
	unit, set, ok := strings.Cut(s, "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(unit), "bytes") || strings.Contains(set, ",") {
		return Span{}, false, false
	}
	first, last, ok := strings.Cut(strings.TrimSpace(set), "-")
	if !ok {
		return Span{}, false, false
	}
	if first == "" { // the last n bytes
		n, valid := position(last)
		switch {
		case !valid:
			return Span{}, false, false
		case n == 0 || size == 0:
			return Span{}, false, true
		}
		n = min(n, size)
		return Span{size - n, n}, true, false
	}
	from, valid := position(first)
	to := size - 1
	if last != "" {
		var lastValid bool
		if to, lastValid = position(last); !lastValid || to < from {
			return Span{}, false, false
		}
		to = min(to, size-1)
	}
	switch {
	case !valid:
		return Span{}, false, false
	case from >= size:
		return Span{}, false, true
	}
	return Span{from, to - from + 1}, true, false
}

func position(s string) (int64, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
