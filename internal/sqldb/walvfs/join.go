package walvfs

import (
	"modernc.org/libc"
	sqlite "modernc.org/sqlite/lib"

	"landline/internal/sqldb/cvfs"
)

// room is how many bytes are held back at most, 31 frames of a page of 4 KiB. It is
// also the longest write that SQLite's VFS for Unix can do: that cuts a length to
// 17 bits, and takes what is left of a multiple of 128 KiB for a full disk.
const room = 1<<17 - 1

// logWrite holds back a write, of a page at most, that continues what is held back.
func logWrite(tls *libc.TLS, p, buf uintptr, n int32, off int64) int32 {
	m, t := of(p)
	if t.n == 0 || off != t.off+int64(t.n) || t.n+n > room {
		if rc := flush(tls, p, m, t); rc != sqlite.SQLITE_OK {
			return rc
		}
		t.off = off
	}
	libc.Xmemcpy(tls, t.held+uintptr(t.n), buf, libc.Tsize_t(n)) // #nosec G115 -- a length
	t.n += n
	return sqlite.SQLITE_OK
}

// flush writes what is held back. What cannot be written stays.
func flush(tls *libc.TLS, p uintptr, m *methods, t *tail) int32 {
	if t.n == 0 {
		return sqlite.SQLITE_OK
	}
	rc := cvfs.Function[cvfs.IO](m.below().FxWrite)(tls, p, t.held, t.n, t.off)
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
	return cvfs.Function[cvfs.Int](m.below().FxSync)(tls, p, flags)
}

func logRead(tls *libc.TLS, p, buf uintptr, n int32, off int64) int32 {
	m, t := of(p)
	if rc := flush(tls, p, m, t); rc != sqlite.SQLITE_OK {
		return rc
	}
	return cvfs.Function[cvfs.IO](m.below().FxRead)(tls, p, buf, n, off)
}

func logTruncate(tls *libc.TLS, p uintptr, size int64) int32 {
	m, t := of(p)
	if rc := flush(tls, p, m, t); rc != sqlite.SQLITE_OK {
		return rc
	}
	return cvfs.Function[cvfs.Size](m.below().FxTruncate)(tls, p, size)
}

func logSize(tls *libc.TLS, p, out uintptr) int32 {
	m, t := of(p)
	if rc := flush(tls, p, m, t); rc != sqlite.SQLITE_OK {
		return rc
	}
	return cvfs.Function[cvfs.Out](m.below().FxFileSize)(tls, p, out)
}

// logClose is also of logs that are not joined. What is held back, nobody has synced.
func logClose(tls *libc.TLS, p uintptr) int32 {
	m, t := of(p)
	cvfs.At[tail](t.peer + m.tail).peer = 0
	libc.Xfree(tls, t.held)
	return cvfs.Function[cvfs.Plain](m.below().FxClose)(tls, p)
}
