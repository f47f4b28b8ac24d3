package config

import (
	"cmp"
	"reflect"
	"slices"
)

// Change is one leaf key whose value differs.
type Change struct {
	Path   string
	Old    string // as YAML, a secret as [redacted]; "" where the key is not there
	New    string
	Secret bool // the values are hidden
}

// maxShown bounds a value of a Change, in characters.
const maxShown = 300

// Diff is Changed with the values, secrets redacted, sorted by path. Of a
// mapping's entry that only one side has, keys with the value that every new
// entry begins with are left out; an entry of nothing else is one Change.
func Diff(a, b Section) ([]Change, error) {
	before, err := flatten(a)
	if err != nil {
		return nil, err
	}
	after, err := flatten(b)
	if err != nil {
		return nil, err
	}
	usual, err := usualLeaves(b)
	if err != nil {
		return nil, err
	}
	d := differ{changes: map[string]*Change{}, whole: map[string]bool{}, usual: usual}
	d.side(before, after, func(c *Change, shown string) { c.Old = shown })
	d.side(after, before, func(c *Change, shown string) { c.New = shown })
	list := make([]Change, 0, len(d.changes))
	for _, c := range d.changes {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(x, y Change) int { return cmp.Compare(x.Path, y.Path) })
	return list, nil
}

type differ struct {
	changes map[string]*Change
	whole   map[string]bool // entries of one side alone; true once one of their keys is told
	usual   map[string]string
}

// side notes what from has and other has not, or otherwise.
func (d *differ) side(from, other []leaf, set func(*Change, string)) {
	values := make(map[string]string, len(other))
	elements := make(map[string]bool, len(other))
	for _, l := range other {
		values[l.path], elements[l.element] = l.value, true
	}
	for _, l := range from {
		value, there := values[l.path]
		if there && value == l.value {
			continue
		}
		if !elements[l.element] {
			text, known := d.usual[l.path[len(l.element):]]
			if known && text == l.value {
				if !d.whole[l.element] {
					d.whole[l.element] = false
				}
				continue
			}
			d.whole[l.element] = true
		}
		c := d.at(l.path)
		c.Secret = c.Secret || l.secret
		set(c, clip(l.shown, maxShown))
	}
	for element, told := range d.whole {
		if !told {
			set(d.at(element), "{}")
		}
		delete(d.whole, element)
	}
}

func (d *differ) at(path string) *Change {
	c := d.changes[path]
	if c == nil {
		c = &Change{Path: path}
		d.changes[path] = c
	}
	return c
}

// usualLeaves are the values that a new entry of the section begins with, by
// the rest of their path. Only a section that is a mapping has entries of its
// own; those of mappings further down are told in full.
func usualLeaves(s Section) (map[string]string, error) {
	t := reflect.TypeOf(s.Ptr).Elem()
	if t.Kind() != reflect.Map {
		return nil, nil
	}
	elem := fresh(t.Elem())
	if t.Elem().Kind() == reflect.Pointer {
		elem = fresh(t.Elem().Elem())
	}
	f := flattener{ts: newTypes()}
	if err := f.walk(elem, (*path)(nil).child("x"), "x"); err != nil {
		return nil, err
	}
	usual := make(map[string]string, len(f.out))
	for _, l := range f.out {
		usual[l.path[len("x"):]] = l.value
	}
	return usual, nil
}
