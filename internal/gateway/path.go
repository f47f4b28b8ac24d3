package gateway

import (
	"errors"
	"net/url"
	"strings"
)

// These refuse paths that mean one thing here and may mean
// another at the upstream.
var (
	errDotSegments = errors.New("the path must not have . or .. segments, escaped or not")
	errNUL         = errors.New("the path must not have %00")
	errEscape      = errors.New("a % in the path must be followed by two hex digits")
)

// checkPath brings an escaped path into one form for routing and forwarding:
// escapes of unreserved characters are decoded, hex digits made upper case
// (RFC 3986 §6.2.2) and characters escaped that a path may not hold as they are;
// %2F stays %2F. Paths with dot segments are refused, also where an upstream
// that decodes %2F or %5C would find them.
func checkPath(escaped string) (string, error) {
	if !plainPath(escaped) {
		if !wellFormed(escaped) {
			return "", errEscape
		}
		escaped = normalizeEscapes(escaped)
	}
	for i := strings.IndexByte(escaped, '.'); i >= 0; {
		if dotSegmentAt(escaped, i) {
			return "", errDotSegments
		}
		next := strings.IndexByte(escaped[i+1:], '.')
		if next < 0 {
			break
		}
		i += 1 + next
	}
	if strings.Contains(escaped, "%00") {
		return "", errNUL
	}
	return escaped, nil
}

// rawPath is the path as the client sent it. URL.EscapedPath is not that: a
// character that should have been escaped makes it forget every escape of the
// client's, so that %2F would become a separator.
func rawPath(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	return u.EscapedPath() // the same, since the default encoding gives it
}

// plainPath reports whether s needs no look at its escapes.
func plainPath(s string) bool {
	for i := 0; i < len(s); i++ {
		if !inPath[s[i]] {
			return false
		}
	}
	return true
}

// inPath are the characters that a path holds as they are: RFC 3986 §3.3, and
// brackets, which net/url and other servers leave alone.
var inPath = func() (set [256]bool) {
	for c := range set {
		set[c] = unreserved(byte(c)) || strings.IndexByte("/:@!$&'()*+,;=[]", byte(c)) >= 0
	}
	return set
}()

func wellFormed(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] == '%' {
			if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return false
			}
			i += 2
		}
	}
	return true
}

// dotSegmentAt reports whether the dot at i begins a segment "." or "..".
func dotSegmentAt(s string, i int) bool {
	if !separatorBefore(s, i) {
		return false
	}
	i++
	if i < len(s) && s[i] == '.' {
		i++
	}
	return i == len(s) || s[i] == '/' || separatorEscape(s[i:])
}

func separatorBefore(s string, i int) bool {
	return i == 0 || s[i-1] == '/' || i >= 3 && separatorEscape(s[i-3:])
}

// separatorEscape reports whether s begins with an escaped / or \.
func separatorEscape(s string) bool {
	return len(s) >= 3 && (s[:3] == "%2F" || s[:3] == "%5C")
}

// normalizeEscapes decodes escapes of unreserved characters, writes the others
// with upper case digits and escapes what a path may not hold. A % without two
// digits stays as it is.
func normalizeEscapes(s string) string {
	if plainPath(s) {
		return s
	}
	const digits = "0123456789ABCDEF"
	b := make([]byte, 0, len(s)+16)
	for i := 0; i < len(s); i++ {
		if s[i] != '%' && !inPath[s[i]] {
			b = append(b, '%', digits[s[i]>>4], digits[s[i]&15])
			continue
		}
		if s[i] != '%' || i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
			b = append(b, s[i])
			continue
		}
		if c := unhex(s[i+1])<<4 | unhex(s[i+2]); unreserved(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', upperHex(s[i+1]), upperHex(s[i+2]))
		}
		i += 2
	}
	return string(b)
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c >= 'a':
		return c - 'a' + 10
	}
	return c - 'A' + 10
}

func upperHex(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 'A'
	}
	return c
}

// unreserved is RFC 3986 §2.3.
func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}
