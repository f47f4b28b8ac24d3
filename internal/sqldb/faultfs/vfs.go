package faultfs

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"unsafe"

	"modernc.org/libc"
	sqlite "modernc.org/sqlite/lib"
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
		vfs = *at[sqlite.Tsqlite3_vfs](native)
		vfs.FszOsFile += int32(head)
		vfs.FzName = uintptr(unsafe.Pointer(&name)) // #nosec G103 -- C structures of SQLite
		vfs.FpNext = 0
		vfs.FxOpen = pointer(vfsOpen)
		vfs.FxDelete = pointer(vfsDelete)
		methods = sqlite.Tsqlite3_io_methods{
			FiVersion: 2, // without memory mapping, which would pass by us
			FxClose:   pointer(fileClose), FxRead: pointer(fileRead), FxWrite: pointer(fileWrite), FxTruncate: pointer(fileTruncate),
			FxSync: pointer(fileSync), FxFileSize: pointer(fileSize), FxLock: pointer(fileLock), FxUnlock: pointer(fileUnlock),
			FxCheckReservedLock: pointer(fileCheckReservedLock), FxFileControl: pointer(fileControl), FxSectorSize: pointer(fileSectorSize),
			FxDeviceCharacteristics: pointer(fileDeviceCharacteristics), FxShmMap: pointer(fileShmMap), FxShmLock: pointer(fileShmLock),
			FxShmBarrier: pointer(fileShmBarrier), FxShmUnmap: pointer(fileShmUnmap),
		}
		if rc := sqlite.Xsqlite3_vfs_register(tls, uintptr(unsafe.Pointer(&vfs)), 1); rc != sqlite.SQLITE_OK { // #nosec G103 -- C structures of SQLite
			installed.err = fmt.Errorf("faultfs: the VFS is refused: %d", rc)
		}
	})
	return installed.err
}

// at reads an address of SQLite's memory as a *T.
func at[T any](address uintptr) *T {
	return *(**T)(unsafe.Pointer(&address)) // #nosec G103 -- C structures of SQLite
}

// pointer is the C function pointer of a Go function of package level.
func pointer(f any) uintptr {
	return (*[2]uintptr)(unsafe.Pointer(&f))[1] // #nosec G103 -- C structures of SQLite
}

// function is the Go function of a C function pointer.
func function[F any](p uintptr) F {
	return *(*F)(unsafe.Pointer(&struct{ p uintptr }{p})) // #nosec G103 -- C structures of SQLite
}

// below is the real file of p and its methods.
func below(p uintptr) (uintptr, *sqlite.Tsqlite3_io_methods) {
	p += head
	return p, at[sqlite.Tsqlite3_io_methods](at[sqlite.Tsqlite3_file](p).FpMethods)
}

func handleOf(p uintptr) *handle {
	h, _ := handles.Load(p)
	return h.(*handle)
}

type (
	openFunc   = func(tls *libc.TLS, vfs, path, file uintptr, flags int32, outFlags uintptr) int32
	deleteFunc = func(tls *libc.TLS, vfs, path uintptr, syncDir int32) int32
	ioFunc     = func(tls *libc.TLS, file, buf uintptr, n int32, off int64) int32
	sizeFunc   = func(tls *libc.TLS, file uintptr, size int64) int32
	outFunc    = func(tls *libc.TLS, file, out uintptr) int32
	intFunc    = func(tls *libc.TLS, file uintptr, n int32) int32
	plainFunc  = func(tls *libc.TLS, file uintptr) int32
	opFunc     = func(tls *libc.TLS, file uintptr, op int32, arg uintptr) int32
	mapFunc    = func(tls *libc.TLS, file uintptr, page, size, extend int32, out uintptr) int32
	lockFunc   = func(tls *libc.TLS, file uintptr, offset, n, flags int32) int32
	voidFunc   = func(tls *libc.TLS, file uintptr)
)

const journals = sqlite.SQLITE_OPEN_WAL | sqlite.SQLITE_OPEN_MAIN_JOURNAL | sqlite.SQLITE_OPEN_SUPER_JOURNAL

func vfsOpen(tls *libc.TLS, _, path, p uintptr, flags int32, outFlags uintptr) int32 {
	open := function[openFunc](at[sqlite.Tsqlite3_vfs](native).FxOpen)
	var d *Disk
	var name string
	if path != 0 {
		d, name = diskOf(libc.GoString(path))
	}
	if d == nil { // a temporary file, or one of elsewhere: SQLite's own from here on
		return open(tls, native, path, p, flags, outFlags)
	}
	at[sqlite.Tsqlite3_file](p).FpMethods = 0 // SQLite closes a file with methods even when open fails
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
			function[plainFunc](m.FxClose)(tls, q)
			return sqlite.SQLITE_CANTOPEN
		}
	}
	handles.Store(p, h)
	at[sqlite.Tsqlite3_file](p).FpMethods = uintptr(unsafe.Pointer(&methods)) // #nosec G103 -- C structures of SQLite
	return sqlite.SQLITE_OK
}

func vfsDelete(tls *libc.TLS, _, path uintptr, syncDir int32) int32 {
	del := function[deleteFunc](at[sqlite.Tsqlite3_vfs](native).FxDelete)
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
	return function[plainFunc](m.FxClose)(tls, q)
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
	return function[ioFunc](m.FxRead)(tls, q, buf, n, off)
}

func fileWrite(tls *libc.TLS, p, buf uintptr, n int32, off int64) int32 {
	h := handleOf(p)
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	v := h.disk.before(Write)
	if v.code == sqlite.SQLITE_OK {
		v = h.room(off + int64(n))
	}
	if v.cut && h.file != nil { // on its way when the power went
		h.file.wrote(buf, n, off)
	}
	if v.code != sqlite.SQLITE_OK && !v.half {
		return v.code
	}
	written := n
	if v.half {
		written = n / 2
	}
	q, m := below(p)
	if rc := function[ioFunc](m.FxWrite)(tls, q, buf, written, off); rc != sqlite.SQLITE_OK {
		return rc
	}
	if f := h.file; f != nil {
		f.wrote(buf, written, off)
	}
	return v.code
}

func (f *file) wrote(buf uintptr, n int32, off int64) {
	f.pending = append(f.pending, change{off: off, data: append([]byte{}, unsafe.Slice(at[byte](buf), n)...)}) // #nosec G103 -- C structures of SQLite
	f.size = max(f.size, off+int64(n))
}

// room fails a write that would make the files larger than the disk.
func (h *handle) room(end int64) verdict {
	d := h.disk
	if d.capacity == 0 || h.file == nil || end <= h.file.size || d.used()+end-h.file.size <= d.capacity {
		return verdict{}
	}
	return verdict{code: sqlite.SQLITE_FULL, half: true}
}

func fileTruncate(tls *libc.TLS, p uintptr, size int64) int32 {
	h := handleOf(p)
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if v := h.disk.before(Truncate); v.code != sqlite.SQLITE_OK {
		return v.code
	}
	q, m := below(p)
	rc := function[sizeFunc](m.FxTruncate)(tls, q, size)
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
	return function[mapFunc](m.FxShmMap)(tls, q, page, size, extend, out)
}

// What follows is handed on as it is.

func fileSize(tls *libc.TLS, p, out uintptr) int32 {
	q, m := below(p)
	return function[outFunc](m.FxFileSize)(tls, q, out)
}

func fileLock(tls *libc.TLS, p uintptr, level int32) int32 {
	q, m := below(p)
	return function[intFunc](m.FxLock)(tls, q, level)
}

func fileUnlock(tls *libc.TLS, p uintptr, level int32) int32 {
	q, m := below(p)
	return function[intFunc](m.FxUnlock)(tls, q, level)
}

func fileCheckReservedLock(tls *libc.TLS, p, out uintptr) int32 {
	q, m := below(p)
	return function[outFunc](m.FxCheckReservedLock)(tls, q, out)
}

func fileControl(tls *libc.TLS, p uintptr, op int32, arg uintptr) int32 {
	q, m := below(p)
	return function[opFunc](m.FxFileControl)(tls, q, op, arg)
}

func fileSectorSize(tls *libc.TLS, p uintptr) int32 {
	q, m := below(p)
	return function[plainFunc](m.FxSectorSize)(tls, q)
}

func fileDeviceCharacteristics(tls *libc.TLS, p uintptr) int32 {
	q, m := below(p)
	return function[plainFunc](m.FxDeviceCharacteristics)(tls, q)
}

func fileShmLock(tls *libc.TLS, p uintptr, offset, n, flags int32) int32 {
	q, m := below(p)
	return function[lockFunc](m.FxShmLock)(tls, q, offset, n, flags)
}

func fileShmBarrier(tls *libc.TLS, p uintptr) {
	q, m := below(p)
	function[voidFunc](m.FxShmBarrier)(tls, q)
}

func fileShmUnmap(tls *libc.TLS, p uintptr, remove int32) int32 {
	q, m := below(p)
	return function[intFunc](m.FxShmUnmap)(tls, q, remove)
}
