package contract

import (
	"fmt"
	"strconv"
	"sync"
)

// Bounds of one check.
const (
	maxSteps      = 2_000_000 // schemas that are applied
	maxViolations = 20
	maxNesting    = 4 * maxDepth // of schemas within schemas at one place
)

// run is one check of one JSON text.
type run struct {
	data  []byte
	tape  []token
	steps int
	deep  int

	quiet   int // above 0 only the verdict counts
	in      string
	prefix  string // of paths: the parameter's name
	path    []step
	found   []Violation
	names   map[string]bool // members that the document names; others are not shown in shapes
	scratch []byte
	digits  []byte
	seen    []uint64 // bit sets of the objects that are open
	active  []activeChoice
	tooMuch bool
}

// activeChoice is a discriminator that has chosen for a value.
type activeChoice struct {
	schema *schema
	token  uint32
}

// step is one part of the path to a value.
type step struct {
	name string // of a declared member
	n    uint32 // an item's index, or the token of an undeclared member's name
	kind uint8
}

const (
	stepMember = iota
	stepOther
	stepItem
)

var runs = sync.Pool{New: func() any {
	return &run{tape: make([]token, 0, 256), path: make([]step, 0, 16), scratch: make([]byte, 0, 128)}
}}

func newRun(data []byte, names map[string]bool) *run {
	r := runs.Get().(*run)
	*r = run{data: data, names: names, tape: r.tape[:0], path: r.path[:0], scratch: r.scratch[:0], digits: r.digits[:0], seen: r.seen[:0], active: r.active[:0]}
	return r
}

// done gives r back, unless it has grown out of proportion.
func (r *run) done() {
	if cap(r.tape) <= 1<<16 && cap(r.scratch) <= 1<<16 && cap(r.digits) <= 1<<16 {
		r.data, r.found, r.names = nil, nil, nil
		clear(r.active[:cap(r.active)])
		runs.Put(r)
	}
}

// check applies s to the value at token t.
func (r *run) check(s *schema, t uint32) bool {
	if s == nil {
		return true
	}
	if r.steps++; r.steps > maxSteps || r.deep >= maxNesting || len(r.found) >= maxViolations {
		if r.steps > maxSteps || r.deep >= maxNesting {
			r.exhausted()
		}
		return false
	}
	r.deep++
	ok := r.apply(s, t)
	r.deep--
	return ok
}

// exhausted says once that the check was given up.
func (r *run) exhausted() {
	if !r.tooMuch {
		r.tooMuch = true
		r.quiet, r.path = 0, r.path[:0]
		r.found = append(r.found, Violation{In: r.in, Path: r.prefix, Field: r.prefix, Message: "is too complex to be checked"})
	}
}

func (r *run) apply(s *schema, t uint32) bool {
	if s.never {
		return r.fail(t, "must not be there")
	}
	tok := &r.tape[t]
	if s.nullable && tok.kind == kindNull {
		return true
	}
	if s.rare != nil {
		return r.rare(s, t)
	}
	if s.ref != nil && !r.check(s.ref, t) {
		return false
	}
	if s.types != 0 && !r.fits(s, tok) {
		return r.fail(t, "must be %s", s.asked)
	}
	ok := true
	if s.enum != nil && !r.among(s.enum, t) {
		ok = r.fail(t, "must be %s", oneOf(s.enum.count))
	}
	switch {
	case tok.kind == kindObject && s.object != nil:
		ok = r.object(s.object, t) && ok
	case tok.kind == kindString && s.text != nil:
		ok = r.text(s.text, t) && ok
	case tok.kind == kindNumber && s.number != nil:
		ok = r.number(s.number, t) && ok
	case tok.kind == kindArray && s.array != nil:
		ok = r.array(s.array, t) && ok
	}
	if s.combines && (ok || r.quiet == 0) {
		ok = r.combined(s, t) && ok
	}
	return ok
}

func oneOf(n int) string {
	if n == 1 {
		return "the one value that the contract names"
	}
	return "one of the " + strconv.Itoa(n) + " values that the contract names"
}

func (r *run) fits(s *schema, tok *token) bool {
	if s.types&tok.kind == 0 {
		return false
	}
	if tok.kind != kindNumber || !s.integer {
		return true
	}
	return r.whole(tok)
}

func (r *run) whole(tok *token) bool {
	if tok.flags&flagFraction == 0 {
		return true
	}
	d, _ := parseDecimal(r.data[tok.start:tok.end], r.digits[:0])
	return d.integer()
}

// combined applies what stands for several schemas at once.
func (r *run) combined(s *schema, t uint32) bool {
	ok := true
	for _, sub := range s.all {
		if !r.check(sub, t) {
			if ok = false; r.quiet > 0 {
				return false
			}
		}
	}
	if s.discriminator != nil {
		ok = r.discriminated(s, t) && ok
	} else {
		if s.any != nil && !r.anyOf(s.any, t) {
			ok = false
		}
		if s.one != nil && !r.oneOf(s.one, t) {
			ok = false
		}
	}
	if s.not != nil && r.silently(s.not, t) {
		ok = r.fail(t, "must not be of the shape that the contract excludes")
	}
	if c := s.when; c != nil {
		if r.silently(c.test, t) {
			ok = r.check(c.then, t) && ok
		} else {
			ok = r.check(c.otherwise, t) && ok
		}
	}
	return ok && !r.tooMuch
}

// silently asks for the verdict alone.
func (r *run) silently(s *schema, t uint32) bool {
	r.quiet++
	ok := r.check(s, t)
	if !r.tooMuch {
		r.quiet--
	}
	return ok
}

func (r *run) anyOf(list []*schema, t uint32) bool {
	for _, s := range list {
		if r.silently(s, t) {
			return true
		}
		if r.tooMuch {
			return false
		}
	}
	return r.none(list, t)
}

func (r *run) oneOf(list []*schema, t uint32) bool {
	fitting := 0
	for _, s := range list {
		if r.silently(s, t) {
			fitting++
		}
		if r.tooMuch {
			return false
		}
	}
	switch fitting {
	case 0:
		return r.none(list, t)
	case 1:
		return true
	}
	return r.fail(t, "fits %d of the alternatives in the contract, and must fit one", fitting)
}

// none tells why no alternative fits: where a single one takes this kind of
// value, with what is wrong there.
func (r *run) none(list []*schema, t uint32) bool {
	if r.quiet > 0 {
		return false
	}
	var only *schema
	takers := 0
	for _, s := range list {
		if s.takes()&r.tape[t].kind != 0 {
			only = s
			takers++
		}
	}
	if takers == 1 && !r.check(only, t) {
		return false
	}
	return r.fail(t, "fits none of the %d alternatives in the contract", len(list))
}

// takes is the kinds of value that s may fit.
func (s *schema) takes() kind {
	k := kind(0xFF)
	for range maxRefs {
		if s.types != 0 {
			k &= s.types
		}
		if s.ref == nil {
			break
		}
		s = s.ref
	}
	return k
}

// discriminated checks the alternative that a member names.
func (r *run) discriminated(s *schema, t uint32) bool {
	d := s.discriminator
	if r.tape[t].kind != kindObject {
		return r.fail(t, "must be an object")
	}
	for _, a := range r.active {
		if a.schema == s && a.token == t {
			return true // the alternative refers back to the schema that lists it
		}
	}
	r.active = append(r.active, activeChoice{s, t})
	defer func() { r.active = r.active[:len(r.active)-1] }()
	value := r.member(t, d.property)
	if value == 0 || r.tape[value].kind != kindString {
		r.push(step{kind: stepMember, name: d.property})
		defer r.pop()
		if value == 0 {
			return r.fail(0, "is missing: it says which alternative of the contract this is")
		}
		return r.fail(value, "must be a string: it says which alternative of the contract this is")
	}
	chosen := d.choice[string(r.string(value))]
	if chosen == nil {
		r.push(step{kind: stepMember, name: d.property})
		defer r.pop()
		return r.fail(value, "names none of the %d alternatives in the contract", len(d.choice))
	}
	return r.check(chosen, t)
}

// member finds a member of an object by name, 0 without.
func (r *run) member(t uint32, name string) uint32 {
	i := t + 1
	for range r.tape[t].count {
		if string(r.string(i)) == name {
			return i + 1
		}
		i = r.tape[i+1].next
	}
	return 0
}

// string is the text of a string token; it is good until the next one is asked for.
func (r *run) string(t uint32) []byte {
	tok := &r.tape[t]
	b := r.data[tok.start:tok.end]
	if tok.flags&flagEscaped == 0 {
		return b
	}
	r.scratch = unescape(r.scratch[:0], b)
	return r.scratch
}

func (r *run) push(s step) { r.path = append(r.path, s) }

func (r *run) pop() {
	if len(r.path) > 0 {
		r.path = r.path[:len(r.path)-1]
	}
}

// object checks members, required ones, and how many there are.
func (r *run) object(o *objectRules, t uint32) bool {
	ok, missing := true, o.required
	count := int(r.tape[t].count)
	if o.min > count {
		ok = r.fail(t, "must have at least %d members", o.min)
	}
	if o.max >= 0 && o.max < count {
		ok = r.fail(t, "must have at most %d members", o.max)
	}
	from := len(r.seen)
	for range (len(o.properties) + 63) / 64 {
		r.seen = append(r.seen, 0)
	}
	i := t + 1
	for range count {
		if r.quiet > 0 && !ok {
			break
		}
		key, value := i, i+1
		i = r.tape[value].next
		n, known := o.byName[string(r.string(key))]
		if known {
			word, bit := &r.seen[from+n/64], uint64(1)<<(n%64)
			if *word&bit != 0 {
				r.push(step{kind: stepMember, name: o.properties[n].name})
				ok = r.fail(value, "is there twice")
				r.pop()
				continue
			}
			*word |= bit
			if o.properties[n].required {
				missing--
			}
		} else {
			n = -1
		}
		ok = r.memberOf(o, n, key, value) && ok
	}
	if missing > 0 {
		ok = r.missing(o, from)
	}
	r.seen = r.seen[:from]
	if len(o.dependent) > 0 {
		ok = r.dependent(o, t) && ok
	}
	return ok
}

// memberOf checks one member; n is its index among the properties, or -1.
func (r *run) memberOf(o *objectRules, n int, key, value uint32) bool {
	ok, declared := true, false
	if n >= 0 {
		p := &o.properties[n]
		if declared = p.declared; declared {
			if p.schema != nil {
				r.push(step{kind: stepMember, name: p.name})
				ok = r.check(p.schema, value)
				r.pop()
			}
		}
	}
	if o.patterns == nil && declared && o.names == nil {
		return ok
	}
	r.push(step{kind: stepOther, n: key})
	defer r.pop()
	if o.names != nil && !r.silently(o.names, key) {
		ok = r.fail(value, "has a name that the contract does not allow")
	}
	for _, p := range o.patterns {
		if p.re.Match(r.string(key)) {
			declared = true
			ok = r.check(p.schema, value) && ok
		}
	}
	if !declared && o.additional != nil {
		if o.additional.never {
			return r.fail(value, "is not in the contract")
		}
		ok = r.check(o.additional, value) && ok
	}
	return ok
}

func (r *run) missing(o *objectRules, from int) bool {
	if r.quiet > 0 {
		return false
	}
	for n := range o.properties {
		if o.properties[n].required && r.seen[from+n/64]&(1<<(n%64)) == 0 {
			r.push(step{kind: stepMember, name: o.properties[n].name})
			r.fail(0, "is missing")
			r.pop()
		}
	}
	return false
}

func (r *run) dependent(o *objectRules, t uint32) bool {
	ok := true
	for name, others := range o.dependent {
		if r.member(t, name) == 0 {
			continue
		}
		for _, other := range others {
			if r.member(t, other) == 0 {
				r.push(step{kind: stepMember, name: other})
				ok = r.fail(0, "is missing: it belongs to %s", name)
				r.pop()
			}
		}
	}
	return ok
}

// fail notes a violation at the present path; it is always false. t is the
// value that is wrong, 0 for one that is missing.
func (r *run) fail(t uint32, format string, args ...any) bool {
	if r.quiet > 0 || len(r.found) >= maxViolations || r.tooMuch {
		return false
	}
	v := Violation{In: r.in, Message: fmt.Sprintf(format, args...)}
	v.Path, v.Field = r.pointer()
	if missing := t == 0 && len(r.path) > 0; missing {
		v.Shape = "missing"
	} else {
		v.Shape = r.shape(t, 0)
	}
	r.found = append(r.found, v)
	return false
}
