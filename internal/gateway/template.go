package gateway

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// pathTemplate makes the path at the upstream out of the values of a route's
// wildcards. The values are inserted as they stand in the escaped path of the
// request, so that %2F in a value stays inside its segment.
type pathTemplate struct {
	pieces []templatePiece
	size   int // length of the literal text

	// mixed is set where a segment is made of several pieces: then values could
	// join into a dot segment that none of them is.
	mixed bool
}

type templatePiece struct {
	text  string // literal text, when param < 0
	param int    // index into Exchange.Params
}

// parseTemplate reads a route's path; names and kinds are those of its match.
func parseTemplate(s string, match pattern) (*pathTemplate, error) {
	if !strings.HasPrefix(s, "/") {
		return nil, errors.New("the path must begin with /")
	}
	t := &pathTemplate{}
	names := match.paramNames()
	var plain strings.Builder // with x for every wildcard
	for rest := s; rest != ""; {
		open := strings.IndexByte(rest, '{')
		text := rest
		if open >= 0 {
			text = rest[:open]
		}
		if err := t.addText(text, &plain); err != nil {
			return nil, err
		}
		if open < 0 {
			break
		}
		end := strings.IndexByte(rest, '}')
		if end < open {
			return nil, errors.New("a { has no } after it")
		}
		name, isTail := strings.CutSuffix(rest[open+1:end], "...")
		i := slices.Index(names, name)
		if i < 0 {
			return nil, fmt.Errorf("the wildcard {%s} is not in match", name)
		}
		if matchTail := kindOf(match, name) == tail; matchTail != isTail {
			if matchTail {
				return nil, fmt.Errorf("{%s} stands for the rest of the path in match; write {%s...}", name, name)
			}
			return nil, fmt.Errorf("{%s...} stands for one segment in match; write {%s}", name, name)
		}
		before := s[:len(s)-len(rest)+open]
		rest = rest[end+1:]
		if isTail && (rest != "" || !strings.HasSuffix(before, "/")) {
			return nil, fmt.Errorf("{%s...} must be the last segment", name)
		}
		t.mixed = t.mixed || !strings.HasSuffix(before, "/") || rest != "" && rest[0] != '/'
		t.pieces = append(t.pieces, templatePiece{param: i})
		plain.WriteByte('x')
	}
	if _, err := checkPath(plain.String()); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *pathTemplate) addText(text string, plain *strings.Builder) error {
	if text == "" {
		return nil
	}
	if strings.IndexByte(text, '}') >= 0 {
		return errors.New("a } has no { before it")
	}
	lit, err := literal(text)
	if err != nil {
		return err
	}
	plain.WriteString(lit)
	t.pieces = append(t.pieces, templatePiece{text: lit, param: -1})
	t.size += len(lit)
	return nil
}

func kindOf(p pattern, name string) segmentKind {
	for _, s := range p.segments {
		if s.kind != static && s.text == name {
			return s.kind
		}
	}
	return static
}

// expand writes base and the path made of params.
func (t *pathTemplate) expand(base string, params []string) string {
	size := len(base) + t.size
	for _, p := range t.pieces {
		if p.param >= 0 {
			size += len(params[p.param])
		}
	}
	b := make([]byte, 0, size)
	b = append(b, base...)
	for _, p := range t.pieces {
		if p.param < 0 {
			b = append(b, p.text...)
		} else {
			b = append(b, params[p.param]...)
		}
	}
	return string(b)
}
