package contract

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// Bounds of a body.
const (
	maxDepth  = 64
	maxTokens = 1 << 20
)

type kind uint8

const (
	kindNull kind = 1 << iota
	kindFalse
	kindTrue
	kindNumber
	kindString
	kindArray
	kindObject

	kindBool = kindFalse | kindTrue
)

// What else is known of a token.
const (
	flagEscaped   = 1 << iota // a string with \ in it
	flagMultibyte             // a string with characters beyond ASCII
	flagFraction              // a number with . or e
)

// token is one value, or one member's name, of a JSON text. A name is followed
// by its value; an array or object by its items or members.
type token struct {
	start, end uint32 // in the text; of a string without its quotes
	next       uint32 // the token after this value and all that is in it
	count      uint32 // items or members
	kind       kind
	flags      uint8
}

var errSyntax = errors.New("is not JSON")

// scanner reads JSON text (RFC 8259) into tokens.
type scanner struct {
	data []byte
	pos  int
	tape []token
}

// scan appends the tokens of data to tape.
func scan(data []byte, tape []token) ([]token, error) {
	if uint64(len(data)) > 1<<31 {
		return tape, errors.New("is larger than 2 GiB")
	}
	s := scanner{data: data, tape: tape}
	s.space()
	if err := s.value(0); err != nil {
		return s.tape, err
	}
	s.space()
	if s.pos != len(data) {
		return s.tape, fmt.Errorf("%w: there is more after its end", errSyntax)
	}
	return s.tape, nil
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *scanner) value(depth int) error {
	if len(s.tape) >= maxTokens {
		return fmt.Errorf("has more than %d values", maxTokens)
	}
	switch c := s.peek(); c {
	case '{':
		return s.object(depth + 1)
	case '[':
		return s.array(depth + 1)
	case '"':
		return s.text()
	case 't':
		return s.word("true", kindTrue)
	case 'f':
		return s.word("false", kindFalse)
	case 'n':
		return s.word("null", kindNull)
	default:
		if c == '-' || c >= '0' && c <= '9' {
			return s.number()
		}
	}
	if s.pos >= len(s.data) {
		return fmt.Errorf("%w: it ends too early", errSyntax)
	}
	return s.syntax()
}

func (s *scanner) syntax() error { return fmt.Errorf("%w, from byte %d on", errSyntax, s.pos) }

func (s *scanner) add(k kind, start, end int, flags uint8) {
	n := uint32(len(s.tape))                                                                                   // #nosec G115 -- bounded by scan
	s.tape = append(s.tape, token{start: uint32(start), end: uint32(end), next: n + 1, kind: k, flags: flags}) // #nosec -- bounded by scan
}

func (s *scanner) word(w string, k kind) error {
	end := s.pos + len(w)
	if end > len(s.data) || string(s.data[s.pos:end]) != w {
		return s.syntax()
	}
	s.add(k, s.pos, end, 0)
	s.pos = end
	return nil
}

func (s *scanner) number() error {
	start, flags := s.pos, uint8(0)
	if s.peek() == '-' {
		s.pos++
	}
	switch c := s.peek(); {
	case c == '0':
		s.pos++
	case c >= '1' && c <= '9':
		s.digits()
	default:
		return s.syntax()
	}
	if s.peek() == '.' {
		s.pos++
		flags = flagFraction
		if !s.digits() {
			return s.syntax()
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		flags = flagFraction
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if !s.digits() {
			return s.syntax()
		}
	}
	s.add(kindNumber, start, s.pos, flags)
	return nil
}

func (s *scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.data) && s.data[s.pos]-'0' <= 9 {
		s.pos++
	}
	return s.pos > start
}

func (s *scanner) text() error {
	data, i, flags := s.data, s.pos+1, uint8(0)
	start := i
	for i < len(data) {
		c := data[i]
		if plain[c] {
			i++
			continue
		}
		switch {
		case c == '"':
			if flags&flagMultibyte != 0 && !utf8.Valid(data[start:i]) {
				s.pos = start
				return fmt.Errorf("%w: the text at byte %d is no UTF-8", errSyntax, start)
			}
			s.add(kindString, start, i, flags)
			s.pos = i + 1
			return nil
		case c == '\\':
			flags |= flagEscaped
			n := escapeLength(data[i:])
			if n == 0 {
				s.pos = i
				return s.syntax()
			}
			i += n
		case c < ' ':
			s.pos = i
			return s.syntax()
		default:
			flags |= flagMultibyte
			i++
		}
	}
	return fmt.Errorf("%w: it ends too early", errSyntax)
}

// plain are the bytes that stand for themselves in a string.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// escapeLength is the length of the escape that b begins with, 0 for none.
func escapeLength(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) < 6 {
			return 0
		}
		if _, ok := hex4(b[2:6]); ok {
			return 6
		}
	}
	return 0
}

func hex4(b []byte) (rune, bool) {
	var r rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

func (s *scanner) array(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("is nested deeper than %d levels", maxDepth)
	}
	at, start, count := len(s.tape), s.pos, uint32(0)
	s.add(kindArray, start, 0, 0)
	s.pos++
	s.space()
	if s.peek() == ']' {
		s.pos++
	} else {
		for {
			s.space()
			if err := s.value(depth); err != nil {
				return err
			}
			count++
			s.space()
			c := s.peek()
			s.pos++
			if c == ']' {
				break
			}
			if c != ',' {
				s.pos--
				return s.syntax()
			}
		}
	}
	s.close(at, count)
	return nil
}

func (s *scanner) object(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("is nested deeper than %d levels", maxDepth)
	}
	at, start, count := len(s.tape), s.pos, uint32(0)
	s.add(kindObject, start, 0, 0)
	s.pos++
	s.space()
	if s.peek() == '}' {
		s.pos++
	} else {
		for {
			if err := s.member(depth); err != nil {
				return err
			}
			count++
			s.space()
			c := s.peek()
			s.pos++
			if c == '}' {
				break
			}
			if c != ',' {
				s.pos--
				return s.syntax()
			}
		}
	}
	s.close(at, count)
	return nil
}

func (s *scanner) member(depth int) error {
	s.space()
	if s.peek() != '"' {
		return s.syntax()
	}
	if err := s.text(); err != nil {
		return err
	}
	s.space()
	if s.peek() != ':' {
		return s.syntax()
	}
	s.pos++
	s.space()
	return s.value(depth)
}

func (s *scanner) close(at int, count uint32) {
	t := &s.tape[at]
	t.end, t.next, t.count = uint32(s.pos), uint32(len(s.tape)), count // #nosec -- bounded by scan
}

// unescape appends the text of a string with escapes to buf. A half of a
// surrogate pair that stands alone becomes U+FFFD.
func unescape(buf, b []byte) []byte {
	for i := 0; i < len(b); {
		if b[i] != '\\' {
			buf = append(buf, b[i])
			i++
			continue
		}
		c := b[i+1]
		i += 2
		switch c {
		case 'b':
			buf = append(buf, '\b')
		case 'f':
			buf = append(buf, '\f')
		case 'n':
			buf = append(buf, '\n')
		case 'r':
			buf = append(buf, '\r')
		case 't':
			buf = append(buf, '\t')
		case 'u':
			r, _ := hex4(b[i:])
			i += 4
			if r >= 0xD800 && r < 0xDC00 && i+6 <= len(b) && b[i] == '\\' && b[i+1] == 'u' {
				if low, _ := hex4(b[i+2:]); low >= 0xDC00 && low < 0xE000 {
					r = (r-0xD800)<<10 | (low - 0xDC00) + 0x10000
					i += 6
				}
			}
			buf = utf8.AppendRune(buf, r)
		default:
			buf = append(buf, c)
		}
	}
	return buf
}
