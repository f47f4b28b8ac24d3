package faultfs

import (
	"errors"
	"fmt"
	"path/filepath"
)

// errIO is what a step of Go code fails with.
var errIO = errors.New("faultfs: input/output error")

// Beside is told of a change that Go code is about to make to a file on the
// disk, beside SQLite: "make", "sync", "sync directory", "rename" (to to) or
// "remove". It counts as a change, so that the power may go before it, and may
// be failed by a Fault of Create, Sync or Delete; a rename is a Create. What it
// returns must be the step's error. Steps elsewhere, and in subdirectories, only
// fail once the power is gone.
func (d *Disk) Beside(step, path, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	ops := map[string]Op{"make": Create, "sync": Sync, "sync directory": Sync, "rename": Create, "remove": Delete}
	op, known := ops[step]
	if !known {
		return fmt.Errorf("faultfs: there is no step %q", step)
	}
	if v := d.before(op); v.code != 0 {
		return errIO
	}
	if step == "sync directory" {
		if path == d.dir {
			d.syncDirectory()
		}
		return nil
	}
	if filepath.Dir(path) != d.dir {
		return nil
	}
	name := filepath.Base(path)
	switch step {
	case "sync":
		if f := d.files[name]; f != nil && !d.lying {
			f.sync()
		}
	case "remove":
		d.deleted(name)
	case "rename":
		f := d.files[name]
		if f == nil {
			return fmt.Errorf("faultfs: nothing is known of %s", name)
		}
		delete(d.files, name)
		d.files[filepath.Base(to)] = f
		d.moves = append(d.moves, move{name: filepath.Base(to), file: f, from: name})
	}
	return nil
}
