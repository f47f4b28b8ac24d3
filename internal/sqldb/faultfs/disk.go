package faultfs

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Op is a kind of operation, or a set of them.
type Op int

// The operations that change the disk, and two that only read it.
const (
	Create Op = 1 << iota // a file is made
	Write
	Truncate
	Sync
	Delete
	Open // an existing file is opened
	Read
	Map // the shared memory of the write-ahead log is mapped

	Changes = Create | Write | Truncate | Sync | Delete
)

// Disk is a mounted directory. It is safe for concurrent use.
type Disk struct {
	dir string

	mu    sync.Mutex
	files map[string]*file // by name: what the running system sees
	names map[string]*file // what the directory holds durably
	moves []move           // changes of the directory that are not synced
	ops   int              // of Changes since Mount
	cutAt int              // 0 = never
	dead  chan struct{}    // closed by the cut
	lying bool             // syncs do nothing

	fault    *Fault
	counted  int // of the fault's operations
	hit      int // how often it struck
	capacity int64
}

// file is an inode. Deleted files stay while a name may come back.
type file struct {
	size    int64    // as the running system sees it
	durable []byte   // as of the last sync
	pending []change // since then
}

// change is a write, or with nil data a truncation to off.
type change struct {
	off  int64
	data []byte
	lost bool // a sync of it has failed
}

// move is a name that was given to a file, or with nil taken away. A rename takes
// the name from away by the same stroke.
type move struct {
	name string
	file *file
	from string
}

// Mount makes dir, which must exist, a Disk. What it holds counts as durable.
// Subdirectories suffer faults, but are left as they are by power cuts.
func Mount(dir string) (*Disk, error) {
	if err := install(); err != nil {
		return nil, err
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	d := &Disk{dir: dir, files: map[string]*file{}, names: map[string]*file{}, dead: make(chan struct{})}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || unmodelled(e.Name()) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name())) // #nosec G304 -- a test's directory
		if err != nil {
			return nil, err
		}
		f := &file{size: int64(len(data)), durable: data}
		d.files[e.Name()], d.names[e.Name()] = f, f
	}
	mounts.Lock()
	defer mounts.Unlock()
	if mounts.byDir[dir] != nil {
		return nil, fmt.Errorf("faultfs: %s is mounted already", dir)
	}
	mounts.byDir[dir] = d
	return d, nil
}

// Unmount ends it; files that are open stay on the Disk.
func (d *Disk) Unmount() {
	mounts.Lock()
	defer mounts.Unlock()
	delete(mounts.byDir, d.dir)
}

// Remount gives the directory of a process that has died, which Cut stands for, to
// the next one, as the same Disk: what was written can be read, and is as durable
// as it was. Whatever the dead process has open must be closed.
func (d *Disk) Remount() (*Disk, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.isDead() {
		return nil, errors.New("faultfs: the process is alive")
	}
	next := &Disk{dir: d.dir, files: d.files, names: d.names, moves: d.moves, dead: make(chan struct{})}
	mounts.Lock()
	defer mounts.Unlock()
	if mounts.byDir[d.dir] != d {
		return nil, fmt.Errorf("faultfs: %s is not mounted", d.dir)
	}
	mounts.byDir[d.dir] = next
	return next, nil
}

// unmodelled files are no business of a power cut: shared memory is rebuilt.
func unmodelled(name string) bool { return strings.HasSuffix(name, "-shm") }

// CutAfter cuts the power before the n-th change from now, n ≥ 1.
func (d *Disk) CutAfter(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cutAt = d.ops + n
}

// Cut cuts the power now.
func (d *Disk) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.die()
}

// Dead is closed once the power is cut.
func (d *Disk) Dead() <-chan struct{} { return d.dead }

// Changes is how many operations have changed the disk.
func (d *Disk) Changes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// Lie makes every later sync succeed without effect: a disk, or a setting, that
// breaks the promise which durability stands on.
func (d *Disk) Lie() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lying = true
}

func (d *Disk) isDead() bool {
	select {
	case <-d.dead:
		return true
	default:
		return false
	}
}

func (d *Disk) die() {
	if !d.isDead() {
		close(d.dead)
	}
}

// Image writes what is found after the power cut into a new directory. Files
// that are not SQLite's are copied as they are. Two images of one cut may differ.
func (d *Disk) Image(rng *rand.Rand, into string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.isDead() {
		return errors.New("faultfs: the power is still on")
	}
	root, err := os.OpenRoot(into)
	if err != nil {
		return err
	}
	defer root.Close()
	names := d.survivors(rng)
	way := rng.IntN(ways)
	for name, f := range names {
		if err := root.WriteFile(name, f.after(rng, way), 0o600); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(d.dir)
	for _, e := range entries {
		name := e.Name()
		if err != nil || !e.Type().IsRegular() || d.files[name] != nil || names[name] != nil || gone(d.moves, name) {
			continue
		}
		var data []byte
		if data, err = os.ReadFile(filepath.Join(d.dir, name)); err == nil { // #nosec G304 -- a test's directory
			err = root.WriteFile(name, data, 0o600)
		}
	}
	return err
}

func gone(moves []move, name string) bool {
	return slices.ContainsFunc(moves, func(m move) bool { return m.name == name || m.from == name })
}

// survivors is the directory: its synced state and any subset of the changes since.
func (d *Disk) survivors(rng *rand.Rand) map[string]*file {
	names := make(map[string]*file, len(d.names))
	for name, f := range d.names {
		names[name] = f
	}
	for _, m := range d.moves {
		if rng.IntN(2) == 0 {
			m.apply(names)
		}
	}
	return names
}

func (m move) apply(names map[string]*file) {
	if m.file == nil {
		delete(names, m.name)
		return
	}
	if m.from != "" {
		delete(names, m.from)
	}
	names[m.name] = m.file
}

// Ways to choose what of a file's pending changes is there.
const (
	nothing = iota
	prefix
	anyWrites
	anySectors
	ways
)

const sector = 512

func (f *file) after(rng *rand.Rand, way int) []byte {
	data := slices.Clone(f.durable)
	end := len(f.pending)
	switch way {
	case nothing:
		return data
	case prefix:
		end = rng.IntN(end + 1)
	}
	for i, c := range f.pending[:end] {
		switch {
		case c.lost:
			continue
		case way == prefix && i == end-1 && c.data != nil:
			data = c.torn(rng).apply(data)
		case way == prefix || rng.IntN(2) == 0 && way == anyWrites || c.data == nil && rng.IntN(2) == 0:
			data = c.apply(data)
		case way == anySectors && c.data != nil:
			data = c.some(rng, data)
		}
	}
	return data
}

func (c change) apply(data []byte) []byte {
	end := c.off + int64(len(c.data))
	if c.data != nil && len(c.data) == 0 {
		return data
	}
	if c.data == nil && int64(len(data)) > c.off {
		return data[:c.off]
	}
	if grow := end - int64(len(data)); grow > 0 {
		data = append(data, make([]byte, grow)...)
	}
	copy(data[c.off:], c.data)
	return data
}

// torn is the beginning of the write, up to the end of one of its sectors.
func (c change) torn(rng *rand.Rand) change {
	first := int(c.off / sector)
	ends := int(c.off+int64(len(c.data))-1)/sector - first + 1
	end := int64(first+rng.IntN(ends+1)) * sector
	c.data = c.data[:min(max(end-c.off, 0), int64(len(c.data)))]
	return c
}

// some applies each sector of the write or not.
func (c change) some(rng *rand.Rand, data []byte) []byte {
	for at := int64(0); at < int64(len(c.data)); {
		n := min(sector-(c.off+at)%sector, int64(len(c.data))-at)
		if rng.IntN(2) == 0 {
			data = change{off: c.off + at, data: c.data[at : at+n]}.apply(data)
		}
		at += n
	}
	return data
}

// sync makes what was written durable, unless a sync of it has failed before.
func (f *file) sync() {
	var lost []change
	for _, c := range f.pending {
		if c.lost {
			lost = append(lost, c)
			continue
		}
		f.durable = c.apply(f.durable)
	}
	f.pending = lost
}

// syncDirectory makes the names durable.
func (d *Disk) syncDirectory() {
	if d.lying {
		return
	}
	for _, m := range d.moves {
		m.apply(d.names)
	}
	d.moves = nil
}

// opened finds or makes the model of a file that SQLite has opened.
func (d *Disk) opened(name string) (*file, error) {
	if f := d.files[name]; f != nil {
		return f, nil
	}
	data, err := os.ReadFile(filepath.Join(d.dir, name)) // #nosec G304 -- a test's directory
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f := &file{size: int64(len(data))}
	if len(data) > 0 { // Go code has made it
		f.pending = []change{{data: data}}
	}
	d.files[name] = f
	d.moves = append(d.moves, move{name: name, file: f})
	return f, nil
}

// deleted forgets the name of a file that SQLite has deleted.
func (d *Disk) deleted(name string) {
	delete(d.files, name)
	d.moves = append(d.moves, move{name: name})
}
