package faultfs

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"unsafe"

	"modernc.org/libc"
	sqlite "modernc.org/sqlite/lib"

	"landline/internal/sqldb/cvfs"
)

// mounts are the disks of the process by their directory.
var mounts = struct {
	sync.RWMutex
	byDir map[string]*Disk
}{byDir: map[string]*Disk{}}

// diskOf finds the disk of an absolute path, and the file's name on it; the name
// is empty for files of subdirectories.
func diskOf(path string) (d *Disk, name string) {
	mounts.RLock()
	defer mounts.RUnlock()
	if len(mounts.byDir) == 0 {
		return nil, ""
	}
	dir := filepath.Dir(path)
	if d = mounts.byDir[dir]; d != nil {
		if name = filepath.Base(path); unmodelled(name) {
			name = ""
		}
		return d, name
	}
	for up := filepath.Dir(dir); up != dir; dir, up = up, filepath.Dir(up) {
		if d = mounts.byDir[up]; d != nil {
			return d, ""
		}
	}
	return nil, ""
}

// handle is an open file of a Disk.
type handle struct {
	disk    *Disk
	file    *file // nil in subdirectories
	dirSync bool  // its first sync is one of the directory too
}

// handles are the open files by the address of SQLite's structure.
var handles sync.Map // uintptr → *handle

// The VFS and its methods are C structures that SQLite keeps the addresses of.
// Package variables do not move.
var (
	vfs     sqlite.Tsqlite3_vfs
	methods sqlite.Tsqlite3_io_methods
	native  uintptr // SQLite's own VFS
	name    = [...]byte{'f', 'a', 'u', 'l', 't', 'f', 's', 0}
)

// head is what stands before the real file in SQLite's memory for a file.
const head = unsafe.Sizeof(sqlite.Tsqlite3_file{}) * 2 // keeps the alignment of 16

var installed struct {
	sync.Once
	err error
}

// install makes the VFS the process's default one, once.
func install() error {
	installed.Do(func() {
		tls := libc.NewTLS()
		defer tls.Close()
		if rc := sqlite.Xsqlite3_initialize(tls); rc != sqlite.SQLITE_OK {
			installed.err = fmt.Errorf("faultfs: SQLite does not start: %d", rc)
			return
		}
		if native = sqlite.Xsqlite3_vfs_find(tls, 0); native == 0 {
			installed.err = errors.New("faultfs: SQLite has no VFS")
			return
		}
		vfs = *cvfs.At[sqlite.Tsqlite3_vfs](native)
		vfs.FszOsFile += int32(head)
		vfs.FzName = cvfs.Address(&name)
		vfs.FpNext = 0
		vfs.FxOpen = cvfs.Pointer(vfsOpen)
		vfs.FxDelete = cvfs.Pointer(vfsDelete)
		methods = sqlite.Tsqlite3_io_methods{
			FiVersion: 2, // without memory mapping, which would pass by us
			FxClose:   cvfs.Pointer(fileClose), FxRead: cvfs.Pointer(fileRead), FxWrite: cvfs.Pointer(fileWrite), FxTruncate: cvfs.Pointer(fileTruncate),
			FxSync: cvfs.Pointer(fileSync), FxFileSize: cvfs.Pointer(fileSize), FxLock: cvfs.Pointer(fileLock), FxUnlock: cvfs.Pointer(fileUnlock),
			FxCheckReservedLock: cvfs.Pointer(fileCheckReservedLock), FxFileControl: cvfs.Pointer(fileControl), FxSectorSize: cvfs.Pointer(fileSectorSize),
			FxDeviceCharacteristics: cvfs.Pointer(fileDeviceCharacteristics), FxShmMap: cvfs.Pointer(fileShmMap), FxShmLock: cvfs.Pointer(fileShmLock),
			FxShmBarrier: cvfs.Pointer(fileShmBarrier), FxShmUnmap: cvfs.Pointer(fileShmUnmap),
		}
		if rc := sqlite.Xsqlite3_vfs_register(tls, cvfs.Address(&vfs), 1); rc != sqlite.SQLITE_OK {
			installed.err = fmt.Errorf("faultfs: the VFS is refused: %d", rc)
		}
	})
	return installed.err
}

// below is the real file of p and its methods.
func below(p uintptr) (uintptr, *sqlite.Tsqlite3_io_methods) {
	p += head
	return p, cvfs.At[sqlite.Tsqlite3_io_methods](cvfs.At[sqlite.Tsqlite3_file](p).FpMethods)
}

func handleOf(p uintptr) *handle {
	h, _ := handles.Load(p)
	return h.(*handle)
}

const journals = sqlite.SQLITE_OPEN_WAL | sqlite.SQLITE_OPEN_MAIN_JOURNAL | sqlite.SQLITE_OPEN_SUPER_JOURNAL

func vfsOpen(tls *libc.TLS, _, path, p uintptr, flags int32, outFlags uintptr) int32 {
	open := cvfs.Function[cvfs.Open](cvfs.At[sqlite.Tsqlite3_vfs](native).FxOpen)
	var d *Disk
	var name string
	if path != 0 {
		d, name = diskOf(libc.GoString(path))
	}
	if d == nil { // a temporary file, or one of elsewhere: SQLite's own from here on
		return open(tls, native, path, p, flags, outFlags)
	}
	cvfs.At[sqlite.Tsqlite3_file](p).FpMethods = 0 // SQLite closes a file with methods even when open fails
	d.mu.Lock()
	defer d.mu.Unlock()
	op := Open
	if name != "" && d.files[name] == nil {
		op = Create
	}
	if v := d.before(op); v.code != sqlite.SQLITE_OK {
		return v.code
	}
	if rc := open(tls, native, path, p+head, flags, outFlags); rc != sqlite.SQLITE_OK {
		return rc
	}
	h := &handle{disk: d, dirSync: flags&journals != 0 && flags&sqlite.SQLITE_OPEN_CREATE != 0}
	if name != "" {
		var err error
		if h.file, err = d.opened(name); err != nil {
			q, m := below(p)
			cvfs.Function[cvfs.Plain](m.FxClose)(tls, q)
			return sqlite.SQLITE_CANTOPEN
		}
	}
	handles.Store(p, h)
	cvfs.At[sqlite.Tsqlite3_file](p).FpMethods = cvfs.Address(&methods)
	return sqlite.SQLITE_OK
}

func vfsDelete(tls *libc.TLS, _, path uintptr, syncDir int32) int32 {
	del := cvfs.Function[cvfs.Delete](cvfs.At[sqlite.Tsqlite3_vfs](native).FxDelete)
	d, name := diskOf(libc.GoString(path))
	if d == nil {
		return del(tls, native, path, syncDir)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if v := d.before(Delete); v.code != sqlite.SQLITE_OK {
		return v.code
	}
	rc := del(tls, native, path, 0)
	if rc == sqlite.SQLITE_OK && name != "" {
		d.deleted(name)
		if syncDir != 0 {
			d.syncDirectory()
		}
	}
	return rc
}

func fileClose(tls *libc.TLS, p uintptr) int32 {
	handles.Delete(p)
	q, m := below(p)
	return cvfs.Function[cvfs.Plain](m.FxClose)(tls, q)
}

func fileRead(tls *libc.TLS, p, buf uintptr, n int32, off int64) int32 {
	d := handleOf(p).disk
	d.mu.Lock()
	v := d.before(Read)
	d.mu.Unlock()
	if v.code != sqlite.SQLITE_OK {
		return v.code
	}
	q, m := below(p)
	return cvfs.Function[cvfs.IO](m.FxRead)(tls, q, buf, n, off)
}

func fileWrite(tls *libc.TLS, p, buf uintptr, n int32, off int64) int32 {
	h := handleOf(p)
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	v, written := h.disk.before(Write), n
	if v.half {
		written = n / 8 * int32(1+h.disk.counted%7) // #nosec G115 -- below 8
	} else if fits := h.fits(off, int64(n)); v.code == sqlite.SQLITE_OK && fits < int64(n) {
		v, written = verdict{code: sqlite.SQLITE_FULL, half: true}, int32(fits) // #nosec G115 -- less than n
	}
	if v.cut && h.file != nil { // on its way when the power went
		h.file.wrote(buf, n, off)
	}
	if v.code != sqlite.SQLITE_OK && !v.half {
		return v.code
	}
	q, m := below(p)
	if rc := cvfs.Function[cvfs.IO](m.FxWrite)(tls, q, buf, written, off); rc != sqlite.SQLITE_OK {
		return rc
	}
	if f := h.file; f != nil {
		f.wrote(buf, written, off)
	}
	return v.code
}

func (f *file) wrote(buf uintptr, n int32, off int64) {
	f.pending = append(f.pending, change{off: off, data: append([]byte{}, cvfs.Bytes(buf, n)...)})
	f.size = max(f.size, off+int64(n))
}

// fits is how many of n bytes at off there is room for on the disk.
func (h *handle) fits(off, n int64) int64 {
	d := h.disk
	if d.capacity == 0 || h.file == nil {
		return n
	}
	return max(0, min(n, h.file.size+max(0, d.capacity-d.used())-off))
}

func fileTruncate(tls *libc.TLS, p uintptr, size int64) int32 {
	h := handleOf(p)
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if v := h.disk.before(Truncate); v.code != sqlite.SQLITE_OK {
		return v.code
	}
	q, m := below(p)
	rc := cvfs.Function[cvfs.Size](m.FxTruncate)(tls, q, size)
	if f := h.file; f != nil && rc == sqlite.SQLITE_OK {
		f.pending = append(f.pending, change{off: size})
		f.size = size
	}
	return rc
}

// fileSync does not bother the real disk: durability is the model's here.
func fileSync(_ *libc.TLS, p uintptr, _ int32) int32 {
	h := handleOf(p)
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	v := h.disk.before(Sync)
	if h.file == nil || h.disk.lying || h.disk.isDead() {
		return v.code
	}
	if v.code != sqlite.SQLITE_OK {
		for i := range h.file.pending {
			h.file.pending[i].lost = true
		}
		return v.code
	}
	h.file.sync()
	if h.dirSync {
		h.dirSync = false
		h.disk.syncDirectory()
	}
	return sqlite.SQLITE_OK
}

func fileShmMap(tls *libc.TLS, p uintptr, page, size, extend int32, out uintptr) int32 {
	d := handleOf(p).disk
	d.mu.Lock()
	v := d.before(Map)
	d.mu.Unlock()
	if v.code != sqlite.SQLITE_OK {
		return v.code
	}
	q, m := below(p)
	return cvfs.Function[cvfs.Map](m.FxShmMap)(tls, q, page, size, extend, out)
}

// What follows is handed on as it is.

func fileSize(tls *libc.TLS, p, out uintptr) int32 {
	q, m := below(p)
	return cvfs.Function[cvfs.Out](m.FxFileSize)(tls, q, out)
}

func fileLock(tls *libc.TLS, p uintptr, level int32) int32 {
	q, m := below(p)
	return cvfs.Function[cvfs.Int](m.FxLock)(tls, q, level)
}

func fileUnlock(tls *libc.TLS, p uintptr, level int32) int32 {
	q, m := below(p)
	return cvfs.Function[cvfs.Int](m.FxUnlock)(tls, q, level)
}

func fileCheckReservedLock(tls *libc.TLS, p, out uintptr) int32 {
	q, m := below(p)
	return cvfs.Function[cvfs.Out](m.FxCheckReservedLock)(tls, q, out)
}

func fileControl(tls *libc.TLS, p uintptr, op int32, arg uintptr) int32 {
	q, m := below(p)
	return cvfs.Function[cvfs.Op](m.FxFileControl)(tls, q, op, arg)
}

func fileSectorSize(tls *libc.TLS, p uintptr) int32 {
	q, m := below(p)
	return cvfs.Function[cvfs.Plain](m.FxSectorSize)(tls, q)
}

func fileDeviceCharacteristics(tls *libc.TLS, p uintptr) int32 {
	q, m := below(p)
	return cvfs.Function[cvfs.Plain](m.FxDeviceCharacteristics)(tls, q)
}

func fileShmLock(tls *libc.TLS, p uintptr, offset, n, flags int32) int32 {
	q, m := below(p)
	return cvfs.Function[cvfs.Lock](m.FxShmLock)(tls, q, offset, n, flags)
}

func fileShmBarrier(tls *libc.TLS, p uintptr) {
	q, m := below(p)
	cvfs.Function[cvfs.Void](m.FxShmBarrier)(tls, q)
}

func fileShmUnmap(tls *libc.TLS, p uintptr, remove int32) int32 {
	q, m := below(p)
	return cvfs.Function[cvfs.Int](m.FxShmUnmap)(tls, q, remove)
}
