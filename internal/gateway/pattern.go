package gateway

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// maxParams bounds a pattern's wildcards, so that their values live in the Exchange itself.
const maxParams = 8

// maxSegments bounds a pattern's depth.
const maxSegments = 64

type segmentKind uint8

const (
	static segmentKind = iota
	param              // {name}: one non-empty segment
	tail               // {name...}: the rest of the path, possibly empty
)

type segment struct {
	kind segmentKind
	text string // normalised escaped text, or the wildcard's name
}

// pattern is a parsed match: an optional method and the path's segments.
type pattern struct {
	method   string // "" = any
	segments []segment
}

// parsePattern reads "GET /v1/flights/{id}/status". The method is optional;
// {name} stands for one segment, {name...} at the end for the rest.
func parsePattern(s string) (pattern, error) {
	var p pattern
	path := s
	if method, rest, ok := strings.Cut(s, " "); ok && !strings.HasPrefix(s, "/") {
		p.method, path = method, strings.TrimLeft(rest, " ")
		if !validMethod(p.method) {
			return p, fmt.Errorf("%q is not a method; write for example \"GET /v1/flights\", or only the path for any method", p.method)
		}
	}
	if !strings.HasPrefix(path, "/") {
		return p, errors.New("the path must begin with /")
	}
	parts := strings.Split(path[1:], "/")
	if len(parts) > maxSegments {
		return p, fmt.Errorf("the path has more than %d segments", maxSegments)
	}
	seen := map[string]bool{}
	for i, part := range parts {
		seg, err := parseSegment(part, i == len(parts)-1)
		if err != nil {
			return p, err
		}
		if seg.kind != static {
			if seen[seg.text] {
				return p, fmt.Errorf("the wildcard {%s} is there twice", seg.text)
			}
			seen[seg.text] = true
		}
		p.segments = append(p.segments, seg)
	}
	if len(seen) > maxParams {
		return p, fmt.Errorf("the path has more than %d wildcards", maxParams)
	}
	return p, nil
}

func parseSegment(part string, last bool) (segment, error) {
	if !strings.ContainsAny(part, "{}") {
		if part == "" && !last {
			return segment{}, errors.New("the path has an empty segment (//)")
		}
		text, err := literal(part)
		if err != nil {
			return segment{}, err
		}
		if text == "." || text == ".." {
			return segment{}, errors.New("the path must not have . or .. segments")
		}
		return segment{static, text}, nil
	}
	name, ok := strings.CutPrefix(part, "{")
	name, closed := strings.CutSuffix(name, "}")
	if !ok || !closed || strings.ContainsAny(name, "{}") {
		return segment{}, fmt.Errorf("the wildcard in %q must be a whole segment, like {id}", part)
	}
	kind := param
	if rest, isTail := strings.CutSuffix(name, "..."); isTail {
		if !last {
			return segment{}, fmt.Errorf("{%s} must be the last segment", name)
		}
		name, kind = rest, tail
	}
	if !validName(name) {
		return segment{}, fmt.Errorf("%q is not a wildcard's name: letters, digits and _, at most 32, not beginning with a digit", name)
	}
	return segment{kind, name}, nil
}

// literal turns the fixed text of a pattern or template into the form that
// request paths are compared in: escaped, unreserved characters plain.
func literal(s string) (string, error) {
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		return "", fmt.Errorf("a path has no %q; the query string is passed on as it is", s[i])
	}
	plain, err := url.PathUnescape(s)
	if err != nil {
		return "", fmt.Errorf("%q is not a well-formed path: %% must be followed by two hex digits", s)
	}
	u := url.URL{Path: plain, RawPath: s}
	return normalizeEscapes(u.EscapedPath()), nil
}

func validMethod(m string) bool {
	if m == "" || len(m) > 20 {
		return false
	}
	for _, c := range []byte(m) {
		if (c < 'A' || c > 'Z') && c != '-' {
			return false
		}
	}
	return m != "CONNECT" && m != "TRACE"
}

func validName(s string) bool {
	for i, c := range []byte(s) {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 32
}

// paramNames lists the wildcards in order.
func (p pattern) paramNames() []string {
	var names []string
	for _, s := range p.segments {
		if s.kind != static {
			names = append(names, s.text)
		}
	}
	return names
}

// path is the pattern's path with its wildcards, without the method.
func (p pattern) path() string {
	var b strings.Builder
	for _, s := range p.segments {
		b.WriteByte('/')
		switch s.kind {
		case static:
			b.WriteString(s.text)
		case param:
			b.WriteString("{" + s.text + "}")
		case tail:
			b.WriteString("{" + s.text + "...}")
		}
	}
	return b.String()
}
