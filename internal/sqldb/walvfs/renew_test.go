package walvfs

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	sqlite "modernc.org/sqlite/lib"
	"pgregory.net/rapid"
)

// aLog is a header and frames of which the last few are of an earlier log.
func aLog(page, frames, old int) []byte {
	data := make([]byte, headerSize)
	binary.BigEndian.PutUint32(data[pageInHeader:], uint32(page))
	binary.BigEndian.PutUint64(data[saltInHeader:], 42)
	for i := range frames {
		frame := bytes.Repeat([]byte{byte(i)}, frameHeaderSize+page)
		salt := uint64(42)
		if i >= frames-old {
			salt = 41
		}
		binary.BigEndian.PutUint64(frame[saltInFrame:], salt)
		data = append(data, frame...)
	}
	return data
}

// recover takes the lock that only recovery takes.
func (b *bench) recover() int32 {
	return databaseShmLock(b.tls, b.database, 1, 2, sqlite.SQLITE_SHM_LOCK|sqlite.SQLITE_SHM_EXCLUSIVE)
}

// Before SQLite recovers a log, every byte that it may believe is written again as
// it was, and synced.
func TestALogIsWrittenAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBench(t)
		page := rapid.SampledFrom([]int{512, 4096, 65536}).Draw(t, "page")
		frames := rapid.IntRange(0, 70).Draw(t, "frames")
		old := rapid.IntRange(0, frames).Draw(t, "of an earlier log")
		below.data = aLog(page, frames, old)
		end := rapid.IntRange(0, page).Draw(t, "half a frame")
		below.data = append(below.data, make([]byte, end)...)
		want := slices.Clone(below.data)
		if rc := b.recover(); rc != sqlite.SQLITE_OK {
			t.Fatalf("result %d", rc)
		}
		if !bytes.Equal(below.data, want) {
			t.Fatal("the log is another one")
		}
		if n := headerSize + (frames-old)*(frameHeaderSize+page); below.bytes != n || below.synced != 1 {
			t.Fatalf("%d bytes were written, want %d; %d syncs", below.bytes, n, below.synced)
		}
	})
}

func TestWhatIsNoLogIsLeftToSQLite(t *testing.T) {
	for name, data := range map[string][]byte{"nothing": nil, "a torn header": make([]byte, headerSize-1), "zeros": make([]byte, 5000), "no page size": bytes.Repeat([]byte{0xff}, 200_000)} {
		b := newBench(t)
		below.data = slices.Clone(data)
		if rc := b.recover(); rc != sqlite.SQLITE_OK || !bytes.Equal(below.data, data) {
			t.Errorf("%s: result %d, or other bytes", name, rc)
		}
	}
}

// When the log cannot be written again, recovery does not get its lock.
func TestALogThatCannotBeWrittenAgainIsNotRecovered(t *testing.T) {
	for _, f := range []plain{{fail: sqlite.SQLITE_FULL}, {fail: sqlite.SQLITE_IOERR_WRITE}, {unsynced: sqlite.SQLITE_IOERR_FSYNC}} {
		b := newBench(t)
		below.data, below.fail, below.unsynced = aLog(4096, 3, 1), f.fail, f.unsynced
		if rc := b.recover(); rc != max(f.fail, f.unsynced) || below.locks != 2 {
			t.Errorf("result %d, want %d; %d calls for the lock, want 2: it is to be given up", rc, max(f.fail, f.unsynced), below.locks)
		}
	}
	b := newBench(t)
	below.data, below.fail = aLog(4096, 3, 1), sqlite.SQLITE_FULL
	for _, n := range []int32{0, 1, 3} { // write, checkpoint, read
		if rc := databaseShmLock(b.tls, b.database, n, 1, sqlite.SQLITE_SHM_LOCK|sqlite.SQLITE_SHM_EXCLUSIVE); rc != sqlite.SQLITE_OK {
			t.Errorf("lock %d: %d", n, rc)
		}
	}
	if rc := databaseShmLock(b.tls, b.database, recoverLock, 1, sqlite.SQLITE_SHM_LOCK|sqlite.SQLITE_SHM_SHARED); rc != sqlite.SQLITE_OK {
		t.Errorf("who waits for a recovery: %d", rc)
	}
}
