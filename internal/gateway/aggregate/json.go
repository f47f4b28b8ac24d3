package aggregate

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// maxDepth bounds how deep objects and lists of an answer nest.
const maxDepth = 128

// Valid reports whether b is one JSON value (RFC 8259) in UTF-8, with objects
// and lists nested at most 128 deep.
func Valid(b []byte) bool {
	i := value(b, space(b, 0), 0)
	return i >= 0 && space(b, i) == len(b) && utf8.Valid(b)
}

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// value checks the value at i and returns where it ends, -1 if it is none.
func value(b []byte, i, depth int) int {
	if i >= len(b) {
		return -1
	}
	switch c := b[i]; {
	case c == '"':
		return text(b, i+1)
	case c == '{' || c == '[':
		if depth >= maxDepth {
			return -1
		}
		return container(b, i, depth+1)
	case c == '-' || c >= '0' && c <= '9':
		return number(b, i)
	case c == 't':
		return word(b, i, "true")
	case c == 'f':
		return word(b, i, "false")
	case c == 'n':
		return word(b, i, "null")
	}
	return -1
}

func word(b []byte, i int, w string) int {
	if len(b)-i < len(w) || string(b[i:i+len(w)]) != w {
		return -1
	}
	return i + len(w)
}

// container checks the object or list that begins at i.
func container(b []byte, i, depth int) int {
	object := b[i] == '{'
	last := byte(']')
	if object {
		last = '}'
	}
	if i = space(b, i+1); i < len(b) && b[i] == last {
		return i + 1
	}
	for {
		if object {
			if i >= len(b) || b[i] != '"' {
				return -1
			}
			if i = text(b, i+1); i < 0 {
				return -1
			}
			if i = space(b, i); i >= len(b) || b[i] != ':' {
				return -1
			}
			i = space(b, i+1)
		}
		if i = value(b, i, depth); i < 0 {
			return -1
		}
		if i = space(b, i); i >= len(b) {
			return -1
		}
		switch b[i] {
		case last:
			return i + 1
		case ',':
			i = space(b, i+1)
		default:
			return -1
		}
	}
}

// plain are the bytes of a text that need no second look.
var plain = func() (t [256]bool) {
	for c := ' '; c < 256; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// text checks a text after its opening quote.
func text(b []byte, i int) int {
	for i < len(b) {
		switch c := b[i]; {
		case plain[c]:
			i++
		case c == '"':
			return i + 1
		case c != '\\' || i+1 >= len(b):
			return -1
		default:
			switch b[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			case 'u':
				if i+6 > len(b) || !hex4(b[i+2:i+6]) {
					return -1
				}
				i += 6
			default:
				return -1
			}
		}
	}
	return -1
}

func hex4(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

func number(b []byte, i int) int {
	if b[i] == '-' {
		i++
	}
	switch {
	case i >= len(b):
		return -1
	case b[i] == '0':
		i++
	default:
		if i = digits(b, i); i < 0 {
			return -1
		}
	}
	if i < len(b) && b[i] == '.' {
		if i = digits(b, i+1); i < 0 {
			return -1
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if i = digits(b, i); i < 0 {
			return -1
		}
	}
	return i
}

// digits is where the digits at i end; -1 if there are none.
func digits(b []byte, i int) int {
	from := i
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	if i == from {
		return -1
	}
	return i
}

// The rest reads documents that Valid has seen.

// skip returns where the value at i ends.
func skip(b []byte, i int) int {
	switch b[i] {
	case '"':
		return skipText(b, i+1)
	case '{', '[':
		for depth := 0; ; {
			switch b[i] {
			case '"':
				i = skipText(b, i+1)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
	}
	for i < len(b) {
		switch b[i] {
		case ',', '}', ']', ' ', '\n', '\r', '\t':
			return i
		}
		i++
	}
	return i
}

func skipText(b []byte, i int) int {
	for {
		n := bytes.IndexByte(b[i:], '"')
		end := i + n
		slashes := 0
		for end-1-slashes >= i && b[end-1-slashes] == '\\' {
			slashes++
		}
		i = end + 1
		if slashes%2 == 0 {
			return i
		}
	}
}

// trim takes the white space around a document away.
func trim(b []byte) []byte { return bytes.Trim(b, " \n\r\t") }

// reader goes through the members of an object or the items of a list.
type reader struct {
	b []byte
	i int
}

// open begins to read the object or list that b is, without space around it.
func open(b []byte) reader { return reader{b, space(b, 1)} }

// member returns the next member: its name with the quotes, and its value.
func (r *reader) member() (name, value []byte, ok bool) {
	if r.b[r.i] == '}' {
		return nil, nil, false
	}
	from := r.i
	r.i = skipText(r.b, r.i+1)
	name = r.b[from:r.i]
	r.i = space(r.b, space(r.b, r.i)+1) // over the colon
	return name, r.take(), true
}

// item returns the next item.
func (r *reader) item() (value []byte, ok bool) {
	if r.b[r.i] == ']' {
		return nil, false
	}
	return r.take(), true
}

func (r *reader) take() []byte {
	from := r.i
	r.i = skip(r.b, r.i)
	value := r.b[from:r.i]
	if r.i = space(r.b, r.i); r.b[r.i] == ',' {
		r.i = space(r.b, r.i+1)
	}
	return value
}

// is reports whether a name in quotes means s.
func is(quoted []byte, s string) bool {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1:len(quoted)-1]) == s
	}
	return unquote(quoted) == s
}

// unquote decodes a text in quotes.
func unquote(quoted []byte) string {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return string(inner) // not a text that Valid has seen
	}
	return s
}

// find returns what is at path in the value b: the members of that name, or of
// a list the item with that number, counted from 0.
func find(b []byte, path []string) (value []byte, ok bool) {
	for _, step := range path {
		switch b[0] {
		case '{':
			found := []byte(nil)
			for r := open(b); ; {
				name, value, more := r.member()
				if !more {
					break
				}
				if is(name, step) {
					found = value
				}
			}
			if found == nil {
				return nil, false
			}
			b = found
		case '[':
			n, err := strconv.Atoi(step)
			if err != nil || n < 0 || len(step) > 1 && step[0] == '0' || step[0] == '+' {
				return nil, false
			}
			r := open(b)
			item, more := r.item()
			for ; more && n > 0; n-- {
				item, more = r.item()
			}
			if !more {
				return nil, false
			}
			b = item
		default:
			return nil, false
		}
	}
	return b, true
}

const hexDigits = "0123456789abcdef"

// appendText appends s as a JSON text.
func appendText(dst []byte, s string) []byte {
	dst = append(dst, '"')
	return append(appendInner(dst, s), '"')
}

// appendInner appends s as it stands between the quotes of a JSON text.
func appendInner(dst []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
