package config

import (
	"encoding"
	"errors"
	"reflect"
	"strings"
)

// errReported tells a ShortForm that its decode has given faults already.
var errReported = errors.New("config: already reported")

func (l *loader) decodeRoot(root *node, sections []Section) {
	known := make([]string, 0, len(sections))
	byKey := make(map[string]Section, len(sections))
	for _, s := range sections {
		known = append(known, s.Key)
		byKey[s.Key] = s
	}
	for _, e := range root.entries {
		s, ok := byKey[e.key]
		if !ok {
			if e.key != includeKey && !strings.HasPrefix(e.key, "x-") {
				l.unknown(e, nil, known)
			}
			continue
		}
		v := reflect.ValueOf(s.Ptr).Elem()
		l.decode(e.value, v, (*path)(nil).child(e.key), &field{name: e.key, enum: choices(v.Type())})
	}
}

func (l *loader) unknown(e entry, p *path, known []string) string {
	hint := ""
	near := suggest(e.key, known)
	switch {
	case near != "":
		hint = "did you mean " + near + "?"
	case len(known) > 0 && len(known) <= 20:
		hint = "known keys: " + strings.Join(known, ", ")
	}
	l.faultAt(e.file, e.line, e.col, p.child(e.key), hint, "unknown key")
	return near
}

// wrong gives the fault of a value that has not the type it should.
func (l *loader) wrong(n *node, p *path, hint, format string, args ...any) bool {
	l.faultAt(n.file, n.line, n.col, p, hint, format, args...)
	l.fail(p)
	return false
}

// decode fills v from n. f is the field's tags, nil where there are none. It
// reports false when there was a fault, which is noted already.
func (l *loader) decode(n *node, v reflect.Value, p *path, f *field) bool {
	if n.kind == kindBad {
		l.fail(p)
		return false
	}
	t := v.Type()
	switch {
	case t == rawType:
		return l.decodeRaw(n, v, p)
	case t.Kind() == reflect.Pointer:
		return l.decodePointer(n, v, p, f)
	case reflect.PointerTo(t).Implements(shortFormType) && !ownShape(n, t):
		return l.decodeShort(n, v, p)
	case n.kind == kindNull:
		return l.decodeNull(n, t, p)
	case t == secretType:
		return l.decodeSecret(n, v, p, f)
	case reflect.PointerTo(t).Implements(textReader):
		return l.decodeText(n, v, p) && l.limits(n, v, p, f)
	}
	switch t.Kind() {
	case reflect.Struct:
		return l.decodeStruct(n, v, p)
	case reflect.Map:
		return l.decodeMap(n, v, p, f) && l.limits(n, v, p, f)
	case reflect.Slice:
		return l.decodeSlice(n, v, p, f) && l.limits(n, v, p, f)
	}
	return l.decodeScalar(n, v, p) && l.limits(n, v, p, f)
}

// ownShape reports whether n has the shape in which t is written in full.
func ownShape(n *node, t reflect.Type) bool {
	if n.kind == kindNull {
		return true
	}
	if t.Kind() == reflect.Slice {
		return n.kind == kindList
	}
	return n.kind == kindMap
}

// decodeNull leaves the default of a composite. A scalar without a value is a
// fault, because it is more often forgotten than meant.
func (l *loader) decodeNull(n *node, t reflect.Type, p *path) bool {
	switch t.Kind() {
	case reflect.Struct, reflect.Map, reflect.Slice:
		if !reflect.PointerTo(t).Implements(textReader) {
			return true
		}
	}
	return l.wrong(n, p, "give it one, or remove the key for the default", "expected %s, found no value", wanted(t))
}

func (l *loader) decodePointer(n *node, v reflect.Value, p *path, f *field) bool {
	if n.kind == kindNull {
		v.SetZero()
		return true
	}
	if v.IsNil() {
		v.Set(fresh(v.Type().Elem()).Addr())
	}
	return l.decode(n, v.Elem(), p, f)
}

// fresh makes an addressable value with the defaults of its type.
func fresh(t reflect.Type) reflect.Value {
	v := reflect.New(t)
	if d, ok := v.Interface().(Defaulter); ok {
		d.Defaults()
	}
	return v.Elem()
}

func (l *loader) decodeShort(n *node, v reflect.Value, p *path) bool {
	ok := true
	err := v.Addr().Interface().(ShortForm).UnmarshalConfig(func(into any) error {
		target := reflect.ValueOf(into)
		if target.Kind() != reflect.Pointer || target.IsNil() {
			return errors.New("a short form must decode into a pointer")
		}
		if target.Type() == v.Addr().Type() {
			return errors.New("a short form must not decode into its own type")
		}
		if err := l.types.vet(target.Type().Elem()); err != nil {
			return err
		}
		if !l.decode(n, target.Elem(), p, nil) {
			ok = false
			return errReported
		}
		l.short = append(l.short, shortCheck{target.Elem(), &Validator{l: l, n: n, file: n.file, line: n.line, col: n.col, path: p}})
		return nil
	})
	switch {
	case !ok, err == nil:
		return ok
	case n.expr != exprNone:
		return l.wrong(n, p, "", "the value of %s does not fit here", n.shown())
	}
	return l.wrong(n, p, "", "%s", err.Error())
}

func (l *loader) decodeStruct(n *node, v reflect.Value, p *path) bool {
	if n.kind != kindMap {
		return l.wrong(n, p, colonHint(n), "expected a mapping, found %s", n.shown())
	}
	s := l.types.structure(v.Type())
	ok := true
	var meant map[string]bool // keys that a misspelt one suggests
	for _, e := range n.entries {
		f := s.byName[e.key]
		if f == nil {
			ok = false
			if meant == nil {
				meant = map[string]bool{}
			}
			meant[l.unknown(e, p, s.names())] = true
			continue
		}
		ok = l.decode(e.value, v.FieldByIndex(f.index), p.child(f.name), f) && ok
	}
	for _, f := range s.fields {
		if f.required && !meant[f.name] {
			ok = l.required(n, v.FieldByIndex(f.index), p, f) && ok
		}
	}
	return ok
}

// colonHint is for the most common reason why a mapping is read as a text.
func colonHint(n *node) string {
	if n.kind == kindText && strings.Contains(n.source, ":") {
		return "write a space after the colon"
	}
	return ""
}

func (l *loader) required(n *node, v reflect.Value, p *path, f *field) bool {
	e, written := n.get(f.name)
	at := p.child(f.name)
	hint := ""
	if f.example != "" {
		hint = "for example " + f.name + ": " + f.example
	}
	switch {
	case !written:
		l.faultAt(n.file, n.line, n.col, at, hint, "the key is missing")
	case l.tainted[at.String()]:
		return false
	case e.value.kind == kindNull || isEmpty(v):
		l.faultAt(e.value.file, e.value.line, e.value.col, at, hint, "it must not be empty")
	default:
		return true
	}
	l.fail(at)
	return false
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String, reflect.Slice, reflect.Map:
		return v.Len() == 0
	case reflect.Pointer:
		return v.IsNil()
	}
	return false
}

func (l *loader) decodeMap(n *node, v reflect.Value, p *path, f *field) bool {
	if n.kind != kindMap {
		return l.wrong(n, p, colonHint(n), "expected a mapping, found %s", n.shown())
	}
	if v.IsNil() {
		v.Set(reflect.MakeMapWithSize(v.Type(), len(n.entries)))
	}
	ok := true
	for _, e := range n.entries {
		key := reflect.ValueOf(e.key).Convert(v.Type().Key())
		elem := fresh(v.Type().Elem())
		if old := v.MapIndex(key); old.IsValid() {
			elem.Set(old)
		}
		ok = l.decode(e.value, elem, p.child(e.key), f.element()) && ok
		v.SetMapIndex(key, elem)
	}
	return ok
}

func (l *loader) decodeSlice(n *node, v reflect.Value, p *path, f *field) bool {
	if n.kind != kindList {
		hint := ""
		if n.kind != kindMap {
			hint = "write [" + clip(n.source, 30) + "]"
		}
		return l.wrong(n, p, hint, "expected a list, found %s", n.shown())
	}
	list := reflect.MakeSlice(v.Type(), 0, len(n.items))
	ok := true
	for i, item := range n.items {
		elem := fresh(v.Type().Elem())
		at := p.item(i)
		if item.kind == kindNull && elem.Kind() != reflect.Pointer && elem.Type() != rawType {
			ok = l.wrong(item, at, "give it one, or remove it", "the list item has no value")
			continue
		}
		ok = l.decode(item, elem, at, f.element()) && ok
		list = reflect.Append(list, elem)
	}
	v.Set(list)
	return ok
}

// element is what of a list's or mapping's tags is meant for its elements.
func (f *field) element() *field {
	if f == nil || len(f.enum) == 0 {
		return nil
	}
	return &field{name: f.name, enum: f.enum}
}

func (l *loader) decodeSecret(n *node, v reflect.Value, p *path, f *field) bool {
	const hint = "put it in the environment or a file, and write ${NAME} or ${file:path}"
	switch {
	case n.kind == kindList || n.kind == kindMap:
		return l.wrong(n, p, hint, "expected %s, found %s", wanted(secretType), n.shown())
	case n.source == "": // no secret
	case n.expr == exprDefault:
		return l.wrong(n, p, "write ${NAME}, or ${NAME:-} when it may be missing", "a secret must not have its default in the file")
	case n.expr != exprWhole:
		return l.wrong(n, p, hint, "a secret must not be written in the file")
	}
	v.SetString(n.text)
	return true
}

func (l *loader) decodeText(n *node, v reflect.Value, p *path) bool {
	t := v.Type()
	bare := n.kind == kindInt || n.kind == kindFloat
	switch {
	case n.kind == kindList || n.kind == kindMap || n.kind == kindBool:
		return l.wrong(n, p, "", "expected %s, found %s", wanted(t), n.shown())
	case t == durationType && bare && n.text != "0":
		return l.wrong(n, p, "add the unit: "+n.text+"s, "+n.text+"ms", "expected %s, found %s", wanted(t), n.shown())
	}
	err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.text))
	switch {
	case err == nil:
		return true
	case t == durationType || t == bytesType || n.expr != exprNone:
		return l.wrong(n, p, "", "expected %s, found %s", wanted(t), n.shown())
	}
	return l.wrong(n, p, "", "%s", clip(err.Error(), 300))
}
