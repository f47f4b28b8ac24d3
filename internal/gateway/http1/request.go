package http1

import (
	"fmt"
	"net/http"
	"strconv"
)

// appendHead appends the request line and the header of r. length is that of
// the body, -1 for a chunked one.
func (r *Request) appendHead(b []byte, length int64, last bool) ([]byte, error) {
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, r.Target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, r.Host...)
	b = append(b, "\r\n"...)
	switch {
	case length > 0, length == 0 && sendsLength(r.Method):
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, length, 10)
		b = append(b, "\r\n"...)
	case length < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		b = appendTrailerKeys(b, r.Trailer)
	}
	if last {
		b = append(b, "Connection: close\r\n"...)
	}
	for key, values := range r.Header {
		if r.Edit != nil {
			key, values = r.Edit(key, values)
		}
		switch key {
		case "Host", "Content-Length", "Transfer-Encoding", "Trailer":
			continue
		case "User-Agent":
			if len(values) == 0 || values[0] == "" {
				continue
			}
		}
		var err error
		if b, err = appendField(b, key, values); err != nil {
			return b, err
		}
	}
	for i := range r.More {
		var err error
		if b, err = appendLine(b, r.More[i].Name, r.More[i].Value); err != nil {
			return b, err
		}
	}
	return append(b, "\r\n"...), nil
}

// sendsLength reports whether a request without a body says so: with these
// methods services expect it (RFC 9110 §8.6).
func sendsLength(method string) bool {
	return method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch
}

func appendField(b []byte, key string, values []string) (_ []byte, err error) {
	for _, v := range values {
		if b, err = appendLine(b, key, v); err != nil {
			return b, err
		}
	}
	return b, nil
}

func appendLine(b []byte, key, value string) ([]byte, error) {
	if !isToken(key) {
		return b, fmt.Errorf("http1: the field name %q is no token", key)
	}
	if !isFieldValue(value) {
		return b, fmt.Errorf("http1: the value of the field %s has a control character", key)
	}
	b = append(b, key...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...), nil
}

func appendTrailerKeys(b []byte, trailer http.Header) []byte {
	if len(trailer) == 0 {
		return b
	}
	b = append(b, "Trailer: "...)
	first := true
	for key := range trailer {
		if !trailerName(key) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		b, first = append(b, key...), false
	}
	return append(b, "\r\n"...)
}

// appendTrailers appends the fields behind the last chunk.
func appendTrailers(b []byte, trailer http.Header) ([]byte, error) {
	for key, values := range trailer {
		if !trailerName(key) {
			continue
		}
		var err error
		if b, err = appendField(b, key, values); err != nil {
			return b, err
		}
	}
	return append(b, "\r\n"...), nil
}

// trailerName reports whether a field may stand behind the body (RFC 9110 §6.5.1).
func trailerName(key string) bool {
	switch key {
	case "Transfer-Encoding", "Trailer", "Content-Length":
		return false
	}
	return isToken(key)
}

// Classes of bytes (RFC 9110 §5.6.2 and §5.5).
const (
	tokenByte = 1 << iota
	valueByte
	visibleByte
)

var class = func() (c [256]uint8) {
	for i := range c {
		b := byte(i) // #nosec -- 0 to 255
		switch {
		case b >= '0' && b <= '9', b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z':
			c[i] |= tokenByte
		}
		if b == '\t' || b >= 0x20 && b != 0x7F {
			c[i] |= valueByte
		}
		if b > 0x20 && b != 0x7F {
			c[i] |= visibleByte
		}
	}
	for _, b := range "!#$%&'*+-.^_`|~" {
		c[b] |= tokenByte
	}
	return c
}()

func all(s string, of uint8) bool {
	for i := 0; i < len(s); i++ {
		if class[s[i]]&of == 0 {
			return false
		}
	}
	return true
}

func isToken(s string) bool      { return s != "" && all(s, tokenByte) }
func isFieldValue(s string) bool { return all(s, valueByte) }
func isVisible(s string) bool    { return all(s, visibleByte) }
