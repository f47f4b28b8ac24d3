package config_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"landline/internal/config"
)

// twoShops has sections of every shape that files share.
type twoShops struct {
	profile string
	shop    *shop
	stock   map[string]*item
}

func (s *twoShops) sections() []config.Section {
	return []config.Section{
		{Key: "profile", Ptr: &s.profile},
		{Key: "shop", Ptr: s.shop, Reloadable: true},
		{Key: "stock", Ptr: &s.stock, Reloadable: true, Check: func(v *config.Validator) {
			for _, name := range v.Keys() {
				if i := s.stock[name]; i != nil && i.Price == 13 {
					v.At(name, "price").Fault("", "thirteen")
				}
			}
		}},
	}
}

func (f files) full(overlay string) config.Env {
	env := f.env(maps.Clone(testVars))
	env.Overlay = overlay
	env.Glob = func(pattern string) ([]string, error) {
		var found []string
		for name := range f {
			ok, err := filepath.Match(pattern, name)
			if err != nil {
				return nil, err
			}
			if ok {
				found = append(found, name)
			}
		}
		return found, nil
	}
	return env
}

func readFiles(f files, overlay string) (*twoShops, *config.Source, error) {
	s := &twoShops{profile: "development", shop: newShop(), stock: map[string]*item{}}
	src, err := config.Read("/c/landline.yaml", s.sections(), f.full(overlay))
	return s, src, err
}

func TestIncludes(t *testing.T) {
	s, src, err := readFiles(files{
		"/c/landline.yaml":         "include: [\"features/*.yaml\", 'teams/*/landline.yaml', one.yaml]\nprofile: production\nshop: {name: X}\nstock: {tea: {price: 1}}\n",
		"/c/features/b.yaml":       "x-a: &a {price: 7}\nstock:\n  milk: *a\n",
		"/c/features/a.yaml":       "include: ../deep/own.yaml\nstock: {rice: {}}\n",
		"/c/deep/own.yaml":         "stock: {salt: {price: 3}}\n",
		"/c/teams/x/landline.yaml": "x-a: &a {price: 8}\nstock: {oil: *a}\nshop:\n  token: ${file:../key}\n",
		"/c/teams/key":             "from-the-team",
		"/c/one.yaml":              "# nothing\n",
		"/c/features/a.test.yaml":  "stock: {never: {price: 1}}\n",
		"/c/other.yaml":            "stock: {never: {price: 1}}\n",
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(s.stock)); fmt.Sprint(got) != "[milk oil rice salt tea]" {
		t.Errorf("stock = %v", got)
	}
	if s.profile != "production" || s.shop.Name != "X" || s.shop.Token.Reveal() != "from-the-team" || s.stock["milk"].Price != 7 || s.stock["oil"].Price != 8 || s.stock["rice"].Price != 100 {
		t.Errorf("%q %+v %v", s.profile, s.shop, s.stock["oil"])
	}
	want := []string{"/c/landline.yaml", "/c/features/a.yaml", "/c/deep/own.yaml", "/c/features/b.yaml", "/c/teams/x/landline.yaml", "/c/one.yaml"}
	if !slices.Equal(src.Files, want) {
		t.Errorf("files = %v", src.Files)
	}
	for path, want := range map[string]string{
		"stock.oil.price": "/c/teams/x/landline.yaml:1:10", "stock.salt": "/c/deep/own.yaml:1:9", "stock.rice.price": "/c/features/a.yaml:2:9",
		"shop.token": "/c/teams/x/landline.yaml:4:3", "shop.desks[3].number": "/c/landline.yaml:3:1", "nothing.at.all": ":0:0",
	} {
		file, line, col := src.Where(path)
		if got := fmt.Sprintf("%s:%d:%d", file, line, col); got != want {
			t.Errorf("%s is at %s, want %s", path, got, want)
		}
	}
}

// treeFaults are configurations of several files and all that is wrong with them.
var treeFaults = []struct {
	name    string
	files   files
	overlay string
	want    []string
}{
	{"faults of all files at once", files{
		"/c/landline.yaml": "include: [\"f/*.yaml\"]\nshop: {name: x, count: many}\n",
		"/c/f/a.yaml":      "stock:\n  tea: {prise: 1}\n",
		"/c/f/b.yaml":      "stokc: {}\nstock: {milk: {price: 13}, oil: {price: a}}\n",
	}, "", []string{
		`/c/landline.yaml:2:24: shop.count: expected a whole number, found the text "many"`,
		`/c/f/a.yaml:2:9: stock.tea.prise: unknown key (did you mean price?)`,
		`/c/f/b.yaml:1:1: stokc: unknown key (did you mean stock?)`,
		`/c/f/b.yaml:2:16: stock.milk.price: thirteen`,
		`/c/f/b.yaml:2:41: stock.oil.price: expected a whole number, found the text "a"`,
	}},
	{"one file is no YAML", files{
		"/c/landline.yaml": "include: [\"f/*.yaml\"]\nstock: {milk: {price: 13}, oil: {price: a}}\n",
		"/c/f/a.yaml":      "stock: {a\n",
		"/c/f/b.yaml":      "stock: [\n",
	}, "", []string{
		`/c/landline.yaml:2:41: stock.oil.price: expected a whole number, found the text "a"`,
		`/c/f/a.yaml:1:8: the { has no end (close it)`,
		`/c/f/b.yaml:1:8: the [ has no end (close it)`,
	}},
	{"the same key twice", files{
		"/c/landline.yaml": "include: [a.yaml, b.yaml]\nprofile: a\nshop: {name: x}\n",
		"/c/a.yaml":        "stock:\n  tea: {price: 1}\n",
		"/c/b.yaml":        "profile: b\nstock:\n  tea: {price: 2}\nshop: {name: y, count: 4}\n",
	}, "", []string{
		`/c/b.yaml:1:1: profile: the key is written in two files; the first is /c/landline.yaml:2:1 (keep one of them; an environment's overlay may replace values)`,
		`/c/b.yaml:3:3: stock.tea: the key is written in two files; the first is /c/a.yaml:2:3 (keep one of them; an environment's overlay may replace values)`,
		`/c/b.yaml:4:8: shop.name: the key is written in two files; the first is /c/landline.yaml:3:8 (keep one of them; an environment's overlay may replace values)`,
	}},
	{"cycle", files{
		"/c/landline.yaml": "include: [a.yaml]\n", "/c/a.yaml": "include: [\"b.yaml\"]\n", "/c/b.yaml": "include: [landline.yaml, b.yaml]\n",
	}, "", []string{
		`/c/b.yaml:1:11: include[0]: /c/landline.yaml includes itself: landline.yaml → a.yaml → b.yaml → landline.yaml (remove one of the includes; put files that are included into a folder of their own)`,
		`/c/b.yaml:1:26: include[1]: /c/b.yaml includes itself: landline.yaml → a.yaml → b.yaml → b.yaml (remove one of the includes; put files that are included into a folder of their own)`,
	}},
	{"outside", files{
		"/c/landline.yaml": "include: [../x.yaml, \"a/../../*.yaml\", f/a.yaml]\n", "/x.yaml": "profile: a\n", "/c/f/a.yaml": "include: ../../x.yaml\n",
	}, "", []string{
		`/c/landline.yaml:1:11: include[0]: ../x.yaml lies outside of /c (write an absolute path if that is meant)`,
		`/c/landline.yaml:1:22: include[1]: a/../../*.yaml lies outside of /c (write an absolute path if that is meant)`,
		`/c/f/a.yaml:1:10: include: ../../x.yaml lies outside of /c (write an absolute path if that is meant)`,
	}},
	{"what is no path", files{
		"/c/landline.yaml": "include: [1, \"\", [a], nope.yaml, \"a/**\", \"[\", \"${NOPE}\"]\n",
	}, "", []string{
		`/c/landline.yaml:1:11: include[0]: expected the path of a file, found the number 1 (write for example include: ["features/*.yaml"])`,
		`/c/landline.yaml:1:14: include[1]: expected the path of a file, found the text "" (write for example include: ["features/*.yaml"])`,
		`/c/landline.yaml:1:18: include[2]: expected the path of a file, found a list (write for example include: ["features/*.yaml"])`,
		`/c/landline.yaml:1:23: include[3]: the file /c/nope.yaml does not exist (a relative path begins at the folder of the file that includes it)`,
		`/c/landline.yaml:1:34: include[4]: ** is not a wildcard here (write one * for each folder: teams/*/landline.yaml)`,
		`/c/landline.yaml:1:42: include[5]: the pattern is not valid (* stands for a part of a name, ? for a character, [ab] for one of them)`,
		`/c/landline.yaml:1:47: include[6]: the environment variable NOPE is not set (set it, or write ${NOPE:-default})`,
	}},
	{"too deep", func() files {
		f := files{"/c/landline.yaml": "include: 1.yaml\n"}
		for i := 1; i < 12; i++ {
			f[fmt.Sprintf("/c/%d.yaml", i)] = fmt.Sprintf("include: %d.yaml\n", i+1)
		}
		return f
	}(), "", []string{`/c/8.yaml:1:10: include: includes are nested more than 8 deep (include from fewer files)`}},
	{"no such environment", files{"/c/landline.yaml": "profile: a\n"}, "prodction", []string{
		`/c/landline.yaml:1:1: the environment prodction has no file /c/landline.prodction.yaml (write the file, it may be empty, or choose another environment)`,
	}},
	{"bad environment", files{"/c/landline.yaml": "profile: a\n"}, "../x", []string{
		`/c/landline.yaml:1:1: "../x" cannot be the name of an environment (use lower-case letters, digits, - and _, beginning with a letter)`,
	}},
	{"faults point into the overlay", files{
		"/c/landline.yaml":      "include: f/a.yaml\nshop: {name: x, count: 3}\nstock: {tea: {price: 1}}\n",
		"/c/landline.test.yaml": "shop:\n  count: 0\nstock:\n  tea: {price: 13, prise: 1}\n  rice: {price: 13}\n  gone: null\n",
		"/c/f/a.yaml":           "stock: {oil: {price: 13}}\n",
		"/c/f/a.test.yaml":      "stock: {oil: {fresh: 2}}\nshop: {count: 5}\n",
	}, "test", []string{
		`/c/f/a.yaml:1:15: stock.oil.price: thirteen`,
		`/c/landline.test.yaml:2:10: shop.count: the number 0 is less than 1`,
		`/c/landline.test.yaml:4:9: stock.tea.price: thirteen`,
		`/c/landline.test.yaml:4:20: stock.tea.prise: unknown key (did you mean price?)`,
		`/c/landline.test.yaml:5:10: stock.rice.price: thirteen`,
		`/c/f/a.test.yaml:1:22: stock.oil.fresh: expected true or false, found the number 2 (write true or false without quotes)`,
		`/c/f/a.test.yaml:2:8: shop.count: the key is written in two files; the first is /c/landline.test.yaml:2:3 (keep one of them; an environment's overlay may replace values)`,
	}},
}

func TestTreeFaults(t *testing.T) {
	for _, c := range treeFaults {
		t.Run(c.name, func(t *testing.T) {
			s, _, err := readFiles(c.files, c.overlay)
			var faults config.Faults
			if !errors.As(err, &faults) {
				t.Fatalf("not Faults: %v", err)
			}
			if got, want := faults.Error(), strings.Join(c.want, "\n"); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			if s.profile != "development" || len(s.stock) != 0 || s.shop.Count != 3 {
				t.Error("values changed though there are faults")
			}
		})
	}
}

func TestOverlays(t *testing.T) {
	f := files{
		"/c/landline.yaml":            "include: [\"f/*.yaml\"]\nprofile: development\nshop:\n  name: Base\n  count: 7\n  tags: [red, green]\n  night: {from: \"22\", for: 2h}\n  desks: [{number: 1}, {number: 2}]\n  body: {a: {b: 1, c: 2}, l: [1, 2]}\nstock: {tea: {price: 1, fresh: true}, milk: {price: 2}}\n",
		"/c/landline.production.yaml": "include: extra.yaml\nprofile: production\nshop:\n  count: null\n  tags: [red]\n  night: {for: 3h}\n  desks: [{number: 9}]\n  body: {a: {b: null, d: 3}, l: [3]}\nstock: {tea: {price: 5}, milk: null}\n",
		"/c/landline.test.yaml":       "",
		"/c/extra.yaml":               "stock: {ink: {price: 6}}\n",
		"/c/f/a.yaml":                 "stock: {oil: {price: 3}}\n",
		"/c/f/a.production.yaml":      "stock: {oil: {fresh: true}}\n",
		"/c/f/new.production.yaml":    "stock: {new: {price: 4}}\n",
		"/c/f/new.test.yaml":          "stock: {never: {price: 4}}\n",
	}
	s, src, err := readFiles(f, "production")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, name := range slices.Sorted(maps.Keys(s.stock)) {
		got = append(got, fmt.Sprint(name, *s.stock[name]))
	}
	if want := "ink{6 false} new{4 false} oil{3 true} tea{5 true}"; strings.Join(got, " ") != want {
		t.Errorf("stock = %v", got)
	}
	if s.profile != "production" || s.shop.Count != 3 || fmt.Sprint(s.shop.Tags) != "[red]" || s.shop.Night.From != "22" ||
		s.shop.Night.For.String() != "3h" || len(s.shop.Desks) != 1 || s.shop.Body.String() != `{"a":{"c":2,"d":3},"l":[3]}` {
		t.Errorf("%q %+v %+v %s", s.profile, s.shop, s.shop.Night, s.shop.Body)
	}
	for path, want := range map[string]string{"stock.tea.price": "/c/landline.production.yaml:9:15", "stock.tea.fresh": "/c/landline.yaml:10:25", "shop.count": "/c/landline.yaml:3:1"} {
		file, line, col := src.Where(path)
		if got := fmt.Sprintf("%s:%d:%d", file, line, col); got != want {
			t.Errorf("%s is at %s, want %s", path, got, want)
		}
	}
	if s, _, err := readFiles(f, "test"); err != nil || len(s.stock) != 4 || s.stock["never"] == nil {
		t.Errorf("an empty overlay: %v, %v", s.stock, err)
	}
	if s, _, err := readFiles(f, ""); err != nil || len(s.stock) != 3 || s.profile != "development" {
		t.Errorf("no overlay: %v, %v", s.stock, err)
	}
}

// TestLinksStayInside uses real files: a link may not lead out of the folder,
// one that stays inside (as mounted config maps have them) may be followed, and
// a file that two paths lead to is read once.
func TestLinksStayInside(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	for name, text := range map[string]string{
		"c/landline.yaml": "include: [\"f/*.yaml\"]\n", "c/data/a.yaml": "stock: {tea: {price: 1}}\n", "secret.yaml": "stock: {oil: {price: 1}}\n",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(at(name)), 0o700), os.WriteFile(at(name), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(at("c/f"), 0o700), os.Symlink(at("c/data/a.yaml"), at("c/f/a.yaml")), os.Symlink("../data/a.yaml", at("c/f/b.yaml"))); err != nil {
		t.Fatal(err)
	}
	read := func() (*twoShops, error) {
		s := &twoShops{shop: newShop()}
		return s, config.Load(at("c/landline.yaml"), s.sections(), config.SystemEnv())
	}
	if s, err := read(); err != nil || len(s.stock) != 1 {
		t.Errorf("links inside: %v, %v", s.stock, err)
	}
	if err := os.Symlink(at("secret.yaml"), at("c/f/c.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, err := read(); err == nil || !strings.Contains(err.Error(), "is a link that leads out of") {
		t.Errorf("a link that leads out: %v", err)
	}
	absolute := "include: [\"" + at("secret.yaml") + "\"]\n"
	if err := errors.Join(os.Remove(at("c/f/c.yaml")), os.WriteFile(at("c/landline.yaml"), []byte(absolute), 0o600)); err != nil {
		t.Fatal(err)
	}
	if s, err := read(); err != nil || s.stock["oil"] == nil {
		t.Errorf("an absolute path: %v, %v", s.stock, err)
	}
	if err := errors.Join(os.Chmod(at("secret.yaml"), 0o600), os.Remove(at("secret.yaml"))); err != nil {
		t.Fatal(err)
	}
	if _, err := read(); err == nil || !strings.Contains(err.Error(), "does not exist") || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestTooManyFiles(t *testing.T) {
	f := files{"/c/landline.yaml": "include: [\"f/*.yaml\"]\n"}
	for i := range 5001 {
		f[fmt.Sprintf("/c/f/%d.yaml", i)] = ""
	}
	_, _, err := readFiles(f, "")
	if err == nil || strings.Count(err.Error(), "\n") != 0 || !strings.Contains(err.Error(), "more than 5000 files") {
		t.Errorf("%v", err)
	}
}

func TestDiff(t *testing.T) {
	base := files{"/c/landline.yaml": "shop: {name: x, token: \"${SECRET}\", desks: [{number: 1}], night: {from: a}}\nstock: {tea: {price: 5}, milk: {}}\n"}
	next := files{"/c/landline.yaml": "shop: {name: z, token: \"${NAME}\", desks: [{number: 1}, {number: 2}]}\nstock: {tea: {price: 6}, oil: {price: 7}, rice: {}}\n"}
	a, _, errA := readFiles(base, "")
	b, _, errB := readFiles(next, "")
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	var got []string
	for i, s := range a.sections() {
		changes, err := config.Diff(s, b.sections()[i])
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			got = append(got, fmt.Sprintf("%s: %s → %s %t", c.Path, c.Old, c.New, c.Secret))
		}
	}
	want := []string{
		"shop.desks[1].number:  → 2 false", "shop.desks[1].wait:  → 1m false", "shop.name: x → z false", "shop.night:  → null false",
		"shop.night.for: 1h →  false", "shop.night.from: a →  false", "shop.token: [redacted] → [redacted] true",
		"stock.milk: {} →  false", "stock.oil.price:  → 7 false", "stock.rice:  → {} false", "stock.tea.price: 5 → 6 false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if strings.Contains(fmt.Sprint(got), "hunter2") {
		t.Error("a secret shows")
	}
}

// FuzzTree holds configurations of three files to the promises of one.
func FuzzTree(f *testing.F) {
	for _, c := range treeFaults {
		f.Add(c.files["/c/landline.yaml"], c.files["/c/f/a.yaml"], c.files["/c/landline.test.yaml"])
	}
	f.Add("include: [\"*.yaml\"]\nstock: &a {tea: {}}\n", "include: ../landline.yaml\nstock: null\n", "stock: {tea: null, x: {price: 1}}\nshop: null\n")
	f.Fuzz(func(t *testing.T, first, second, over string) {
		if len(first)+len(second)+len(over) > 4096 {
			return
		}
		all := files{"/c/landline.yaml": first, "/c/f/a.yaml": second, "/c/landline.test.yaml": over, "/c/f/a.test.yaml": "stock: {oil: {price: 3}}\n"}
		s, src, err := readFiles(all, "test")
		if err == nil {
			for _, file := range src.Files {
				if all[file] == "" && file != "/c/f/a.yaml" && file != "/c/landline.yaml" && file != "/c/landline.test.yaml" {
					t.Errorf("read %q", file)
				}
			}
			return
		}
		var faults config.Faults
		if !errors.As(err, &faults) || len(faults) == 0 {
			t.Fatalf("not Faults: %v", err)
		}
		for _, fault := range faults {
			text, known := all[fault.File]
			rows := strings.Count(strings.ReplaceAll(text, "\r\n", "\n"), "\n") + strings.Count(text, "\r") + 1
			if !known || fault.Line < 1 || fault.Line > rows || fault.Message == "" || strings.ContainsAny(fault.String(), "\n\r") {
				t.Errorf("bad fault %q", fault.String())
			}
			if strings.Contains(fault.String(), testVars["SECRET"]) {
				t.Errorf("a value from outside shows in %q", fault.String())
			}
		}
		if s.profile != "development" || len(s.stock) != 0 || s.shop.Count != 3 {
			t.Error("values changed though there are faults")
		}
	})
}
