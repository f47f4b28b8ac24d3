package config

import (
	"regexp"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// kind is the shape of a value in the file.
type kind uint8

const (
	kindBad kind = iota // already reported
	kindNull
	kindBool
	kindInt
	kindFloat
	kindText
	kindList
	kindMap
)

// node is a value of the file: aliases and merges resolved, expressions
// expanded. Nodes that an alias refers to are shared.
type node struct {
	kind    kind
	text    string // of a scalar, after expansion
	source  string // of a scalar, as written
	expr    expr
	file    string
	line    int
	col     int
	items   []*node
	entries []entry
	index   map[string]int // into entries, made when there are many
	size    int            // values in it, itself included
	depth   int
}

type entry struct {
	key       string
	file      string
	line, col int
	value     *node
	merged    bool
}

func (n *node) get(key string) (entry, bool) {
	if n == nil || n.kind != kindMap {
		return entry{}, false
	}
	if n.index != nil {
		i, ok := n.index[key]
		if !ok {
			return entry{}, false
		}
		return n.entries[i], true
	}
	for _, e := range n.entries {
		if e.key == key {
			return e, true
		}
	}
	return entry{}, false
}

var (
	intText   = regexp.MustCompile(`^[-+]?[0-9][0-9_]*$|^0x[0-9a-fA-F]+$|^0o[0-7]+$`)
	floatText = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$`)
)

// resolve says what a plain scalar means in YAML 1.2's core schema.
func resolve(text string) kind {
	switch text {
	case "", "~", "null", "Null", "NULL":
		return kindNull
	case "true", "True", "TRUE", "false", "False", "FALSE":
		return kindBool
	}
	if c := text[0]; c != '-' && c != '+' && c != '.' && (c < '0' || c > '9') {
		return kindText
	}
	switch {
	case intText.MatchString(text):
		return kindInt
	case floatText.MatchString(text):
		return kindFloat
	}
	return kindText
}

// builder turns the parser's tree into nodes.
type builder struct {
	l       *loader
	anchors map[string]*node // nil while its value is being read
	merged  int
}

func (b *builder) bad(t *token.Token, p *path, hint, format string, args ...any) *node {
	line, col := position(t)
	b.l.fault(line, col, p, hint, format, args...)
	return &node{kind: kindBad, file: b.l.file, line: line, col: col, size: 1, depth: 1}
}

func position(t *token.Token) (line, col int) {
	if t == nil || t.Position == nil {
		return 1, 1
	}
	return t.Position.Line, t.Position.Column
}

func (b *builder) value(n ast.Node, p *path) *node {
	switch x := n.(type) {
	case *ast.AnchorNode:
		name := x.Name.GetToken().Value
		b.anchors[name] = nil
		v := b.value(x.Value, p)
		b.anchors[name] = v
		return v
	case *ast.AliasNode:
		n := b.alias(x, p)
		if p.depth()+n.depth > maxDepth {
			return b.bad(x.GetToken(), p, "", "with this alias it is nested more than %d levels deep", maxDepth)
		}
		return n
	case *ast.MappingNode:
		return b.bounded(b.mapping(x.Values, x.GetToken(), p), p)
	case *ast.MappingValueNode:
		return b.bounded(b.mapping([]*ast.MappingValueNode{x}, x.GetToken(), p), p)
	case *ast.SequenceNode:
		return b.bounded(b.list(x, p), p)
	case *ast.LiteralNode:
		line, col := position(x.Start)
		return b.scalar(&node{kind: kindText, text: x.Value.Value, file: b.l.file, line: line, col: col}, p)
	case *ast.TagNode:
		return b.bad(x.GetToken(), p, "remove the tag; types come from the key", "tags such as !!str are not used in this file")
	case ast.ScalarNode:
		t := n.GetToken()
		line, col := position(t)
		v := &node{kind: kindText, text: t.Value, file: b.l.file, line: line, col: col}
		switch t.Type {
		case token.SingleQuoteType, token.DoubleQuoteType:
		case token.ImplicitNullType:
			v.kind, v.text = kindNull, ""
		default:
			v.kind = resolve(t.Value)
		}
		return b.scalar(v, p)
	}
	return b.bad(n.GetToken(), p, "", "this YAML construct is not used in this file")
}

func (b *builder) scalar(n *node, p *path) *node {
	n.size, n.depth, n.source = 1, 1, n.text
	if n.kind == kindText && !b.l.expand(n, p) {
		n.kind = kindBad
	}
	return n
}

func (b *builder) alias(x *ast.AliasNode, p *path) *node {
	name := x.Value.GetToken().Value
	n, ok := b.anchors[name]
	if !ok {
		known := make([]string, 0, len(b.anchors))
		for k := range b.anchors {
			known = append(known, k)
		}
		hint := "an anchor (&" + clip(name, 40) + ") must stand before its aliases"
		if s := suggest(name, known); s != "" {
			hint = "did you mean *" + s + "?"
		}
		return b.bad(x.GetToken(), p, hint, "there is no anchor for the alias *%s", clip(name, 40))
	}
	if n == nil {
		return b.bad(x.GetToken(), p, "", "the alias *%s stands inside its own anchor", clip(name, 40))
	}
	return n
}

// bounded refuses what aliases have blown up, before anybody walks it.
func (b *builder) bounded(n *node, p *path) *node {
	switch {
	case n.size > maxNodes:
		b.l.fault(n.line, n.col, p, "use fewer aliases of aliases",
			"it holds more than %d values, aliases counted wherever they are used", maxNodes)
	case p.depth()+n.depth > maxDepth:
		b.l.fault(n.line, n.col, p, "", "it is nested more than %d levels deep", maxDepth)
	default:
		return n
	}
	return &node{kind: kindBad, file: n.file, line: n.line, col: n.col, size: 1, depth: 1}
}

func (n *node) grow(child *node) {
	n.size = min(n.size+child.size, maxNodes+1)
	n.depth = max(n.depth, child.depth+1)
}

func (b *builder) list(x *ast.SequenceNode, p *path) *node {
	line, col := position(x.Start)
	n := &node{kind: kindList, file: b.l.file, line: line, col: col, size: 1, depth: 1, items: make([]*node, 0, len(x.Values))}
	for i, item := range x.Values {
		v := b.value(item, p.item(i))
		n.items = append(n.items, v)
		n.grow(v)
	}
	return n
}

func (b *builder) mapping(values []*ast.MappingValueNode, start *token.Token, p *path) *node {
	n := &node{kind: kindMap, file: b.l.file, size: 1, depth: 1, entries: make([]entry, 0, len(values))}
	n.line, n.col = position(start)
	if len(values) > 0 && start.Type != token.MappingStartType {
		n.line, n.col = position(values[0].Key.GetToken()) // the parser gives the colon
	}
	seen := make(map[string]int, len(values))
	var merges []*ast.MappingValueNode
	for _, kv := range values {
		key, ok := b.key(kv.Key, p)
		if !ok {
			continue
		}
		if kv.Key.IsMergeKey() {
			merges = append(merges, kv)
			continue
		}
		line, col := position(kv.Key.GetToken())
		if first, dup := seen[key]; dup {
			b.l.fault(line, col, p.child(key), "keep one of them",
				"the key is written twice; the first is in line %d", n.entries[first].line)
			continue
		}
		seen[key] = len(n.entries)
		v := b.value(kv.Value, p.child(key))
		n.entries = append(n.entries, entry{key: key, file: b.l.file, line: line, col: col, value: v})
		n.grow(v)
	}
	for i, kv := range merges {
		if i > 0 {
			b.bad(kv.Key.GetToken(), p, "write <<: [*a, *b]", "<< is written twice")
			break
		}
		b.merge(n, seen, kv, p)
	}
	if len(seen) > 8 {
		n.index = seen
	}
	return n
}

func (b *builder) key(k ast.MapKeyNode, p *path) (string, bool) {
	t := k.GetToken()
	switch k.(type) {
	case *ast.MergeKeyNode, *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
	default:
		b.bad(t, p, "write a plain name", "this cannot be a key here")
		return "", false
	}
	if hasExpr(t.Value) {
		b.bad(t, p, "write the name itself", "a key cannot come from ${…}")
		return "", false
	}
	return t.Value, true
}

// merge adds the entries of << that n does not write itself; the first of
// several mappings wins.
func (b *builder) merge(n *node, seen map[string]int, kv *ast.MappingValueNode, p *path) {
	v := b.value(kv.Value, p.child("<<"))
	from := []*node{v}
	if v.kind == kindList {
		from = v.items
	}
	for _, m := range from {
		if m.kind == kindBad {
			continue
		}
		if m.kind != kindMap {
			b.l.fault(m.line, m.col, p.child("<<"), "write <<: *name or <<: [*a, *b]", "<< takes a mapping or a list of mappings, found %s", m.shown())
			continue
		}
		if b.merged > maxMerged {
			return // told already
		}
		if b.merged += len(m.entries); b.merged > maxMerged {
			b.bad(kv.Key.GetToken(), p, "use fewer merge keys", "merge keys add more than %d entries", maxMerged)
			return
		}
		for _, e := range m.entries {
			if _, ok := seen[e.key]; ok {
				continue
			}
			seen[e.key] = len(n.entries)
			e.merged = true
			n.entries = append(n.entries, e)
			n.grow(e.value)
		}
	}
}
