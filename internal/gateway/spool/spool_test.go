package spool

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// What comes out is what went in, wherever it was kept and however often it is
// read, and nothing stays behind.
func TestBodyComesBackWhole(t *testing.T) {
	dir := t.TempDir()
	d := NewDisk(dir, 1<<20)
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(t, "body")
		memory := rapid.Int64Range(0, 2000).Draw(t, "memory")
		said := int64(-1)
		if rapid.Bool().Draw(t, "said") {
			said = int64(len(in))
		}
		var r io.Reader = bytes.NewReader(in)
		if rapid.Bool().Draw(t, "slowly") {
			r = iotest.OneByteReader(r)
		}
		h := sha256.New()
		b, err := d.Read(r, said, memory, 3000, h)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(in); !bytes.Equal(h.Sum(nil), sum[:]) || b.Size() != int64(len(in)) {
			t.Fatal("the body was not shown whole")
		}
		if int64(len(b.head)) > memory && said > memory {
			t.Fatalf("%d bytes in memory, %d allowed", len(b.head), memory)
		}
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if out, err := io.ReadAll(b.Reader()); err != nil || !bytes.Equal(out, in) {
					t.Errorf("read %d bytes of %d, %v", len(out), len(in), err)
				}
			})
		}
		wg.Wait()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 || d.Used() != 0 {
		t.Errorf("%v left, %d bytes counted, %v", left, d.Used(), err)
	}
}

func TestBounds(t *testing.T) {
	d := NewDisk(t.TempDir(), 1000)
	body := bytes.Repeat([]byte("x"), 2000)
	for _, said := range []int64{-1, 2000} {
		if _, err := d.Read(bytes.NewReader(body), said, 100, 1999, io.Discard); !errors.Is(err, ErrTooLarge) {
			t.Errorf("too large: %v", err)
		}
		if _, err := d.Read(bytes.NewReader(body), said, 100, 2000, io.Discard); !errors.Is(err, ErrFull) {
			t.Errorf("no room: %v", err)
		}
	}
	if _, err := d.Read(bytes.NewReader(body[:50]), 60, 100, 2000, io.Discard); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut short: %v", err)
	}
	if _, err := d.Read(bytes.NewReader(body[:11]), -1, 100, 10, io.Discard); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large, and short enough for memory: %v", err)
	}
	if d.Used() != 0 {
		t.Errorf("%d bytes still counted", d.Used())
	}
	b, err := d.Read(bytes.NewReader(body[:1100]), 1100, 100, 2000, io.Discard)
	if err != nil || b.Size() != 1100 || d.Used() != 1000 {
		t.Errorf("%v, %d bytes counted", err, d.Used())
	}
	if err := b.Close(); err != nil || d.Used() != 0 {
		t.Errorf("%v, %d bytes counted after the end", err, d.Used())
	}
}
