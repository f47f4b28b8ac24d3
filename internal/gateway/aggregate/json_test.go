package aggregate

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// fataler is *testing.T and *rapid.T.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// decoded is a document as encoding/json reads it, with exact numbers.
func decoded(t fataler, b []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	return v
}

func encoded(t fataler, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// genJSON makes documents of few names, so that paths meet them.
func genJSON(depth int) *rapid.Generator[any] {
	leaf := rapid.OneOf(
		rapid.Map(rapid.SampledFrom([]string{"null", "true", "false", "0", "-1.50", "1e400", "12345678901234567890"}), func(s string) any {
			var v any
			d := json.NewDecoder(strings.NewReader(s))
			d.UseNumber()
			if d.Decode(&v) != nil {
				panic(s)
			}
			return v
		}),
		rapid.Map(rapid.SampledFrom([]string{"", "x", `qu"ote`, `back\slash`, "ünï", "}{][,:", "\n\t\x01"}), func(s string) any { return s }),
	)
	if depth == 0 {
		return leaf
	}
	name := rapid.SampledFrom([]string{"a", "b", "c", "d", `q"`, "é", "0"})
	return rapid.OneOf(leaf,
		rapid.Map(rapid.MapOfN(name, genJSON(depth-1), 0, 5), func(m map[string]any) any { return m }),
		rapid.Map(rapid.SliceOfN(genJSON(depth-1), 0, 4), func(l []any) any { return l }),
	)
}

// drawJSON draws a document with or without white space in it.
func drawJSON(t *rapid.T, label string) []byte {
	v := genJSON(4).Draw(t, label)
	b := []byte(encoded(t, v))
	if rapid.Bool().Draw(t, "indented") {
		var out bytes.Buffer
		if err := json.Indent(&out, b, " ", "\t"); err != nil {
			t.Fatal(err)
		}
		return append(append([]byte("\r\n "), out.Bytes()...), " \n"...)
	}
	return b
}

func TestValid(t *testing.T) {
	for _, s := range []string{
		"", " ", "{", "}", "[", "]", "{}", "[]", " { } ", "[ ]", "[1,]", "[,1]", "{\"a\":1,}", "{\"a\" 1}", "{\"a\":}", "{a:1}", "{\"a\":1 \"b\":2}", "[1 2]",
		"null", "nul", "nulll", "true", "false", "tru", "0", "-0", "-", "01", "1.", ".1", "1.5", "1e", "1e+", "1E-5", "+1", "1 1", "\"\"", "\"", "\"\\\"", "\"\\\\\"",
		"\"\\u00e9\"", "\"\\u00g9\"", "\"\\u00\"", "\"\\x\"", "\"\n\"", "\"\x7f\"", "{\"a\":{\"b\":[1,{\"c\":null}]}}", "{} {}", "\ufeff{}", "[[]]", "{\"\":0}",
	} {
		if got, want := Valid([]byte(s)), json.Valid([]byte(s)); got != want {
			t.Errorf("Valid(%q) = %v, encoding/json says %v", s, got, want)
		}
	}
	if Valid([]byte("\"\xff\"")) {
		t.Error("a text that is no UTF-8 is valid")
	}
	deep := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	if !Valid(deep(maxDepth)) || Valid(deep(maxDepth+1)) {
		t.Error("the bound on depth does not hold")
	}
	if Valid(deep(1 << 20)) {
		t.Error("a million brackets are valid")
	}
}

func FuzzValid(f *testing.F) {
	for _, s := range []string{`{"a":[1,-2.5e3,"x\u00e9\\\"",null,true]}`, `[[[[]]]]`, `"\ud83d\ude00"`, `{"a":1,"a":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got := Valid(b)
		if got && !json.Valid(b) {
			t.Fatalf("Valid(%q) and encoding/json disagrees", b)
		}
		if !got {
			return
		}
		b = trim(b)
		if end := skip(b, 0); end != len(b) {
			t.Fatalf("skip(%q) ends at %d", b, end)
		}
		walk(t, b)
	})
}

// walk reads a document with the readers and makes sure that each value is one.
func walk(t *testing.T, b []byte) {
	switch b[0] {
	case '{':
		for r := open(b); ; {
			name, value, more := r.member()
			if !more {
				return
			}
			if !is(name, unquote(name)) || !json.Valid(value) {
				t.Fatalf("member %q %q", name, value)
			}
			walk(t, value)
		}
	case '[':
		for r := open(b); ; {
			value, more := r.item()
			if !more {
				return
			}
			if !json.Valid(value) {
				t.Fatalf("item %q", value)
			}
			walk(t, value)
		}
	}
}

// naiveFind is find on decoded values.
func naiveFind(v any, path []string) (any, bool) {
	for _, step := range path {
		switch d := v.(type) {
		case map[string]any:
			next, there := d[step]
			if !there {
				return nil, false
			}
			v = next
		case []any:
			n, err := strconv.Atoi(step)
			if err != nil || n < 0 || n >= len(d) || strconv.Itoa(n) != step {
				return nil, false
			}
			v = d[n]
		default:
			return nil, false
		}
	}
	return v, true
}

func TestFindLikeADecoder(t *testing.T) {
	step := rapid.SampledFrom([]string{"a", "b", "c", `q"`, "é", "0", "1", "00", "-1", "+1"})
	rapid.Check(t, func(t *rapid.T) {
		b := drawJSON(t, "document")
		path := rapid.SliceOfN(step, 0, 4).Draw(t, "path")
		if !Valid(b) {
			t.Fatalf("%q is not valid", b)
		}
		got, there := find(trim(b), path)
		want, wantThere := naiveFind(decoded(t, b), path)
		if there != wantThere {
			t.Fatalf("find(%q, %q) = %v, want %v", b, path, there, wantThere)
		}
		if there && encoded(t, decoded(t, got)) != encoded(t, want) {
			t.Fatalf("find(%q, %q) = %q, want %v", b, path, got, want)
		}
	})
}

func TestOfTwoMembersTheLastCounts(t *testing.T) {
	if v, ok := find([]byte(`{"a":1,"\u0061":{"b":2},"c":3}`), []string{"a", "b"}); !ok || string(v) != "2" {
		t.Errorf("%q %v", v, ok)
	}
}

func TestAppendText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "text")
		var back string
		if err := json.Unmarshal(appendText(nil, s), &back); err != nil || back != s {
			t.Fatalf("%q became %q: %v", s, back, err)
		}
	})
}

func TestParsePath(t *testing.T) {
	for _, c := range []struct {
		in   string
		want string // steps with | between; "" = refused
	}{
		{"a", "a"}, {"a.b.0", "a|b|0"}, {`a\.b.c`, "a.b|c"}, {`a\\.b`, `a\|b`}, {"é.ü", "é|ü"}, {"a b", "a b"},
		{"", ""}, {".", ""}, {"a.", ""}, {".a", ""}, {"a..b", ""}, {`a\`, ""}, {`a\b`, ""}, {"a\n", ""}, {"\xff", ""},
		{strings.Repeat("a", 257), ""}, {strings.Repeat("a.", 16) + "a", ""},
	} {
		got, err := parsePath(c.in)
		if (err != nil) != (c.want == "") || strings.Join(got, "|") != c.want && err == nil {
			t.Errorf("%q: %q, %v; want %q", c.in, got, err, c.want)
		}
	}
}
