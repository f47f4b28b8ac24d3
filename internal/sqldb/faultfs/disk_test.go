package faultfs

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func testDisk(t *testing.T) *Disk {
	t.Helper()
	d, err := Mount(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Unmount)
	return d
}

func pattern(b byte, sectors int) []byte { return bytes.Repeat([]byte{b}, sectors*sector) }

// What was synced is always there; of what was not, every way leaves only whole
// sectors of what was written.
func TestAPowerCutLeavesWholeSectors(t *testing.T) {
	d := testDisk(t)
	f := &file{durable: pattern('a', 4), pending: []change{{data: pattern('b', 3), off: sector}}}
	d.files["f"], d.names["f"] = f, f
	d.Cut()
	seen := map[string]bool{}
	for seed := range uint64(200) {
		into := t.TempDir()
		if err := d.Image(rand.New(rand.NewPCG(seed, 1)), into); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(into, "f"))
		if err != nil || len(got) != 4*sector {
			t.Fatalf("seed %d: %d bytes, %v", seed, len(got), err)
		}
		shape := ""
		for at := 0; at < len(got); at += sector {
			if !bytes.Equal(got[at:at+sector], pattern(got[at], 1)) {
				t.Fatalf("seed %d: sector %d is mixed", seed, at/sector)
			}
			shape += string(got[at])
		}
		if shape[0] != 'a' {
			t.Fatalf("seed %d: a sector that nobody wrote has changed: %s", seed, shape)
		}
		seen[shape] = true
	}
	for _, shape := range []string{"aaaa", "abbb", "abaa", "aaba", "abab"} {
		if !seen[shape] {
			t.Errorf("200 power cuts never left %s", shape)
		}
	}
}

// After a failed sync nothing but writing again makes the bytes durable.
func TestAFailedSyncIsNotMadeGood(t *testing.T) {
	f := &file{pending: []change{{data: []byte("lost"), lost: true}, {data: []byte("kept"), off: 4}}}
	f.sync()
	if want := "\x00\x00\x00\x00kept"; string(f.durable) != want || len(f.pending) != 1 {
		t.Errorf("durable %q, want %q; %d pending", f.durable, want, len(f.pending))
	}
	f.pending = append(f.pending, change{data: []byte("anew")})
	f.sync()
	if string(f.durable) != "anewkept" {
		t.Errorf("durable %q", f.durable)
	}
}

// A write that many pages were joined into is torn at any of its sectors, which
// are those of the file, wherever the write begins.
func TestALongWriteIsTornAnywhere(t *testing.T) {
	const off, sectors = 100, 4 // from the middle of a sector to the middle of another
	seen := map[int]bool{}
	for seed := range uint64(200) {
		f := &file{pending: []change{{data: pattern('b', sectors), off: off}}}
		got := f.after(rand.New(rand.NewPCG(seed, 1)), prefix)
		if len(got)%sector != 0 && len(got) != off+sectors*sector {
			t.Fatalf("seed %d: torn at %d", seed, len(got))
		}
		seen[len(got)] = true
	}
	for _, end := range []int{0, sector, 2 * sector, 4 * sector, off + sectors*sector} {
		if !seen[end] {
			t.Errorf("200 power cuts never left %d bytes", end)
		}
	}
}

// The next process sees what the one before has written, and a power cut takes
// from it what its syncs could not make durable.
func TestTheNextProcessFindsTheSameDisk(t *testing.T) {
	d := testDisk(t)
	if _, err := d.Remount(); err == nil {
		t.Error("mounted again while the process is alive")
	}
	f := &file{durable: []byte("old"), pending: []change{{data: []byte("new"), lost: true}}}
	d.files["f"], d.names["f"] = f, f
	d.Cut()
	next, err := d.Remount()
	if err != nil {
		t.Fatal(err)
	}
	if v := next.before(Sync); v.code != 0 {
		t.Errorf("the next process is dead too: %+v", v)
	}
	next.files["f"].sync()
	next.Cut()
	into := t.TempDir()
	if err := next.Image(rand.New(rand.NewPCG(1, 1)), into); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(into, "f")); err != nil || string(got) != "old" {
		t.Errorf("%q, %v: what a sync had lost is durable after the next", got, err)
	}
}

// Names are as durable as their directory is.
func TestNamesNeedTheDirectory(t *testing.T) {
	d := testDisk(t)
	f := &file{durable: []byte("content")}
	d.files["f"] = f
	d.moves = append(d.moves, move{name: "f", file: f})
	there, gone := 0, 0
	for seed := range uint64(40) {
		if _, ok := d.survivors(rand.New(rand.NewPCG(seed, 1)))["f"]; ok {
			there++
		} else {
			gone++
		}
	}
	if there == 0 || gone == 0 {
		t.Errorf("a name that was not synced was there %d times and gone %d times", there, gone)
	}
	d.syncDirectory()
	d.deleted("f")
	d.syncDirectory()
	if len(d.survivors(rand.New(rand.NewPCG(1, 1)))) != 0 {
		t.Error("a deleted name whose directory was synced came back")
	}
}

func TestFaultsStrikeWhereTheyAreTold(t *testing.T) {
	d := testDisk(t)
	d.Fail(Fault{Ops: Write, At: 2, Times: 2, Kind: Space})
	for i, want := range []bool{false, true, true, false} {
		d.before(Sync) // not counted
		if v := d.before(Write); (v.code != 0) != want || v.half != want {
			t.Errorf("write %d: %+v, want a failure %t", i+1, v, want)
		}
	}
	if d.Hit() != 2 {
		t.Errorf("hit %d times", d.Hit())
	}
	d.CutAfter(2)
	if v := d.before(Write); v.code != 0 {
		t.Errorf("%+v before the cut", v)
	}
	if v := d.before(Write); !v.cut || d.before(Read).code == 0 {
		t.Errorf("%+v at the cut", v)
	}
}

func TestMountRefusesASecondTime(t *testing.T) {
	d := testDisk(t)
	if _, err := Mount(d.dir); err == nil {
		t.Error("mounted twice")
	}
	if err := d.Image(rand.New(rand.NewPCG(1, 1)), t.TempDir()); err == nil {
		t.Error("an image while the power is on")
	}
	if _, err := Mount(filepath.Join(d.dir, "none")); err == nil {
		t.Error("mounted what is not there")
	}
}
