package walvfs

import (
	"encoding/binary"

	"modernc.org/libc"
	sqlite "modernc.org/sqlite/lib"

	"landline/internal/sqldb/cvfs"
)

// The parts of a log, https://www.sqlite.org/fileformat2.html#walformat.
const (
	headerSize      = 32
	pageInHeader    = 8
	saltInHeader    = 16
	frameHeaderSize = 24
	saltInFrame     = 8
)

// renew writes again, in place, the header of a log and the frames that bear its
// salt, which are all that recovery may believe, and syncs them.
func renew(tls *libc.TLS, p uintptr) int32 {
	m, _ := of(p)
	read, write := cvfs.Function[cvfs.IO](m.below().FxRead), cvfs.Function[cvfs.IO](m.below().FxWrite)
	buf := libc.Xmalloc(tls, room)
	if buf == 0 {
		return sqlite.SQLITE_NOMEM
	}
	defer libc.Xfree(tls, buf)
	if rc := cvfs.Function[cvfs.Out](m.below().FxFileSize)(tls, p, buf); rc != sqlite.SQLITE_OK {
		return rc
	}
	size := *cvfs.At[int64](buf)
	if size < headerSize {
		return sqlite.SQLITE_OK
	}
	if rc := read(tls, p, buf, headerSize, 0); rc != sqlite.SQLITE_OK {
		return rc
	}
	if rc := write(tls, p, buf, headerSize, 0); rc != sqlite.SQLITE_OK {
		return rc
	}
	header := cvfs.Bytes(buf, headerSize)
	frame := int64(binary.BigEndian.Uint32(header[pageInHeader:])) + frameHeaderSize
	salt := binary.BigEndian.Uint64(header[saltInHeader:])
	for off := int64(headerSize); frame <= room && size-off >= frame; {
		n := int32(min(room, size-off) / frame * frame) // #nosec G115 -- at most room
		if rc := read(tls, p, buf, n, off); rc != sqlite.SQLITE_OK {
			return rc
		}
		believed := believable(cvfs.Bytes(buf, n), int32(frame), salt) // #nosec G115 -- at most room
		if believed > 0 {
			if rc := write(tls, p, buf, believed, off); rc != sqlite.SQLITE_OK {
				return rc
			}
		}
		if believed < n {
			break
		}
		off += int64(n)
	}
	return cvfs.Function[cvfs.Int](m.below().FxSync)(tls, p, sqlite.SQLITE_SYNC_NORMAL)
}

// believable is how many bytes there are of frames with the salt before one without.
func believable(frames []byte, frame int32, salt uint64) (n int32) {
	for int(n) < len(frames) && binary.BigEndian.Uint64(frames[n+saltInFrame:]) == salt {
		n += frame
	}
	return n
}
