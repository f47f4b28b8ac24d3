package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"regexp"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// compileSchema compiles one JSON Schema that stands alone.
func compileSchema(t testing.TB, text string, old bool) (*schema, *compiler) {
	t.Helper()
	f := &files{read: func(string) ([]byte, error) { return []byte(text), nil }, data: map[string][]byte{}, trees: map[string]*file{}}
	tree, err := f.tree("schema.json")
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	c := newCompiler(f)
	c.old = old
	s := c.schema(tree.root, toClient)
	c.endless()
	return s, c
}

func mustCompile(t testing.TB, text string) (*schema, *Document) {
	t.Helper()
	s, c := compileSchema(t, text, false)
	if len(c.faults) > 0 {
		t.Fatalf("%s: %v", text, c.faults)
	}
	return s, &Document{names: c.names}
}

// general compiles the same schema with the general validator.
func general(t testing.TB, text string) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(text)))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource("contract:///schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("contract:///schema.json")
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return s
}

func (d *Document) fits(s *schema, body string) bool { return len(d.checkBody(s, []byte(body))) == 0 }

func generalFits(t testing.TB, s *jsonschema.Schema, body string) bool {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return s.Validate(v) == nil
}

// folder is a set of files for Load.
type folder map[string]string

func (f folder) read(name string) ([]byte, error) {
	text, ok := f[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return []byte(text), nil
}

func (f folder) load(t testing.TB, name string) *Document {
	t.Helper()
	d, err := Load(name, f.read)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func toJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func faultsOf(t testing.TB, err error) string {
	t.Helper()
	var many Faults
	var one *Fault
	if !errors.As(err, &many) && !errors.As(err, &one) {
		t.Fatalf("no faults: %v", err)
	}
	return err.Error()
}

func matches(pattern, text string) bool { return regexp.MustCompile(pattern).MatchString(text) }
