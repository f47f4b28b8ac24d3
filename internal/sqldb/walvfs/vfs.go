package walvfs

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"modernc.org/libc"
	sqlite "modernc.org/sqlite/lib"

	"landline/internal/sqldb/cvfs"
)

// shim is a VFS as SQLite knows it, with something of ours behind.
type shim struct {
	sqlite.Tsqlite3_vfs
	over
	tail uintptr // where a tail is in the memory of a file
}

type over struct {
	base uintptr // the VFS below
	join bool
}

// methods are those of a file as SQLite knows them, with something of ours behind.
type methods struct {
	sqlite.Tsqlite3_io_methods
	base uintptr // those of the VFS below
	tail uintptr
}

func (m *methods) below() *sqlite.Tsqlite3_io_methods {
	return cvfs.At[sqlite.Tsqlite3_io_methods](m.base)
}

// made is what SQLite has the addresses of.
var made = struct {
	sync.Mutex
	shims   map[over]*shim
	methods map[set]*methods
}{shims: map[over]*shim{}, methods: map[set]*methods{}}

// set names the methods of a kind of file.
type set struct {
	base uintptr // those of the VFS below
	tail uintptr
	log  bool
	join bool
}

// tail is what this package keeps of an open file, behind what the VFS below keeps.
type tail struct {
	peer uintptr // of a log: its database file; of a database file: its log, or 0
	held uintptr // of a log whose writes are joined: room for so many bytes
	n    int32   // how many there are
	off  int64   // where in the log they belong
}

// Name returns the name of the VFS above the process's default one, and registers
// it the first time. With join it joins the writes of commits, for connections
// with synchronous=FULL alone.
func Name(join bool) (string, error) {
	tls := libc.NewTLS()
	defer tls.Close()
	if rc := sqlite.Xsqlite3_initialize(tls); rc != sqlite.SQLITE_OK {
		return "", fmt.Errorf("walvfs: SQLite does not start: %d", rc)
	}
	o := over{sqlite.Xsqlite3_vfs_find(tls, 0), join}
	if o.base == 0 {
		return "", errors.New("walvfs: SQLite has no VFS")
	}
	made.Lock()
	defer made.Unlock()
	s := made.shims[o]
	if s == nil {
		s = newShim(tls, o)
		if rc := sqlite.Xsqlite3_vfs_register(tls, cvfs.Address(s), 0); rc != sqlite.SQLITE_OK {
			return "", fmt.Errorf("walvfs: the VFS is refused: %d", rc)
		}
		made.shims[o] = s
	}
	return libc.GoString(s.FzName), nil
}

func newShim(tls *libc.TLS, o over) *shim {
	s := cvfs.New[shim](tls)
	*s = shim{Tsqlite3_vfs: *cvfs.At[sqlite.Tsqlite3_vfs](o.base), over: o}
	name := cvfs.New[[64]byte](tls)
	prefix := "wal-"
	if o.join {
		prefix = "wal-joined-"
	}
	copy(name[:len(name)-1], prefix+libc.GoString(s.FzName))
	const align = 8
	s.tail = (uintptr(s.FszOsFile) + align - 1) / align * align // #nosec G115 -- some hundred bytes
	s.FszOsFile = int32(s.tail) + int32(unsafe.Sizeof(tail{}))  // #nosec G115 -- some hundred bytes
	s.FzName, s.FpNext, s.FxOpen = cvfs.Address(name), 0, cvfs.Pointer(open)
	return s
}

// methodsOf are those of the VFS below, with some replaced.
func methodsOf(tls *libc.TLS, of set) *methods {
	made.Lock()
	defer made.Unlock()
	m := made.methods[of]
	if m != nil {
		return m
	}
	m = cvfs.New[methods](tls)
	*m = methods{*cvfs.At[sqlite.Tsqlite3_io_methods](of.base), of.base, of.tail}
	if !of.log {
		m.FxShmLock = cvfs.Pointer(databaseShmLock)
	} else {
		m.FxClose = cvfs.Pointer(logClose)
	}
	if of.join {
		m.FxRead, m.FxWrite, m.FxSync = cvfs.Pointer(logRead), cvfs.Pointer(logWrite), cvfs.Pointer(logSync)
		m.FxTruncate, m.FxFileSize = cvfs.Pointer(logTruncate), cvfs.Pointer(logSize)
	}
	made.methods[of] = m
	return m
}

// open has the VFS below open the file, and then changes its methods if it is a
// database or its log.
func open(tls *libc.TLS, vfs, path, p uintptr, flags int32, outFlags uintptr) int32 {
	s := cvfs.At[shim](vfs)
	below := cvfs.At[sqlite.Tsqlite3_vfs](s.base)
	if rc := cvfs.Function[cvfs.Open](below.FxOpen)(tls, s.base, path, p, flags, outFlags); rc != sqlite.SQLITE_OK {
		return rc
	}
	file, t := cvfs.At[sqlite.Tsqlite3_file](p), cvfs.At[tail](p+s.tail)
	of := set{base: file.FpMethods, tail: s.tail}
	switch {
	case flags&sqlite.SQLITE_OPEN_MAIN_DB != 0:
		*t = tail{}
	case flags&sqlite.SQLITE_OPEN_WAL != 0:
		*t = tail{peer: sqlite.Xsqlite3_database_file_object(tls, path)}
		of.log, of.join = true, s.join && powersafe(tls, p)
		if of.join {
			if t.held = libc.Xmalloc(tls, room); t.held == 0 {
				cvfs.Function[cvfs.Plain](cvfs.At[sqlite.Tsqlite3_io_methods](of.base).FxClose)(tls, p)
				file.FpMethods = 0
				return sqlite.SQLITE_NOMEM
			}
		}
		cvfs.At[tail](t.peer + s.tail).peer = p
	default:
		return sqlite.SQLITE_OK
	}
	file.FpMethods = cvfs.Address(methodsOf(tls, of))
	return sqlite.SQLITE_OK
}

// powersafe reports whether the disk leaves sectors alone that are not written.
func powersafe(tls *libc.TLS, p uintptr) bool {
	m := cvfs.At[sqlite.Tsqlite3_io_methods](cvfs.At[sqlite.Tsqlite3_file](p).FpMethods)
	return cvfs.Function[cvfs.Plain](m.FxDeviceCharacteristics)(tls, p)&sqlite.SQLITE_IOCAP_POWERSAFE_OVERWRITE != 0
}

// of returns the methods of a file that open has changed, and its tail.
func of(p uintptr) (*methods, *tail) {
	m := cvfs.At[methods](cvfs.At[sqlite.Tsqlite3_file](p).FpMethods)
	return m, cvfs.At[tail](p + m.tail)
}

// The locks of the index are numbered, https://www.sqlite.org/walformat.html#wal_locks.
const (
	writeLock   = 0
	recoverLock = 2
)

// databaseShmLock drops what is held back with the write lock, and has the log
// written again once nobody else may recover it.
func databaseShmLock(tls *libc.TLS, p uintptr, offset, n, flags int32) int32 {
	m, t := of(p)
	lock := cvfs.Function[cvfs.Lock](m.below().FxShmLock)
	if t.peer == 0 {
		return lock(tls, p, offset, n, flags)
	}
	if offset == writeLock && flags&sqlite.SQLITE_SHM_UNLOCK != 0 {
		cvfs.At[tail](t.peer + m.tail).n = 0
	}
	rc := lock(tls, p, offset, n, flags)
	recovery := offset <= recoverLock && recoverLock < offset+n && flags == sqlite.SQLITE_SHM_LOCK|sqlite.SQLITE_SHM_EXCLUSIVE
	if rc != sqlite.SQLITE_OK || !recovery {
		return rc
	}
	if rc = renew(tls, t.peer); rc != sqlite.SQLITE_OK {
		lock(tls, p, offset, n, sqlite.SQLITE_SHM_UNLOCK|sqlite.SQLITE_SHM_EXCLUSIVE)
	}
	return rc
}
