package contract

const kindAny kind = 0xFF

// typesTaken is the kinds of value that s may fit, with all that it is made of; of
// none it is strings, as which parameters come.
func (s *schema) typesTaken() kind {
	if s == nil {
		return kindString
	}
	k := s.kinds(map[*schema]bool{})
	if k == kindAny {
		return kindString
	}
	return k
}

func (s *schema) kinds(seen map[*schema]bool) kind {
	if s == nil || s.rare != nil || seen[s] {
		return kindAny
	}
	seen[s] = true
	defer delete(seen, s)
	if len(seen) > maxRefs {
		return kindAny
	}
	k := kindAny
	if s.types != 0 {
		k = s.types
		if s.nullable {
			k |= kindNull
		}
	}
	if s.ref != nil {
		k &= s.ref.kinds(seen)
	}
	for _, sub := range s.all {
		k &= sub.kinds(seen)
	}
	for _, list := range [][]*schema{s.any, s.one} {
		if list == nil {
			continue
		}
		var any kind
		for _, sub := range list {
			any |= sub.kinds(seen)
		}
		k &= any
	}
	return k
}

// parts are s and what it refers to for the same value, each once.
func (s *schema) parts() []*schema {
	var list []*schema
	seen := map[*schema]bool{nil: true}
	var add func(s *schema)
	add = func(s *schema) {
		if seen[s] {
			return
		}
		seen[s] = true
		list = append(list, s)
		for _, sub := range append(append(s.inPlace(), s.any...), s.one...) {
			if sub != s.not {
				add(sub)
			}
		}
	}
	add(s)
	return list
}

// member is the schema of a member, nil if none is named.
func (s *schema) member(name string) *schema {
	for _, part := range s.parts() {
		if part.object == nil {
			continue
		}
		if i, ok := part.object.byName[name]; ok && part.object.properties[i].schema != nil {
			return part.object.properties[i].schema
		}
		if extra := part.object.additional; extra != nil && !extra.never {
			return extra
		}
	}
	return nil
}

// memberNames are those that s names.
func (s *schema) memberNames() []string {
	var names []string
	for _, part := range s.parts() {
		if part.object != nil {
			for _, p := range part.object.properties {
				names = append(names, p.name)
			}
		}
	}
	return names
}

// itemOf is the schema of a list's items, nil if none is given.
func (s *schema) itemOf() *schema {
	for _, part := range s.parts() {
		if part.array != nil && part.array.items != nil {
			return part.array.items
		}
	}
	return nil
}
