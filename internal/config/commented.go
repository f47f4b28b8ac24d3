package config

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// Commented writes a configuration file that explains itself: every key with
// its meaning, default, choices and an example. Keys that may be left out begin
// with "#", so the file as it stands gives the defaults; a key is set by taking
// that "#" away. Required keys stand there with their default or example.
func Commented(w io.Writer, sections []Section) error {
	c := &commenter{ts: newTypes()}
	c.out.WriteString("# Configuration of Landline. A key that begins with # has the value shown unless\n" +
		"# you remove the # and write another. Check the file with: landline config check\n" +
		"#\n# More files can be read with include: [\"features/*.yaml\", \"teams/*/landline.yaml\"],\n" +
		"# and landline.production.yaml on top of this one with --env production.\n")
	for _, s := range sections {
		v := reflect.ValueOf(s.Ptr)
		if v.Kind() != reflect.Pointer || v.IsNil() {
			return fmt.Errorf("config: section %s: Ptr must be a pointer", s.Key)
		}
		c.out.WriteByte('\n')
		doc := s.Doc
		if !s.Reloadable {
			doc = sentence(doc) + "A change needs a restart."
		}
		if err := c.key(place{hash: -1}, &field{name: s.Key, typ: v.Type().Elem(), doc: doc, enum: choices(v.Type().Elem())}, v.Elem()); err != nil {
			return err
		}
	}
	_, err := w.Write(c.out.Bytes())
	return err
}

type commenter struct {
	ts    *types
	out   bytes.Buffer
	path  []string       // keys around
	above []reflect.Type // struct types around, so that a recursive one ends
}

// place is where lines go: hash is the column of the "#" that switches the
// lines off, -1 while they are live.
type place struct{ indent, hash int }

func (p place) deeper() place { return place{p.indent + 2, p.hash} }

func (p place) off() place {
	if p.hash < 0 {
		p.hash = p.indent
	}
	return p
}

func (c *commenter) line(p place, text string) {
	if p.hash >= 0 {
		c.out.WriteString(strings.Repeat(" ", p.hash) + "#" + strings.Repeat(" ", p.indent-p.hash))
	} else {
		c.out.WriteString(strings.Repeat(" ", p.indent))
	}
	c.out.WriteString(text)
	c.out.WriteByte('\n')
}

func sentence(s string) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return ""
	}
	if !strings.HasSuffix(s, ".") && !strings.HasSuffix(s, "!") && !strings.HasSuffix(s, "?") {
		s += "."
	}
	return s + " "
}

// doc writes the comment above a key.
func (c *commenter) doc(p place, f *field, v reflect.Value, shows string) {
	text := sentence(f.doc)
	if f.required {
		text += "Required. "
	}
	if len(f.enum) > 0 {
		text += "One of: " + strings.Join(f.enum, ", ") + ". "
	}
	text += limitsText(f)
	if shows == "example" {
		text += "Default: " + c.defaultText(v) + ". "
	}
	width := max(78-p.indent, 30)
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			c.line(p, "# "+line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		c.line(p, "# "+line)
	}
}

func limitsText(f *field) string {
	t := f.typ
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	unitOf := func(limit string) string { return unit(t, limit) }
	switch {
	case f.min != "" && f.max != "":
		return "From " + f.min + " to " + unitOf(f.max) + ". "
	case f.min != "":
		return "At least " + unitOf(f.min) + ". "
	case f.max != "":
		return "At most " + unitOf(f.max) + ". "
	}
	return ""
}

// defaultText says in the words of the file what a key is without being
// written.
func (c *commenter) defaultText(v reflect.Value) string {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return "none"
		}
		v = v.Elem()
	}
	if v.IsZero() && v.Type() != durationType && !v.CanInt() && !v.CanUint() && !v.CanFloat() && v.Kind() != reflect.Bool {
		return "none"
	}
	switch text, ok, err := (&printer{ts: c.ts}).short(v); {
	case err != nil || !ok && v.Kind() == reflect.Struct:
		return "see its keys"
	case !ok:
		return "see below"
	case text == "[]" || text == "{}" || text == `""`:
		return "none"
	default:
		return text
	}
}

// key writes one key with its comment. v is its default. The lines are live
// when those around are, and the key is required or a struct.
func (c *commenter) key(p place, f *field, v reflect.Value) error {
	t, def, above := v.Type(), v, p
	if t.Kind() == reflect.Pointer {
		if !f.required {
			p = p.off()
		}
		v = pointed(v)
		t = v.Type()
	}
	if t.Kind() == reflect.Pointer || t.Kind() == reflect.Struct && c.recursive(t) {
		c.doc(above, f, def, "keys")
		c.line(p, yamlKey(f.name)+": {}")
		return nil
	}
	composite := !c.ts.isLeaf(t) && !(t.Kind() == reflect.Slice && c.ts.isLeaf(t.Elem()))
	if !f.required && !(composite && t.Kind() == reflect.Struct) {
		p = p.off()
	}
	if !composite || f.example != "" && (t.Kind() != reflect.Struct && v.Len() == 0 || c.recursive(t)) {
		return c.oneLine(above, p, f, v, def)
	}
	c.doc(above, f, v, "keys")
	c.line(p, yamlKey(f.name)+":")
	c.path = append(c.path, f.name)
	defer func() { c.path = c.path[:len(c.path)-1] }()
	return c.children(p.deeper(), f.name, v)
}

// pointed is what a pointer points to, or the defaults of its type. A pointer
// to a nil pointer stays as it is.
func pointed(v reflect.Value) reflect.Value {
	if v.IsNil() {
		return fresh(v.Type().Elem())
	}
	return v.Elem()
}

func (c *commenter) recursive(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	return slices.Contains(c.above, t)
}

// oneLine shows the default, or the example where there is no default. def is
// the default itself where v is what a nil pointer would point to.
func (c *commenter) oneLine(above, p place, f *field, v, def reflect.Value) error {
	text, shows := "", "default"
	if !c.ts.isLeaf(v.Type()) && v.Kind() != reflect.Slice {
		text, shows = "{}", "example"
	} else {
		var err error
		if text, _, err = (&printer{ts: c.ts}).short(v); err != nil {
			return err
		}
	}
	empty := c.defaultText(def) == "none"
	switch {
	case v.Type() == secretType:
		text, shows = "${"+c.variable(f.name)+"}", "secret"
		if f.example != "" {
			text = f.example
		}
	case f.example != "" && (empty || v.IsZero()):
		text, shows = f.example, "example"
	case v.Type() == rawType && empty:
		text, shows = "{}", "example"
	case def.Kind() == reflect.Pointer && def.IsNil():
		shows = "example"
	}
	c.doc(above, f, def, shows)
	c.line(p, yamlKey(f.name)+": "+text)
	return nil
}

// variable is the name of the environment variable that the file proposes for
// a secret.
func (c *commenter) variable(key string) string {
	name := strings.ToUpper("landline_" + strings.Join(append(slices.Clone(c.path), key), "_"))
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, name)
}

func (c *commenter) children(p place, name string, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Struct:
		c.above = append(c.above, v.Type())
		defer func() { c.above = c.above[:len(c.above)-1] }()
		for _, f := range c.ts.structure(v.Type()).fields {
			if err := c.key(p, f, v.FieldByIndex(f.index)); err != nil {
				return err
			}
		}
		return nil
	case reflect.Map:
		return c.mapEntries(p, name, v)
	}
	return c.listItems(p, v)
}

func (c *commenter) mapEntries(p place, name string, v reflect.Value) error {
	if v.Len() == 0 {
		elem := fresh(v.Type().Elem())
		return c.key(p, &field{name: "my-" + singular(strings.TrimPrefix(name, "my-")), typ: elem.Type()}, elem)
	}
	for _, k := range sortedKeys(v) {
		elem := v.MapIndex(k)
		if err := c.key(p, &field{name: k.String(), typ: elem.Type()}, elem); err != nil {
			return err
		}
	}
	return nil
}

func (c *commenter) listItems(p place, v reflect.Value) error {
	items := []reflect.Value{}
	for i := range v.Len() {
		items = append(items, v.Index(i))
	}
	if len(items) == 0 {
		items = append(items, fresh(v.Type().Elem()))
	}
	for _, item := range items {
		for item.Kind() == reflect.Pointer {
			if item.IsNil() {
				item = fresh(item.Type().Elem())
			} else {
				item = item.Elem()
			}
		}
		if text, ok, err := (&printer{ts: c.ts}).short(item); err != nil || ok {
			c.line(p, "- "+text)
			if err != nil {
				return err
			}
			continue
		}
		if c.recursive(item.Type()) {
			c.line(p, "- {}")
			continue
		}
		c.line(p, "-")
		if err := c.children(p.deeper(), "", item); err != nil {
			return err
		}
	}
	return nil
}

func singular(name string) string {
	switch {
	case strings.HasSuffix(name, "ies"):
		return strings.TrimSuffix(name, "ies") + "y"
	case strings.HasSuffix(name, "s") && len(name) > 1:
		return strings.TrimSuffix(name, "s")
	case name == "":
		return "name"
	}
	return name
}
