package cache

import (
	"net/http"
	"slices"
	"strings"
)

// maxVary bounds the fields that an answer may vary by.
const maxVary = 16

// varies reports whether the Vary field names name.
func varies(h http.Header, name string) bool {
	for _, line := range h["Vary"] {
		for part := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(part), name) {
				return true
			}
		}
	}
	return false
}

// varyFields are the request fields that an answer depends on, canonical and
// sorted. An answer with a Content-Encoding depends on Accept-Encoding even if
// its upstream forgot to say so. ok is false when there are too many.
func varyFields(h http.Header) (fields []string, ok bool) {
	for _, line := range h["Vary"] {
		for part := range strings.SplitSeq(line, ",") {
			if name := strings.TrimSpace(part); name != "" {
				fields = append(fields, http.CanonicalHeaderKey(name))
			}
		}
	}
	if len(h["Content-Encoding"]) > 0 {
		fields = append(fields, "Accept-Encoding")
	}
	slices.Sort(fields)
	fields = slices.Compact(fields)
	return fields, len(fields) <= maxVary
}

// VaryValue is a request field as it is compared: lines joined, white space
// normalised (RFC 9111 §4.1). Of Accept-Encoding the set of codings counts.
func VaryValue(h http.Header, field string) string {
	lines := h[field]
	if len(lines) == 0 {
		return ""
	}
	if field == "Accept-Encoding" {
		return codings(lines)
	}
	if len(lines) == 1 && !strings.ContainsAny(lines[0], " \t") {
		return "=" + lines[0]
	}
	parts := strings.Split(strings.Join(lines, ","), ",")
	for i, p := range parts {
		parts[i] = strings.Join(strings.Fields(p), " ")
	}
	return "=" + strings.Join(parts, ",") // not the same as an absent field
}

// codings is the sorted list of the codings that are accepted at all.
func codings(lines []string) string {
	var list []string
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ",") {
			name, weight, weighted := strings.Cut(part, ";")
			name = strings.ToLower(strings.TrimSpace(name))
			if name == "" || weighted && refused(weight) {
				continue
			}
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return "=" + strings.Join(slices.Compact(list), ",")
}

// refused reports whether a weight is q=0.
func refused(weight string) bool {
	_, q, ok := strings.Cut(weight, "=")
	q = strings.TrimSpace(q)
	return ok && strings.Trim(q, "0.") == "" && strings.HasPrefix(q, "0")
}

// matchesVary reports whether a request would have selected e.
func (e *Entry) matchesVary(h http.Header) bool {
	for i, field := range e.vary {
		if VaryValue(h, field) != e.values[i] {
			return false
		}
	}
	return true
}
