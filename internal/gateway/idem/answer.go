package idem

import (
	"net/http"
	"strings"
)

// Answer is how an execution ended.
type Answer struct {
	Status int
	Kept   bool // whether Header and Body are the answer; false when it was too large, or a stream
	Header http.Header
	Body   []byte
}

// The stored form of a header is one "Name: value" line per value, as in HTTP/1.1
// (RFC 9112 §5) but with single line feeds. The bytes of a value are kept as
// they are; line breaks, which no valid value has, become spaces.

func encodeHeader(h http.Header) []byte {
	n := 0
	for name, values := range h {
		for _, v := range values {
			n += len(name) + len(v) + 3
		}
	}
	b := make([]byte, 0, n)
	for name, values := range h {
		for _, v := range values {
			b = append(b, oneLine(name)...)
			b = append(b, ": "...)
			b = append(b, oneLine(v)...)
			b = append(b, '\n')
		}
	}
	return b
}

func oneLine(s string) string {
	if strings.ContainsAny(s, "\r\n") {
		return strings.NewReplacer("\r", " ", "\n", " ").Replace(s)
	}
	return s
}

func decodeHeader(b []byte) http.Header {
	h := http.Header{}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); ok {
			h[name] = append(h[name], value)
		}
	}
	return h
}
