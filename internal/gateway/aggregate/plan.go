package aggregate

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"regexp"
	"slices"
	"strings"
)

// MaxCalls bounds the calls of one plan.
const MaxCalls = 16

// Spec is a plan as it is configured.
type Spec struct {
	Method string              // of the route
	Params []string            // wildcards of the route's match
	Calls  map[string]CallSpec // by name
	Answer []byte              // JSON; nil for one member per call
	Root   string              // instead of Answer: one call whose answer is the whole answer
	Fields bool                // clients may ask for a part with ?fields=
}

// CallSpec is one call as it is configured.
type CallSpec struct {
	Method   string // "" = GET
	Path     string // template of path and query
	Query    []string
	Body     []byte // JSON template, nil for none
	After    []string
	Required bool
	Fallback []byte // JSON that stands in for the service's answer, nil for none

	Flatten string
	Pick    []string
	Drop    []string
	Rename  map[string]string

	GraphQL *Operation // then Body holds the variables
}

// Fault is a mistake in a Spec. Path leads to it: keys (string) and indexes (int).
type Fault struct {
	Path []any
	Hint string
	Err  error
}

// Error names the place and the mistake.
func (f *Fault) Error() string {
	var b strings.Builder
	for i, step := range f.Path {
		if _, index := step.(int); index {
			fmt.Fprintf(&b, "[%d]", step)
			continue
		}
		if i > 0 {
			b.WriteByte('.')
		}
		fmt.Fprint(&b, step)
	}
	return b.String() + ": " + f.Err.Error()
}

// Unwrap returns the mistake.
func (f *Fault) Unwrap() error { return f.Err }

// Plan is a compiled Spec.
type Plan struct {
	Calls  []*Call // sorted by name
	shape  *shape
	root   bool
	fields bool
	always uint32 // calls that are made whatever fields a client asks for
	query  bool
	body   bool
}

// Call is a compiled call.
type Call struct {
	Name     string
	Method   string
	Required bool
	Write    bool // it may change something
	Target   *Target
	GraphQL  *Operation

	index      int
	pass       []string // parameters of the query that are passed on
	body       *body
	after      []int
	dependents []int
	deps       uint32 // after, and what those wait for
	fallback   []byte // shaped
	unshaped   []byte // for templates
	flatten    []string
	tree       *tree
}

// UsesQuery reports whether the request's query is looked at.
func (p *Plan) UsesQuery() bool { return p.query || p.fields }

// UsesFields reports whether ?fields= is looked at.
func (p *Plan) UsesFields() bool { return p.fields }

// UsesBody reports whether the request's body is looked at.
func (p *Plan) UsesBody() bool { return p.body }

// callName is what a call may be called: it becomes a member, a token of a
// header and a label of metrics.
var callName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

var (
	requestMethods = []string{"GET", "POST", "PUT", "PATCH", "DELETE"}
	callMethods    = []string{"GET", "POST", "PUT", "PATCH", "DELETE"}
)

type compiler struct {
	spec   Spec
	scope  scope
	plan   *Plan
	names  []string
	faults []*Fault
}

func (c *compiler) fault(path []any, hint, format string, args ...any) {
	c.faults = append(c.faults, &Fault{Path: path, Hint: hint, Err: fmt.Errorf(format, args...)})
}

// Compile makes a Plan, or says everything that is wrong with s.
func Compile(s Spec) (*Plan, []*Fault) {
	c := &compiler{spec: s, plan: &Plan{fields: s.Fields}, names: sortedKeys(s.Calls)}
	c.scope = scope{params: s.Params, calls: map[string]int{}, hasBody: s.Method != "GET" && s.Method != "DELETE"}
	switch {
	case len(s.Calls) == 0:
		c.fault([]any{"calls"}, "write calls: {airport: {upstream: flights, path: /airports}}", "there are no calls")
		return nil, c.faults
	case len(s.Calls) > MaxCalls:
		c.fault([]any{"calls"}, "let one service put several together", "there are %d calls, more than %d", len(s.Calls), MaxCalls)
		return nil, c.faults
	case !slices.Contains(requestMethods, s.Method):
		c.fault(nil, "write for example \"GET /v1/home\"", "the match of an aggregated route needs one of the methods %s", strings.Join(requestMethods, ", "))
	}
	for i, name := range c.names {
		switch {
		case !callName.MatchString(name):
			c.fault([]any{"calls", name}, "use lower-case letters, digits and _, at most 32, beginning with a letter", "%q cannot be the name of a call", name)
		case reservedNames[name] || name == missingKey:
			c.fault([]any{"calls", name}, "choose another", "%q means something else", name)
		}
		c.scope.calls[name] = i
	}
	for i, name := range c.names {
		c.plan.Calls = append(c.plan.Calls, c.call(i, name, s.Calls[name]))
	}
	c.order()
	c.answer()
	if s.Fields && c.usesFields() {
		c.fault([]any{"fields"}, "write fields: false", "a call uses the parameter fields itself")
	}
	if len(c.faults) > 0 {
		return nil, c.faults
	}
	return c.plan, nil
}

func (c *compiler) usesFields() bool {
	for _, name := range c.names {
		s := c.spec.Calls[name]
		if slices.Contains(s.Query, "fields") || strings.Contains(s.Path, "{query.fields") || strings.Contains(string(s.Body), "{query.fields") {
			return true
		}
	}
	return false
}

func (c *compiler) call(i int, name string, s CallSpec) *Call {
	at := func(path ...any) []any { return append([]any{"calls", name}, path...) }
	call := &Call{Name: name, Method: cmp.Or(s.Method, "GET"), Required: s.Required, GraphQL: s.GraphQL, index: i, pass: s.Query}
	call.Write = call.Method != "GET"
	if s.GraphQL != nil {
		call.Method, call.Write = "POST", s.GraphQL.Type == "mutation"
	}
	switch {
	case !slices.Contains(callMethods, call.Method):
		c.fault(at("method"), "", "%q is not one of %s", call.Method, strings.Join(callMethods, ", "))
	case call.Write && c.spec.Method == "GET":
		c.fault(at(), "give the route another method, such as POST", "a GET must not change anything, and this call may")
	}
	var err error
	if call.Target, err = c.scope.target(s.Path); err != nil {
		c.fault(at("path"), "a wildcard of match is {name}, a call's answer {call.path}, the request {query.name}", "%w", err)
	}
	if len(s.Body) > 0 {
		if call.Method == "GET" {
			c.fault(at("body"), "write method: POST", "a GET has no body")
		}
		if call.body, err = c.scope.template(s.Body, 0); err != nil {
			c.fault(at("body"), "", "%w", err)
		}
	}
	for n, q := range s.Query {
		c.plan.query = true
		if q == "" || len(q) > 64 || strings.ContainsAny(q, "{}") {
			c.fault(at("query", n), "", "%q is not the name of a parameter", q)
		}
	}
	c.shaping(call, s, at)
	for n, other := range s.After {
		j, known := c.scope.calls[other]
		switch {
		case !known:
			c.fault(at("after", n), "calls: "+strings.Join(c.names, ", "), "there is no call %q", other)
		case j == i:
			c.fault(at("after", n), "remove it", "a call cannot wait for itself")
		default:
			call.after = append(call.after, j)
		}
	}
	c.inferred(call, at)
	return call
}

// inferred adds the calls that the templates take values from.
func (c *compiler) inferred(call *Call, at func(...any) []any) {
	see := func(r *reference) {
		switch r.source {
		case fromQuery:
			c.plan.query = true
		case fromBody:
			c.plan.body = true
		case fromCall:
			if r.index == call.index {
				c.fault(at("path"), "", "%s: a call cannot use its own answer", r.text)
				return
			}
			call.after = append(call.after, r.index)
		}
	}
	if call.Target != nil {
		call.Target.references(see)
	}
	if call.body != nil {
		call.body.references(see)
	}
	slices.Sort(call.after)
	call.after = slices.Compact(call.after)
}

func (c *compiler) shaping(call *Call, s CallSpec, at func(...any) []any) {
	var err error
	if s.Flatten != "" {
		if call.flatten, err = parsePath(s.Flatten); err != nil {
			c.fault(at("flatten"), "", "%w", err)
		}
	}
	call.tree = trees(s.Pick, s.Drop, s.Rename, func(key string, where any, err error) {
		c.fault(at(key, where), "", "%w", err)
	})
	if len(s.Fallback) == 0 {
		return
	}
	if !Valid(s.Fallback) {
		c.fault(at("fallback", "body"), "", "is not a JSON value")
		return
	}
	call.unshaped = trim(s.Fallback)
	if call.fallback = call.shaped(call.unshaped); call.fallback == nil {
		c.fault(at("fallback", "body"), "write it as the service would have answered", "the stock answer has nothing at %s", s.Flatten)
	}
}

// shaped applies flatten, pick, drop and rename; nil when there is nothing at flatten.
func (c *Call) shaped(raw []byte) []byte {
	if len(c.flatten) > 0 {
		found, there := find(raw, c.flatten)
		if !there {
			return nil
		}
		raw = found
	}
	if c.tree == nil {
		return raw
	}
	out, ok := c.tree.append(make([]byte, 0, len(raw)), raw)
	if !ok {
		return []byte("null")
	}
	return out
}

// order finds who waits for whom, and circles.
func (c *compiler) order() {
	calls := c.plan.Calls
	state := make([]int, len(calls)) // 0 new, 1 under way, 2 done
	var stack []int
	var visit func(i int) bool
	visit = func(i int) bool {
		switch state[i] {
		case 1:
			from := slices.Index(stack, i)
			var circle []string
			for _, j := range append(stack[from:], i) {
				circle = append(circle, calls[j].Name)
			}
			c.fault([]any{"calls", calls[i].Name}, "break the circle", "calls wait for each other: %s", strings.Join(circle, " → "))
			return false
		case 2:
			return true
		}
		state[i] = 1
		stack = append(stack, i)
		call := calls[i]
		for _, j := range call.after {
			if !visit(j) {
				return false
			}
			call.deps |= 1<<j | calls[j].deps
		}
		stack = stack[:len(stack)-1]
		state[i] = 2
		return true
	}
	for i := range calls {
		if !visit(i) {
			return
		}
	}
	for i, call := range calls {
		for _, j := range call.after {
			calls[j].dependents = append(calls[j].dependents, i)
		}
		if call.Required || call.Write {
			c.plan.always |= 1<<i | call.deps
		}
	}
}

func (c *compiler) answer() {
	switch {
	case c.spec.Root != "":
		i, known := c.scope.calls[c.spec.Root]
		if !known {
			c.fault([]any{"answer"}, "", "there is no call %q", c.spec.Root)
			return
		}
		c.plan.root = true
		c.plan.shape = &shape{kind: 'p', call: i, needs: 1 << i}
	case len(c.spec.Answer) == 0:
		c.plan.shape = oneEach(c.plan.Calls)
	case !Valid(c.spec.Answer) || trim(c.spec.Answer)[0] != '{':
		c.fault([]any{"answer"}, "write for example answer: {airport: airport, board: departures.data}", "the answer must be an object")
	default:
		s := c.scope.answer(c.spec.Answer, []any{"answer"}, func(at []any, hint string, err error) { c.fault(at, hint, "%w", err) })
		c.plan.shape = s
		if s != nil && slices.Contains(s.names, missingKey) {
			c.fault([]any{"answer", missingKey}, "choose another name", "the member missing says which calls failed")
		}
	}
	if c.plan.shape == nil || len(c.faults) > 0 {
		return
	}
	used := c.plan.shape.needs | c.plan.always
	for i := range c.plan.Calls {
		if used&(1<<i) != 0 {
			used |= c.plan.Calls[i].deps
		}
	}
	for i, call := range c.plan.Calls {
		if used&(1<<i) == 0 {
			c.fault([]any{"calls", call.Name}, "use it, make it required, or remove it", "nothing in the answer is made of this call")
		}
	}
}

// wanted returns the calls to make for f, one bit each; the error, for the
// client, names a field that the answer does not have.
func (p *Plan) wanted(f Fields) (uint32, error) {
	if f == nil {
		return 1<<len(p.Calls) - 1, nil
	}
	if name := p.shape.unknown(f); name != "" {
		return 0, errors.New("fields: the answer has no " + name)
	}
	calls := p.shape.needed(f)
	for left := calls; left != 0; left &= left - 1 {
		calls |= p.Calls[bits.TrailingZeros32(left)].deps
	}
	return calls | p.always, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
