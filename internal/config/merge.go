package config

import (
	"strconv"
	"strings"
)

// join puts the files that include one another together. Sections of several
// files are joined key by key; what two files write is a fault, because neither
// goes before the other.
func (l *loader) join(parts []*part) *node {
	if len(parts) == 1 {
		return parts[0].root
	}
	first := parts[0].root
	root := &node{kind: kindMap, file: first.file, line: first.line, col: first.col}
	at := map[string]int{}
	inner := map[string]map[string]int{} // keys of the sections that were joined
	for _, p := range parts {
		for _, e := range p.root.entries {
			if e.key == includeKey || strings.HasPrefix(e.key, "x-") {
				continue
			}
			i, there := at[e.key]
			if !there {
				at[e.key] = len(root.entries)
				root.entries = append(root.entries, e)
				continue
			}
			l.joinSection(&root.entries[i], e, inner)
		}
	}
	root.index = at
	return root
}

func (l *loader) joinSection(to *entry, e entry, inner map[string]map[string]int) {
	p := (*path)(nil).child(e.key)
	switch {
	case e.value.kind == kindNull || e.value.kind == kindBad || to.value.kind == kindBad:
		return
	case to.value.kind == kindNull:
		*to = e
		return
	case to.value.kind != kindMap || e.value.kind != kindMap:
		l.twice(e, *to, p)
		return
	}
	seen := inner[e.key]
	if seen == nil {
		seen = make(map[string]int, len(to.value.entries)+len(e.value.entries))
		for i, child := range to.value.entries {
			seen[child.key] = i
		}
		inner[e.key] = seen
		own := *to.value // an alias may share it
		own.entries, own.index = append([]entry(nil), own.entries...), seen
		to.value = &own
	}
	for _, child := range e.value.entries {
		if i, dup := seen[child.key]; dup {
			l.twice(child, to.value.entries[i], p.child(child.key))
			continue
		}
		seen[child.key] = len(to.value.entries)
		to.value.entries = append(to.value.entries, child)
	}
}

func (l *loader) twice(e, first entry, p *path) {
	l.faultAt(e.file, e.line, e.col, p, "keep one of them; an environment's overlay may replace values",
		"the key is written in two files; the first is %s:%d:%d", clip(first.file, 200), first.line, first.col)
	l.fail(p)
}

// overlay puts over on top of base: mappings are merged key by key, null
// removes what base writes, everything else is replaced. Neither is changed.
func overlay(base, over *node) *node {
	if base.kind != kindMap || over.kind != kindMap {
		return over
	}
	n := *base
	n.index = nil
	n.entries = make([]entry, 0, len(base.entries)+len(over.entries))
	over.indexed()
	for _, e := range base.entries {
		o, ok := over.get(e.key)
		switch {
		case !ok:
		case o.value.kind == kindNull:
			continue
		case e.value.kind == kindMap && o.value.kind == kindMap:
			e.value = overlay(e.value, o.value)
		default:
			e = o
		}
		n.entries = append(n.entries, e)
	}
	base.indexed()
	for _, o := range over.entries {
		if _, ok := base.get(o.key); !ok && o.key != includeKey {
			n.entries = append(n.entries, o)
		}
	}
	n.indexed()
	return &n
}

// indexed makes get fast for a mapping of many keys.
func (n *node) indexed() {
	if n.index != nil || len(n.entries) <= 8 {
		return
	}
	n.index = make(map[string]int, len(n.entries))
	for i, e := range n.entries {
		n.index[e.key] = i
	}
}

// Source is where a configuration was read from.
type Source struct {
	Files []string // in the order in which they were read
	root  *node
}

// Where returns the place of a path such as Fault.Path, or of its nearest
// parent that is written; line 0 when nothing of it is.
func (s *Source) Where(path string) (file string, line, col int) {
	if s == nil {
		return "", 0, 0
	}
	n := s.root
	for path != "" && n != nil {
		var e entry
		var found bool
		switch {
		case path[0] == '[':
			digits, rest, ok := strings.Cut(path[1:], "]")
			i, err := strconv.Atoi(digits)
			if !ok || err != nil || n.kind != kindList || i < 0 || i >= len(n.items) {
				return file, line, col
			}
			n, path = n.items[i], strings.TrimPrefix(rest, ".")
			file, line, col = n.file, n.line, n.col
			continue
		case path[0] == '"':
			quoted, err := strconv.QuotedPrefix(path)
			if err != nil {
				return file, line, col
			}
			key, err := strconv.Unquote(quoted)
			if err != nil {
				return file, line, col
			}
			e, found = n.get(key)
			path = path[len(quoted):]
		default:
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			e, found = n.get(path[:end])
			path = path[end:]
		}
		if !found {
			return file, line, col
		}
		n, path = e.value, strings.TrimPrefix(path, ".")
		file, line, col = e.file, e.line, e.col
	}
	return file, line, col
}
