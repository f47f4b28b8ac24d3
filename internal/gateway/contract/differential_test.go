package contract

import (
	"testing"

	"pgregory.net/rapid"
)

// The generators prefer values near one another, so that schemas and instances meet.
var (
	someNames   = []string{"a", "b", "name", "ä/~", "x y"}
	someTexts   = []string{"", "a", "ab", "abc", "żółw", "😀😀", "2024-02-29", "x\ty\"", "a@b.pl", "7"}
	someNumbers = []string{"0", "-0", "1", "-1", "1.0", "1.5", "2", "3", "10", "1e1", "0.1", "0.3", "100e-2", "9007199254740993", "9007199254740992", "-2147483649", "123456789012345678901234567890"}
)

func genValue(t *rapid.T, depth int) any {
	most := 6
	if depth <= 0 {
		most = 4
	}
	switch rapid.IntRange(0, most).Draw(t, "kind") {
	case 0:
		return nil
	case 1:
		return rapid.Bool().Draw(t, "bool")
	case 2, 3:
		return number2(rapid.SampledFrom(someNumbers).Draw(t, "number"))
	case 4:
		return rapid.SampledFrom(someTexts).Draw(t, "text")
	case 5:
		list := []any{}
		for range rapid.IntRange(0, 4).Draw(t, "items") {
			list = append(list, genValue(t, depth-1))
		}
		return list
	}
	m := map[string]any{}
	for range rapid.IntRange(0, 4).Draw(t, "members") {
		m[rapid.SampledFrom(someNames).Draw(t, "name")] = genValue(t, depth-1)
	}
	return m
}

type number2 string

// MarshalJSON keeps the number as it is written.
func (n number2) MarshalJSON() ([]byte, error) { return []byte(n), nil }

func genSchema(t *rapid.T, depth int) any {
	if rapid.IntRange(0, 30).Draw(t, "boolean") == 0 {
		return rapid.Bool().Draw(t, "always")
	}
	s := map[string]any{}
	has := func(name string, chance int) bool { return rapid.IntRange(0, chance).Draw(t, name) == 0 }
	count := func(name string) { s[name] = rapid.IntRange(0, 3).Draw(t, name) }
	num := func(name string) { s[name] = number2(rapid.SampledFrom(someNumbers).Draw(t, name)) }
	if has("type", 1) {
		types := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"null", "boolean", "number", "integer", "string", "array", "object"}), 1, 3, rapid.ID[string]).Draw(t, "types")
		if len(types) == 1 {
			s["type"] = types[0]
		} else {
			s["type"] = types
		}
	}
	if has("enum", 8) {
		s["enum"] = []any{genValue(t, 1), genValue(t, 1)}
	}
	if has("const", 15) {
		s["const"] = genValue(t, 1)
	}
	for _, name := range []string{"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"} {
		if has(name, 6) {
			num(name)
		}
	}
	if has("multipleOf", 8) {
		s["multipleOf"] = number2(rapid.SampledFrom([]string{"1", "2", "0.1", "0.5", "3", "10", "0.3"}).Draw(t, "multiple"))
	}
	for _, name := range []string{"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"} {
		if has(name, 6) {
			count(name)
		}
	}
	if has("pattern", 8) {
		s["pattern"] = rapid.SampledFrom([]string{"^a", "b$", "[0-9]", "ż", "^$"}).Draw(t, "pattern")
	}
	if has("uniqueItems", 6) {
		s["uniqueItems"] = true
	}
	if has("required", 4) {
		s["required"] = rapid.SliceOfNDistinct(rapid.SampledFrom(someNames), 1, 2, rapid.ID[string]).Draw(t, "names")
	}
	if has("dependentRequired", 10) {
		s["dependentRequired"] = map[string]any{rapid.SampledFrom(someNames).Draw(t, "if"): []string{rapid.SampledFrom(someNames).Draw(t, "needs")}}
	}
	if depth > 0 {
		genNested(t, s, depth-1, has)
	}
	return s
}

func genNested(t *rapid.T, s map[string]any, depth int, has func(string, int) bool) {
	sub := func() any {
		if rapid.IntRange(0, 6).Draw(t, "ref") == 0 {
			return map[string]any{"$ref": rapid.SampledFrom([]string{"#/$defs/one", "#/$defs/two~1x", "#"}).Draw(t, "to"), "maxLength": 2}
		}
		return genSchema(t, depth)
	}
	subs := func() []any {
		list := []any{}
		for range rapid.IntRange(1, 3).Draw(t, "alternatives") {
			list = append(list, genSchema(t, depth)) // no $ref: "#" would be endless here
		}
		return list
	}
	if has("properties", 1) {
		m := map[string]any{}
		for range rapid.IntRange(1, 3).Draw(t, "properties of") {
			m[rapid.SampledFrom(someNames).Draw(t, "name")] = sub()
		}
		s["properties"] = m
	}
	for _, name := range []string{"additionalProperties", "items", "contains", "unevaluatedProperties"} {
		if has(name, map[string]int{"additionalProperties": 2, "items": 2, "contains": 20, "unevaluatedProperties": 30}[name]) {
			s[name] = sub()
		}
	}
	if has("patternProperties", 8) {
		s["patternProperties"] = map[string]any{rapid.SampledFrom([]string{"^a", "n", "~"}).Draw(t, "pattern"): sub()}
	}
	if has("propertyNames", 10) {
		s["propertyNames"] = map[string]any{"maxLength": rapid.IntRange(0, 3).Draw(t, "longest name")}
	}
	if has("prefixItems", 8) {
		s["prefixItems"] = []any{sub(), sub()}
	}
	for _, name := range []string{"allOf", "anyOf", "oneOf"} {
		if has(name, 6) {
			s[name] = subs()
		}
	}
	if has("not", 10) {
		s["not"] = genSchema(t, depth)
	}
	if has("if", 10) {
		s["if"], s["then"] = genSchema(t, depth), genSchema(t, depth)
		if has("else", 1) {
			s["else"] = genSchema(t, depth)
		}
	}
}

// Our verdicts are those of the general validator.
func TestVerdictsAreThoseOfTheGeneralValidator(t *testing.T) {
	fits, fitsNot := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		s := genSchema(rt, 3)
		if m, ok := s.(map[string]any); ok {
			m["$defs"] = map[string]any{"one": genSchema(rt, 1), "two/x": genSchema(rt, 1)}
		}
		text := toJSON(t, s)
		ours, d := mustCompile(t, text)
		theirs := general(t, text)
		for range 8 {
			body := toJSON(t, genValue(rt, 3))
			want := generalFits(t, theirs, body)
			if got := d.fits(ours, body); got != want {
				rt.Fatalf("schema %s\nbody %s\nwe say %v, the general validator %v", text, body, got, want)
			}
			if want {
				fits++
			} else {
				fitsNot++
			}
		}
	})
	t.Logf("%d bodies fit, %d do not", fits, fitsNot)
	if fits < 50 || fitsNot < 50 {
		t.Error("the generator has become one-sided")
	}
}
