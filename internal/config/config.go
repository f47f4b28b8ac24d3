package config

import "io"

type loader struct{}
type node struct{}

// Section is one top-level key of the configuration file, owned by one package.
type Section struct {
	Key        string             // e.g. "identity"
	Ptr        any                // pointer to a struct, a map or a scalar that holds the defaults; filled in place
	Doc        string             // shown above the key in the commented file and in the reference
	Reloadable bool               // a change takes effect on reload, without a restart
	Check      func(v *Validator) // after everything was decoded; may read the structs of other sections
}

// Raw is any YAML value, kept as JSON: numbers exact, keys in their order.
type Raw []byte

// Env is where ${NAME} and ${file:path} are read from.
type Env struct {
	Lookup   func(name string) (string, bool)
	ReadFile func(path string) ([]byte, error)
}

// SystemEnv is the environment of the process and its files.
func SystemEnv() Env { return Env{} }

// Load reads the file at path into the sections.
func Load(path string, sections []Section, env Env) error { return nil }

// LoadBytes is Load for a file that was read already.
func LoadBytes(name string, data []byte, sections []Section, env Env) error { return nil }

// Print writes the effective configuration as YAML.
func Print(w io.Writer, sections []Section) error { return nil }

// Commented writes the commented default file.
func Commented(w io.Writer, sections []Section) error { return nil }

// Reference writes the reference page in Markdown.
func Reference(w io.Writer, sections []Section) error { return nil }

// Digest is a hash of the section's effective value, secrets included.
func Digest(s Section) (string, error) { return "", nil }

// Changed lists the paths of the leaf keys that differ.
func Changed(a, b Section) ([]string, error) { return nil, nil }
