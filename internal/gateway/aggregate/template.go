package aggregate

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// A Target is a template of path and query, such as
// /at/{airport.latitude},{airport.longitude}?units={query.units?}. Values are
// escaped for where they stand. A parameter with a value that is marked with ?
// and is missing is left out.
type Target struct {
	path  []piece
	query []parameter
}

type piece struct {
	text string // literal, when ref is nil
	ref  *reference
}

type parameter struct {
	name   string // escaped
	pieces []piece
	bare   bool // without =
}

// split cuts a template into literal text and references. {{ and }} are braces.
func (sc *scope) split(s string) ([]piece, error) {
	var list []piece
	var text strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], "{{") || strings.HasPrefix(s[i:], "}}"):
			text.WriteByte(s[i])
			i++
		case s[i] == '}':
			return nil, errors.New("a } has no { before it; write }} for the character")
		case s[i] == '{':
			end := strings.IndexAny(s[i+1:], "{}")
			if end < 0 || s[i+1+end] != '}' {
				return nil, errors.New("a { has no } after it; write {{ for the character")
			}
			ref, err := sc.parse(s[i+1 : i+1+end])
			if err != nil {
				return nil, err
			}
			if text.Len() > 0 {
				list = append(list, piece{text: text.String()})
				text.Reset()
			}
			list = append(list, piece{ref: &ref})
			i += end + 1
		default:
			text.WriteByte(s[i])
		}
	}
	if text.Len() > 0 {
		list = append(list, piece{text: text.String()})
	}
	return list, nil
}

// target compiles a template of path and query.
func (sc *scope) target(s string) (*Target, error) {
	switch {
	case !strings.HasPrefix(s, "/"):
		return nil, errors.New("the path must begin with /")
	case len(s) > maxTemplate:
		return nil, fmt.Errorf("the path is longer than %d bytes", maxTemplate)
	}
	path, query, asked := cutQuery(s)
	t := &Target{}
	var err error
	if t.path, err = sc.split(path); err != nil {
		return nil, err
	}
	for i, p := range t.path {
		switch {
		case p.ref == nil:
			if t.path[i].text, err = literal(p.text); err != nil {
				return nil, err
			}
		case p.ref.optional:
			return nil, fmt.Errorf("%s: a path needs the value; ? is for the query and for bodies", p.ref.text)
		case p.ref.as != asText:
			return nil, fmt.Errorf("%s: kinds are for bodies", p.ref.text)
		}
	}
	if !asked {
		return t, nil
	}
	for pair := range strings.SplitSeq(query, "&") {
		p, err := sc.parameter(pair)
		if err != nil {
			return nil, err
		}
		t.query = append(t.query, p)
	}
	return t, nil
}

// cutQuery cuts at the first ? that does not mark a value as optional.
func cutQuery(s string) (path, query string, asked bool) {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '{':
			depth++
		case '}':
			depth--
		case '?':
			if depth == 0 {
				return s[:i], s[i+1:], true
			}
		}
	}
	return s, "", false
}

func (sc *scope) parameter(pair string) (p parameter, err error) {
	name, template, assigned := strings.Cut(pair, "=")
	if name == "" || strings.ContainsAny(name, "{}") {
		return p, fmt.Errorf("%q is not a parameter: write name={value}", pair)
	}
	if p.name, err = queryLiteral(name); err != nil {
		return p, err
	}
	p.bare = !assigned
	if p.pieces, err = sc.split(template); err != nil {
		return p, err
	}
	for i, v := range p.pieces {
		switch {
		case v.ref == nil:
			if p.pieces[i].text, err = queryLiteral(v.text); err != nil {
				return p, err
			}
		case v.ref.as != asText:
			return p, fmt.Errorf("%s: kinds are for bodies", v.ref.text)
		}
	}
	return p, nil
}

// literal is fixed text of a path, escaped.
func literal(s string) (string, error) {
	if i := strings.IndexAny(s, "#\\"); i >= 0 {
		return "", fmt.Errorf("a path has no %q", s[i])
	}
	return escapedText(s, "/:@!$&'()*+,;=")
}

func queryLiteral(s string) (string, error) {
	if strings.IndexByte(s, '#') >= 0 {
		return "", errors.New("a query has no '#'")
	}
	return escapedText(s, "/:@!$'()*+,;?=")
}

// escapedText escapes what is neither unreserved nor in keep; % begins an escape.
func escapedText(s, keep string) (string, error) {
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		switch c := s[i]; {
		case c == '%':
			if i+2 >= len(s) || !hex4([]byte(s[i+1:i+3])) {
				return "", errors.New("a % must be followed by two hex digits")
			}
			b = append(b, c)
		case c < ' ' || c == 0x7F:
			return "", fmt.Errorf("%q has a control character", s)
		case unreserved(c) || strings.IndexByte(keep, c) >= 0:
			b = append(b, c)
		default:
			b = appendEscaped(b, c)
		}
	}
	return string(b), nil
}

// unreserved is RFC 3986 §2.3.
func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

func appendEscaped(b []byte, c byte) []byte {
	const upper = "0123456789ABCDEF"
	return append(b, '%', upper[c>>4], upper[c&15])
}

func appendEscapedText(b []byte, s string) []byte {
	for i := range len(s) {
		if unreserved(s[i]) {
			b = append(b, s[i])
		} else {
			b = appendEscaped(b, s[i])
		}
	}
	return b
}

// Sample is the path with x for every value, for the rules of paths.
func (t *Target) Sample() string {
	var b strings.Builder
	for _, p := range t.path {
		if p.ref != nil {
			b.WriteByte('x')
		}
		b.WriteString(p.text)
	}
	return b.String()
}

// fill makes the escaped path and the query.
func (t *Target) fill(in *Input, answers [][]byte) (path, query string, err error) {
	b := make([]byte, 0, 128)
	for _, p := range t.path {
		if p.ref == nil {
			b = append(b, p.text...)
			continue
		}
		text, escaped, err := p.ref.scalar(in, answers)
		if err != nil {
			return "", "", p.ref.missing(err)
		}
		if text == "." || text == ".." {
			return "", "", p.ref.fault("must not be a dot segment")
		}
		if escaped {
			b = append(b, text...)
		} else {
			b = appendEscapedText(b, text)
		}
	}
	path = string(b)
	if len(t.query) == 0 {
		return path, "", nil
	}
	b = b[:0]
	for i := range t.query {
		if b, err = t.query[i].append(b, in, answers); err != nil {
			return "", "", err
		}
	}
	return path, string(b), nil
}

// append adds one parameter, or nothing when a value that may be missing is.
func (p *parameter) append(b []byte, in *Input, answers [][]byte) ([]byte, error) {
	mark := len(b)
	if mark > 0 {
		b = append(b, '&')
	}
	b = append(b, p.name...)
	if !p.bare {
		b = append(b, '=')
	}
	for _, v := range p.pieces {
		if v.ref == nil {
			b = append(b, v.text...)
			continue
		}
		text, escaped, err := v.ref.scalar(in, answers)
		if errors.Is(err, errMissing) && v.ref.optional {
			return b[:mark], nil
		}
		if err != nil {
			return b, v.ref.missing(err)
		}
		if escaped {
			if text, err = url.PathUnescape(text); err != nil {
				return b, v.ref.fault("is not well-formed")
			}
		}
		b = appendEscapedText(b, text)
	}
	return b, nil
}

func references(pieces []piece, yield func(*reference)) {
	for _, p := range pieces {
		if p.ref != nil {
			yield(p.ref)
		}
	}
}

func (t *Target) references(yield func(*reference)) {
	references(t.path, yield)
	for _, p := range t.query {
		references(p.pieces, yield)
	}
}
