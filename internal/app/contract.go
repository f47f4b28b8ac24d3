package app

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"landline/internal/gateway"
	"landline/internal/gateway/contract"
)

// CheckContract reads an OpenAPI document and writes what is in it: what nobody
// checks and, where withConfig is set, which routes of the configuration it
// describes. A fault of the document is one of the configuration.
func CheckContract(w io.Writer, o Options, name string, withConfig bool) error {
	if o.Env.ReadFile == nil {
		return errors.New("there is no access to files")
	}
	dir, base := "", name
	if filepath.IsAbs(name) {
		dir, base = filepath.Split(name)
	}
	d, err := contract.Load(filepath.ToSlash(base), func(file string) ([]byte, error) {
		return o.Env.ReadFile(filepath.Join(dir, filepath.FromSlash(file)))
	})
	var fault *contract.Fault
	var faults contract.Faults
	switch {
	case errors.As(err, &faults), errors.As(err, &fault):
		return Misconfigured(err)
	case err != nil:
		return Usage(fmt.Errorf("cannot read %s: %w", name, err))
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s is valid: %s, OpenAPI %s, %d operations\n", name, orUntitled(d.Title), d.Version, len(d.Operations))
	for _, note := range d.Notes {
		fmt.Fprintf(&out, "note: %s\n", note)
	}
	rest := d.Operations
	if withConfig {
		s, _, _, err := load(o)
		if err != nil {
			return err
		}
		var routes []gateway.Coverage
		routes, rest = s.Gateway.Covered(d)
		for _, r := range routes {
			for _, op := range r.Operations {
				fmt.Fprintf(&out, "covers %s: %s <- %s %s%s\n", r.Feature, r.Match, op.Method, op.Path, operationID(op))
			}
		}
	}
	for _, op := range rest {
		word := "has"
		if withConfig {
			word = "no route for"
		}
		fmt.Fprintf(&out, "%s %s %s%s\n", word, op.Method, op.Path, operationID(op))
	}
	_, err = io.WriteString(w, out.String())
	return err
}

func orUntitled(title string) string {
	if title == "" {
		return "untitled"
	}
	return title
}

func operationID(op *contract.Operation) string {
	if op.ID == "" {
		return ""
	}
	return " (" + op.ID + ")"
}
