package contract

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// segment is one part of a path template: fixed text, one wildcard, or text
// with wildcards in it such as {name}.{format}.
type segment struct {
	text  string   // fixed, escaped
	names []string // of the wildcards
	fixed []string // around them: one more than names
}

func parseTemplate(template string) ([]segment, error) {
	parts := strings.Split(strings.TrimPrefix(template, "/"), "/")
	if len(parts) > maxDepth {
		return nil, fmt.Errorf("it has more than %d segments", maxDepth)
	}
	list := make([]segment, len(parts))
	for i, part := range parts {
		s := &list[i]
		for rest := part; ; {
			before, after, found := strings.Cut(rest, "{")
			s.fixed = append(s.fixed, (&url.URL{Path: before}).EscapedPath())
			if !found {
				break
			}
			name, next, closed := strings.Cut(after, "}")
			if !closed || name == "" {
				return nil, errors.New("a wildcard is not closed")
			}
			s.names = append(s.names, name)
			rest = next
		}
		if len(s.names) == 0 {
			if s.text = part; !strings.Contains(part, "%") {
				s.text = s.fixed[0]
			}
		}
	}
	return list, nil
}

// match takes the wildcards' values out of one segment of a path.
func (s *segment) match(part string, values []string) ([]string, bool) {
	if len(s.names) == 0 {
		return values, part == s.text
	}
	if !strings.HasPrefix(part, s.fixed[0]) {
		return values, false
	}
	part = part[len(s.fixed[0]):]
	for i := range s.names {
		after := s.fixed[i+1]
		at := len(part)
		if i == len(s.names)-1 {
			if !strings.HasSuffix(part, after) {
				return values, false
			}
			at -= len(after)
		} else if at = strings.Index(part, after); after == "" || at < 0 {
			return values, false
		}
		if at == 0 {
			return values, false
		}
		values = append(values, part[:at])
		part = part[at+len(after):]
	}
	return values, part == ""
}

// match reports whether the operation's path is this one; values has those of
// its wildcards, escaped, appended.
func (op *Operation) match(path string, values []string) ([]string, bool) {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return values, false
	}
	for i := range op.segments {
		part, after, more := strings.Cut(rest, "/")
		if more != (i < len(op.segments)-1) {
			return values, false
		}
		if values, ok = op.segments[i].match(part, values); !ok {
			return values, false
		}
		rest = after
	}
	return values, true
}

// rank orders templates that match the same path: the more fixed the sooner.
func (op *Operation) rank() string {
	b := make([]byte, len(op.segments))
	for i, s := range op.segments {
		switch {
		case len(s.names) == 0:
			b[i] = '0'
		case len(strings.Join(s.fixed, "")) > 0:
			b[i] = '1'
		default:
			b[i] = '2'
		}
	}
	return string(b)
}

// Binding is the part of a document that a route stands for.
type Binding struct {
	Document   *Document
	Operations []*Operation
	base       string // in front of the document's paths
}

// Bind finds the operations that a route may lead to. method is "" for any;
// template is the route's path: {name} stands for a segment, {name...} at its
// end for the rest. The paths of the document count as they stand and with the
// path of one of its servers in front. nil: there are none.
func (d *Document) Bind(method, template string) *Binding {
	route := strings.Split(strings.TrimPrefix(template, "/"), "/")
	for _, base := range d.bases {
		below, ok := cutBase(route, base)
		if !ok {
			continue
		}
		b := &Binding{Document: d, base: base}
		for _, list := range d.candidates(below) {
			for _, op := range list {
				if serves(method, op.Method) && overlaps(below, op.segments) {
					b.Operations = append(b.Operations, op)
				}
			}
		}
		if len(b.Operations) > 0 {
			slices.SortStableFunc(b.Operations, func(a, b *Operation) int { return strings.Compare(a.rank(), b.rank()) })
			return b
		}
	}
	return nil
}

// cutBase takes the base of a server off a route's segments.
func cutBase(route []string, base string) ([]string, bool) {
	if base == "" {
		return route, true
	}
	for _, part := range strings.Split(base[1:], "/") {
		if len(route) == 0 {
			return nil, false
		}
		if isTail(route[0]) {
			return route, true
		}
		if !isWild(route[0]) && route[0] != part {
			return nil, false
		}
		route = route[1:]
	}
	return route, true
}

func isWild(part string) bool { return strings.HasPrefix(part, "{") && strings.HasSuffix(part, "}") }
func isTail(part string) bool { return isWild(part) && strings.HasSuffix(part, "...}") }

// wildcard stands in the index for every segment that is not fixed.
const wildcard = "{}"

// add enters an operation in the document's index, by position and text of its segments.
func (d *Document) add(op *Operation) {
	d.Operations = append(d.Operations, op)
	for i, s := range op.segments {
		if i == len(d.index) {
			d.index = append(d.index, map[string][]*Operation{})
		}
		key := wildcard
		if len(s.names) == 0 {
			key = s.text
		}
		d.index[i][key] = append(d.index[i][key], op)
	}
}

// candidates are the operations that agree with a route in the one fixed
// segment that leaves the fewest.
func (d *Document) candidates(route []string) [2][]*Operation {
	best := [2][]*Operation{d.Operations}
	for i, part := range route {
		if i >= len(d.index) || isWild(part) {
			continue
		}
		if list := [2][]*Operation{d.index[i][part], d.index[i][wildcard]}; len(list[0])+len(list[1]) < len(best[0])+len(best[1]) {
			best = list
		}
	}
	return best
}

// serves reports whether a route for method leads to operations of op; one for
// GET takes HEAD as well.
func serves(method, op string) bool {
	return method == "" || method == op || method == "GET" && op == "HEAD"
}

// overlaps reports whether a path can be that of a route and of an operation.
func overlaps(route []string, parts []segment) bool {
	for i, part := range route {
		switch {
		case isTail(part):
			return i <= len(parts)
		case i >= len(parts):
			return false
		case isWild(part):
			continue
		}
		if _, ok := parts[i].match(part, nil); !ok {
			return false
		}
	}
	return len(route) == len(parts)
}

// Find gives the operation that takes a request, and its path below the
// document's own base; nil without one.
func (b *Binding) Find(method, path string) (op *Operation, below string) {
	below, ok := strings.CutPrefix(path, b.base)
	if !ok {
		return nil, ""
	}
	for _, want := range [...]string{method, "GET"} {
		var buf [8]string
		for _, op := range b.Operations {
			if op.Method != want {
				continue
			}
			if _, ok := op.match(below, buf[:0]); ok {
				return op, below
			}
		}
		if method != "HEAD" {
			break
		}
	}
	return nil, below
}
