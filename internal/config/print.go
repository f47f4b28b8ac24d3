package config

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// Print writes the effective configuration as YAML, secrets as [redacted].
// Without secrets it loads again and gives the same values. Texts that came
// from the environment into other fields than a Secret are written in clear.
func Print(w io.Writer, sections []Section) error {
	p := printer{ts: newTypes()}
	for _, s := range sections {
		v := reflect.ValueOf(s.Ptr)
		if v.Kind() != reflect.Pointer || v.IsNil() {
			return fmt.Errorf("config: section %s: Ptr must be a pointer", s.Key)
		}
		if err := p.entry(0, yamlKey(s.Key), v.Elem()); err != nil {
			return err
		}
	}
	_, err := w.Write(p.out.Bytes())
	return err
}

type printer struct {
	ts  *types
	out bytes.Buffer
}

func (p *printer) line(indent int, text string) {
	p.out.WriteString(strings.Repeat(" ", indent))
	p.out.WriteString(text)
	p.out.WriteByte('\n')
}

// short writes v as one line if it has such a form.
func (p *printer) short(v reflect.Value) (text string, ok bool, err error) {
	t := v.Type()
	switch {
	case p.ts.isLeaf(t):
		text, err = leafText(v, hide)
		return text, err == nil, err
	case t.Kind() == reflect.Map && v.Len() == 0:
		return "{}", true, nil
	case t.Kind() == reflect.Slice && v.Len() == 0:
		return "[]", true, nil
	case t.Kind() == reflect.Struct && len(p.ts.structure(t).fields) == 0:
		return "{}", true, nil
	case t.Kind() == reflect.Slice:
		return p.ts.flowText(v)
	}
	return "", false, nil
}

// entry writes key and v. What is behind a nil pointer is null; an empty Raw
// is left out.
func (p *printer) entry(indent int, key string, v reflect.Value) error {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			p.line(indent, key+": null")
			return nil
		}
		v = v.Elem()
	}
	if v.Type() == rawType && v.Len() == 0 {
		return nil
	}
	text, ok, err := p.short(v)
	if err != nil {
		return err
	}
	if ok {
		p.line(indent, key+": "+text)
		return nil
	}
	p.line(indent, key+":")
	return p.block(indent+2, v)
}

func (p *printer) block(indent int, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Struct:
		for _, f := range p.ts.structure(v.Type()).fields {
			if err := p.entry(indent, yamlKey(f.name), v.FieldByIndex(f.index)); err != nil {
				return err
			}
		}
	case reflect.Map:
		for _, k := range sortedKeys(v) {
			if err := p.entry(indent, yamlKey(k.String()), v.MapIndex(k)); err != nil {
				return err
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if err := p.item(indent, v.Index(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// item writes a list item: its first key stands behind the dash.
func (p *printer) item(indent int, v reflect.Value) error {
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() == reflect.Pointer {
		p.line(indent, "- null")
		return nil
	}
	text, ok, err := p.short(v)
	if err != nil {
		return err
	}
	if ok {
		p.line(indent, "- "+text)
		return nil
	}
	start := p.out.Len()
	if err := p.block(indent+2, v); err != nil {
		return err
	}
	if p.out.Len() == start {
		p.line(indent, "- {}")
		return nil
	}
	p.out.Bytes()[start+indent] = '-'
	return nil
}
