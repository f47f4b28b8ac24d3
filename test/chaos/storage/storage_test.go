package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"landline/internal/sqldb/faultfs"
)

func testRig(t *testing.T) *rig {
	t.Helper()
	r, err := newRig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// Nothing that was acknowledged is lost, no key is stuck, nobody is signed out.
func TestPowerCutsUnderEverything(t *testing.T) {
	var o outcome
	if err := testRig(t).cuts(t.Context(), mode{}, 1, 10, &o); err != nil {
		t.Fatal(err)
	}
	if o.lossy > 0 || o.corrupt > 0 || o.acknowledged() == 0 {
		t.Errorf("%d of %d cuts broke promises, %d databases are unsound, %d operations acknowledged: %q", o.lossy, o.cuts, o.corrupt, o.acknowledged(), o.samples)
	}
}

// The same test sees the losses of a relaxed database.
func TestPowerCutsShowLossesOfARelaxedDatabase(t *testing.T) {
	var o outcome
	if err := testRig(t).cuts(t.Context(), mode{relaxed: true}, 1, 6, &o); err != nil {
		t.Fatal(err)
	}
	if o.lossy == 0 || o.corrupt > 0 {
		t.Errorf("%d of %d cuts broke promises, %d databases are unsound", o.lossy, o.cuts, o.corrupt)
	}
}

// A file with a page of something else is told apart from one that lost something.
func TestAnUnsoundFileIsSeen(t *testing.T) {
	r := testRig(t)
	for _, page := range []int64{0, 1, 2} { // the header, the schema's next pages
		dir, err := r.directory(r.template)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(filepath.Join(dir, "main.db"), os.O_RDWR, 0) // #nosec G304 -- a directory of this test
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt(bytes.Repeat([]byte{0xa5}, 4096), page*4096)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		if broken, corrupt := survey(t.Context(), dir, newPromises()); corrupt == nil {
			t.Errorf("page %d was overwritten: %q, and no word of an unsound file", page, broken)
		}
	}
	if broken, corrupt := survey(t.Context(), r.template, newPromises()); len(broken) > 0 || corrupt != nil {
		t.Errorf("a sound file: %q, %v", broken, corrupt)
	}
}

func TestFailedOperationsLeaveNothingHalfDone(t *testing.T) {
	r := testRig(t)
	strides := map[faultfs.Op]int{faultfs.Write: 110, faultfs.Read: 80, faultfs.Sync: 12} // the program does every point
	for _, target := range targets {
		stride := max(1, strides[target.op])
		for _, kind := range target.kinds {
			s, err := r.sweep(t.Context(), target, kind, false, stride)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.broken) > 0 || len(s.dead) > 0 {
				t.Errorf("%s: %q %q", s.name, s.broken, s.dead)
			}
			if s.points == 0 && target.op != faultfs.Delete { // a script on an installation that exists deletes no file
				t.Errorf("%s: the fault never struck", s.name)
			}
		}
	}
}

func TestAFullDiskRefusesWritesAndRecovers(t *testing.T) {
	f, err := testRig(t).fill(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(f.faults) > 0 || f.refused != f.writes || f.writes == 0 {
		t.Errorf("%d of %d writes were refused: %q", f.refused, f.writes, f.faults)
	}
}

// What apps were told over HTTP is kept as well.
func TestPowerCutsUnderAllOfLandline(t *testing.T) {
	r := testRig(t)
	var o outcome
	if err := many(1, 4, func(seed uint64) error { return r.cutSite(t.Context(), seed, &o) }); err != nil {
		t.Fatal(err)
	}
	if o.lossy > 0 || o.corrupt > 0 || o.acknowledged() == 0 {
		t.Errorf("%d of %d cuts broke promises, %d databases are unsound, %d operations acknowledged: %q", o.lossy, o.cuts, o.corrupt, o.acknowledged(), o.samples)
	}
}
