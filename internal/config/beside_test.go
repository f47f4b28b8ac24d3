package config

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"
)

// A file that a value names is read beside the configuration file.
func TestFilesBesideTheConfiguration(t *testing.T) {
	var asked []string
	env := Env{ReadFile: func(path string) ([]byte, error) {
		asked = append(asked, filepath.ToSlash(path))
		if filepath.Base(path) == "none.yaml" {
			return nil, fs.ErrNotExist
		}
		return []byte("text"), nil
	}}
	var value struct {
		Name string `yaml:"name"`
	}
	check := func(v *Validator) {
		if data, err := v.At("name").ReadFile("c/a.yaml"); err != nil || string(data) != "text" {
			t.Errorf("%q %v", data, err)
		}
		if _, err := v.ReadFile("/abs/none.yaml"); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
	if err := LoadBytes("/etc/landline/landline.yaml", []byte("thing: {name: x}\n"), []Section{{Key: "thing", Ptr: &value, Check: check}}, env); err != nil {
		t.Fatal(err)
	}
	if len(asked) != 2 || asked[0] != "/etc/landline/c/a.yaml" || asked[1] != "/abs/none.yaml" {
		t.Errorf("asked for %v", asked)
	}
	check = func(v *Validator) {
		if _, err := v.ReadFile("a"); err == nil {
			t.Error("a file was read without access to files")
		}
	}
	if err := LoadBytes("landline.yaml", []byte("thing: {name: x}\n"), []Section{{Key: "thing", Ptr: &value, Check: check}}, Env{}); err != nil {
		t.Fatal(err)
	}
}
