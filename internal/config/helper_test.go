package config_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"testing"

	"landline/internal/config"
)

// shop is a configuration with every kind of value.
type shop struct {
	Name     string                   `yaml:"name" doc:"What customers read" required:"true" example:"Corner"`
	Count    int                      `yaml:"count" doc:"How many" min:"1" max:"100"`
	Small    int8                     `yaml:"small" doc:"A small number"`
	Port     uint16                   `yaml:"port" doc:"TCP port"`
	Ratio    float64                  `yaml:"ratio" doc:"Share of calls" min:"0" max:"1"`
	On       bool                     `yaml:"on_duty" doc:"Whether it is open"`
	Wait     config.Duration          `yaml:"wait" doc:"How long to wait" min:"1ms" max:"1h"`
	Size     config.Bytes             `yaml:"size" doc:"Largest parcel" min:"1KiB"`
	Mode     string                   `yaml:"mode" doc:"How it sells" enum:"cash,card"`
	Token    config.Secret            `yaml:"token" doc:"Key of the till"`
	Tags     []string                 `yaml:"tags" doc:"Words" enum:"red,green" max:"3"`
	Desks    []desk                   `yaml:"desks" doc:"Where it sells"`
	Stock    map[string]item          `yaml:"stock" doc:"What it sells"`
	Limit    *int                     `yaml:"limit" doc:"Most customers"`
	Night    *night                   `yaml:"night" doc:"Night opening"`
	Body     config.Raw               `yaml:"body" doc:"Any value" example:"{status: unknown}"`
	Alarm    alarm                    `yaml:"alarm" doc:"Whom to call"`
	Secrets  map[string]config.Secret `yaml:"secrets" doc:"Further keys"`
	place    `yaml:",inline"`
	Compiled string // no key
}

type place struct {
	City string `yaml:"city" doc:"Where it is" example:"Lima"`
}

type desk struct {
	Number int             `yaml:"number" required:"true" doc:"Its number"`
	Wait   config.Duration `yaml:"wait" doc:"Time for one customer"`
}

func (d *desk) Defaults() { d.Wait = config.Duration(60e9) }

type item struct {
	Price int  `yaml:"price" doc:"In cents"`
	Fresh bool `yaml:"fresh" doc:"Sold today"`
}

func (i *item) Defaults() { i.Price = 100 }

func (i *item) Check(v *config.Validator) {
	if i.Fresh && i.Price > 1000 {
		v.At("price").Fault("sell it cheaper", "%d is too much for fresh goods", i.Price)
	}
}

type night struct {
	From string          `yaml:"from" doc:"When it opens"`
	For  config.Duration `yaml:"for" doc:"For how long"`
}

func (n *night) Defaults() { n.For = config.Duration(3600e9) }

// alarm may be written as a text or a list of texts.
type alarm struct {
	Phones []string `yaml:"phones" doc:"Numbers, in order"`
}

func (a *alarm) UnmarshalConfig(decode func(any) error) error {
	var one string
	if err := decode(&one); err != nil {
		return err
	}
	if one == "nobody" {
		return errors.New("somebody must be called")
	}
	a.Phones = []string{one}
	return nil
}

func newShop() *shop {
	return &shop{Name: "Shop", Count: 3, Ratio: 0.5, Wait: config.Duration(800e6), Size: 1 << 20, Mode: "cash"}
}

func sections(s *shop) []config.Section {
	return []config.Section{{Key: "shop", Ptr: s, Doc: "The shop.", Reloadable: true}}
}

type files map[string]string

func (f files) env(vars map[string]string) config.Env {
	return config.Env{
		Lookup: func(name string) (string, bool) { v, ok := vars[name]; return v, ok },
		ReadFile: func(path string) ([]byte, error) {
			if data, ok := f[path]; ok {
				return []byte(data), nil
			}
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		},
	}
}

var testVars = map[string]string{
	"NAME": "Corner", "N": "7", "SECRET": "hunter2-very-secret", "EMPTY": "", "BAD": "hunter2-\xff", "LONG": strings.Repeat("x", 65<<10),
}

var testFiles = files{"/etc/ll/till.key": "from-a-file\n", "/abs/key": "absolute\r\n"}

func load(s *shop, text string) error {
	return config.LoadBytes("/etc/ll/landline.yaml", []byte(text), sections(s), testFiles.env(maps.Clone(testVars)))
}

func mustLoad(t *testing.T, text string) *shop {
	t.Helper()
	s := newShop()
	if err := load(s, text); err != nil {
		t.Fatalf("faults in a good file:\n%v", err)
	}
	return s
}

// lines gives the faults without the file's name.
func lines(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var faults config.Faults
	if !errors.As(err, &faults) {
		t.Fatalf("not Faults: %v", err)
	}
	var b strings.Builder
	for _, f := range faults {
		if f.File != "/etc/ll/landline.yaml" {
			t.Errorf("file = %q", f.File)
		}
		fmt.Fprintf(&b, "%d:%d: %s: %s", f.Line, f.Col, f.Path, f.Message)
		if f.Hint != "" {
			fmt.Fprintf(&b, " (%s)", f.Hint)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
