package config

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// Reference writes the reference page of the configuration in Markdown: for
// each section a table of its keys.
func Reference(w io.Writer, sections []Section) error {
	r := &reference{ts: newTypes(), c: &commenter{ts: newTypes()}}
	r.out.WriteString("<!-- Generated from the configuration structs; do not edit. -->\n\n# Configuration\n\n" +
		"Every key of `landline.yaml`. `<name>` stands for a key of your choice, `[]` for an item of a list.\n" +
		"Durations are written `800ms`, `15m`, `30d`; sizes `256KiB`, `10MiB`. In any value, `${NAME}` is an\n" +
		"environment variable, `${NAME:-default}` one with a default, `${file:path}` the text of a file\n" +
		"relative to the configuration file; `$${` gives the two characters `${`. A secret must be one such\n" +
		"expression.\n\n" +
		"`include: [\"features/*.yaml\"]` reads further files, and `--env production` (or `LANDLINE_ENV`) reads\n" +
		"`landline.production.yaml` on top: mappings merge, lists replace, `null` removes.\n")
	for _, s := range sections {
		v := reflect.ValueOf(s.Ptr)
		if v.Kind() != reflect.Pointer || v.IsNil() {
			return fmt.Errorf("config: section %s: Ptr must be a pointer", s.Key)
		}
		r.effect = "restart"
		if s.Reloadable {
			r.effect = "reload"
		}
		fmt.Fprintf(&r.out, "\n## `%s`\n\n", s.Key)
		if s.Doc != "" {
			r.out.WriteString(strings.TrimSpace(s.Doc) + "\n\n")
		}
		r.out.WriteString("| key | type | default | meaning | takes effect |\n|---|---|---|---|---|\n")
		t := v.Type().Elem()
		f := &field{name: s.Key, typ: t, enum: choices(t)}
		if err := r.value(s.Key, f, v.Elem(), true); err != nil {
			return err
		}
	}
	_, err := w.Write(r.out.Bytes())
	return err
}

type reference struct {
	ts     *types
	c      *commenter
	out    bytes.Buffer
	effect string
	above  []reflect.Type
}

func (r *reference) row(path string, f *field, v reflect.Value) {
	meaning := sentence(f.doc)
	if f.required {
		meaning += "Required. "
	}
	if len(f.enum) > 0 {
		meaning += "One of `" + strings.Join(f.enum, "`, `") + "`. "
	}
	meaning += limitsText(f)
	if f.example != "" {
		meaning += "Example: " + code(f.example) + ". "
	}
	def := r.c.defaultText(v)
	switch {
	case f.required && def == "none", v.Kind() == reflect.Struct && !r.ts.isLeaf(v.Type()):
		def = ""
	case def != "none" && !strings.HasPrefix(def, "see "):
		def = code(def)
	}
	fmt.Fprintf(&r.out, "| `%s` | %s | %s | %s | %s |\n", path, r.describe(f.typ), cell(def), cell(strings.TrimSpace(meaning)), r.effect)
}

// describe names a type, lists and mappings with what they hold.
func (r *reference) describe(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if !r.ts.isLeaf(t) {
		switch t.Kind() {
		case reflect.Slice:
			return "list of " + r.describe(t.Elem())
		case reflect.Map:
			return "mapping of names to " + r.describe(t.Elem())
		}
	}
	return typeName(t)
}

func code(s string) string {
	if strings.Contains(s, "`") {
		return "`` " + s + " ``"
	}
	return "`" + s + "`"
}

func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\r", "", "\n", " ").Replace(s)
}

// value writes the rows of v: its own, unless it is a section of keys, and
// those of what is in it.
func (r *reference) value(path string, f *field, v reflect.Value, top bool) error {
	t := v.Type()
	if !top || r.ts.isLeaf(t) || t.Kind() != reflect.Struct {
		r.row(path, f, v)
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
		if v.IsNil() {
			v = fresh(t)
		} else {
			v = v.Elem()
		}
	}
	for !r.ts.isLeaf(t) && t.Kind() != reflect.Struct {
		switch t.Kind() {
		case reflect.Map:
			path += ".<name>"
		case reflect.Slice:
			path += "[]"
		}
		t = t.Elem()
		v = fresh(t)
	}
	if r.ts.isLeaf(t) || slices.Contains(r.above, t) {
		return nil
	}
	r.above = append(r.above, t)
	defer func() { r.above = r.above[:len(r.above)-1] }()
	for _, sub := range r.ts.structure(t).fields {
		if err := r.value(path+"."+sub.name, sub, v.FieldByIndex(sub.index), false); err != nil {
			return err
		}
	}
	return nil
}
