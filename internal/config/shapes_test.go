package config_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"landline/internal/config"
)

type tree struct {
	Name     string          `yaml:"name" doc:"Of the node"`
	Left     *tree           `yaml:"left" doc:"The smaller"`
	Children []tree          `yaml:"children" doc:"Below it"`
	Named    map[string]tree `yaml:"named" doc:"By name"`
}

// shapes has what shop has not: types of other packages, lists of lists,
// pointers in lists and mappings, types that hold themselves.
type shapes struct {
	Net     netip.Prefix                 `yaml:"net" doc:"Trusted proxies"`
	Nets    []netip.Prefix               `yaml:"nets" doc:"More of them" example:"[10.0.0.0/8]"`
	At      time.Time                    `yaml:"at" doc:"The end"`
	Grid    [][]int                      `yaml:"grid" doc:"Rows"`
	Items   []*item                      `yaml:"items" doc:"Pointers"`
	ByName  map[string]*item             `yaml:"by_name" doc:"Pointers too"`
	Words   map[string][]string          `yaml:"words" doc:"Synonyms"`
	Deep    map[string]map[string]item   `yaml:"deep" doc:"Two names"`
	Count   uint32                       `yaml:"count" doc:"Unsigned" min:"2" max:"10"`
	Short   string                       `yaml:"short" doc:"Letters | signs" min:"2" max:"4" example:"a|b"`
	Body    config.Raw                   `yaml:"body" doc:"Anything"`
	Bodies  []config.Raw                 `yaml:"bodies" doc:"Anything, often"`
	Tree    tree                         `yaml:"tree" doc:"A tree"`
	Options struct{}                     `yaml:"options" doc:"Nothing yet"`
	Skipped map[string]map[string]string `yaml:"-"`
}

func newShapes() *shapes {
	return &shapes{
		Net: netip.MustParsePrefix("10.0.0.0/8"), At: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), Grid: [][]int{{1, 2}, {}, {3}},
		Items: []*item{{Price: 1}, nil}, ByName: map[string]*item{"a": {Price: 2}, "b": nil}, Words: map[string][]string{"x": {"y z", "5"}},
		Deep: map[string]map[string]item{"a": {"b": {Price: 3}}}, Count: 2, Short: "ab", Body: config.Raw(`{"a":"${x}"}`), Bodies: []config.Raw{config.Raw("1"), config.Raw(`[null]`)},
		Tree: tree{Name: "root", Left: &tree{Name: "leaf"}, Children: []tree{{Name: "c"}}, Named: map[string]tree{"n": {}}},
	}
}

func loadShapes(s *shapes, text string) error {
	return config.LoadBytes("/etc/ll/landline.yaml", []byte(text), []config.Section{{Key: "shapes", Ptr: s}}, config.Env{})
}

func diffShapes(a, b *shapes) string {
	return cmp.Diff(a, b, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }))
}

func TestShapesLoadBack(t *testing.T) {
	for name, s := range map[string]*shapes{"full": newShapes(), "zero": {Count: 2, Short: "ab"}} {
		list := []config.Section{{Key: "shapes", Ptr: s, Doc: "Shapes."}}
		printed := written(t, config.Print, list)
		if name == "zero" { // the zero prefix has no text that reads back
			printed = strings.Replace(printed, `net: ""`, "net: 10.0.0.0/8", 1)
		}
		got := &shapes{}
		if err := loadShapes(got, printed); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, printed)
		}
		want := *s
		if name == "zero" {
			want.Net = got.Net
		}
		if diff := diffShapes(got, &want); diff != "" {
			t.Errorf("%s: %s\n%s", name, diff, printed)
		}
		commented := written(t, config.Commented, list)
		if err := loadShapes(s, commented); err != nil {
			t.Errorf("%s: %v\n%s", name, err, commented)
		}
		want.Net = s.Net
		if diff := diffShapes(s, &want); diff != "" {
			t.Errorf("%s: the commented file changes defaults: %s\n%s", name, diff, commented)
		}
		if strings.Count(commented, "\n") > 150 {
			t.Errorf("%s: a type that holds itself does not end:\n%s", name, commented)
		}
	}
}

func TestShapesReference(t *testing.T) {
	page := written(t, config.Reference, []config.Section{{Key: "shapes", Ptr: newShapes(), Reloadable: true}})
	for _, want := range []string{
		"| `shapes.net` | prefix | `10.0.0.0/8` |", "| `shapes.nets` | list of prefix | none |", "| `shapes.grid` | list of list of whole number |",
		"| `shapes.deep.<name>.<name>.price` |", "| `shapes.tree.left` | mapping |", "From 2 to 4 characters.", "Letters \\| signs.",
		"| `shapes.body` | any value | `{\"a\":\"$${x}\"}` |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s:\n%s", want, page)
		}
	}
}

func TestShapesFaults(t *testing.T) {
	err := loadShapes(newShapes(), `shapes:
  net: 10.0.0.0/64
  nets: [true]
  count: 11
  short: abcde
  grid: [[x]]
  items: [{price: {}}]
  "two
  lines": 1
`)
	if got := lines(t, err); !strings.Contains(got, "8:3: : this is not a key: value pair") && !strings.Contains(got, "begins in an earlier line") {
		t.Errorf("a key over two lines: %s", got)
	}
	err = loadShapes(newShapes(), "shapes:\n  net: 10.0.0.0/64\n  nets: [true]\n  at: soon\n  count: 11\n  short: abcde\n  grid: [[x]]\n  items: [{price: {}}]\n  \"two\\nlines\": 1\n  options: {a: 1}\n")
	want := lineSet(
		`2:8: shapes.net: netip.ParsePrefix("10.0.0.0/64"): prefix length out of range`,
		`3:10: shapes.nets[0]: expected a prefix, found true`,
		`4:7: shapes.at: parsing time "soon" as "2006-01-02T15:04:05Z07:00": cannot parse "soon" as "2006"`,
		`5:10: shapes.count: the number 11 is more than 10`,
		`6:10: shapes.short: the text has more than 4 characters`,
		`7:11: shapes.grid[0][0]: expected a whole number, found the text "x"`,
		`8:19: shapes.items[0].price: expected a whole number, found a mapping`,
		`9:3: shapes."two\nlines": unknown key (known keys: net, nets, at, grid, items, by_name, words, deep, count, short, body, bodies, tree, options)`,
		`10:13: shapes.options.a: unknown key`,
	)
	if got := lines(t, err); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}
