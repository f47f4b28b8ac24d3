package contract

// endless finds schemas that refer to themselves without looking into the
// value: to check one would never end.
func (c *compiler) endless() {
	const (
		open = iota + 1
		closed
	)
	state := map[*schema]int{}
	place := map[*schema]*node{}
	for key, s := range c.done {
		place[s] = key.at
	}
	var visit func(s *schema) bool
	visit = func(s *schema) bool {
		if s == nil || state[s] == closed {
			return false
		}
		if state[s] == open {
			return true
		}
		state[s] = open
		for _, next := range s.inPlace() {
			if visit(next) {
				state[s] = closed
				if at := place[s]; at != nil {
					c.fault(at.fault("the schema refers to itself for the same value, and so has no meaning"))
				}
				return false
			}
		}
		state[s] = closed
		return false
	}
	for s := range place {
		visit(s)
	}
}

// inPlace are the schemas that s applies to the same value. Those that a
// discriminator chooses are left out: it is common that an alternative refers
// back to the schema that lists it, and the check does not go there twice.
func (s *schema) inPlace() []*schema {
	var list []*schema
	list = append(list, s.ref, s.not)
	list = append(list, s.all...)
	if s.discriminator == nil {
		list = append(list, s.any...)
		list = append(list, s.one...)
	}
	if s.when != nil {
		list = append(list, s.when.test, s.when.then, s.when.otherwise)
	}
	return list
}
