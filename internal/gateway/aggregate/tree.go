package aggregate

import (
	"bytes"
	"fmt"
)

// tree says what becomes of a value's members: which stay, under which name.
// A nil tree leaves a value as it is. Lists are gone through item by item.
type tree struct {
	names   map[string]*tree
	others  bool // members without a name in names stay
	dropped bool // this member goes
	whole   bool // picked as it is, unless members of it are dropped or renamed
	quoted  []byte
}

func (t *tree) child(name string) *tree {
	c := t.names[name]
	if c == nil {
		if t.names == nil {
			t.names = map[string]*tree{}
		}
		c = &tree{others: t.others || t.whole}
		t.names[name] = c
	}
	return c
}

// pick keeps what is at path.
func (t *tree) pick(path []string) {
	for _, step := range path {
		if t.whole {
			return // a shorter path has it all
		}
		t = t.child(step)
	}
	t.whole, t.names = true, nil
}

// settle turns what was picked whole into members that stay, so that others
// can be dropped or renamed in it.
func (t *tree) settle() {
	t.others = t.others || t.whole
	for _, c := range t.names {
		c.settle()
	}
}

// at returns the node of path, nil when it was not picked.
func (t *tree) at(path []string) *tree {
	for _, step := range path {
		c := t.names[step]
		if c == nil {
			if !t.others {
				return nil
			}
			c = t.child(step)
		}
		t = c
	}
	return t
}

// trees compiles pick, drop and rename. All paths are those of the answer as
// the service sends it. It returns nil when all are empty.
func trees(pick, drop []string, rename map[string]string, fault func(key string, at any, err error)) *tree {
	if len(pick) == 0 && len(drop) == 0 && len(rename) == 0 {
		return nil
	}
	t := &tree{whole: len(pick) == 0}
	for i, p := range pick {
		path, err := parsePath(p)
		if err != nil {
			fault("pick", i, err)
			continue
		}
		t.pick(path)
	}
	t.settle()
	for i, d := range drop {
		path, err := parsePath(d)
		if err != nil {
			fault("drop", i, err)
			continue
		}
		n := t.at(path)
		if n == nil {
			fault("drop", i, fmt.Errorf("%s is not picked, so that there is nothing to drop", d))
			continue
		}
		n.dropped = true
	}
	var renamed []renaming
	for _, from := range sortedKeys(rename) {
		r, err := t.rename(from, rename[from])
		if err != nil {
			fault("rename", from, err)
			continue
		}
		renamed = append(renamed, r)
	}
	for _, r := range renamed {
		if !r.makeRoom() {
			fault("rename", r.from, fmt.Errorf("two members would be called %s", r.name))
		}
	}
	return t
}

// renaming is one entry of rename.
type renaming struct {
	parent, node *tree
	from, name   string
}

func (t *tree) rename(from, to string) (r renaming, err error) {
	path, err := parsePath(from)
	if err != nil {
		return r, err
	}
	name, err := parsePath(to)
	if err != nil || len(name) != 1 {
		return r, fmt.Errorf("%q is not a name: it takes the place of the path's last step", to)
	}
	parent := t.at(path[:len(path)-1])
	var n *tree
	if parent != nil {
		n = parent.at(path[len(path)-1:])
	}
	if n == nil || n.dropped {
		return r, fmt.Errorf("%s is not picked, so that there is nothing to rename", from)
	}
	n.quoted = appendText(nil, name[0])
	return renaming{parent, n, from, name[0]}, nil
}

// makeRoom drops what has the new name already, unless it is renamed itself.
func (r renaming) makeRoom() bool {
	for _, c := range r.parent.names {
		if c != r.node && c.quoted != nil && is(c.quoted, r.name) {
			return false
		}
	}
	other := r.parent.names[r.name]
	switch {
	case other == nil && r.parent.others:
		r.parent.child(r.name).dropped = true
	case other != nil && other.quoted == nil:
		other.dropped = true
	}
	return true
}

// append writes b as t wants it. Of a list, items that cannot have what is
// picked are left out; ok is false when b itself is such a value. null stays.
func (t *tree) append(dst, b []byte) (out []byte, ok bool) {
	if t == nil || (t.whole || t.others) && len(t.names) == 0 {
		return append(dst, b...), true
	}
	switch b[0] {
	case '{':
		return t.appendObject(dst, b), true
	case '[':
		dst = append(dst, '[')
		first := true
		for r := open(b); ; {
			item, more := r.item()
			if !more {
				return append(dst, ']'), true
			}
			mark := len(dst)
			if !first {
				dst = append(dst, ',')
			}
			if dst, ok = t.append(dst, item); ok {
				first = false
			} else {
				dst = dst[:mark]
			}
		}
	}
	if t.others || b[0] == 'n' {
		return append(dst, b...), true
	}
	return dst, false
}

func (t *tree) appendObject(dst, b []byte) []byte {
	dst = append(dst, '{')
	first := true
	for r := open(b); ; {
		name, value, more := r.member()
		if !more {
			return append(dst, '}')
		}
		c := t.lookup(name)
		if c == nil && !t.others || c != nil && c.dropped {
			continue
		}
		mark, ok := len(dst), true
		if !first {
			dst = append(dst, ',')
		}
		if c != nil && c.quoted != nil {
			name = c.quoted
		}
		dst = append(append(dst, name...), ':')
		if dst, ok = c.append(dst, value); ok {
			first = false
		} else {
			dst = dst[:mark]
		}
	}
}

func (t *tree) lookup(quoted []byte) *tree {
	if bytes.IndexByte(quoted, '\\') >= 0 {
		return t.names[unquote(quoted)]
	}
	return t.names[string(quoted[1:len(quoted)-1])]
}
