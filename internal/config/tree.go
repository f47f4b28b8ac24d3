package config

import (
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// includeKey is the top-level key that names further files.
const includeKey = "include"

var overlayName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)

// tree reads the files of one configuration: the first, what it includes, and
// the overlays of the environment.
type tree struct {
	l      *loader
	seen   map[string]bool // real paths that were read
	base   []*part
	over   []*part
	found  []scope // overlays that wildcards have met
	bytes  int
	nodes  int
	broken bool // something could not be read: what is there is not all
	full   bool // a bound was met, and told
}

// part is one file.
type part struct {
	scope
	root *node
}

// scope is a file with the directory that its relative includes stay in.
type scope struct{ file, within string }

// step is the place of an include, and the files that led there.
type step struct {
	chain []string // real paths, the including file last
	item  *node    // nil for the first file and for overlays
	path  *path
}

// readTree gives the root of all files together. It is nil when the first file
// is no YAML that could be decoded; whole tells that every other file was.
func (l *loader) readTree(name string, data []byte) (root *node, whole bool) {
	t := &tree{l: l, seen: map[string]bool{}}
	first := scope{name, l.real(filepath.Dir(name))}
	if !t.parse(first, data, step{}, &t.base) {
		return nil, false
	}
	t.overlays()
	root = l.join(t.base)
	if len(t.over) > 0 {
		root = overlay(root, l.join(t.over))
	}
	return root, !t.broken
}

// real is path without symbolic links, or path where that cannot be known:
// reading it then says why.
func (l *loader) real(path string) string {
	if l.env.Real != nil {
		if real, err := l.env.Real(path); err == nil {
			path = real
		}
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return filepath.Clean(path)
}

// fault notes a mistake at the include, or at the top of the first file.
func (t *tree) fault(s step, hint, format string, args ...any) {
	t.broken = true
	if s.item == nil {
		t.l.faultAt(t.l.files[0], 1, 1, s.path, hint, format, args...)
		return
	}
	t.l.faultAt(s.item.file, s.item.line, s.item.col, s.path, hint, format, args...)
}

// parse adds a file and those that it includes to parts.
func (t *tree) parse(at scope, data []byte, s step, parts *[]*part) bool {
	l := t.l
	l.files = append(l.files, at.file)
	outer := l.file
	l.file = at.file
	root, ok := l.parse(data)
	l.file = outer
	if !ok {
		t.broken = true
		return false
	}
	real := l.real(at.file)
	t.seen[real] = true
	t.bytes += len(data)
	t.nodes += root.size
	*parts = append(*parts, &part{at, root})
	list, ok := root.get(includeKey)
	if !ok {
		return true
	}
	chain := append(slices.Clone(s.chain), real)
	for _, item := range t.patterns(list.value) {
		item.chain = chain
		t.include(at, item, parts)
	}
	return true
}

// patterns are the texts of an include list.
func (t *tree) patterns(n *node) []step {
	p := (*path)(nil).child(includeKey)
	const hint = `write for example include: ["features/*.yaml"]`
	items := []*node{n}
	switch {
	case n.kind == kindList:
		items = n.items
	case n.kind == kindNull:
		return nil
	}
	if len(items) > maxIncludes {
		t.fault(step{item: n, path: p}, "use wildcards", "more than %d entries", maxIncludes)
		return nil
	}
	var all []step
	for i, item := range items {
		s := step{item: item, path: p.item(i)}
		if n.kind != kindList {
			s.path = p
		}
		switch {
		case item.kind == kindBad:
			t.broken = true
		case item.kind != kindText || item.text == "":
			t.fault(s, hint, "expected the path of a file, found %s", item.shown())
		default:
			all = append(all, s)
		}
	}
	return all
}

// include reads the files of one pattern.
func (t *tree) include(from scope, s step, parts *[]*part) {
	pattern, within := s.item.text, from.within
	wild := strings.ContainsAny(pattern, "*?[")
	switch {
	case len(s.chain) > maxNesting:
		t.fault(s, "include from fewer files", "includes are nested more than %d deep", maxNesting)
		return
	case strings.Contains(pattern, "**"):
		t.fault(s, "write one * for each folder: teams/*/landline.yaml", "** is not a wildcard here")
		return
	case filepath.IsAbs(pattern):
		within = "" // meant
	default:
		pattern = filepath.Join(filepath.Dir(from.file), pattern)
		if !inside(t.l.real(filepath.Dir(from.file)), from.within, s.item.text) {
			t.fault(s, "write an absolute path if that is meant", "%s lies outside of %s", clip(s.item.text, 100), clip(from.within, 200))
			return
		}
	}
	for _, file := range t.matches(pattern, wild, s) {
		if wild && t.isOverlay(file, within) {
			continue
		}
		t.file(file, within, s, parts)
	}
}

// inside reports whether the relative path rel from dir stays within.
func inside(dir, within, rel string) bool {
	return contains(within, filepath.Join(dir, rel))
}

func contains(within, path string) bool {
	rel, err := filepath.Rel(within, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

func (t *tree) matches(pattern string, wild bool, s step) []string {
	if !wild {
		return []string{pattern}
	}
	if t.l.env.Glob == nil {
		t.fault(s, "name each file", "wildcards cannot be used here")
		return nil
	}
	files, err := t.l.env.Glob(pattern)
	if err != nil {
		t.fault(s, "* stands for a part of a name, ? for a character, [ab] for one of them", "the pattern is not valid")
		return nil
	}
	slices.Sort(files)
	return files
}

// isOverlay reports whether a file that a wildcard has met is an overlay, such
// as trips.production.yaml: those of another environment are left out, and
// those of ours wait for their turn.
func (t *tree) isOverlay(file, within string) bool {
	name := filepath.Base(file)
	stem := strings.TrimSuffix(name, filepath.Ext(name))
	at := strings.LastIndexByte(stem, '.')
	if at < 1 || !overlayName.MatchString(stem[at+1:]) {
		return false
	}
	if stem[at+1:] == t.l.env.Overlay {
		t.found = append(t.found, scope{file, within})
	}
	return true
}

// file reads one file that s includes.
func (t *tree) file(file, within string, s step, parts *[]*part) {
	real := t.l.real(file)
	switch {
	case slices.Contains(s.chain, real):
		t.fault(s, "remove one of the includes; put files that are included into a folder of their own", "%s includes itself: %s",
			clip(file, 200), clip(strings.Join(append(baseNames(s.chain), filepath.Base(real)), " → "), 300))
		return
	case t.seen[real]:
		return
	case within != "" && !contains(within, real):
		t.fault(s, "write an absolute path if that is meant", "%s is a link that leads out of %s", clip(file, 200), clip(within, 200))
		return
	}
	if data, ok := t.load(file, s); ok {
		if within == "" {
			within = filepath.Dir(real)
		}
		t.parse(scope{file, within}, data, s, parts)
	}
}

func baseNames(paths []string) []string {
	names := make([]string, len(paths))
	for i, p := range paths {
		names[i] = filepath.Base(p)
	}
	return names
}

// load reads a file's bytes within the bounds of the whole.
func (t *tree) load(file string, s step) ([]byte, bool) {
	if t.full {
		return nil, false
	}
	if len(t.l.files) >= maxFiles || t.bytes > maxAllFiles || t.nodes > maxAllNodes {
		t.full = true
		t.fault(s, "split the installation, or write fewer values", "the configuration has more than %d files, 64 MiB or %d values", maxFiles, maxAllNodes)
		return nil, false
	}
	if t.l.env.ReadFile == nil {
		t.fault(s, "", "files cannot be included here")
		return nil, false
	}
	data, err := t.l.env.ReadFile(file)
	if err == nil {
		return data, true
	}
	reason, hint := "cannot be read", "check that it is a file, and the disk"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		reason, hint = "does not exist", "a relative path begins at the folder of the file that includes it"
	case errors.Is(err, fs.ErrPermission):
		reason, hint = "may not be read by this user", "change its owner or mode"
	}
	t.fault(s, hint, "the file %s %s", clip(file, 200), reason)
	return nil, false
}

// overlays reads the environment's overlays: those beside the files that were
// read, and those that wildcards have met. The first file must have one, so
// that a misspelt environment does not go unnoticed.
func (t *tree) overlays() {
	name := t.l.env.Overlay
	if name == "" {
		return
	}
	if !overlayName.MatchString(name) {
		t.fault(step{}, "use lower-case letters, digits, - and _, beginning with a letter", "%q cannot be the name of an environment", clip(name, 40))
		return
	}
	for i, p := range slices.Clone(t.base) {
		file := overlayOf(p.file, name)
		switch there := t.exists(file); {
		case there:
			t.file(file, p.within, step{}, &t.over)
		case i == 0:
			t.fault(step{}, "write the file, it may be empty, or choose another environment", "the environment %s has no file %s", name, clip(file, 200))
		}
	}
	for _, f := range t.found {
		t.file(f.file, f.within, step{}, &t.over)
	}
}

// overlayOf is landline.production.yaml for landline.yaml.
func overlayOf(file, name string) string {
	ext := filepath.Ext(file)
	return strings.TrimSuffix(file, ext) + "." + name + ext
}

func (t *tree) exists(file string) bool {
	if t.l.env.ReadFile == nil {
		return false
	}
	if t.l.env.Glob != nil && !strings.ContainsAny(file, `*?[\`) { // cheaper than reading it
		found, err := t.l.env.Glob(file)
		return err == nil && len(found) > 0
	}
	_, err := t.l.env.ReadFile(file)
	return !errors.Is(err, fs.ErrNotExist)
}
