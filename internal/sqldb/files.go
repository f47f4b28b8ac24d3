package sqldb

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Step is a kind of change that Files makes.
type Step string

// The steps. Rename moves path to the file named to; all others have no to.
const (
	MakeFile Step = "make"
	SyncFile Step = "sync"
	SyncDir  Step = "sync directory"
	Rename   Step = "rename"
	Remove   Step = "remove"
)

// Files makes, moves and removes the files of backups and restores, one step at
// a time, so that whoever calls it decides what a power cut may leave: nothing
// is durable before it was synced, names not before their directory was. The
// zero value is ready.
type Files struct {
	// Before is told of a step before it is taken; its error is the step's. It
	// is for tests that fail a step, or cut the power at one. nil = nobody.
	Before func(step Step, path, to string) error
}

func (f Files) before(step Step, path, to string) error {
	if f.Before == nil {
		return nil
	}
	return f.Before(step, path, to)
}

// Write writes what in holds to a file that only its owner reads, and syncs it
// and its directory. On errors a part may be there.
func (f Files) Write(in io.Reader, to string) error {
	if err := f.before(MakeFile, to, ""); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) // #nosec G304 -- the operator names the file, or it is below the data directory
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		if err = f.before(SyncFile, to, ""); err == nil {
			err = out.Sync()
		}
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	return f.SyncDir(filepath.Dir(to))
}

// Copy is Write of a file.
func (f Files) Copy(from, to string) error {
	in, err := os.Open(from) // #nosec G304 -- the operator names the file
	if err != nil {
		return err
	}
	return errors.Join(f.Write(in, to), in.Close())
}

// Sync makes what a file holds durable.
func (f Files) Sync(path string) error {
	if err := f.before(SyncFile, path, ""); err != nil {
		return err
	}
	return syncPath(path)
}

// SyncDir makes the names in a directory durable.
func (f Files) SyncDir(dir string) error {
	if err := f.before(SyncDir, dir, ""); err != nil {
		return err
	}
	return syncPath(dir)
}

// Rename moves a file; a power cut leaves the one name or the other.
func (f Files) Rename(from, to string) error {
	if err := f.before(Rename, from, to); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// Remove removes a file if it is there.
func (f Files) Remove(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := f.before(Remove, path, ""); err != nil {
		return err
	}
	return os.Remove(path)
}

// MakeDirs is os.MkdirAll whose directories only their owner uses and are durable.
func (f Files) MakeDirs(dir string) error { return makeDirs(dir) }
