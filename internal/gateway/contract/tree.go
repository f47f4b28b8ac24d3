package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Bounds of a document, its files together.
const (
	maxFile  = 4 << 20
	maxFiles = 200
	maxNodes = 2_000_000
	maxRefs  = 32 // $refs that lead to one another
)

// node is one value of a document, with the place where it stands.
type node struct {
	file      *file
	line, col int
	value     any // nil, bool, json.Number or string of a scalar
	items     []*node
	keys      []string // of a mapping, in the order of the file
	members   map[string]*node
	list      bool
}

// file is one file of a document.
type file struct {
	name string // as it was given, or relative to the same folder
	root *node
}

// files reads a document and the files that it refers to.
type files struct {
	read  func(name string) ([]byte, error)
	data  map[string][]byte
	trees map[string]*file
	nodes int
}

// bytesOf reads a file once.
func (f *files) bytesOf(name string) ([]byte, error) {
	if b, ok := f.data[name]; ok {
		return b, nil
	}
	if len(f.data) >= maxFiles {
		return nil, fmt.Errorf("the document consists of more than %d files", maxFiles)
	}
	b, err := f.read(name)
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s is larger than 4 MiB", name)
	}
	f.data[name] = b
	return b, nil
}

// asJSON is a file as JSON text.
func (f *files) asJSON(name string) ([]byte, error) {
	t, err := f.tree(name)
	if err != nil {
		return nil, err
	}
	return json.Marshal(t.root.plain())
}

// tree parses a file once.
func (f *files) tree(name string) (*file, error) {
	if t, ok := f.trees[name]; ok {
		return t, nil
	}
	data, err := f.bytesOf(name)
	if err != nil {
		return nil, err
	}
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, &Fault{File: name, Line: 1, Col: 1, Message: "is empty"}
		}
		return nil, yamlFault(name, err)
	}
	t := &file{name: name}
	f.trees[name] = t
	if doc.Kind == yaml.DocumentNode && len(doc.Content) > 0 {
		t.root, err = f.convert(t, doc.Content[0], 0)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// yamlFault finds the line in "yaml: line 12: …".
func yamlFault(name string, err error) *Fault {
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		number, message, _ := strings.Cut(rest, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			line, text = n, message
		}
	}
	return &Fault{File: name, Line: line, Col: 1, Message: "is neither YAML nor JSON: " + text}
}

func (f *files) convert(t *file, y *yaml.Node, depth int) (*node, error) {
	if f.nodes++; f.nodes > maxNodes || depth > 500 {
		return nil, &Fault{File: t.name, Line: y.Line, Col: y.Column, Message: "the document is too large or nested too deeply"}
	}
	n := &node{file: t, line: y.Line, col: y.Column}
	switch y.Kind {
	case yaml.AliasNode:
		return f.convert(t, y.Alias, depth+1)
	case yaml.SequenceNode:
		n.list = true
		for _, c := range y.Content {
			item, err := f.convert(t, c, depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, item)
		}
	case yaml.MappingNode:
		n.members = make(map[string]*node, len(y.Content)/2)
		return n, f.convertMapping(t, n, y, depth)
	case yaml.ScalarNode:
		var err error
		if n.value, err = scalar(y); err != nil {
			return nil, &Fault{File: t.name, Line: y.Line, Col: y.Column, Message: err.Error()}
		}
	default:
		return nil, &Fault{File: t.name, Line: y.Line, Col: y.Column, Message: "is no value"}
	}
	return n, nil
}

func (f *files) convertMapping(t *file, n *node, y *yaml.Node, depth int) error {
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, value := y.Content[i], y.Content[i+1]
		child, err := f.convert(t, value, depth+1)
		if err != nil {
			return err
		}
		if key.Tag == "!!merge" {
			for _, from := range append([]*node{child}, child.items...) {
				for _, k := range from.keys {
					if n.members[k] == nil {
						n.keys, n.members[k] = append(n.keys, k), from.members[k]
					}
				}
			}
			continue
		}
		if value.Kind != yaml.AliasNode {
			child.line, child.col = key.Line, key.Column // where a reader looks for it
		}
		if n.members[key.Value] == nil {
			n.keys = append(n.keys, key.Value)
		}
		n.members[key.Value] = child
	}
	return nil
}

func scalar(y *yaml.Node) (any, error) {
	switch y.Tag {
	case "!!null":
		return nil, nil
	case "!!bool":
		var b bool
		err := y.Decode(&b)
		return b, err
	case "!!int", "!!float":
		if isJSONNumber(y.Value) {
			return json.Number(y.Value), nil
		}
		if y.Tag == "!!int" {
			var n int64
			err := y.Decode(&n)
			return json.Number(strconv.FormatInt(n, 10)), err
		}
		var x float64
		if err := y.Decode(&x); err != nil || math.IsInf(x, 0) || math.IsNaN(x) {
			return nil, fmt.Errorf("%s is no number of JSON", y.Value)
		}
		return json.Number(strconv.FormatFloat(x, 'g', -1, 64)), nil
	}
	return y.Value, nil
}

func isJSONNumber(s string) bool {
	tape, err := scan([]byte(s), nil)
	return err == nil && tape[0].kind == kindNumber && int(tape[0].end) == len(s) && tape[0].start == 0
}

// get is the member of a mapping, nil without.
func (n *node) get(key string) *node {
	if n == nil {
		return nil
	}
	return n.members[key]
}

// text is the string that stands here, "" without.
func (n *node) text() string {
	if n == nil {
		return ""
	}
	s, _ := n.value.(string)
	return s
}

// yes reports whether true stands here.
func (n *node) yes() bool {
	if n == nil {
		return false
	}
	b, _ := n.value.(bool)
	return b
}

// each walks over the members of a mapping in the order of the file.
func (n *node) each(fn func(key string, value *node)) {
	if n != nil {
		for _, k := range n.keys {
			fn(k, n.members[k])
		}
	}
}

// plain is the value as encoding/json would give it, numbers as json.Number.
func (n *node) plain() any {
	switch {
	case n == nil:
		return nil
	case n.list:
		list := make([]any, len(n.items))
		for i, item := range n.items {
			list[i] = item.plain()
		}
		return list
	case n.members != nil:
		m := make(map[string]any, len(n.members))
		for k, v := range n.members {
			m[k] = v.plain()
		}
		return m
	}
	return n.value
}

func (n *node) fault(format string, args ...any) *Fault {
	return &Fault{File: n.file.name, Line: n.line, Col: n.col, Message: fmt.Sprintf(format, args...)}
}

// follow gives what a $ref leads to, or n itself.
func (f *files) follow(n *node) (*node, error) {
	for range maxRefs {
		ref := n.get("$ref")
		if ref == nil || n.get("$ref").text() == "" {
			return n, nil
		}
		next, err := f.resolve(ref)
		if err != nil {
			return nil, err
		}
		n = next
	}
	return nil, n.fault("more than %d $refs lead to one another", maxRefs)
}

// resolve finds the place that a $ref names.
func (f *files) resolve(ref *node) (*node, error) {
	name, fragment, _ := strings.Cut(ref.text(), "#")
	target := ref.file
	if name != "" {
		if strings.Contains(name, "://") || strings.HasPrefix(name, "/") {
			return nil, ref.fault("$ref %q: only files beside the document are read", ref.text())
		}
		if plain, err := url.PathUnescape(name); err == nil {
			name = plain
		}
		var err error
		if target, err = f.tree(path.Join(path.Dir(ref.file.name), name)); err != nil {
			var inside *Fault
			if errors.As(err, &inside) {
				return nil, err
			}
			return nil, ref.fault("$ref %q: %v", ref.text(), err)
		}
	}
	if fragment != "" && !strings.HasPrefix(fragment, "/") {
		return nil, ref.fault("$ref %q: a reference must be a JSON pointer, such as #/components/schemas/Flight", ref.text())
	}
	at := target.root
	for _, part := range pointerParts(fragment) {
		next := at.get(part)
		if i, err := strconv.Atoi(part); next == nil && err == nil && at != nil && i >= 0 && i < len(at.items) {
			next = at.items[i]
		}
		if next == nil {
			return nil, ref.fault("$ref %q: there is no %q%s", ref.text(), part, orWhich(at))
		}
		at = next
	}
	return at, nil
}

func orWhich(n *node) string {
	if n == nil || len(n.keys) == 0 || len(n.keys) > 12 {
		return ""
	}
	return "; there are " + strings.Join(n.keys, ", ")
}

func pointerParts(fragment string) []string {
	if fragment == "" {
		return nil
	}
	if plain, err := url.PathUnescape(fragment); err == nil {
		fragment = plain
	}
	parts := strings.Split(fragment[1:], "/")
	for i, p := range parts {
		parts[i] = strings.ReplaceAll(strings.ReplaceAll(p, "~1", "/"), "~0", "~")
	}
	return parts
}

// Fault is a mistake in a document.
type Fault struct {
	File      string
	Line, Col int // from 1
	Message   string
}

// Error is one line: file:line:col: message.
func (f *Fault) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", f.File, max(f.Line, 1), max(f.Col, 1), f.Message)
}

// Faults are the mistakes of a document, in its order.
type Faults []*Fault

// Error gives one line for each fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

func (f Faults) sorted() Faults {
	slices.SortStableFunc(f, func(a, b *Fault) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		return a.Line*1000 + a.Col - b.Line*1000 - b.Col
	})
	return f
}
