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

type leaf struct{ path, value string }

// flatten lists the leaves of a section: structs in the order of their fields,
// mappings sorted by key. An empty list or mapping and a nil pointer are leaves.
func flatten(s Section) ([]leaf, error) {
	v := reflect.ValueOf(s.Ptr)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return nil, fmt.Errorf("config: section %s: Ptr must be a pointer", s.Key)
	}
	var out []leaf
	ts := newTypes()
	var walk func(v reflect.Value, p *path) error
	walk = func(v reflect.Value, p *path) error {
		switch t := v.Type(); {
		case t.Kind() == reflect.Pointer:
			if !v.IsNil() {
				return walk(v.Elem(), p)
			}
			out = append(out, leaf{p.String(), "null"})
		case ts.isLeaf(t):
			text, err := leafText(v, Secret.Reveal)
			if err != nil {
				return err
			}
			out = append(out, leaf{p.String(), text})
		case t.Kind() == reflect.Struct:
			for _, f := range ts.structure(t).fields {
				if err := walk(v.FieldByIndex(f.index), p.child(f.name)); err != nil {
					return err
				}
			}
		case v.Len() == 0:
			out = append(out, leaf{p.String(), "empty"})
		case t.Kind() == reflect.Map:
			for _, k := range sortedKeys(v) {
				if err := walk(v.MapIndex(k), p.child(k.String())); err != nil {
					return err
				}
			}
		default:
			for i := range v.Len() {
				if err := walk(v.Index(i), p.item(i)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	err := walk(v.Elem(), (*path)(nil).child(s.Key))
	return out, err
}
