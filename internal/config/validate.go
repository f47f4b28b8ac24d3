package config

// Checker is a decoded struct that checks itself: rules that tie several keys
// together. v is positioned at the struct. Check runs after every section was
// decoded, and not when the struct itself could not be decoded.
type Checker interface{ Check(v *Validator) }

// Validator is a place in the configuration file from which faults are given.
type Validator struct {
	l    *loader
	n    *node // nil when the value is not written
	line int
	col  int
	path string
}

// At returns the Validator of a child: by key (string) or by index (int). Its
// position is that key's, or that of the nearest parent that is written.
func (v *Validator) At(path ...any) *Validator { return v }

// Fault notes a mistake at this position. hint is the way out, "" for none.
func (v *Validator) Fault(hint, format string, args ...any) {}

// Has reports whether the value at this position is written in the file.
func (v *Validator) Has() bool { return v.n != nil }

// Keys returns the keys of the mapping at this position in the order of the
// file, nil when nothing is written or it is no mapping.
func (v *Validator) Keys() []string { return nil }
