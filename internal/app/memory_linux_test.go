package app

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const someMappings = `00400000-01b50000 r-xp 00000000 fe:00 11 /opt/land line
Size:              23872 kB
Rss:               16956 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
01b50000-01c50000 r--p 01750000 fe:00 11 /opt/land line
Rss:               17764 kB
Anonymous:             4 kB
01c50000-01d50000 r--p 01750000 fe:00 11 /opt/land line
Anonymous:             0 kB
032bb000-033ad000 rw-p 02ebb000 fe:00 11 /opt/land line
Anonymous:             0 kB
7fc000000000-7fc000100000 r-xp 00000000 fe:00 12 /opt/other /opt/land line.so
Anonymous:             0 kB
7fd000000000-7fd000100000 r--p 00000000 00:00 0
Anonymous:             0 kB
`

func TestOnlyUnchangedMappingsOfTheBinaryAreDropped(t *testing.T) {
	got, err := cleanMappings(strings.NewReader(someMappings), "/opt/land line")
	if err != nil {
		t.Fatal(err)
	}
	want := []mapping{{0x00400000, 0x01b50000}, {0x01c50000, 0x01d50000}}
	if !slices.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

func TestTheProgramRunsOnWithoutItsPages(t *testing.T) {
	for range 3 { // the second time it has come back far enough to get here
		if err := dropBinary(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheHeapFloorOccupiesNoMemory(t *testing.T) {
	b := bytes.Repeat([]byte{1}, 8<<20)
	clear(b)
	before := resident(t)
	if err := untouch(b); err != nil {
		t.Fatal(err)
	}
	if after := resident(t); before-after < 6<<20 {
		t.Errorf("%d bytes resident, %d before", after, before)
	}
	for i := 0; i < len(b); i += 4096 {
		if b[i] != 0 {
			t.Fatalf("byte %d is %d", i, b[i])
		}
	}
}

// resident is the anonymous memory of this process, in bytes.
func resident(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		if value, found := strings.CutPrefix(line, "RssAnon:"); found {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(value, "kB")))
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("/proc/self/status has no RssAnon")
	return 0
}
