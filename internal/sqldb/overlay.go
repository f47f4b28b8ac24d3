package sqldb

import (
	"fmt"
	"io/fs"
	"strings"
)

const postgresSuffix = ".postgres.sql"

// overlay shows one engine its migrations under their general names: on
// PostgreSQL 0001_x.sql has the content of 0001_x.postgres.sql where that is
// there; on SQLite the special files are not to be seen.
type overlay struct {
	base fs.FS
	list []fs.DirEntry
	real map[string]string // name shown -> name in base
}

func newOverlay(base fs.FS, engine string) (*overlay, error) {
	all, err := fs.ReadDir(base, ".")
	if err != nil {
		return nil, err
	}
	o := &overlay{base: base, real: map[string]string{}}
	for _, e := range all {
		if name := e.Name(); strings.HasSuffix(name, ".sql") && !strings.HasSuffix(name, postgresSuffix) {
			o.list = append(o.list, e)
			o.real[name] = name
		}
	}
	for _, e := range all {
		stem, special := strings.CutSuffix(e.Name(), postgresSuffix)
		if !special {
			continue
		}
		general := stem + ".sql"
		if o.real[general] == "" {
			return nil, fmt.Errorf("%s replaces %s, which is not there: both engines must have the same versions", e.Name(), general)
		}
		if engine == Postgres {
			o.real[general] = e.Name()
		}
	}
	return o, nil
}

// Open implements fs.FS.
func (o *overlay) Open(name string) (fs.File, error) {
	if name == "." {
		return o.base.Open(name)
	}
	real, ok := o.real[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return o.base.Open(real)
}

// ReadDir implements fs.ReadDirFS.
func (o *overlay) ReadDir(name string) ([]fs.DirEntry, error) {
	if name != "." {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	return o.list, nil
}
