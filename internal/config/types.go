package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// Defaulter is a struct that sets its own defaults before it is decoded as an
// element of a mapping or list, or behind a pointer that was nil.
type Defaulter interface{ Defaults() }

// ShortForm is a type that may also be written in another shape than its own,
// for example a struct as a single text. UnmarshalConfig is called when the
// value in the file is no mapping (for a struct or map) or no list (for a
// slice). decode reads the value into what the pointer into shows; its error
// is already reported and is to be returned as it is. Any other error becomes
// the message of a fault.
type ShortForm interface {
	UnmarshalConfig(decode func(into any) error) error
}

// Chooser is a text type that takes only these values.
type Chooser interface{ Choices() []string }

var (
	secretType    = reflect.TypeFor[Secret]()
	rawType       = reflect.TypeFor[Raw]()
	durationType  = reflect.TypeFor[Duration]()
	bytesType     = reflect.TypeFor[Bytes]()
	textReader    = reflect.TypeFor[encoding.TextUnmarshaler]()
	textWriter    = reflect.TypeFor[encoding.TextMarshaler]()
	shortFormType = reflect.TypeFor[ShortForm]()
	chooserType   = reflect.TypeFor[Chooser]()
)

// field is one key of a struct.
type field struct {
	name     string
	index    []int
	typ      reflect.Type
	doc      string
	example  string
	enum     []string
	min, max string
	required bool
}

// structure is what a struct type has for keys.
type structure struct {
	fields []*field
	byName map[string]*field
	broken string // a field that is tagged inline but is no struct
}

func (s *structure) names() []string {
	names := make([]string, len(s.fields))
	for i, f := range s.fields {
		names[i] = f.name
	}
	return names
}

// types knows the struct types that it met.
type types struct {
	structures map[reflect.Type]*structure
	vetted     map[reflect.Type]bool
}

func newTypes() *types {
	return &types{structures: map[reflect.Type]*structure{}, vetted: map[reflect.Type]bool{}}
}

// isLeaf reports whether values of t are one scalar, or opaque.
func (ts *types) isLeaf(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct, reflect.Slice, reflect.Map:
		return t == rawType || reflect.PointerTo(t).Implements(textReader)
	}
	return t.Kind() != reflect.Pointer
}

func (ts *types) structure(t reflect.Type) *structure {
	if s, ok := ts.structures[t]; ok {
		return s
	}
	s := &structure{byName: map[string]*field{}}
	ts.structures[t] = s
	ts.collect(s, t, nil)
	return s
}

func (ts *types) collect(s *structure, t reflect.Type, index []int) {
	for i := range t.NumField() {
		sf := t.Field(i)
		tag, tagged := sf.Tag.Lookup("yaml")
		name, options, _ := strings.Cut(tag, ",")
		at := append(slices.Clone(index), i)
		inline := slices.Contains(strings.Split(options, ","), "inline") || sf.Anonymous && !tagged
		switch {
		case inline && sf.Type.Kind() == reflect.Struct:
			ts.collect(s, sf.Type, at)
		case inline && tagged:
			s.broken = sf.Name
		case !sf.IsExported() || name == "" || name == "-":
		case s.byName[name] != nil:
			// vet reports it
			s.fields = append(s.fields, &field{name: name, index: at, typ: sf.Type})
		default:
			f := &field{
				name: name, index: at, typ: sf.Type,
				doc: sf.Tag.Get("doc"), example: sf.Tag.Get("example"),
				min: sf.Tag.Get("min"), max: sf.Tag.Get("max"),
				required: sf.Tag.Get("required") == "true",
			}
			if e := sf.Tag.Get("enum"); e != "" {
				f.enum = strings.Split(e, ",")
			} else {
				f.enum = choices(sf.Type)
			}
			s.byName[name] = f
			s.fields = append(s.fields, f)
		}
	}
}

// choices returns the values of a Chooser, or of what a list, mapping or pointer
// holds.
func choices(t reflect.Type) []string {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Map || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.String && reflect.PointerTo(t).Implements(chooserType) {
		return reflect.New(t).Interface().(Chooser).Choices()
	}
	return nil
}

// vet finds types and tags that cannot be a configuration.
func (ts *types) vet(t reflect.Type) error {
	if ts.vetted[t] {
		return nil
	}
	ts.vetted[t] = true
	if t == rawType {
		return nil
	}
	if reflect.PointerTo(t).Implements(textReader) {
		if !reflect.PointerTo(t).Implements(textWriter) {
			return fmt.Errorf("type %s has UnmarshalText but no MarshalText", t)
		}
		return nil
	}
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return nil
	case reflect.Pointer, reflect.Slice:
		return ts.vet(t.Elem())
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			return fmt.Errorf("type %s: keys of a mapping must be texts", t)
		}
		return ts.vet(t.Elem())
	case reflect.Struct:
		return ts.vetStruct(t)
	}
	return fmt.Errorf("type %s cannot be configured", t)
}

func (ts *types) vetStruct(t reflect.Type) error {
	seen := map[string]bool{}
	s := ts.structure(t)
	if s.broken != "" {
		return fmt.Errorf("type %s: only a struct can be inline, not %s", t, s.broken)
	}
	for _, f := range s.fields {
		if seen[f.name] {
			return fmt.Errorf("type %s has the key %s twice", t, f.name)
		}
		seen[f.name] = true
		if err := ts.vet(f.typ); err != nil {
			return fmt.Errorf("%s.%s: %w", t, f.name, err)
		}
		for _, limit := range []string{f.min, f.max} {
			if limit == "" {
				continue
			}
			if _, err := limitOf(f.typ, limit); err != nil {
				return fmt.Errorf("%s.%s: limit %q: %w", t, f.name, limit, err)
			}
		}
	}
	return nil
}

// typeName is what a value of t is called in faults and in the reference.
func typeName(t reflect.Type) string {
	switch t {
	case secretType:
		return "secret"
	case rawType:
		return "any value"
	case durationType:
		return "duration"
	case bytesType:
		return "size"
	}
	if t.Kind() == reflect.Pointer {
		return typeName(t.Elem())
	}
	if reflect.PointerTo(t).Implements(textReader) {
		return words(t.Name())
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Slice:
		return "list"
	case reflect.Struct, reflect.Map:
		return "mapping"
	}
	return "whole number"
}

// words writes a Go name such as ClientAddr as "client addr".
func words(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 && !unicode.IsUpper(rune(name[i-1])) {
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// wanted is typeName with an article and, where it helps, an example.
func wanted(t reflect.Type) string {
	switch name := typeName(t); name {
	case "duration":
		return "a duration such as 800ms, 15m or 30d"
	case "size":
		return "a size such as 256KiB or 10MiB"
	case "true or false", "text", "any value":
		return name
	case "secret":
		return "a secret as ${NAME} or ${file:path}"
	case "list":
		return "a list"
	default:
		if strings.ContainsRune("aeiou", rune(name[0])) {
			return "an " + name
		}
		return "a " + name
	}
}
