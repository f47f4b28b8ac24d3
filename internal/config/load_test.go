package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"landline/internal/config"
)

func TestValues(t *testing.T) {
	s := mustLoad(t, `# everything that is written differently and means the same
x-anchors:
  tea: &tea {price: 250, fresh: true}
shop:
  name: 4711
  city: "Lima"
  count: 0x1F
  small: -128
  port: 65_535
  ratio: 1
  on_duty: true
  wait: 1h
  size: 10MiB
  mode: card
  token: ${SECRET}
  tags: [red, green]
  desks:
    - number: 1
    - {number: 2, wait: 5s}
  stock:
    tea: *tea
    milk:
      <<: *tea
      price: 90
    bread:
  limit: 5
  night: {from: "22:00"}
  alarm: "112"
  secrets: {a: "${file:till.key}", b: "${file:/abs/key}", c: "${NOPE:-}"}
  body:
    z: [1.50, 12345678901234567890123, 0x10, -.5, +7, 1e3]
    a: {t: "true", n: ~, b: True, s: '<&>', e: "$${x} ${NAME}"}
`)
	check := func(what string, got, want any) {
		t.Helper()
		if fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", want) {
			t.Errorf("%s = %#v, want %#v", what, got, want)
		}
	}
	check("name", s.Name, "4711")
	check("city", s.City, "Lima")
	check("count", s.Count, 31)
	check("small", s.Small, int8(-128))
	check("port", s.Port, uint16(65535))
	check("ratio", s.Ratio, 1.0)
	check("on_duty", s.On, true)
	check("wait", s.Wait.D(), time.Hour)
	check("size", s.Size, config.Bytes(10<<20))
	check("mode", s.Mode, "card")
	check("token", s.Token.Reveal(), testVars["SECRET"])
	check("tags", s.Tags, []string{"red", "green"})
	check("desks", s.Desks, []desk{{1, config.Duration(time.Minute)}, {2, config.Duration(5 * time.Second)}})
	check("tea", s.Stock["tea"], item{250, true})
	check("milk", s.Stock["milk"], item{90, true})
	check("bread", s.Stock["bread"], item{100, false})
	check("limit", *s.Limit, 5)
	check("night", *s.Night, night{"22:00", config.Duration(time.Hour)})
	check("alarm", s.Alarm, alarm{[]string{"112"}})
	check("secret a", s.Secrets["a"].Reveal(), "from-a-file")
	check("secret b", s.Secrets["b"].Reveal(), "absolute")
	check("secret c", s.Secrets["c"].Reveal(), "")
	check("body", s.Body.String(), `{"z":[1.50,12345678901234567890123,16,-0.5,7,1e3],`+
		`"a":{"t":"true","n":null,"b":true,"s":"<&>","e":"${x} Corner"}}`)
}

func TestDefaultsStay(t *testing.T) {
	for name, file := range map[string]string{
		"empty file": "", "comments": "# nothing\n\n", "null section": "shop:\n", "null document": "---\n", "only x-": "x-a: 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			got, want := mustLoad(t, file), newShop()
			if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
	s := newShop()
	s.Night = &night{From: "21:00"}
	s.Stock = map[string]item{"tea": {Price: 7}}
	s.Tags = []string{"red"}
	if err := load(s, "shop: {name: x, night: null, stock: {milk: {price: 8}, tea: {fresh: true}}, tags: []}\n"); err != nil {
		t.Fatal(err)
	}
	if s.Night != nil || len(s.Tags) != 0 || s.Stock["tea"] != (item{7, true}) || s.Stock["milk"] != (item{Price: 8}) && s.Stock["milk"].Price != 8 {
		t.Errorf("null, lists or mappings do not meet their defaults as promised: %+v", s)
	}
}

func TestExpressions(t *testing.T) {
	for text, want := range map[string]string{
		`${NAME}`: "Corner", `"${NAME}"`: "Corner", `'${NAME}'`: "Corner", `a${NAME}b${N}c`: "aCornerb7c",
		`${NOPE:-other}`: "other", `${EMPTY:-other}`: "other", `"${NOPE:-a:-b c}"`: "a:-b c", `x${NOPE:-}`: "x",
		`$${NAME}`: "${NAME}", `$$${NAME}`: "$${NAME}", `$NAME`: "$NAME", `"5$ ${N}"`: "5$ 7", `a$`: "a$",
		`${file:till.key}`: "from-a-file", "|\n    a\n    ${NAME}": "a\nCorner\n", ">-\n    a\n    ${N}": "a 7",
	} {
		if s := mustLoad(t, "shop:\n  name: "+text+"\n"); s.Name != want {
			t.Errorf("%s = %q, want %q", text, s.Name, want)
		}
	}
	if s := mustLoad(t, "shop: {name: x, count: \"${N}\", port: \"${N}0\", wait: \"${N}s\", on_duty: \"${NOPE:-true}\", ratio: \"0.${N}\"}"); s.Count != 7 || s.Port != 70 || s.Wait.D() != 7*time.Second || !s.On || s.Ratio != 0.7 {
		t.Errorf("expressions in numbers: %+v", s)
	}
}

// TestBounds gives files that would cost too much: each must be one short fault.
func TestBounds(t *testing.T) {
	laughs := "x-0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 12; i++ {
		laughs += fmt.Sprintf("x-%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	deepAlias := "x-0: &a0 [x]\n"
	for i := 1; i < 100; i++ {
		deepAlias += fmt.Sprintf("x-%d: &a%d [*a%d]\n", i, i, i-1)
	}
	var deep, wide, merges strings.Builder
	for i := range 100 {
		fmt.Fprintf(&deep, "%sa:\n", strings.Repeat(" ", i))
	}
	for i := range 30_000 {
		fmt.Fprintf(&wide, "k%d: 1\n", i)
	}
	merges.WriteString("x-m: &m {")
	for i := range 2000 {
		fmt.Fprintf(&merges, "k%d: 1, ", i)
	}
	merges.WriteString("}\nx-l:\n")
	for range 400 {
		merges.WriteString("  - {<<: *m}\n")
	}
	for _, c := range []struct{ name, file, want string }{
		{"billion laughs", laughs, "6:10: x-5: it holds more than 500000 values, aliases counted wherever they are used (use fewer aliases of aliases)\n"},
		{"deep aliases", deepAlias, "63:13: x-62[0]: with this alias it is nested more than 64 levels deep\n"},
		{"deep flow", "a: " + strings.Repeat("[", 100_000), "1:68: : it is nested more than 64 levels deep\n"},
		{"deep block", deep.String(), "65:65: : it is nested more than 64 levels deep\n"},
		{"deep dashes", strings.Repeat("- ", 1000) + "a", "1:129: : it is nested more than 64 levels deep\n"},
		{"wide mapping", wide.String(), "10001:1: : the mapping has too many keys (split it)\n"},
		{"merges", merges.String(), "103:6: x-l[100]: merge keys add more than 200000 entries (use fewer merge keys)\n"},
		{"many brackets", strings.Repeat("]", 500_000), "1:1: : the ] closes nothing (remove it, or put the value in quotes)\n"},
		{"many commas", "a: [" + strings.Repeat(",", 1_000_000), "1:1: : the file has too many parts to be a configuration (split it, or use fewer entries)\n"},
		{"many colons", strings.Repeat("a: ", 100_000), "1:4: : a second key: value stands in this line (put the value in quotes when it holds \": \")\n"},
		{"large", strings.Repeat("#", 4<<20+1), "1:1: : the file is larger than 4 MiB\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := lines(t, load(newShop(), c.file))
			first, _, _ := strings.Cut(got, "\n")
			if first+"\n" != c.want {
				t.Errorf("got  %swant %s", first, c.want)
			}
		})
	}
	t.Run("many faults", func(t *testing.T) {
		got := strings.Split(strings.TrimSpace(lines(t, load(newShop(), "shop: {name: x}\n"+strings.ReplaceAll(wide.String()[:15_000], "k", "q")))), "\n")
		if len(got) != 1001 || !strings.HasSuffix(got[1000], "more faults are not listed (repair these first)") {
			t.Errorf("%d faults, the last is %q", len(got), got[len(got)-1])
		}
	})
}

func TestNothingChangesWhileThereIsAFault(t *testing.T) {
	s := newShop()
	limit := 4
	s.Limit, s.Stock, s.Desks = &limit, map[string]item{"tea": {Price: 7}}, []desk{{Number: 1}}
	before := fmt.Sprintf("%+v %d %v %v", *s, limit, s.Stock, s.Desks)
	err := load(s, "shop:\n  name: y\n  limit: 9\n  count: no\n  desks: [{number: 3}]\n  stock: {tea: {price: 1}, milk: {}}\n")
	if err == nil {
		t.Fatal("no fault")
	}
	if after := fmt.Sprintf("%+v %d %v %v", *s, limit, s.Stock, s.Desks); after != before {
		t.Errorf("changed\nfrom %s\nto   %s", before, after)
	}
}

func TestChecksSeeTheNewValuesOfEverySection(t *testing.T) {
	a, b := newShop(), newShop()
	var seen []string
	list := []config.Section{
		{Key: "a", Ptr: a, Check: func(v *config.Validator) {
			seen = append(seen, fmt.Sprint(a.Count, b.Count, v.Has(), v.At("count").Has(), v.At("port").Has(), v.At("desks", 1, "number").Has(), v.At("desks", 7).Has()))
			seen = append(seen, v.At("stock").Keys()...)
			v.At("desks", 1, "wait").Fault("", "too long")
			v.At("desks", 9, "wait").Fault("do %d", "100%% %s", "sure")
			v.At("port").Fault("", "follows from nothing")
			v.At("ratio").Fault("", "must not be told: it follows from another fault")
			v.Fault("", "must not be told either")
		}},
		{Key: "b", Ptr: b, Check: func(v *config.Validator) {
			seen = append(seen, fmt.Sprint(v.Has()))
			v.At("mode").Fault("", "b is missing")
		}},
	}
	err := config.LoadBytes("/etc/ll/landline.yaml", []byte("a:\n  name: x\n  count: 5\n  stock: {z: {}, b: {}, a: {}}\n  desks:\n    - {number: 1}\n    - number: 2\n      wait: 1h\n  ratio: no\n"), list, config.Env{})
	got := lines(t, err)
	if want := lineSet("1:1: a.port: follows from nothing", "1:1: b.mode: b is missing", "5:3: a.desks[9].wait: 100% sure (do %d)",
		"8:7: a.desks[1].wait: too long", "9:10: a.ratio: expected a number, found the text \"no\""); got != want {
		t.Errorf("faults:\n%swant:\n%s", got, want)
	}
	if want := []string{"5 3 true true false true false", "z", "b", "a", "false"}; !slices.Equal(seen, want) {
		t.Errorf("the checks saw %q, want %q", seen, want)
	}
	if a.Count != 3 {
		t.Errorf("count = %d after a load with faults, want the default 3", a.Count)
	}
}

func TestLoadFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "landline.yaml")
	s := newShop()
	if err := config.Load(path, sections(s), config.SystemEnv()); err == nil || !strings.Contains(err.Error(), "landline init") {
		t.Errorf("missing file: %v", err)
	}
	if err := config.Load(dir, sections(s), config.SystemEnv()); err == nil || !strings.Contains(err.Error(), "check that it is a file") {
		t.Errorf("a folder: %v", err)
	}
	t.Setenv("LANDLINE_TEST_NAME", "Corner")
	for name, text := range map[string]string{path: "shop: {name: \"${LANDLINE_TEST_NAME}\", token: \"${file:key}\"}\n", filepath.Join(dir, "key"): "s3cret\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := config.Load(path, sections(s), config.SystemEnv()); err != nil || s.Name != "Corner" || s.Token.Reveal() != "s3cret" {
		t.Errorf("loaded %q, %v", s.Name, err)
	}
}

func TestSectionsOfTheProgramAreVetted(t *testing.T) {
	type twice struct {
		A string `yaml:"a"`
		B string `yaml:"a"`
	}
	type open struct {
		Any any `yaml:"any"`
	}
	type limit struct {
		D config.Duration `yaml:"d" min:"soon"`
	}
	type inline struct {
		M map[string]string `yaml:",inline"`
	}
	s := newShop()
	for want, list := range map[string][]config.Section{
		"there twice":               {{Key: "a", Ptr: s}, {Key: "a", Ptr: s}},
		"empty or":                  {{Ptr: s}},
		"must be a pointer":         {{Key: "a", Ptr: *s}},
		"has the key a twice":       {{Key: "a", Ptr: &twice{}}},
		"cannot be configured":      {{Key: "a", Ptr: &open{}}},
		"only a struct can be":      {{Key: "a", Ptr: &inline{}}},
		`limit "soon"`:              {{Key: "a", Ptr: &limit{}}},
		"keys of a mapping must be": {{Key: "a", Ptr: &map[int]string{}}},
	} {
		if err := config.LoadBytes("x", nil, list, config.Env{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

type color string

func (*color) Choices() []string { return []string{"red", "green"} }

func TestTypesWithChoices(t *testing.T) {
	one, all := color("red"), struct {
		List []color          `yaml:"list"`
		Map  map[string]color `yaml:"map"`
		Ptr  *color           `yaml:"ptr"`
	}{}
	list := []config.Section{{Key: "one", Ptr: &one}, {Key: "all", Ptr: &all}}
	err := config.LoadBytes("/etc/ll/landline.yaml", []byte("one: blue\nall:\n  list: [red, bleu]\n  map: {a: reed}\n  ptr: gren\n"), list, config.Env{})
	want := lineSet(
		`1:6: one: the text "blue" is not one of the choices (write one of red, green)`,
		`3:15: all.list[1]: the text "bleu" is not one of the choices (write one of red, green)`,
		`4:12: all.map.a: the text "reed" is not one of the choices (did you mean red? write one of red, green)`,
		`5:8: all.ptr: the text "gren" is not one of the choices (did you mean green? write one of red, green)`,
	)
	if got := lines(t, err); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	if err := config.LoadBytes("x", []byte("one: green\nall: {list: [red], map: {a: green}, ptr: red}\n"), list, config.Env{}); err != nil || one != "green" || *all.Ptr != "red" {
		t.Errorf("%v, %s, %+v", err, one, all)
	}
}

func TestUnits(t *testing.T) {
	for text, want := range map[string]string{"30d": "30d", "36h": "36h", "1500ms": "1500ms", "0.5d": "12h", "0s": "0s", "0": "0s", "-5m": "-5m", "1h1ns": "1h0m0.000000001s", "2500000h": "2500000h"} {
		var d config.Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || d.String() != want {
			t.Errorf("duration %s = %s, %v, want %s", text, d, err, want)
		}
	}
	for text, want := range map[string]string{"10MiB": "10MiB", "1024": "1KiB", "5 KB": "5000", "7B": "7", "0": "0", "1GB": "1000000000"} {
		var b config.Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil || b.String() != want {
			t.Errorf("size %s = %s, %v, want %s", text, b, err, want)
		}
	}
	for _, text := range []string{"", "d", "5", "40000d", "NaNd", "1y", "5e9d"} {
		if err := new(config.Duration).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("duration %q is read", text)
		}
	}
	for _, text := range []string{"", "-1", "1.5MiB", "9999999999GiB", "MiB", "1TB"} {
		if err := new(config.Bytes).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("size %q is read", text)
		}
	}
}
