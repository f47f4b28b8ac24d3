package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// ReadFile reads a file that a value names. A relative name begins at the
// folder of the configuration file in which the value stands. The error says
// what is wrong with the file, and wraps what the file system said.
func (v *Validator) ReadFile(name string) ([]byte, error) {
	if v.l.env.ReadFile == nil {
		return nil, errors.New("there is no access to files")
	}
	full := v.Beside(name)
	data, err := v.l.env.ReadFile(full)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("the file %s does not exist: %w", clip(full, 200), err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("the file %s may not be read by this user: %w", clip(full, 200), err)
	case err != nil:
		return nil, fmt.Errorf("the file %s cannot be read: %w", clip(full, 200), err)
	}
	return data, nil
}

// Beside gives the name of a file that a value names, as ReadFile reads it.
func (v *Validator) Beside(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	dir := v.l.dir()
	if v.file != "" {
		dir = filepath.Dir(v.file)
	}
	return filepath.Join(dir, name)
}
