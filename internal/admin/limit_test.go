package admin

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"landline/internal/clock"
)

func addr(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// Many addresses cannot grow the table, nor free one that is blocked.
func TestTheFailureLimitIsBounded(t *testing.T) {
	l := newFailureLimit(clock.NewFake(time.Unix(0, 0)))
	guilty := addr(1 << 31)
	for range maxFailures {
		l.failed(guilty)
	}
	for i := range uint32(3 * maxAddresses) {
		l.failed(addr(i))
	}
	if len(l.seen) > maxAddresses {
		t.Errorf("%d addresses are kept", len(l.seen))
	}
	if l.blocked(guilty) == 0 {
		t.Error("others' failures freed the address")
	}
}

func TestTheFailureLimitForgets(t *testing.T) {
	c := clock.NewFake(time.Unix(0, 0))
	l := newFailureLimit(c)
	for range 10 * maxFailures {
		l.failed(addr(1))
	}
	if wait := l.blocked(addr(1)); wait != refill {
		t.Errorf("waits %v, want %v: the count must not grow beyond its limit", wait, refill)
	}
	c.Advance(-time.Hour) // a clock that jumps back must not unblock
	if l.blocked(addr(1)) == 0 {
		t.Error("a clock that jumped back freed the address")
	}
	c.Advance(maxFailures * refill)
	l.failed(addr(2))
	l.makeRoom(c.Now())
	if _, kept := l.seen[keyOf(addr(1))]; kept {
		t.Error("an address with nothing against it is kept")
	}
}

func TestIPv6IsCountedByNetwork(t *testing.T) {
	l := newFailureLimit(clock.NewFake(time.Unix(0, 0)))
	for range maxFailures {
		l.failed(netip.MustParseAddr("2001:db8:1:2::1"))
	}
	if l.blocked(netip.MustParseAddr("2001:db8:1:2:ffff::9")) == 0 {
		t.Error("another address of the same /64 goes free")
	}
	if l.blocked(netip.MustParseAddr("2001:db8:1:3::1")) != 0 {
		t.Error("another /64 is blocked")
	}
	if l.blocked(netip.Addr{}) != 0 {
		t.Error("no address at all is blocked")
	}
}

func TestLastKnownIsBoundedAndEnds(t *testing.T) {
	c := clock.NewFake(time.Unix(0, 0))
	k := newLastKnown(c)
	for range 2 * maxKnown {
		k.put(newToken(), Operator{})
	}
	if len(k.ops) > maxKnown {
		t.Errorf("%d tokens are remembered", len(k.ops))
	}
	c.Advance(knownFor + time.Second)
	token := newToken()
	k.put(token, Operator{ID: "opr_1"})
	if op, ok := k.get(token); !ok || op.ID != "opr_1" || len(k.ops) != 1 {
		t.Errorf("%+v %v, %d kept", op, ok, len(k.ops))
	}
	c.Advance(knownFor + time.Second)
	if _, ok := k.get(token); ok {
		t.Error("an operator is remembered for ever")
	}
}

func FuzzToken(f *testing.F) {
	f.Add(newToken())
	f.Add("llo_")
	f.Add("llo_\x00")
	f.Fuzz(func(t *testing.T, s string) {
		if wellFormed(s) && (len(s) != 47 || s[:4] != TokenPrefix) {
			t.Errorf("%q passes for a token", s)
		}
	})
}
