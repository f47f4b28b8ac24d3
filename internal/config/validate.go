package config

import "reflect"

// Checker is a decoded struct that checks itself: rules that tie several keys
// together. v is positioned at it. Check runs after every section was decoded,
// on structs that are written in the file and were decoded without a fault.
type Checker interface{ Check(v *Validator) }

// Validator is a place in the configuration file from which faults are given.
type Validator struct {
	l    *loader
	n    *node // nil when nothing is written here
	file string
	line int // of the key, or of the nearest parent that is written
	col  int
	path *path
}

// At returns the place of a child, by key (string) or by index (int). Its
// position is that of the key or item, or of the nearest parent that is
// written.
func (v *Validator) At(path ...any) *Validator {
	at := *v
	for _, step := range path {
		switch s := step.(type) {
		case string:
			at.path = at.path.child(s)
			e, ok := at.n.get(s)
			if !ok {
				at.n = nil
				continue
			}
			at.n, at.file, at.line, at.col = e.value, e.file, e.line, e.col
		case int:
			at.path = at.path.item(s)
			if at.n == nil || at.n.kind != kindList || s < 0 || s >= len(at.n.items) {
				at.n = nil
				continue
			}
			at.n = at.n.items[s]
			at.file, at.line, at.col = at.n.file, at.n.line, at.n.col
		default:
			panic("config: Validator.At takes keys (string) and indexes (int)")
		}
	}
	return &at
}

// Fault notes a mistake at this place. hint is the way out, "" for none. It is
// left out when a value here, above or below could not be decoded: that fault
// is already told.
func (v *Validator) Fault(hint, format string, args ...any) {
	if v.l.tainted[v.path.String()] {
		return
	}
	for p := v.path; p != nil; p = p.parent {
		if v.l.failed[p.String()] {
			return
		}
	}
	v.l.faultAt(v.file, v.line, v.col, v.path, hint, format, args...)
}

// Has reports whether the value at this place is written in the file, and not
// as null.
func (v *Validator) Has() bool { return v.n != nil && v.n.kind != kindNull }

// Keys returns the keys of the mapping at this place in the order of the file;
// nil when no mapping is written here.
func (v *Validator) Keys() []string {
	if v.n == nil || v.n.kind != kindMap {
		return nil
	}
	keys := make([]string, len(v.n.entries))
	for i, e := range v.n.entries {
		keys[i] = e.key
	}
	return keys
}

// shortCheck is a value that a short form filled, which the walk over the
// written keys would not meet.
type shortCheck struct {
	value reflect.Value
	at    *Validator
}

func (l *loader) checkSections(root *node, sections []Section) {
	top := &Validator{l: l, n: root, file: root.file, line: root.line, col: root.col}
	for _, s := range sections {
		at := top.At(s.Key)
		l.check(reflect.ValueOf(s.Ptr).Elem(), at)
	}
	for _, c := range l.short {
		l.check(c.value, c.at)
	}
	for _, s := range sections {
		at := top.At(s.Key)
		if s.Check != nil && !l.failed[at.path.String()] {
			s.Check(at)
		}
	}
}

// check runs the Checkers in the written part of v, the innermost first.
func (l *loader) check(v reflect.Value, at *Validator) {
	if !at.Has() {
		return
	}
	t := v.Type()
	switch {
	case t.Kind() == reflect.Pointer:
		if !v.IsNil() {
			l.check(v.Elem(), at)
		}
		return
	case l.types.isLeaf(t):
	case t.Kind() == reflect.Struct:
		for _, f := range l.types.structure(t).fields {
			l.check(v.FieldByIndex(f.index), at.At(f.name))
		}
	case t.Kind() == reflect.Slice:
		for i := range min(v.Len(), len(at.n.items)) {
			l.check(v.Index(i), at.At(i))
		}
	case t.Kind() == reflect.Map:
		l.checkMap(v, at)
	}
	if c, ok := v.Addr().Interface().(Checker); ok && !l.tainted[at.path.String()] {
		c.Check(at)
	}
}

// checkMap checks a copy of each element and puts it back, because elements of
// a map have no address.
func (l *loader) checkMap(v reflect.Value, at *Validator) {
	for _, key := range at.Keys() {
		k := reflect.ValueOf(key).Convert(v.Type().Key())
		old := v.MapIndex(k)
		if !old.IsValid() {
			continue
		}
		elem := reflect.New(v.Type().Elem()).Elem()
		elem.Set(old)
		l.check(elem, at.At(key))
		v.SetMapIndex(k, elem)
	}
}
