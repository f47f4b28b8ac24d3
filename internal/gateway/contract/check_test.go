package contract

import (
	"fmt"
	"strings"
	"testing"
)

// Verdicts and messages, each schema with bodies that fit (ok) and that do not:
// path and a part of the message.
func TestSchemas(t *testing.T) {
	for _, c := range []struct {
		schema string
		ok     []string
		bad    map[string]string // body: "path message"
	}{
		{`{"type":"integer","minimum":1,"maximum":10}`, []string{"1", "10", "5.0", "1e1"},
			map[string]string{"0": " must be at least 1", "11": " must be at most 10", "1.5": " must be an integer", `"1"`: " must be an integer", "1e400": " must be at most 10"}},
		{`{"type":"integer","format":"int32"}`, []string{"2147483647", "-2147483648"}, map[string]string{"2147483648": "format int32", "-2147483649": "format int32"}},
		{`{"type":"integer","format":"int64"}`, []string{"9223372036854775807", "-9223372036854775808"}, map[string]string{"9223372036854775808": "format int64", "1e30": "format int64"}},
		{`{"multipleOf":0.01}`, []string{"19.99", "1e300", "0"}, map[string]string{"19.995": "multiple of 0.01", "1e-300": "multiple"}},
		{`{"exclusiveMinimum":0,"exclusiveMaximum":1}`, []string{"0.5", `"x"`}, map[string]string{"0": "above 0", "1": "below 1", "-1": "above 0"}},
		{`{"minLength":2,"maxLength":3}`, []string{`"ab"`, `"😀😀"`, `"\ud83d\ude00a"`, "7"}, map[string]string{`"a"`: "at least 2", `"abcd"`: "at most 3", `"\u00e9"`: "at least 2"}},
		{`{"pattern":"^[A-Z]{3}$"}`, []string{`"WAW"`, `"\u0057AW"`}, map[string]string{`"waw"`: "must match the pattern"}},
		{`{"required":["a","b"],"properties":{"a":{"type":"string"}},"additionalProperties":false}`, []string{`{"a":"x","b":1}`[:0] + `{"a":""}`[:0] + `7`},
			map[string]string{`{"a":1}`: "/a must be a string", `{"b":1,"a":""}`: "/b is not in the contract", `{"a":"","a":""}`: "/a is there twice"}},
		{`{"properties":{"a/b~":{"type":"null"}}}`, []string{`{"a/b~":null}`, `{"a\/b~":null}`}, map[string]string{`{"a/b~":1}`: "/a~1b~0 must be null"}},
		{`{"items":{"type":"object","required":["id"]}}`, []string{`[]`, `[{"id":1}]`}, map[string]string{`[{"id":1},{}]`: "/1/id is missing", `[1]`: "/0 must be an object"}},
		{`{"prefixItems":[{"type":"string"}],"items":false}`, []string{`["a"]`, `[]`}, map[string]string{`["a",1]`: "/1 must not be there", `[1]`: "/0 must be a string"}},
		{`{"uniqueItems":true}`, []string{`[1,2,"1"]`, `[{"a":1},{"a":2}]`}, map[string]string{`[1,1.0]`: "twice", `[{"a":1,"b":2},{"b":2,"a":1}]`: "twice", `["a","\u0061"]`: "twice"}},
		{`{"enum":["a",1,null,{"x":[1]}]}`, []string{`"a"`, "1.0", "null", `{"x":[1e0]}`}, map[string]string{`"b"`: "one of the 4 values", "2": "one of the 4", `{"x":[]}`: "one of the 4"}},
		{`{"const":"x"}`, []string{`"x"`, `"\u0078"`}, map[string]string{`"y"`: "the one value"}},
		{`{"const":null}`, []string{"null"}, map[string]string{"0": "the one value"}},
		{`{"anyOf":[{"type":"null"},{"type":"object","required":["id"]}]}`, []string{"null", `{"id":1}`}, map[string]string{"{}": "/id is missing", "7": "fits none of the 2"}},
		{`{"oneOf":[{"type":"integer"},{"minimum":5}]}`, []string{"1", "5.5", `"x"`}, map[string]string{"7": "fits 2 of the alternatives", "1.5": "fits none of the 2"}},
		{`{"not":{"type":"string"}}`, []string{"1"}, map[string]string{`"x"`: "excludes"}},
		{`{"if":{"properties":{"kind":{"const":"a"}}},"then":{"required":["x"]},"else":{"required":["y"]}}`, []string{`{"kind":"a","x":1}`, `{"kind":"b","y":1}`}, map[string]string{`{"kind":"a"}`: "/x is missing", `{"kind":"b"}`: "/y is missing"}},
		{`{"$defs":{"n":{"type":"object","properties":{"next":{"$ref":"#/$defs/n"}},"additionalProperties":false}},"$ref":"#/$defs/n"}`, []string{`{"next":{"next":{}}}`}, map[string]string{`{"next":{"next":{"x":1}}}`: "/next/next/x is not in the contract"}},
		{`{"additionalProperties":{"type":"integer"}}`, []string{`{"a":1}`}, map[string]string{`{"a":"x"}`: "/a must be an integer"}},
		{`{"type":"object","properties":{"a":true},"unevaluatedProperties":false}`, []string{`{"a":1}`}, map[string]string{`{"b":1}`: "does not fit the contract"}},
		{`{"type":["string","null"]}`, []string{`null`, `""`}, map[string]string{`1`: "must be a string or null"}},
		{`true`, []string{`[1,{"a":null}]`}, map[string]string{"[1,]": "is not JSON", "": "is not JSON", "1 2": "more after its end", "01": "more after", "\"\xff\"": "no UTF-8", "{\"a\"}": "is not JSON", `"\x"`: "is not JSON", "nul": "is not JSON", `[1`: "is not JSON"}},
	} {
		s, d := mustCompile(t, c.schema)
		for _, body := range c.ok {
			if found := d.checkBody(s, []byte(body)); len(found) > 0 {
				t.Errorf("%s refuses %s: %+v", c.schema, body, found)
			}
		}
		for body, want := range c.bad {
			found := d.checkBody(s, []byte(body))
			if len(found) == 0 {
				t.Errorf("%s lets %s pass", c.schema, body)
				continue
			}
			if got := found[0].Path + " " + found[0].Message; !strings.Contains(got, want) {
				t.Errorf("%s says of %s: %q, want %q", c.schema, body, got, want)
			}
		}
	}
}

// In OpenAPI 3.0 null needs nullable, exclusive limits are switches, and what
// stands beside a $ref means nothing.
func TestSchemasOfOpenAPI30(t *testing.T) {
	for _, c := range []struct {
		schema  string
		ok, bad []string
	}{
		{`{"type":"string","nullable":true,"enum":["a"]}`, []string{"null", `"a"`}, []string{`"b"`, "1"}},
		{`{"type":"number","minimum":0,"exclusiveMinimum":true,"maximum":1}`, []string{"1", "0.1"}, []string{"0", "2"}},
		{`{"properties":{"a":{"$ref":"#/x","maxLength":1}},"x":{"type":"string"}}`, []string{`{"a":"long"}`}, []string{`{"a":1}`}},
		{`{"const":1}`, []string{"2"}, nil},
	} {
		s, k := compileSchema(t, c.schema, true)
		d := &Document{names: k.names}
		for _, b := range c.ok {
			if !d.fits(s, b) {
				t.Errorf("%s refuses %s", c.schema, b)
			}
		}
		for _, b := range c.bad {
			if d.fits(s, b) {
				t.Errorf("%s lets %s pass", c.schema, b)
			}
		}
	}
}

// An alternative may refer back to the schema that lists it, as generators of
// documents like to have it.
func TestDiscriminatorsThatReferBack(t *testing.T) {
	s, d := mustCompile(t, `{"components":{"schemas":{
		"Pet":{"type":"object","required":["kind"],"properties":{"kind":{"type":"string"},"friend":{"$ref":"#/components/schemas/Pet"}},"discriminator":{"propertyName":"kind"},
			"oneOf":[{"$ref":"#/components/schemas/Cat"},{"$ref":"#/components/schemas/Dog"}]},
		"Cat":{"allOf":[{"$ref":"#/components/schemas/Pet"},{"type":"object","required":["lives"],"properties":{"lives":{"type":"integer"}}}]},
		"Dog":{"allOf":[{"$ref":"#/components/schemas/Pet"}],"properties":{"bark":{"type":"boolean"}}}}},"$ref":"#/components/schemas/Pet"}`)
	for body, want := range map[string]string{
		`{"kind":"Cat","lives":9,"friend":{"kind":"Dog","bark":true}}`: "",
		`{"kind":"Cat"}`: "/lives",
		`{"kind":"Cat","lives":9,"friend":{"kind":"Cat"}}`: "/friend/lives",
		`{"kind":"Cow"}`:            "/kind",
		`{"lives":1}`:               "/kind",
		`{"kind":"Dog","bark":"w"}`: "/bark",
	} {
		found := d.checkBody(s, []byte(body))
		if (len(found) == 0) != (want == "") || len(found) > 0 && found[0].Path != want {
			t.Errorf("%s: %+v, want %s", body, found, want)
		}
	}
	if k := s.typesTaken(); k != kindObject {
		t.Errorf("it takes %b", k)
	}
	if s.member("bark") == nil || len(s.memberNames()) < 4 {
		t.Errorf("members: %v", s.memberNames())
	}
}

func TestFormats(t *testing.T) {
	for format, c := range map[string]struct{ ok, bad []string }{
		"date-time":     {[]string{"2024-02-29T23:59:59Z", "2024-01-01t00:00:00.123+02:00", "1990-12-31T15:59:60-08:00"}, []string{"2023-02-29T00:00:00Z", "2024-01-01 00:00:00Z", "2024-01-01T00:00:00", "2024-01-01T24:00:00Z", "2024-01-01T12:00:60Z", ""}},
		"date":          {[]string{"2000-02-29"}, []string{"1900-02-29", "2024-1-1", "2024-13-01", "abcd-ef-gh"}},
		"time":          {[]string{"12:00:00Z"}, []string{"12:00Z", "12:00:00", "12:00:00.Z", "12:00:00+2:00"}},
		"uuid":          {[]string{"018f4ae2-7f00-7000-8000-00000000000A"}, []string{"018f4ae27f0070008000000000000000", "018f4ae2-7f00-7000-8000-00000000000g", ""}},
		"email":         {[]string{"ada@example.com", "a.b+c@x-y.pl"}, []string{"ada", "@example.com", "a..b@example.com", "a b@example.com", "ada@-x.com"}},
		"uri":           {[]string{"https://example.com/a?b#c", "urn:isbn:1"}, []string{"/a", "https://a b", "ht tp://x", ""}},
		"uri-reference": {[]string{"/a", "https://example.com", ""}, []string{"a b", "%zz"}},
		"hostname":      {[]string{"example.com", "a-1"}, []string{"-a", "a_b", "", "a..b"}},
		"ipv4":          {[]string{"10.0.0.1"}, []string{"10.0.0.256", "::1", "10.0.0.01"}},
		"ipv6":          {[]string{"::1", "2001:db8::1"}, []string{"10.0.0.1", "fe80::1%eth0", ":::"}},
		"byte":          {[]string{"aGk=", "_-8=", ""}, []string{"aGk", "a b="}},
		"no-such":       {[]string{"anything"}, nil},
	} {
		s, d := mustCompile(t, `{"format":"`+format+`"}`)
		for _, v := range c.ok {
			if !d.fits(s, toJSON(t, v)) {
				t.Errorf("%s refuses %q", format, v)
			}
		}
		for _, v := range c.bad {
			if d.fits(s, toJSON(t, v)) {
				t.Errorf("%s lets %q pass", format, v)
			}
		}
	}
}

// What a check says holds nothing of what was sent but the place.
func TestViolationsHoldNoValues(t *testing.T) {
	s, d := mustCompile(t, `{"type":"object","properties":{
		"card":{"type":"string","pattern":"^[0-9]{16}$"},"age":{"maximum":1},"mail":{"format":"email"},"list":{"uniqueItems":true},"one":{"enum":["a"]},
		"rare":{"contains":{"const":"q"}},"pick":{"oneOf":[{"type":"integer"},{"type":"null"}]},"map":{"type":"object","additionalProperties":{"type":"integer"}}}}`)
	found := d.checkBody(s, []byte(`{"card":"hunter2","age":4711,"mail":"hunter2","list":["hunter2","hunter2"],"one":"hunter2","rare":["hunter2"],"pick":{"hunter2":"hunter2"},"map":{"some one":"hunter2"}}`))
	if len(found) != 8 {
		t.Errorf("%d violations: %+v", len(found), found)
	}
	for _, v := range found {
		if text := fmt.Sprintf("%+v", v); strings.Contains(text, "hunter2") || strings.Contains(text, "4711") {
			t.Errorf("a value shows: %s", text)
		}
		if strings.Contains(v.Field+v.Shape, "some one") {
			t.Errorf("a member's name that the document does not know shows: %+v", v)
		}
	}
}

// Whatever is sent, a check ends soon.
func TestWorkIsBounded(t *testing.T) {
	s, d := mustCompile(t, `{"$defs":{"t":{"anyOf":[{"items":{"$ref":"#/$defs/t"},"not":{}},{"items":{"$ref":"#/$defs/t"},"not":true},{"items":{"$ref":"#/$defs/t"},"not":{}}]}},"$ref":"#/$defs/t"}`)
	for _, body := range []string{
		strings.Repeat("[", 64) + strings.Repeat("]", 64),
		strings.Repeat("[", 65) + strings.Repeat("]", 65),
		strings.Repeat("[", 100_000),
		strings.Repeat(`{"a":`, 100_000),
		"[" + strings.Repeat("1,", 2<<20) + "1]",
		strings.Repeat("[1,1,1,1,1,1,1,1,1,", 20) + "1" + strings.Repeat("]", 20),
	} {
		if found := d.checkBody(s, []byte(body)); len(found) == 0 || len(found) > maxViolations {
			t.Errorf("%.20s…: %d violations", body, len(found))
		}
	}
	many, d2 := mustCompile(t, `{"items":{"type":"string"}}`)
	if found := d2.checkBody(many, []byte("["+strings.Repeat("1,", 5000)+"1]")); len(found) != maxViolations {
		t.Errorf("%d violations", len(found))
	}
}

func TestSchemasThatAreNone(t *testing.T) {
	for text, want := range map[string]string{
		`{"type":"strng"}`:              `1:2: type "strng" is none of JSON Schema's`,
		`{"$ref":"#/nothing"}`:          `\$ref "#/nothing": there is no "nothing"`,
		`{"allOf":[{"$ref":"#"}]}`:      "refers to itself for the same value",
		`{"minLength":-1}`:              "whole number",
		`{"minimum":"1"}`:               "must be a number",
		`{"required":true}`:             "list of names",
		`{"enum":[]}`:                   "list of values",
		`{"properties":{"a":[1]}}`:      "a schema must be a mapping",
		`{"multipleOf":0}`:              "above 0",
		`{"$ref":"http://x/y#/a"}`:      "only files beside the document",
		`{"contains":{"type":"strng"}}`: "is no JSON Schema",
	} {
		_, c := compileSchema(t, text, false)
		if len(c.faults) == 0 || !matches(want, c.faults.Error()) {
			t.Errorf("%s: %v, want %s", text, c.faults, want)
		}
	}
	_, c := compileSchema(t, `{"pattern":"^(?=.*[0-9]).+$"}`, false)
	if len(c.faults) > 0 || len(c.notes) != 1 {
		t.Errorf("a pattern for another engine: %v %v", c.faults, c.notes)
	}
}

// FuzzCheck: no body makes a check panic, and ours and the general validator agree on what is JSON that fits.
func FuzzCheck(f *testing.F) {
	const text = `{"$defs":{"n":{"type":"object","required":["id"],"properties":{"id":{"type":"integer","minimum":1},"at":{"format":"date-time"},
		"tags":{"type":"array","uniqueItems":true,"items":{"type":"string","maxLength":3}},"next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},
		"patternProperties":{"^x":{"multipleOf":0.1}},"additionalProperties":{"oneOf":[{"type":"string"},{"enum":[1,[2],{"a":3}]}]}}},"$ref":"#/$defs/n"}`
	for _, seed := range []string{`{"id":1}`, `{"id":1e0,"tags":["a","\u0061"],"next":{"id":2,"next":null}}`, `{"x":0.30,"y":{"a":3.0}}`, `[`, `"\ud800"`, "-", `{"id":1,"id":2}`} {
		f.Add([]byte(seed))
	}
	s, d := mustCompile(f, text)
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, v := range d.checkBody(s, body) {
			if v.Message == "" || v.In != InBody {
				t.Errorf("%+v", v)
			}
		}
	})
}
