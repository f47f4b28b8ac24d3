package id

import (
	"slices"
	"sync"
	"testing"
)

func TestIDsAreOrderedUniqueAndValid(t *testing.T) {
	const n = 20_000
	ids := make([]string, n)
	for i := range ids {
		ids[i] = New(User)
		if err := Check(User, ids[i]); err != nil {
			t.Fatalf("%q: %v", ids[i], err)
		}
	}
	if !slices.IsSorted(ids) {
		t.Error("ids made in order do not sort in order")
	}
	if len(slices.Compact(ids)) != n {
		t.Error("an id was made twice")
	}
}

func TestConcurrentIDsAreUnique(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				s := New(Session)
				mu.Lock()
				if seen[s] {
					t.Errorf("%s made twice", s)
				}
				seen[s] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// The vector is that of the TypeID specification.
func TestEncodeFollowsTypeID(t *testing.T) {
	u := [16]byte{0x01, 0x89, 0x0a, 0x5d, 0xac, 0x96, 0x77, 0x4b, 0xbc, 0xce, 0xb3, 0x02, 0x09, 0x9a, 0x80, 0x57}
	if got, want := encode("prefix", u), "prefix_01h455vb4pex5vsknk084sn02q"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestCheckRefuses(t *testing.T) {
	good := New(User)
	for _, s := range []string{"", "usr", "usr_", "ses" + good[3:], good + "0", good[:len(good)-1], "usr_8" + good[5:], good[:10] + "u" + good[11:], good[:10] + "I" + good[11:]} {
		if Check(User, s) == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}
