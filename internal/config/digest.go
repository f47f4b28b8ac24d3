package config

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
)

// Digest is the SHA-256 of the section's effective value, secrets included, in
// hexadecimal. Equal values have equal digests, on every node. It is as
// confidential as the weakest secret in the section: whoever sees it can test
// guesses.
func Digest(s Section) (string, error) {
	leaves, err := flatten(s)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, leaf := range leaves {
		for _, text := range []string{leaf.path, leaf.value} {
			var n [8]byte
			binary.BigEndian.PutUint64(n[:], uint64(len(text)))
			h.Write(n[:])
			h.Write([]byte(text))
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Changed lists the paths of the leaf keys that differ between two values of
// one section, sorted; never the values.
func Changed(a, b Section) ([]string, error) {
	before, err := flatten(a)
	if err != nil {
		return nil, err
	}
	after, err := flatten(b)
	if err != nil {
		return nil, err
	}
	values := make(map[string]string, len(before))
	for _, leaf := range before {
		values[leaf.path] = leaf.value
	}
	var changed []string
	for _, leaf := range after {
		old, there := values[leaf.path]
		if !there || old != leaf.value {
			changed = append(changed, leaf.path)
		}
		delete(values, leaf.path)
	}
	for path := range values {
		changed = append(changed, path)
	}
	slices.Sort(changed)
	return changed, nil
}

type leaf struct {
	path, value string
	shown       string // value, secrets redacted
	secret      bool
	element     string // path of the outermost mapping entry that it is in, "" for none
}

// flatten lists the leaves of a section: structs in the order of their fields,
// mappings sorted by key. An empty list or mapping and a nil pointer are leaves.
func flatten(s Section) ([]leaf, error) {
	v := reflect.ValueOf(s.Ptr)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return nil, fmt.Errorf("config: section %s: Ptr must be a pointer", s.Key)
	}
	f := flattener{ts: newTypes()}
	err := f.walk(v.Elem(), (*path)(nil).child(s.Key), "")
	return f.out, err
}

type flattener struct {
	ts  *types
	out []leaf
}

func (f *flattener) plain(p *path, text, element string) {
	f.out = append(f.out, leaf{path: p.String(), value: text, shown: text, element: element})
}

func (f *flattener) walk(v reflect.Value, p *path, element string) error {
	switch t := v.Type(); {
	case t.Kind() == reflect.Pointer:
		if !v.IsNil() {
			return f.walk(v.Elem(), p, element)
		}
		f.plain(p, "null", element)
	case f.ts.isLeaf(t):
		return f.leaf(v, p, element)
	case t.Kind() == reflect.Struct:
		for _, field := range f.ts.structure(t).fields {
			if err := f.walk(v.FieldByIndex(field.index), p.child(field.name), element); err != nil {
				return err
			}
		}
	case v.Len() == 0:
		f.plain(p, "empty", element)
	case t.Kind() == reflect.Map:
		for _, k := range sortedKeys(v) {
			at, inner := p.child(k.String()), element
			if inner == "" {
				inner = at.String()
			}
			if err := f.walk(v.MapIndex(k), at, inner); err != nil {
				return err
			}
		}
	default:
		for i := range v.Len() {
			if err := f.walk(v.Index(i), p.item(i), element); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *flattener) leaf(v reflect.Value, p *path, element string) error {
	value, err := leafText(v, Secret.Reveal)
	if err != nil {
		return err
	}
	l := leaf{path: p.String(), value: value, shown: value, element: element}
	if secret, ok := v.Interface().(Secret); ok {
		l.secret = true
		l.shown = hide(secret)
	}
	f.out = append(f.out, l)
	return nil
}
