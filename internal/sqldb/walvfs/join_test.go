package walvfs

import (
	"bytes"
	"slices"
	"testing"

	"modernc.org/libc"
	sqlite "modernc.org/sqlite/lib"
	"pgregory.net/rapid"

	"landline/internal/sqldb/cvfs"
)

// plain is a file without a disk, which can be told to fail.
type plain struct {
	data     []byte
	writes   int   // that came through
	bytes    int   // in them
	synced   int   // syncs
	fail     int32 // the result of every write
	unsynced int32 // and of every sync
	part     int   // how much of a write that fails gets through
	locks    int   // calls of xShmLock
}

// below is the one file of a test; tests of this package do not run in parallel.
var below *plain

func (f *plain) write(b []byte, off int64) {
	if end := off + int64(len(b)); end > int64(len(f.data)) {
		f.data = append(f.data, make([]byte, end-int64(len(f.data)))...)
	}
	copy(f.data[off:], b)
}

func plainWrite(_ *libc.TLS, _, buf uintptr, n int32, off int64) int32 {
	b := cvfs.Bytes(buf, n)
	if below.fail != sqlite.SQLITE_OK {
		below.write(b[:min(below.part, len(b))], off)
		return below.fail
	}
	below.writes++
	below.bytes += len(b)
	below.write(b, off)
	return sqlite.SQLITE_OK
}

func plainRead(_ *libc.TLS, _, buf uintptr, n int32, off int64) int32 {
	b := cvfs.Bytes(buf, n)
	clear(b)
	if copy(b, below.data[min(off, int64(len(below.data))):]) < len(b) {
		return sqlite.SQLITE_IOERR_SHORT_READ
	}
	return sqlite.SQLITE_OK
}

func plainTruncate(_ *libc.TLS, _ uintptr, size int64) int32 {
	below.data = below.data[:min(size, int64(len(below.data)))]
	return sqlite.SQLITE_OK
}

func plainSize(_ *libc.TLS, _, out uintptr) int32 {
	*cvfs.At[int64](out) = int64(len(below.data))
	return sqlite.SQLITE_OK
}

func plainSync(_ *libc.TLS, _ uintptr, _ int32) int32 {
	if below.unsynced != sqlite.SQLITE_OK {
		return below.unsynced
	}
	below.synced++
	return sqlite.SQLITE_OK
}

func plainClose(*libc.TLS, uintptr) int32 { return sqlite.SQLITE_OK }

func plainShmLock(_ *libc.TLS, _ uintptr, _, _, _ int32) int32 {
	below.locks++
	return sqlite.SQLITE_OK
}

var plainMethods = sqlite.Tsqlite3_io_methods{
	FxClose: cvfs.Pointer(plainClose), FxRead: cvfs.Pointer(plainRead), FxWrite: cvfs.Pointer(plainWrite), FxTruncate: cvfs.Pointer(plainTruncate),
	FxSync: cvfs.Pointer(plainSync), FxFileSize: cvfs.Pointer(plainSize), FxShmLock: cvfs.Pointer(plainShmLock),
}

// bench is a log above below, its database, and memory to pass in.
type bench struct {
	tls           *libc.TLS
	log, database uintptr
	buf           uintptr
}

func newBench(t interface {
	Cleanup(func())
	Error(...any)
}) *bench {
	below = &plain{}
	b := &bench{tls: libc.NewTLS()}
	const size, tailAt = 256, 64
	b.log, b.database, b.buf = libc.Xcalloc(b.tls, 1, size), libc.Xcalloc(b.tls, 1, size), libc.Xmalloc(b.tls, room)
	base := cvfs.Address(&plainMethods)
	cvfs.At[sqlite.Tsqlite3_file](b.database).FpMethods = cvfs.Address(methodsOf(b.tls, set{base: base, tail: tailAt}))
	cvfs.At[sqlite.Tsqlite3_file](b.log).FpMethods = cvfs.Address(methodsOf(b.tls, set{base, tailAt, true, true}))
	*cvfs.At[tail](b.log + tailAt) = tail{peer: b.database, held: libc.Xmalloc(b.tls, room)}
	*cvfs.At[tail](b.database + tailAt) = tail{peer: b.log}
	t.Cleanup(func() {
		logClose(b.tls, b.log)
		if cvfs.At[tail](b.database+tailAt).peer != 0 {
			t.Error("a closed log is still known to its database")
		}
		for _, p := range []uintptr{b.log, b.database, b.buf} {
			libc.Xfree(b.tls, p)
		}
		b.tls.Close()
	})
	return b
}

func (b *bench) write(data []byte, off int64) int32 {
	copy(cvfs.Bytes(b.buf, int32(len(data))), data)
	return logWrite(b.tls, b.log, b.buf, int32(len(data)), off)
}

func (b *bench) unlock() {
	databaseShmLock(b.tls, b.database, writeLock, 1, sqlite.SQLITE_SHM_UNLOCK|sqlite.SQLITE_SHM_EXCLUSIVE)
}

// Whatever comes in whatever order, a joined log reads as a plain file does, a
// sync leaves the same bytes in the file below, and a failure is told with the
// result of the write below and made good by whatever works next.
func TestAJoinedLogIsAPlainFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBench(t)
		want := &plain{} // as SQLite has been told
		end := int64(0)  // of the last write
		told := func(rc int32) bool {
			if rc != sqlite.SQLITE_OK && (rc != below.fail || below.fail == sqlite.SQLITE_OK) {
				t.Fatalf("result %d while writes give %d", rc, below.fail)
			}
			return rc == sqlite.SQLITE_OK
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				off := end
				if rapid.IntRange(0, 3).Draw(t, "elsewhere") == 0 {
					off = int64(rapid.IntRange(0, 300_000).Draw(t, "offset"))
				}
				n := rapid.SampledFrom([]int{24, 4096, 1, 65536}).Draw(t, "bytes")
				data := bytes.Repeat([]byte{byte(rapid.IntRange(1, 255).Draw(t, "what"))}, n)
				if told(b.write(data, off)) {
					want.write(data, off)
					end = off + int64(n)
				}
			},
			"read": func(t *rapid.T) {
				off, n := int64(rapid.IntRange(0, 300_000).Draw(t, "offset")), int32(rapid.IntRange(1, 5000).Draw(t, "bytes"))
				rc := logRead(b.tls, b.log, b.buf, n, off)
				if rc == sqlite.SQLITE_IOERR_SHORT_READ && off+int64(n) > int64(len(want.data)) {
					rc = sqlite.SQLITE_OK
				}
				if told(rc) {
					got := cvfs.Bytes(b.buf, n)
					model := make([]byte, n)
					copy(model, want.data[min(off, int64(len(want.data))):])
					if !bytes.Equal(got, model) {
						t.Fatal("a read sees something else")
					}
				}
			},
			"size": func(t *rapid.T) {
				if told(logSize(b.tls, b.log, b.buf)) && *cvfs.At[int64](b.buf) != int64(len(want.data)) {
					t.Fatalf("%d bytes, want %d", *cvfs.At[int64](b.buf), len(want.data))
				}
			},
			"truncate": func(t *rapid.T) {
				size := int64(rapid.IntRange(0, 300_000).Draw(t, "size"))
				if told(logTruncate(b.tls, b.log, size)) {
					want.data = want.data[:min(size, int64(len(want.data)))]
				}
			},
			"sync": func(t *rapid.T) {
				before := below.synced
				if told(logSync(b.tls, b.log, sqlite.SQLITE_SYNC_NORMAL)) && (below.synced != before+1 || !bytes.Equal(below.data, want.data)) {
					t.Fatal("the file is another one after a sync")
				}
			},
			"fail": func(t *rapid.T) {
				below.fail = rapid.SampledFrom([]int32{sqlite.SQLITE_OK, sqlite.SQLITE_FULL, sqlite.SQLITE_IOERR_WRITE}).Draw(t, "result")
				below.part = rapid.IntRange(0, 70_000).Draw(t, "part")
			},
			"unlock": func(t *rapid.T) { // what was not synced is forgotten
				b.unlock()
				want.data = slices.Clone(below.data)
			},
		})
	})
}

func frames(b *bench, n int, off int64) {
	for i := range n {
		b.write(make([]byte, frameHeaderSize), off+int64(i)*(frameHeaderSize+4096))
		b.write(make([]byte, 4096), off+int64(i)*(frameHeaderSize+4096)+frameHeaderSize)
	}
}

func TestACommitIsWrittenAtOnce(t *testing.T) {
	b := newBench(t)
	frames(b, 31, headerSize)
	if below.writes != 0 {
		t.Errorf("%d writes before the sync", below.writes)
	}
	if logSync(b.tls, b.log, 0); below.writes != 1 {
		t.Errorf("31 frames took %d writes", below.writes)
	}
	if frames(b, 100, int64(len(below.data))); below.writes != 1+3 {
		t.Errorf("100 frames took %d writes before their sync, and may hold back the last 7", below.writes-1)
	}
}

// The write lock takes with it what is held back; no other lock does.
func TestWhatIsHeldBackEndsWithTheWriteLock(t *testing.T) {
	b := newBench(t)
	frames(b, 2, headerSize)
	databaseShmLock(b.tls, b.database, 3, 1, sqlite.SQLITE_SHM_UNLOCK|sqlite.SQLITE_SHM_SHARED)
	if _, log := of(b.log); log.n == 0 {
		t.Error("a read lock took it away")
	}
	b.unlock()
	if logSync(b.tls, b.log, 0); below.writes != 0 || len(below.data) != 0 {
		t.Errorf("%d writes after the lock was given up", below.writes)
	}
	if below.locks != 2 {
		t.Errorf("%d of 2 calls went through", below.locks)
	}
}
