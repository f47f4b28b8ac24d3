package walvfs

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"modernc.org/libc"
	sqlite "modernc.org/sqlite/lib"
)

// shims are the registered VFSs by the address of the one below.
var shims = struct {
	sync.Mutex
	byBase map[uintptr]*shim
}{byBase: map[uintptr]*shim{}}

// shim and methods are C structures with something of ours behind. SQLite keeps
// their addresses: they stay in shims, and Go's heap does not move.
type shim struct {
	sqlite.Tsqlite3_vfs
	base uintptr
	name []byte // ends with 0

	mu   sync.Mutex
	sets map[set]*methods
}

// set names the methods of a kind of file above those at an address.
type set struct {
	base uintptr
	kind int32 // SQLITE_OPEN_MAIN_DB or SQLITE_OPEN_WAL
}

type methods struct {
	sqlite.Tsqlite3_io_methods
	base *sqlite.Tsqlite3_io_methods
	tail uintptr // where the tail is in the memory of a file
}

// tail is what this package keeps of an open file, behind what the VFS below keeps.
type tail struct {
	peer  uintptr // of a log: its database file; of a database file: its log, or 0
	bytes uintptr // of a log: room for so many
	n     int32   // how many are held back
	off   int64   // where in the log they begin
}

// Name returns the name of the VFS that stands above the process's default one,
// and registers it the first time.
func Name() (string, error) {
	tls := libc.NewTLS()
	defer tls.Close()
	if rc := sqlite.Xsqlite3_initialize(tls); rc != sqlite.SQLITE_OK {
		return "", fmt.Errorf("walvfs: SQLite does not start: %d", rc)
	}
	base := sqlite.Xsqlite3_vfs_find(tls, 0)
	if base == 0 {
		return "", errors.New("walvfs: SQLite has no VFS")
	}
	shims.Lock()
	defer shims.Unlock()
	if s := shims.byBase[base]; s != nil {
		return libc.GoString(s.FzName), nil
	}
	s := &shim{Tsqlite3_vfs: *at[sqlite.Tsqlite3_vfs](base), base: base, sets: map[set]*methods{}}
	s.name = append([]byte("joined-"+libc.GoString(s.FzName)), 0)
	s.FzName, s.FpNext, s.FxOpen = address(&s.name[0]), 0, pointer(open)
	s.FszOsFile += tailSize
	if rc := sqlite.Xsqlite3_vfs_register(tls, address(s), 0); rc != sqlite.SQLITE_OK {
		return "", fmt.Errorf("walvfs: the VFS is refused: %d", rc)
	}
	shims.byBase[base] = s
	return libc.GoString(s.FzName), nil
}

const (
	align    = 8
	tailSize = int32(unsafe.Sizeof(tail{})) + align
)

// methods are those of the file below, except what a kind of file needs here.
func (s *shim) methods(of set) *methods {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.sets[of]
	if m == nil {
		base := at[sqlite.Tsqlite3_io_methods](of.base)
		m = &methods{Tsqlite3_io_methods: *base, base: base, tail: (uintptr(s.FszOsFile-tailSize) + align - 1) / align * align}
		if of.kind == sqlite.SQLITE_OPEN_WAL {
			m.FxClose, m.FxRead, m.FxWrite = pointer(logClose), pointer(logRead), pointer(logWrite)
			m.FxTruncate, m.FxSync, m.FxFileSize = pointer(logTruncate), pointer(logSync), pointer(logSize)
		} else {
			m.FxShmLock = pointer(databaseShmLock)
		}
		s.sets[of] = m
	}
	return m
}

// open has the VFS below open the file, and then puts methods of this package in
// the place of some of its methods.
func open(tls *libc.TLS, vfs, path, p uintptr, flags int32, outFlags uintptr) int32 {
	s := at[shim](vfs)
	if rc := function[openFunc](at[sqlite.Tsqlite3_vfs](s.base).FxOpen)(tls, s.base, path, p, flags, outFlags); rc != sqlite.SQLITE_OK {
		return rc
	}
	kind := flags & (sqlite.SQLITE_OPEN_MAIN_DB | sqlite.SQLITE_OPEN_WAL)
	if kind == 0 {
		return sqlite.SQLITE_OK
	}
	file := at[sqlite.Tsqlite3_file](p)
	m := s.methods(set{file.FpMethods, kind})
	t := tail{}
	if kind == sqlite.SQLITE_OPEN_WAL {
		if function[plainFunc](m.FxDeviceCharacteristics)(tls, p)&sqlite.SQLITE_IOCAP_POWERSAFE_OVERWRITE == 0 {
			return sqlite.SQLITE_OK // SQLite publishes a frame whose end it writes after the sync
		}
		if t.bytes = libc.Xmalloc(tls, room); t.bytes == 0 {
			function[plainFunc](m.FxClose)(tls, p)
			file.FpMethods = 0
			return sqlite.SQLITE_NOMEM
		}
		t.peer = sqlite.Xsqlite3_database_file_object(tls, path)
		at[tail](t.peer + m.tail).peer = p
	}
	*at[tail](p + m.tail) = t
	file.FpMethods = address(m)
	return sqlite.SQLITE_OK
}

// of returns the methods of a file that open has changed, and the tail.
func of(p uintptr) (*methods, *tail) {
	m := at[methods](at[sqlite.Tsqlite3_file](p).FpMethods)
	return m, at[tail](p + m.tail)
}

// at reads an address of SQLite's memory as a *T.
func at[T any](address uintptr) *T {
	return *(**T)(unsafe.Pointer(&address)) // #nosec G103 -- C structures of SQLite
}

// address is the inverse, of what stays reachable.
func address[T any](p *T) uintptr { return uintptr(unsafe.Pointer(p)) } // #nosec G103 -- C structures of SQLite

// pointer is the C function pointer of a Go function of package level.
func pointer(f any) uintptr {
	return (*[2]uintptr)(unsafe.Pointer(&f))[1] // #nosec G103 -- C structures of SQLite
}

// function is the Go function of a C function pointer.
func function[F any](p uintptr) F {
	return *(*F)(unsafe.Pointer(&struct{ p uintptr }{p})) // #nosec G103 -- C structures of SQLite
}

type (
	openFunc  = func(tls *libc.TLS, vfs, path, file uintptr, flags int32, outFlags uintptr) int32
	ioFunc    = func(tls *libc.TLS, file, buf uintptr, n int32, off int64) int32
	sizeFunc  = func(tls *libc.TLS, file uintptr, size int64) int32
	outFunc   = func(tls *libc.TLS, file, out uintptr) int32
	intFunc   = func(tls *libc.TLS, file uintptr, n int32) int32
	plainFunc = func(tls *libc.TLS, file uintptr) int32
	lockFunc  = func(tls *libc.TLS, file uintptr, offset, n, flags int32) int32
)
