package contract

import (
	"encoding/json"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// direction is the way of a message: it decides what readOnly and writeOnly mean.
type direction uint8

const (
	toService direction = iota
	toClient
)

// compiler makes schemas of a document's nodes, each once per direction.
type compiler struct {
	files   *files
	old     bool // OpenAPI 3.0
	done    map[compiled]*schema
	names   map[string]bool
	faults  Faults
	notes   []*Fault
	general *jsonschema.Compiler // made when it is needed first
	loaded  map[string]bool
}

type compiled struct {
	at  *node
	way direction
}

func newCompiler(f *files) *compiler {
	return &compiler{files: f, done: map[compiled]*schema{}, names: map[string]bool{}, loaded: map[string]bool{}}
}

// maxFaults bounds how many faults of a document are told.
const maxFaults = 100

func (c *compiler) fault(f *Fault) {
	if len(c.faults) < maxFaults {
		c.faults = append(c.faults, f)
	}
}

// refuse notes an error, which is a *Fault where its place is known.
func (c *compiler) refuse(at *node, err error) {
	if f, ok := err.(*Fault); ok { //nolint:errorlint // ours, never wrapped
		c.fault(f)
		return
	}
	c.fault(at.fault("%v", err))
}

func (c *compiler) note(n *node, format string, args ...any) {
	c.notes = append(c.notes, n.fault(format, args...))
}

// schema compiles the schema at n; nil, which fits everything, for none.
func (c *compiler) schema(n *node, way direction) *schema {
	if n == nil {
		return nil
	}
	key := compiled{n, way}
	if s, ok := c.done[key]; ok {
		return s
	}
	s := &schema{}
	c.done[key] = s
	if b, ok := n.value.(bool); ok {
		s.never = !b
		return s
	}
	if n.members == nil {
		c.fault(n.fault("a schema must be a mapping"))
		return s
	}
	if !c.old && c.isRare(n) {
		c.compileRare(s, n)
		return s
	}
	if ref := n.get("$ref"); ref != nil {
		target, err := c.files.resolve(ref)
		if err != nil {
			c.refuse(ref, err)
			return s
		}
		s.ref = c.schema(target, way)
		if parts := pointerParts(ref.text()[strings.IndexByte(ref.text(), '#')+1:]); len(parts) > 0 {
			s.name = parts[len(parts)-1]
		}
		if c.old { // what stands beside a $ref means nothing there
			return s
		}
	}
	c.types(s, n)
	c.enum(s, n)
	c.numbers(s, n)
	c.texts(s, n)
	c.arrays(s, n, way)
	c.objects(s, n, way)
	c.combinations(s, n, way)
	return s
}

var kindsOf = map[string]kind{
	"null": kindNull, "boolean": kindBool, "number": kindNumber, "integer": kindNumber,
	"string": kindString, "array": kindArray, "object": kindObject,
}

func (c *compiler) types(s *schema, n *node) {
	t := n.get("type")
	if t == nil {
		return
	}
	list := t.items
	if !t.list {
		list = []*node{t}
	}
	var asked []string
	whole, number := false, false
	for _, item := range list {
		name := item.text()
		k, ok := kindsOf[name]
		if !ok {
			c.fault(item.fault("type %q is none of JSON Schema's: null, boolean, number, integer, string, array, object", name))
			continue
		}
		s.types |= k
		whole, number = whole || name == "integer", number || name == "number"
		article := "a "
		switch name {
		case "integer", "array", "object":
			article = "an "
		case "null":
			article = ""
		}
		asked = append(asked, article+name)
	}
	s.integer = whole && !number
	s.asked = strings.Join(asked, " or ")
	s.nullable = c.old && n.get("nullable").yes()
}

func (c *compiler) enum(s *schema, n *node) {
	list := n.get("enum")
	if list != nil && (!list.list || len(list.items) == 0) {
		c.fault(list.fault("enum must be a list of values"))
		return
	}
	var items []*node
	if list != nil {
		items = list.items
	}
	if fixed := n.get("const"); fixed != nil && !c.old {
		if items != nil { // both: a schema of its own for const
			only := &schema{}
			c.values(only, []*node{fixed})
			s.all = append(s.all, only)
		} else {
			items = []*node{fixed}
		}
	}
	if items != nil {
		c.values(s, items)
	}
}

func (c *compiler) values(s *schema, items []*node) {
	v := &values{texts: map[string]struct{}{}, other: map[string]struct{}{}, count: len(items)}
	for _, item := range items {
		if text, ok := item.value.(string); ok {
			v.texts[text] = struct{}{}
			continue
		}
		data, err := json.Marshal(item.plain())
		if err != nil {
			c.fault(item.fault("is no value of JSON: %v", err))
			continue
		}
		r := newRun(data, nil)
		if r.tape, err = scan(data, r.tape); err != nil {
			c.fault(item.fault("%v", err))
		} else {
			v.other[string(r.canonical(nil, 0))] = struct{}{}
		}
		r.done()
	}
	s.enum = v
}

// bound reads a number, nil without.
func (c *compiler) bound(n *node) *bound {
	if n == nil {
		return nil
	}
	x, ok := n.value.(json.Number)
	if !ok {
		c.fault(n.fault("must be a number"))
		return nil
	}
	b := &bound{text: x.String()}
	b.exact, _ = parseDecimal([]byte(b.text), nil)
	var err error
	b.float, err = x.Float64()
	b.short = err == nil && len(b.text) <= 15
	return b
}

func (c *compiler) numbers(s *schema, n *node) {
	x := &numberRules{min: c.bound(n.get("minimum")), max: c.bound(n.get("maximum"))}
	if open := n.get("exclusiveMinimum"); open != nil {
		if b, ok := open.value.(bool); ok {
			x.minOpen = b
		} else if b := c.bound(open); b != nil && (x.min == nil || b.exact.compare(x.min.exact) >= 0) {
			x.min, x.minOpen = b, true
		}
	}
	if open := n.get("exclusiveMaximum"); open != nil {
		if b, ok := open.value.(bool); ok {
			x.maxOpen = b
		} else if b := c.bound(open); b != nil && (x.max == nil || b.exact.compare(x.max.exact) <= 0) {
			x.max, x.maxOpen = b, true
		}
	}
	if m := c.bound(n.get("multipleOf")); m != nil {
		if m.exact.zero() || m.exact.neg {
			c.fault(n.get("multipleOf").fault("multipleOf must be above 0"))
		} else {
			x.multiple, x.multipleText = &m.exact, m.text
		}
	}
	switch format := n.get("format").text(); format {
	case "int32":
		x.format, x.formatMin, x.formatM = format, limit(math.MinInt32), limit(math.MaxInt32)
	case "int64":
		x.format, x.formatMin, x.formatM = format, limit(math.MinInt64), limit(math.MaxInt64)
	}
	if x.min != nil || x.max != nil || x.multiple != nil || x.formatMin != nil {
		s.number = x
	}
}

func limit(n int64) *bound {
	b := &bound{text: strconv.FormatInt(n, 10), float: float64(n)}
	b.exact, _ = parseDecimal([]byte(b.text), nil)
	b.short = len(b.text) <= 15
	return b
}

// size reads a count, def without.
func (c *compiler) size(n *node, def int) int {
	if n == nil {
		return def
	}
	x, ok := n.value.(json.Number)
	if ok {
		if d, _ := parseDecimal([]byte(x), nil); d.integer() && !d.neg {
			if f, err := x.Float64(); err == nil {
				return int(min(f, math.MaxInt32))
			}
		}
	}
	c.fault(n.fault("must be a whole number, 0 or above"))
	return def
}

func (c *compiler) texts(s *schema, n *node) {
	x := &textRules{min: c.size(n.get("minLength"), 0), max: c.size(n.get("maxLength"), -1)}
	if p := n.get("pattern"); p != nil {
		x.source = clip(p.text(), 200)
		x.pattern = c.regexp(p, p.text())
	}
	if format := n.get("format").text(); format != "" {
		x.format, x.check = format, formats[format]
	}
	if x.min > 0 || x.max >= 0 || x.pattern != nil || x.check != nil {
		s.text = x
	}
}

var unicodeEscape = regexp.MustCompile(`\\u([0-9A-Fa-f]{4})`)

// regexp compiles an ECMA-262 pattern with Go's engine, which never backtracks;
// nil, and a note, for one that only another engine could run.
func (c *compiler) regexp(n *node, pattern string) *regexp.Regexp {
	re, err := regexp.Compile(unicodeEscape.ReplaceAllString(pattern, `\x{$1}`))
	if err != nil {
		c.note(n, "the pattern is not checked: %v", err)
		return nil
	}
	return re
}

func (c *compiler) arrays(s *schema, n *node, way direction) {
	x := &arrayRules{min: c.size(n.get("minItems"), 0), max: c.size(n.get("maxItems"), -1), unique: n.get("uniqueItems").yes()}
	x.items = c.schema(n.get("items"), way)
	if p := n.get("prefixItems"); p != nil && !c.old {
		for _, item := range p.items {
			x.prefix = append(x.prefix, c.schema(item, way))
		}
	}
	if x.min > 0 || x.max >= 0 || x.unique || x.items != nil || x.prefix != nil {
		s.array = x
	}
}

func (c *compiler) objects(s *schema, n *node, way direction) {
	x := &objectRules{min: c.size(n.get("minProperties"), 0), max: c.size(n.get("maxProperties"), -1), byName: map[string]int{}}
	exempt := map[string]bool{}
	n.get("properties").each(func(name string, at *node) {
		c.names[name] = true
		exempt[name] = c.exempt(at, way)
		x.byName[name] = len(x.properties)
		x.properties = append(x.properties, property{name: name, schema: c.schema(at, way), declared: true})
	})
	if list := n.get("required"); list != nil {
		if !list.list {
			c.fault(list.fault("required must be a list of names; what is required stands at the object, not at its member"))
		}
		for _, item := range list.items {
			name := item.text()
			i, there := x.byName[name]
			if !there {
				i = len(x.properties)
				c.names[name], x.byName[name] = true, i
				x.properties = append(x.properties, property{name: name})
			}
			if !exempt[name] && !x.properties[i].required {
				x.properties[i].required = true
				x.required++
			}
		}
	}
	x.additional = c.schema(n.get("additionalProperties"), way)
	if !c.old {
		n.get("patternProperties").each(func(pattern string, at *node) {
			sub := c.schema(at, way)
			if re := c.regexp(at, pattern); re != nil {
				x.patterns = append(x.patterns, patternProperty{re, sub})
			} else {
				x.additional = nil // what the pattern would have allowed is not known
			}
		})
		x.names = c.schema(n.get("propertyNames"), way)
		n.get("dependentRequired").each(func(name string, list *node) {
			if x.dependent == nil {
				x.dependent = map[string][]string{}
			}
			for _, item := range list.items {
				x.dependent[name] = append(x.dependent[name], item.text())
			}
		})
	}
	if x.min > 0 || x.max >= 0 || len(x.properties) > 0 || x.additional != nil || x.patterns != nil || x.names != nil || x.dependent != nil {
		s.object = x
	}
}

// exempt reports whether a property is not missed on this way: readOnly on the
// way to the service, writeOnly on the way back.
func (c *compiler) exempt(n *node, way direction) bool {
	word := "readOnly"
	if way == toClient {
		word = "writeOnly"
	}
	if n.get(word).yes() {
		return true
	}
	target, err := c.files.follow(n)
	return err == nil && target.get(word).yes()
}

func (c *compiler) combinations(s *schema, n *node, way direction) {
	s.all = append(s.all, c.list(n.get("allOf"), way)...)
	s.any = c.list(n.get("anyOf"), way)
	s.one = c.list(n.get("oneOf"), way)
	s.not = c.schema(n.get("not"), way)
	if test := n.get("if"); test != nil && !c.old && (n.get("then") != nil || n.get("else") != nil) {
		s.when = &condition{c.schema(test, way), c.schema(n.get("then"), way), c.schema(n.get("else"), way)}
	}
	if d := n.get("discriminator"); d != nil && (s.any != nil || s.one != nil) {
		c.discriminator(s, n, d, way)
	}
	s.combines = s.all != nil || s.any != nil || s.one != nil || s.not != nil || s.when != nil
}

func (c *compiler) list(n *node, way direction) []*schema {
	if n == nil {
		return nil
	}
	if !n.list || len(n.items) == 0 {
		c.fault(n.fault("must be a list of schemas"))
		return nil
	}
	out := make([]*schema, len(n.items))
	for i, item := range n.items {
		out[i] = c.schema(item, way)
	}
	return out
}

// discriminator lets one member choose among the alternatives: by mapping, or
// by the name of the alternative's component.
func (c *compiler) discriminator(s *schema, n, d *node, way direction) {
	x := &discriminator{property: d.get("propertyName").text(), choice: map[string]*schema{}}
	if x.property == "" {
		c.fault(d.fault("discriminator needs a propertyName"))
		return
	}
	c.names[x.property] = true
	for _, alternative := range append(s.any[:len(s.any):len(s.any)], s.one...) {
		if alternative.name == "" {
			c.note(d, "the discriminator is not used: an alternative is written in place, without a name")
			return
		}
		x.choice[alternative.name] = alternative
	}
	d.get("mapping").each(func(value string, to *node) {
		ref := to.text()
		if !strings.ContainsAny(ref, "#/.") {
			ref = "#/components/schemas/" + ref
		}
		target, err := c.files.resolve(&node{file: to.file, line: to.line, col: to.col, value: ref})
		if err != nil {
			c.refuse(to, err)
			return
		}
		x.choice[value] = c.schema(target, way)
	})
	s.discriminator = x
}
