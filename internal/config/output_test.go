package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"landline/internal/config"
)

// sameShop ignores the difference between nil and empty lists and mappings.
func sameShop(a, b *shop) string {
	return cmp.Diff(a, b, cmpopts.EquateEmpty(), cmp.AllowUnexported(shop{}, place{}))
}

func written(t interface{ Fatal(...any) }, write func(io.Writer, []config.Section) error, list []config.Section) string {
	var b bytes.Buffer
	if err := write(&b, list); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestCommentedGivesTheDefaults(t *testing.T) {
	text := written(t, config.Commented, sections(newShop()))
	if diff := sameShop(mustLoad(t, text), newShop()); diff != "" {
		t.Errorf("the commented file changes defaults:\n%s\n%s", diff, text)
	}
}

// TestCommentedKeysCanBeSwitchedOn takes every # before a key away: the file
// must still be right but for the values that only the operator knows.
func TestCommentedKeysCanBeSwitchedOn(t *testing.T) {
	text := written(t, config.Commented, sections(newShop()))
	on := regexp.MustCompile(`(?m)^( *)#(  |[^# ])`).ReplaceAllString(text, "$1$2")
	want, got := "", lines(t, load(newShop(), on))
	for _, line := range strings.Split(strings.TrimSpace(got), "\n") {
		if !strings.Contains(line, "the environment variable LANDLINE_SHOP_") {
			want += line + "\n"
		}
	}
	if want != "" {
		t.Errorf("faults beside unset variables: %s\nin:\n%s", want, on)
	}
	if strings.Count(got, "\n") != 2 {
		t.Errorf("want two unset variables, got:\n%s", got)
	}
}

func TestCommentedReads(t *testing.T) {
	type gate struct {
		URL   config.Secret   `yaml:"url" doc:"Where the database is"`
		Open  *config.Bytes   `yaml:"open" doc:"Largest request" example:"1MiB"`
		Wait  config.Duration `yaml:"wait" doc:"How long a caller waits before it is told to come again, which is long enough for a slow network" min:"1ms"`
		Extra map[string]gate `yaml:"extra" doc:"More gates"`
	}
	profile := "development"
	got := written(t, config.Commented, []config.Section{
		{Key: "profile", Ptr: &profile, Doc: "development or production"},
		{Key: "gate", Ptr: &gate{Wait: config.Duration(1e9)}, Doc: "The gate", Reloadable: true},
	})
	want := `# Configuration of Landline. A key that begins with # has the value shown unless
# you remove the # and write another. Check the file with: landline config check
#
# More files can be read with include: ["features/*.yaml", "teams/*/landline.yaml"],
# and landline.production.yaml on top of this one with --env production.

# development or production. A change needs a restart.
#profile: development

# The gate.
gate:
  # Where the database is.
  #url: ${LANDLINE_GATE_URL}
  # Largest request. Default: none.
  #open: 1MiB
  # How long a caller waits before it is told to come again, which is long
  # enough for a slow network. At least 1ms.
  #wait: 1s
  # More gates.
  #extra:
  #  my-extra: {}
`
	if got != want {
		t.Errorf("got:\n%s\ndiff: %s", got, cmp.Diff(want, got))
	}
}

func TestReferenceReads(t *testing.T) {
	got := written(t, config.Reference, sections(newShop()))
	for _, want := range []string{
		"<!-- Generated",
		"| `shop.name` | text | `Shop` | What customers read. Required. Example: `Corner`. | reload |",
		"| `shop.wait` | duration | `800ms` | How long to wait. From 1ms to 1h. | reload |",
		"| `shop.mode` | text | `cash` | How it sells. One of `cash`, `card`. | reload |",
		"| `shop.desks[].wait` | duration | `1m` | Time for one customer. | reload |",
		"| `shop.stock.<name>.price` | whole number | `100` | In cents. | reload |",
		"| `shop.night.for` | duration | `1h` | For how long. | reload |",
		"| `shop.city` | text | none | Where it is. Example: `Lima`. | reload |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page lacks %q:\n%s", want, got)
		}
	}
}

// genShop draws a shop without secrets.
func genShop(t *rapid.T) *shop {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
		"", "x", "true", "null", "~", "5", "-1e3", "0x1", "${NAME}", "$${x}", "$", "a: b", "- a", "# x", " x ", "a\nb\n", "\t", "'", `"\`, "[a]", "{", "*a", "&a", "!a", "@", "yes", "<<", "---", "...", "2001-01-01", "é żółw 😀", "\u2028\ufeff\x01", "=", "?", "a #b", "a:b", "::", ".5", "1_0",
	}))
	number := rapid.IntRange(1, 100)
	s := &shop{
		Name: rapid.StringN(1, 20, -1).Draw(t, "name"), Count: number.Draw(t, "count"), Small: rapid.Int8().Draw(t, "small"), Port: rapid.Uint16().Draw(t, "port"),
		Ratio: rapid.Float64Range(0, 1).Draw(t, "ratio"), On: rapid.Bool().Draw(t, "on"),
		Wait: config.Duration(rapid.Int64Range(1e6, 3600e9).Draw(t, "wait")), Size: config.Bytes(rapid.Int64Range(1024, 1<<50).Draw(t, "size")),
		Mode: rapid.SampledFrom([]string{"cash", "card"}).Draw(t, "mode"), Tags: rapid.SliceOfN(rapid.SampledFrom([]string{"red", "green"}), 0, 3).Draw(t, "tags"),
		Alarm: alarm{rapid.SliceOfN(text, 0, 3).Draw(t, "phones")}, place: place{text.Draw(t, "city")},
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "desks") {
		s.Desks = append(s.Desks, desk{Number: i, Wait: config.Duration(rapid.Int64().Draw(t, "wait"))})
	}
	s.Stock = map[string]item{}
	for range rapid.IntRange(0, 3).Draw(t, "stock") {
		if key := text.Draw(t, "key"); !strings.Contains(key, "${") {
			s.Stock[key] = item{Price: rapid.IntRange(-5, 900).Draw(t, "price"), Fresh: rapid.Bool().Draw(t, "fresh")}
		}
	}
	if rapid.Bool().Draw(t, "limited") {
		limit := rapid.Int().Draw(t, "limit")
		s.Limit = &limit
	}
	if rapid.Bool().Draw(t, "night") {
		s.Night = &night{From: text.Draw(t, "from"), For: config.Duration(rapid.Int64().Draw(t, "for"))}
	}
	if rapid.Bool().Draw(t, "body") {
		raw, err := json.Marshal(map[string]any{"a": text.Draw(t, "raw"), "b": []any{rapid.Float64().Draw(t, "raw number"), nil, true}})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer // as Raw is written: without HTML escapes
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		var v any
		if err := errors.Join(json.Unmarshal(raw, &v), e.Encode(v)); err != nil {
			t.Fatal(err)
		}
		s.Body = bytes.TrimSpace(b.Bytes())
	}
	return s
}

func TestPrintLoadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genShop(t)
		text := written(t, config.Print, sections(s))
		got := newShop()
		if err := load(got, text); err != nil {
			t.Fatalf("%v\nin:\n%s", err, text)
		}
		if diff := sameShop(s, got); diff != "" {
			t.Fatalf("%s\nin:\n%s", diff, text)
		}
		a, errA := config.Digest(sections(s)[0])
		b, errB := config.Digest(sections(got)[0])
		if a != b || errA != nil || errB != nil {
			t.Fatalf("digests of equal values differ: %s %s %v %v", a, b, errA, errB)
		}
	})
}

// TestSecretsNeverShow loads a file with a secret and random mistakes, and
// looks for the secret in everything that comes out.
func TestSecretsNeverShow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.StringMatching(`[a-zA-Z0-9]{12,30}`).Draw(t, "secret")
		env := config.Env{
			Lookup:   func(name string) (string, bool) { return secret, name == "S" },
			ReadFile: func(string) ([]byte, error) { return []byte(secret + "\n"), nil },
		}
		value := rapid.SampledFrom([]string{"${S}", "${file:s}", "${S:-}"})
		file := "shop:\n  name: x\n  token: " + value.Draw(t, "token") + "\n  secrets: {a: \"" + value.Draw(t, "a") + "\"}\n"
		key := rapid.SampledFrom([]string{"count", "small", "port", "ratio", "on_duty", "wait", "size", "mode", "tags", "desks", "stock", "limit", "night"})
		for _, k := range rapid.SliceOfNDistinct(key, 0, 4, rapid.ID[string]).Draw(t, "mistakes") {
			file += fmt.Sprintf("  %s: %s\n", k, rapid.SampledFrom([]string{"\"${S}\"", "[\"${S}\"]", "{a: \"${S}\"}", "\"a${S}b\""}).Draw(t, "wrong"))
		}
		s := newShop()
		var out bytes.Buffer
		err := config.LoadBytes("landline.yaml", []byte(file), sections(s), env)
		fmt.Fprintln(&out, err)
		for _, write := range []func(io.Writer, []config.Section) error{config.Print, config.Commented, config.Reference} {
			if err := write(&out, sections(s)); err != nil {
				t.Fatal(err)
			}
		}
		changed, err := config.Changed(sections(newShop())[0], sections(s)[0])
		fmt.Fprintln(&out, changed, err)
		digest, err := config.Digest(sections(s)[0])
		fmt.Fprintln(&out, digest, err)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%e", "%U"} {
			fmt.Fprintf(&out, verb+"\n", s.Token)
			fmt.Fprintf(&out, verb+"\n", s)
			fmt.Fprintf(&out, verb+"\n", &s.Token)
		}
		for _, h := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
			slog.New(h).Info("x", "token", s.Token, "shop", s, "p", &s.Token, "m", s.Secrets)
		}
		if err := json.NewEncoder(&out).Encode(s); err != nil {
			t.Fatal(err)
		}
		all := out.String()
		for _, hidden := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret)} {
			if strings.Contains(all, hidden) {
				t.Fatalf("the secret shows in:\n%s", all)
			}
		}
		if len(s.Token) == 0 != strings.Contains(all, "landline.yaml:") {
			t.Fatalf("loaded %t, faults:\n%s", len(s.Token) > 0, all)
		}
	})
}

func TestChanged(t *testing.T) {
	base := "shop:\n  name: x\n  token: ${SECRET}\n  desks: [{number: 1}, {number: 2}]\n  stock: {tea: {}, milk: {}}\n"
	for name, c := range map[string]struct {
		file string
		want []string
	}{
		"nothing":     {base, nil},
		"leaf":        {base + "  count: 9\n", []string{"shop.count"}},
		"secret":      {strings.Replace(base, "${SECRET}", "${NAME}", 1), []string{"shop.token"}},
		"pointer":     {base + "  limit: 2\n  night: {}\n", []string{"shop.limit", "shop.night", "shop.night.for", "shop.night.from"}},
		"fewer items": {strings.Replace(base, ", {number: 2}", "", 1), []string{"shop.desks[1].number", "shop.desks[1].wait"}},
		"other map":   {strings.Replace(base, "milk: {}", "\"a.b\": {}", 1), []string{`shop.stock."a.b".fresh`, `shop.stock."a.b".price`, "shop.stock.milk.fresh", "shop.stock.milk.price"}},
		"body":        {base + "  body: {a: 1}\n", []string{"shop.body"}},
	} {
		a, b := sections(mustLoad(t, base))[0], sections(mustLoad(t, c.file))[0]
		got, err := config.Changed(a, b)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
		da, errA := config.Digest(a)
		db, errB := config.Digest(b)
		if errA != nil || errB != nil || len(da) != 64 || (da == db) != (c.want == nil) {
			t.Errorf("%s: digests %s %s, %v %v", name, da, db, errA, errB)
		}
	}
}
