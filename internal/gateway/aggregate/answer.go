package aggregate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// shape is the answer's form: objects, lists, and at their ends paths into
// what calls were answered.
type shape struct {
	kind    byte // '{', '[', 'p' a path, 'l' a literal
	names   []string
	quoted  [][]byte // names as they are written
	items   []*shape
	spreads []*shape        // "...": objects whose members are members of this one
	own     map[string]bool // names, where there are spreads
	literal []byte

	call     int
	path     []string
	text     string // of path
	optional bool   // "weather.alert?": may be absent
	needs    uint32 // the calls below, one bit each
}

// spreadKey takes members of others into an object.
const spreadKey = "..."

// missingKey is the member that says what is missing.
const missingKey = "missing"

// answer compiles the shape raw, which is JSON; a text is a path.
func (sc *scope) answer(raw []byte, at []any, fault func(at []any, hint string, err error)) *shape {
	raw = trim(raw)
	if len(at) > maxDepth/4 {
		fault(at, "", errors.New("the answer nests too deep"))
		return nil
	}
	switch raw[0] {
	case '{':
		s := &shape{kind: '{'}
		for r := open(raw); ; {
			quoted, value, more := r.member()
			if !more {
				return s.finish()
			}
			name := unquote(quoted)
			here := append(slices.Clone(at), name)
			if name == spreadKey {
				s.addSpreads(sc, value, here, fault)
				continue
			}
			if item := sc.answer(value, here, fault); item != nil {
				s.names, s.quoted, s.items = append(s.names, name), append(s.quoted, quoted), append(s.items, item)
			}
		}
	case '[':
		s := &shape{kind: '['}
		for r, i := open(raw), 0; ; i++ {
			value, more := r.item()
			if !more {
				return s.finish()
			}
			if item := sc.answer(value, append(slices.Clone(at), i), fault); item != nil {
				s.items = append(s.items, item)
			}
		}
	case '"':
		s, err := sc.pathShape(unquote(raw))
		if err != nil {
			fault(at, "write a call's name and a path in its answer, like weather.now", err)
			return nil
		}
		return s
	}
	return &shape{kind: 'l', literal: raw}
}

func (s *shape) addSpreads(sc *scope, value []byte, at []any, fault func(at []any, hint string, err error)) {
	one := func(value []byte, at []any) {
		if value[0] != '"' {
			fault(at, "write for example \"...\": airport", errors.New("only paths can be merged"))
			return
		}
		if item := sc.answer(value, at, fault); item != nil {
			s.spreads = append(s.spreads, item)
		}
	}
	if value[0] != '[' {
		one(value, at)
		return
	}
	for r, i := open(value), 0; ; i++ {
		item, more := r.item()
		if !more {
			return
		}
		one(item, append(slices.Clone(at), i))
	}
}

func (s *shape) finish() *shape {
	for _, item := range s.items {
		s.needs |= item.needs
	}
	for _, item := range s.spreads {
		s.needs |= item.needs
	}
	if len(s.spreads) > 0 {
		s.own = map[string]bool{}
		for _, name := range s.names {
			s.own[name] = true
		}
	}
	return s
}

func (sc *scope) pathShape(text string) (*shape, error) {
	plain, optional := strings.CutSuffix(text, "?")
	path, err := parsePath(plain)
	if err != nil {
		return nil, err
	}
	call, known := sc.calls[path[0]]
	if !known {
		return nil, fmt.Errorf("there is no call %q", path[0])
	}
	return &shape{kind: 'p', call: call, path: path[1:], text: strings.TrimPrefix(strings.TrimPrefix(plain, path[0]), "."), optional: optional, needs: 1 << call}, nil
}

// oneEach is the answer without a shape: one member for each call.
func oneEach(calls []*Call) *shape {
	s := &shape{kind: '{'}
	for i, c := range calls {
		s.names = append(s.names, c.Name)
		s.quoted = append(s.quoted, appendText(nil, c.Name))
		s.items = append(s.items, &shape{kind: 'p', call: i, needs: 1 << i})
	}
	return s.finish()
}

// needed are the calls that the fields of the answer are made of.
func (s *shape) needed(f *tree) uint32 {
	if f == nil || f.whole || s.kind != '{' && s.kind != '[' {
		return s.needs
	}
	var calls uint32
	for i, item := range s.items {
		below := f
		if s.kind == '{' {
			if below = f.names[s.names[i]]; below == nil {
				continue
			}
		}
		calls |= item.needed(below)
	}
	for name := range f.names {
		if !s.own[name] {
			for _, spread := range s.spreads {
				calls |= spread.needs
			}
			break
		}
	}
	return calls
}

// unknown returns a name that f asks for and the answer never has; "" if there
// is none. What is below a path is the services' to say.
func (s *shape) unknown(f *tree) string {
	if f == nil || f.whole || s.kind != '{' {
		return ""
	}
	for _, name := range sortedKeys(f.names) {
		i := slices.Index(s.names, name)
		switch {
		case i >= 0:
			if below := s.items[i].unknown(f.names[name]); below != "" {
				return name + "." + below
			}
		case len(s.spreads) == 0 && name != missingKey:
			return name
		}
	}
	return ""
}

// writer makes one answer.
type writer struct {
	run *run
	out []byte
}

// write appends the shape as f wants it; ok is false where f asks for members
// of something that has none.
func (w *writer) write(s *shape, f *tree) (ok bool) {
	switch s.kind {
	case '{':
		w.object(s, f, false)
		return true
	case '[':
		w.out = append(w.out, '[')
		for i, item := range s.items {
			if i > 0 {
				w.out = append(w.out, ',')
			}
			if !w.write(item, f) {
				w.out = append(w.out, "null"...)
			}
		}
		w.out = append(w.out, ']')
		return true
	case 'l':
		if f != nil && !f.whole {
			return false
		}
		w.out = append(w.out, s.literal...)
		return true
	}
	value := w.run.lookup(s)
	if value == nil {
		w.out = append(w.out, "null"...)
		return true
	}
	w.out, ok = f.append(w.out, value)
	return ok
}

// object appends an object; the outermost ends with what is missing.
func (w *writer) object(s *shape, f *tree, outermost bool) {
	w.out = append(w.out, '{')
	first := true
	for i, item := range s.items {
		below := f
		if f != nil && !f.whole {
			if below = f.names[s.names[i]]; below == nil {
				continue
			}
		}
		mark := len(w.out)
		if !first {
			w.out = append(w.out, ',')
		}
		w.out = append(append(w.out, s.quoted[i]...), ':')
		if w.write(item, below) {
			first = false
		} else {
			w.out = w.out[:mark]
		}
	}
	for i := range s.spreads {
		first = w.spread(s, i, f, first)
	}
	if outermost && len(w.run.missing) > 0 {
		if !first {
			w.out = append(w.out, ',')
		}
		w.out = append(appendMissing(append(w.out, `"missing":`...), w.run.plan, w.run.missing), '}')
		return
	}
	w.out = append(w.out, '}')
}

// spread appends the members of another object. Members of the shape's own go
// before, then those of the spread that comes first.
func (w *writer) spread(s *shape, n int, f *tree, first bool) bool {
	value := w.run.lookup(s.spreads[n])
	if value == nil || value[0] == 'n' {
		return first
	}
	if value[0] != '{' {
		w.run.note(missing{call: s.spreads[n].call, reason: reasonAbsent, path: s.spreads[n].text})
		return first
	}
	for r := open(value); ; {
		quoted, member, more := r.member()
		if !more {
			return first
		}
		name := unquote(quoted)
		if s.own[name] || name == missingKey || w.had(s.spreads[:n], name) {
			continue
		}
		below := f
		if f != nil && !f.whole {
			if below = f.names[name]; below == nil {
				continue
			}
		}
		mark, ok := len(w.out), true
		if !first {
			w.out = append(w.out, ',')
		}
		w.out = append(append(w.out, quoted...), ':')
		if w.out, ok = below.append(w.out, member); ok {
			first = false
		} else {
			w.out = w.out[:mark]
		}
	}
}

// had reports whether an earlier spread has the member.
func (w *writer) had(before []*shape, name string) bool {
	for _, s := range before {
		if value := w.run.value(s); value != nil && value[0] == '{' {
			if _, there := find(value, []string{name}); there {
				return true
			}
		}
	}
	return false
}
