package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
)

const (
	maxFile    = 4 << 20  // bytes of a configuration file
	maxOutside = 64 << 10 // bytes of one value from the environment or a file
	maxDepth   = 64
	maxNodes   = 500_000 // values, aliases counted wherever they are used
	maxMerged  = 200_000 // entries that merge keys add
	maxFaults  = 1000

	maxFiles    = 5000     // files of one configuration
	maxAllFiles = 64 << 20 // bytes of them together
	maxAllNodes = 2 * maxNodes
	maxIncludes = 100 // patterns of one include list
	maxNesting  = 8   // includes within includes
)

// Section is one top-level key of the configuration file, owned by one package.
type Section struct {
	Key        string             // e.g. "identity"
	Ptr        any                // pointer to a struct, a map or a scalar that holds the defaults; filled in place
	Doc        string             // shown above the key in the commented file and in the reference
	Reloadable bool               // a change takes effect on reload, without a restart
	Check      func(v *Validator) // after everything was decoded; may read the structs of other sections
}

// Env is where ${NAME}, ${file:path} and included files are read from. A nil
// Lookup knows no variable. A nil ReadFile reads no file.
type Env struct {
	Lookup   func(name string) (string, bool)
	ReadFile func(path string) ([]byte, error)
	Glob     func(pattern string) ([]string, error) // as filepath.Glob; nil: include takes no wildcards
	Real     func(path string) (string, error)      // path without symbolic links; nil: there are none

	// Overlay is the environment whose overlay files are read as well:
	// landline.production.yaml for "production". "" reads none.
	Overlay string
}

// SystemEnv is the environment of the process and its files. It reads at most
// a little more than a configuration file may have.
func SystemEnv() Env {
	return Env{Lookup: os.LookupEnv, ReadFile: readBounded, Glob: filepath.Glob, Real: filepath.EvalSymlinks}
}

func readBounded(path string) (data []byte, err error) {
	f, err := os.Open(path) // #nosec G304 -- reading the files that the operator names is the purpose
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// Load reads the file at path into the sections, see LoadBytes. Its error is
// Faults, or says why the file could not be read and what to do.
func Load(path string, sections []Section, env Env) error {
	_, err := Read(path, sections, env)
	return err
}

// Read is Load, and tells where every value was written.
func Read(path string, sections []Section, env Env) (*Source, error) {
	if env.ReadFile == nil {
		return nil, fmt.Errorf("config: cannot read %s: no access to files", path)
	}
	data, err := env.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("config: %s does not exist; write one with `landline init`, or name another file with --config: %w", path, err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("config: %s may not be read by this user; change its owner or mode: %w", path, err)
	case err != nil:
		return nil, fmt.Errorf("config: cannot read %s; check that it is a file, and the disk: %w", path, err)
	}
	return ReadBytes(path, data, sections, env)
}

// LoadBytes reads data, and what it includes, into the sections. name is the
// file's name for faults and the base of relative paths. The error is Faults;
// any other error is a mistake in the sections themselves.
//
// The structs hold the new values while the checks run, and get their old
// values back when there is a fault: nobody else may read them meanwhile.
func LoadBytes(name string, data []byte, sections []Section, env Env) error {
	_, err := ReadBytes(name, data, sections, env)
	return err
}

// ReadBytes is LoadBytes, and tells where every value was written.
func ReadBytes(name string, data []byte, sections []Section, env Env) (*Source, error) {
	l := newLoader(name, env)
	if err := l.vetSections(sections); err != nil {
		return nil, err
	}
	root, whole := l.readTree(name, data)
	if root == nil {
		return nil, l.result()
	}
	loaded := false
	undo := make([]func(), 0, len(sections))
	defer func() {
		if !loaded {
			for _, f := range undo {
				f()
			}
		}
	}()
	for _, s := range sections {
		target := reflect.ValueOf(s.Ptr).Elem()
		old := reflect.New(target.Type()).Elem()
		old.Set(target)
		undo = append(undo, func() { target.Set(old) })
		target.Set(clone(target))
	}
	l.decodeRoot(root, sections)
	if whole { // else checks would complain of what only could not be read
		l.checkSections(root, sections)
	}
	if err := l.result(); err != nil {
		return nil, err
	}
	loaded = true
	return &Source{Files: l.files, root: root}, nil
}

// loader is the state of one LoadBytes.
type loader struct {
	file    string   // that is being parsed
	files   []string // in the order in which they were read
	env     Env
	types   *types
	faults  Faults
	dropped int
	failed  map[string]bool // paths whose value could not be decoded
	tainted map[string]bool // those and every path above them
	short   []shortCheck
}

func newLoader(name string, env Env) *loader {
	return &loader{
		file: name, env: env, types: newTypes(),
		failed: map[string]bool{}, tainted: map[string]bool{},
	}
}

func (l *loader) dir() string { return filepath.Dir(l.file) }

// fault notes a mistake in the file that is being parsed.
func (l *loader) fault(line, col int, p *path, hint, format string, args ...any) {
	l.faultAt(l.file, line, col, p, hint, format, args...)
}

// faultAt notes a mistake at a position.
func (l *loader) faultAt(file string, line, col int, p *path, hint, format string, args ...any) {
	if len(l.faults) >= maxFaults {
		l.dropped++
		return
	}
	l.faults = append(l.faults, Fault{
		File: file, Line: max(line, 1), Col: max(col, 1), Path: p.String(),
		Message: oneLine(fmt.Sprintf(format, args...)), Hint: oneLine(hint),
	})
}

// fail notes that the value at p could not be decoded, so that checks do not
// complain of what follows from it.
func (l *loader) fail(p *path) {
	l.failed[p.String()] = true
	for ; p != nil; p = p.parent {
		s := p.String()
		if l.tainted[s] {
			return
		}
		l.tainted[s] = true
	}
}

func (l *loader) result() error {
	if len(l.faults) == 0 {
		return nil
	}
	order := make(map[string]int, len(l.files))
	for i, file := range l.files {
		order[file] = i
	}
	l.faults.sort(order)
	if l.dropped > 0 {
		last := l.faults[len(l.faults)-1]
		l.faults = append(l.faults, Fault{File: last.File, Line: last.Line, Col: last.Col,
			Message: fmt.Sprintf("%d more faults are not listed", l.dropped), Hint: "repair these first"})
	}
	return l.faults
}

// vetSections finds mistakes of the program, not of the file.
func (l *loader) vetSections(sections []Section) error {
	seen := map[string]bool{}
	for _, s := range sections {
		if s.Key == "" || s.Key == includeKey || seen[s.Key] {
			return fmt.Errorf("config: section key %q is empty or there twice, or reserved", s.Key)
		}
		seen[s.Key] = true
		v := reflect.ValueOf(s.Ptr)
		if v.Kind() != reflect.Pointer || v.IsNil() {
			return fmt.Errorf("config: section %s: Ptr must be a pointer, it is %T", s.Key, s.Ptr)
		}
		if err := l.types.vet(v.Type().Elem()); err != nil {
			return fmt.Errorf("config: section %s: %w", s.Key, err)
		}
	}
	return nil
}
