package dpop

import (
	"net"
	"net/url"
	"strings"
)

// maxURL bounds htu and the URL of the request.
const maxURL = 4 << 10

// NormalizeURL returns the form in which two spellings of one http or https URL
// are equal (RFC 3986 §6.2.2 and §6.2.3, as RFC 9449 §4.3 asks for): lower-case
// scheme and host, no default port, no dot segments, percent-encoding only where
// it is needed and in upper case, "/" for an empty path; without query and
// fragment. ok is false for anything that is not an absolute http or https URL
// with a host and without user information.
func NormalizeURL(raw string) (normal string, ok bool) {
	if len(raw) > maxURL {
		return "", false
	}
	raw, _, _ = strings.Cut(raw, "#")
	raw, _, _ = strings.Cut(raw, "?")
	if plain(raw) {
		return raw, true
	}
	for i := range len(raw) {
		if raw[i] <= 0x20 || raw[i] >= 0x7f || raw[i] == '\\' {
			return "", false
		}
	}
	u, err := url.Parse(raw)
	if err != nil || u.User != nil || u.Host == "" || u.Opaque != "" {
		return "", false
	}
	scheme := strings.ToLower(u.Scheme)
	if scheme != "http" && scheme != "https" {
		return "", false
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if host == "" || host[0] == '.' || strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789.-_:") != "" {
		return "", false // an international name comes as A-labels
	}
	if port == "" || scheme == "https" && port == "443" || scheme == "http" && port == "80" {
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
	} else {
		host = net.JoinHostPort(host, port)
	}
	path, ok := normalizeEscapes(u.EscapedPath())
	if !ok {
		return "", false
	}
	return scheme + "://" + host + removeDotSegments(path), true
}

// plain recognises what nearly every client sends, which is normal as it
// stands: an https URL with a lower-case name, no port and a path of unreserved
// characters without dots.
func plain(raw string) bool {
	rest, ok := strings.CutPrefix(raw, "https://")
	slash := strings.IndexByte(rest, '/')
	if !ok || slash <= 0 || rest[0] == '.' {
		return false
	}
	for i := range slash {
		if c := rest[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-') {
			return false
		}
	}
	for i := slash; i < len(rest); i++ {
		if c := rest[i]; !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '~' || c == '/') {
			return false
		}
	}
	return true
}

const upperHex = "0123456789ABCDEF"

// normalizeEscapes decodes escaped unreserved characters and writes all other
// escapes in upper case (RFC 3986 §6.2.2.1, §6.2.2.2).
func normalizeEscapes(path string) (string, bool) {
	if !strings.Contains(path, "%") {
		return path, true
	}
	out := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			out = append(out, path[i])
			continue
		}
		if i+2 >= len(path) {
			return "", false
		}
		high, low := unhex(path[i+1]), unhex(path[i+2])
		if high < 0 || low < 0 {
			return "", false
		}
		i += 2
		switch c := byte(high<<4 | low); { // #nosec G115 -- two hex digits
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~':
			out = append(out, c)
		default:
			out = append(out, '%', upperHex[high], upperHex[low])
		}
	}
	return string(out), true
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// removeDotSegments is RFC 3986 §5.2.4 for a path that is empty or begins with "/".
func removeDotSegments(path string) string {
	if path == "" {
		return "/"
	}
	if !strings.Contains(path, "/.") {
		return path
	}
	segments := strings.Split(path[1:], "/")
	out := segments[:0]
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".":
			if last {
				out = append(out, "")
			}
		case "..":
			if len(out) > 0 {
				out = out[:len(out)-1]
			}
			if last {
				out = append(out, "")
			}
		default:
			out = append(out, s)
		}
	}
	return "/" + strings.Join(out, "/")
}
