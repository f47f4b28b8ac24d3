package faultfs

import sqlite "modernc.org/sqlite/lib"

// Kind is how an operation fails.
type Kind int

// The kinds of failure.
const (
	EIO   Kind = iota // the operation fails; of a write, nothing is written
	Torn              // a write fails on the way, after one to seven eighths; other operations as EIO
	Space             // no space left: a write stops on the way; of Create and Sync too
)

// Kinds are all of them, for sweeps.
var Kinds = []Kind{EIO, Torn, Space}

// String names the kind.
func (k Kind) String() string { return [...]string{"EIO", "torn write", "ENOSPC"}[k] }

// Fault is a failure to come.
type Fault struct {
	Ops   Op   // of which operations
	At    int  // the first that fails, counted from 1
	Times int  // how many in a row; 0 = one, -1 = all that follow
	Kind  Kind // how
}

// Fail arms f in place of the fault before; a zero Fault disarms.
func (d *Disk) Fail(f Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault, d.counted, d.hit = &f, 0, 0
}

// Hit is how many operations the armed fault has failed.
func (d *Disk) Hit() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hit
}

// Limit gives the disk room for so many bytes in SQLite's files, 0 for no limit.
// Existing bytes may always be overwritten.
func (d *Disk) Limit(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = bytes
}

// Used is how many bytes SQLite's files hold.
func (d *Disk) Used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used()
}

func (d *Disk) used() (n int64) {
	for _, f := range d.files {
		n += f.size
	}
	return n
}

// verdict of an operation before it takes place.
type verdict struct {
	code int32 // SQLITE_OK to go on
	half bool  // write a part of it first
	cut  bool  // the power went during it
}

// before counts an operation and decides whether it fails. d.mu is held.
func (d *Disk) before(op Op) verdict {
	if d.isDead() {
		return verdict{code: codes[op]}
	}
	if op&Changes != 0 {
		d.ops++
		if d.cutAt > 0 && d.ops >= d.cutAt {
			d.die()
			return verdict{code: codes[op], cut: true}
		}
	}
	if d.fault == nil || d.fault.Ops&op == 0 {
		return verdict{}
	}
	d.counted++
	if d.counted < d.fault.At || d.fault.Times >= 0 && d.counted >= d.fault.At+max(d.fault.Times, 1) {
		return verdict{}
	}
	d.hit++
	if d.fault.Kind == Space && op&(Write|Create|Sync) != 0 {
		return verdict{code: sqlite.SQLITE_FULL, half: op == Write}
	}
	return verdict{code: codes[op], half: op == Write && d.fault.Kind == Torn}
}

// codes are what SQLite's own VFS answers, https://www.sqlite.org/rescode.html.
var codes = map[Op]int32{
	Create:   sqlite.SQLITE_CANTOPEN,
	Open:     sqlite.SQLITE_CANTOPEN,
	Write:    sqlite.SQLITE_IOERR_WRITE,
	Truncate: sqlite.SQLITE_IOERR_TRUNCATE,
	Sync:     sqlite.SQLITE_IOERR_FSYNC,
	Delete:   sqlite.SQLITE_IOERR_DELETE,
	Read:     sqlite.SQLITE_IOERR_READ,
	Map:      sqlite.SQLITE_IOERR_SHMMAP,
}
