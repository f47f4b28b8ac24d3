package walvfs

import (
	"modernc.org/libc"
	sqlite "modernc.org/sqlite/lib"
)

// room is how many bytes are held back at most, 31 frames of a page of 4 KiB. It is
// also the longest write that the VFS of Unix makes with one system call: it cuts
// the length to 17 bits, and takes what is left of a multiple of 128 KiB for a full disk.
const room = 1<<17 - 1

// logWrite holds back what continues the bytes that are held back already.
func logWrite(tls *libc.TLS, p, buf uintptr, n int32, off int64) int32 {
	m, t := of(p)
	if t.n == 0 || off != t.off+int64(t.n) || t.n+n > room {
		if rc := flush(tls, p, m, t); rc != sqlite.SQLITE_OK {
			return rc
		}
		t.off = off
	}
	libc.Xmemcpy(tls, t.bytes+uintptr(t.n), buf, libc.Tsize_t(n)) // a write is of a page at most
	t.n += n
	return sqlite.SQLITE_OK
}

// flush writes what is held back. When that fails it stays, so that whatever
// comes next tries again, until the write lock is given up.
func flush(tls *libc.TLS, p uintptr, m *methods, t *tail) int32 {
	if t.n == 0 {
		return sqlite.SQLITE_OK
	}
	rc := function[ioFunc](m.base.FxWrite)(tls, p, t.bytes, t.n, t.off)
	if rc == sqlite.SQLITE_OK {
		t.n = 0
	}
	return rc
}

func logSync(tls *libc.TLS, p uintptr, flags int32) int32 {
	m, t := of(p)
	if rc := flush(tls, p, m, t); rc != sqlite.SQLITE_OK {
		return rc
	}
	return function[intFunc](m.base.FxSync)(tls, p, flags)
}

func logRead(tls *libc.TLS, p, buf uintptr, n int32, off int64) int32 {
	m, t := of(p)
	if rc := flush(tls, p, m, t); rc != sqlite.SQLITE_OK {
		return rc
	}
	return function[ioFunc](m.base.FxRead)(tls, p, buf, n, off)
}

func logTruncate(tls *libc.TLS, p uintptr, size int64) int32 {
	m, t := of(p)
	if rc := flush(tls, p, m, t); rc != sqlite.SQLITE_OK {
		return rc
	}
	return function[sizeFunc](m.base.FxTruncate)(tls, p, size)
}

func logSize(tls *libc.TLS, p, out uintptr) int32 {
	m, t := of(p)
	if rc := flush(tls, p, m, t); rc != sqlite.SQLITE_OK {
		return rc
	}
	return function[outFunc](m.base.FxFileSize)(tls, p, out)
}

// logClose drops what nobody has synced.
func logClose(tls *libc.TLS, p uintptr) int32 {
	m, t := of(p)
	at[tail](t.peer + m.tail).peer = 0
	libc.Xfree(tls, t.bytes)
	return function[plainFunc](m.base.FxClose)(tls, p)
}

// databaseShmLock drops what is held back when the write lock (the first of the
// wal-index) is given up: the next frames may be those of another connection.
func databaseShmLock(tls *libc.TLS, p uintptr, offset, n, flags int32) int32 {
	m, t := of(p)
	if offset == 0 && flags&sqlite.SQLITE_SHM_UNLOCK != 0 && t.peer != 0 {
		at[tail](t.peer + m.tail).n = 0
	}
	return function[lockFunc](m.base.FxShmLock)(tls, p, offset, n, flags)
}
