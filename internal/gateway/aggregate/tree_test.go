package aggregate

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// naivePick keeps the paths of a decoded value; ok is false when v cannot have them.
func naivePick(v any, paths [][]string) (out any, ok bool) {
	for _, p := range paths {
		if len(p) == 0 {
			return v, true
		}
	}
	switch d := v.(type) {
	case nil:
		return nil, true
	case map[string]any:
		kept := map[string]any{}
		for name, value := range d {
			var below [][]string
			for _, p := range paths {
				if p[0] == name {
					below = append(below, p[1:])
				}
			}
			if len(below) > 0 {
				if k, ok := naivePick(value, below); ok {
					kept[name] = k
				}
			}
		}
		return kept, true
	case []any:
		kept := []any{}
		for _, item := range d {
			if k, ok := naivePick(item, paths); ok {
				kept = append(kept, k)
			}
		}
		return kept, true
	}
	return nil, false
}

func naiveDrop(v any, path []string) any {
	switch d := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, value := range d {
			switch {
			case name != path[0]:
				out[name] = value
			case len(path) > 1:
				out[name] = naiveDrop(value, path[1:])
			}
		}
		return out
	case []any:
		out := []any{}
		for _, item := range d {
			out = append(out, naiveDrop(item, path))
		}
		return out
	}
	return v
}

func genPaths() *rapid.Generator[[]string] {
	name := rapid.SampledFrom([]string{"a", "b", "c", "d", `q"`, "é"})
	return rapid.Map(rapid.SliceOfN(rapid.SliceOfN(name, 1, 3), 1, 4), func(list [][]string) []string {
		var out []string
		for _, p := range list {
			out = append(out, strings.Join(p, "."))
		}
		return out
	})
}

func split(paths []string) [][]string {
	var out [][]string
	for _, p := range paths {
		out = append(out, strings.Split(p, "."))
	}
	return out
}

func mustTree(t fataler, pick, drop []string, rename map[string]string) *tree {
	t.Helper()
	return trees(pick, drop, rename, func(key string, at any, err error) { t.Fatalf("%s %v: %v", key, at, err) })
}

func TestPickLikeTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, paths := drawJSON(t, "document"), genPaths().Draw(t, "paths")
		fields, err := ParseFields(strings.Join(paths, ","))
		if err != nil {
			t.Fatal(err)
		}
		for _, tr := range []*tree{fields, trees(paths, nil, nil, func(_ string, _ any, err error) { t.Fatal(err) })} {
			out, ok := tr.append(nil, trim(b))
			want, wantOK := naivePick(decoded(t, b), split(paths))
			if ok != wantOK || ok && encoded(t, decoded(t, out)) != encoded(t, want) {
				t.Fatalf("pick %q of %s: %s %v, want %s %v", paths, b, out, ok, encoded(t, want), wantOK)
			}
		}
	})
}

func TestDropLikeTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, paths := drawJSON(t, "document"), genPaths().Draw(t, "paths")
		// A path below one that is dropped already is nothing to drop, and not a fault.
		tr := trees(nil, paths, nil, func(_ string, _ any, err error) { t.Fatal(err) })
		out, ok := tr.append(nil, trim(b))
		want := decoded(t, b)
		for _, p := range split(paths) {
			want = naiveDrop(want, p)
		}
		if !ok || encoded(t, decoded(t, out)) != encoded(t, want) {
			t.Fatalf("drop %q of %s: %s, want %s", paths, b, out, encoded(t, want))
		}
	})
}

func TestShaping(t *testing.T) {
	const doc = `{"id":7,"name":"WAW","pos":{"lat":52.10,"lon":20.9},"tags":[{"k":1,"v":2},3,null,{"k":4}],"note":null}`
	for _, c := range []struct {
		name       string
		pick, drop []string
		rename     map[string]string
		want       string
	}{
		{"nothing", nil, nil, nil, doc},
		{"pick keeps the digits", []string{"pos.lat"}, nil, nil, `{"pos":{"lat":52.10}}`},
		{"pick goes through lists", []string{"tags.k"}, nil, nil, `{"tags":[{"k":1},null,{"k":4}]}`},
		{"null stays", []string{"note.x", "id"}, nil, nil, `{"id":7,"note":null}`},
		{"a value that has no members goes", []string{"id.x", "name"}, nil, nil, `{"name":"WAW"}`},
		{"a shorter path has it all", []string{"pos", "pos.lat"}, nil, nil, `{"pos":{"lat":52.10,"lon":20.9}}`},
		{"drop in what is picked", []string{"pos", "id"}, []string{"pos.lon"}, nil, `{"id":7,"pos":{"lat":52.10}}`},
		{"rename", []string{"id", "pos"}, nil, map[string]string{"id": "key", "pos.lat": "latitude"}, `{"key":7,"pos":{"latitude":52.10,"lon":20.9}}`},
		{"swap", []string{"id", "name"}, nil, map[string]string{"id": "name", "name": "id"}, `{"name":7,"id":"WAW"}`},
		{"a new name makes room", nil, []string{"pos", "tags", "note"}, map[string]string{"id": "name"}, `{"name":7}`},
		{"rename in lists", []string{"tags.k"}, nil, map[string]string{"tags.k": "key"}, `{"tags":[{"key":1},null,{"key":4}]}`},
	} {
		out, ok := mustTree(t, c.pick, c.drop, c.rename).append(nil, []byte(doc))
		if !ok || string(out) != c.want {
			t.Errorf("%s: %s, want %s", c.name, out, c.want)
		}
	}
}

func TestShapingFaults(t *testing.T) {
	for _, c := range []struct {
		pick, drop []string
		rename     map[string]string
		want       string
	}{
		{[]string{"a", "b..c"}, nil, nil, "pick 1"},
		{[]string{"a"}, []string{"b"}, nil, "drop 0"},
		{nil, []string{"."}, nil, "drop 0"},
		{[]string{"a"}, nil, map[string]string{"b": "c"}, "rename b"},
		{nil, nil, map[string]string{"a": "x.y"}, "rename a"},
		{nil, nil, map[string]string{"a": "x", "b": "x"}, "rename a rename b"},
		{nil, []string{"a"}, map[string]string{"a": "x"}, "rename a"},
	} {
		var got []string
		trees(c.pick, c.drop, c.rename, func(key string, at any, _ error) {
			got = append(got, key+" "+strings.TrimSpace(encoded(t, at)))
		})
		if s := strings.ReplaceAll(strings.Join(got, " "), `"`, ""); s != c.want {
			t.Errorf("%+v: %q", c, s)
		}
	}
}

func TestFieldsAreBounded(t *testing.T) {
	for _, s := range []string{"", ",", "a,,b", "a.", strings.Repeat("a,", 64) + "a", strings.Repeat("a", 1025), "a\x00", strings.Repeat("a.", 20) + "b"} {
		if _, err := ParseFields(s); err == nil {
			t.Errorf("%.40q is taken", s)
		}
	}
	for _, s := range []string{"a", "a,b", " a , b.c ", strings.Repeat("a,", 63) + "a"} {
		if _, err := ParseFields(s); err != nil {
			t.Errorf("%.40q: %v", s, err)
		}
	}
}

func FuzzFields(f *testing.F) {
	f.Add("a,b.c", []byte(`{"a":1,"b":{"c":2,"d":3}}`))
	f.Add(`a\.b`, []byte(`{"a.b":[{}]}`))
	f.Fuzz(func(t *testing.T, s string, doc []byte) {
		fields, err := ParseFields(s)
		if err != nil || !Valid(doc) {
			return
		}
		out, ok := fields.append(nil, trim(doc))
		if !ok {
			return
		}
		if !Valid(out) {
			t.Fatalf("%q of %q gives %q", s, doc, out)
		}
		again, ok := fields.append(nil, slices.Clone(out))
		if !ok || string(again) != string(out) {
			t.Fatalf("%q of %q is not stable: %q, then %q", s, doc, out, again)
		}
	})
}
