package kv

import (
	"bytes"
	"errors"
	"strconv"
	"testing"
	"time"

	"landline/internal/clock"
)

var epoch = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func fakeMemory(max int) (*memory, *clock.Fake) {
	c := clock.NewFake(epoch)
	return NewMemory(c, max).(*memory), c
}

func set(t *testing.T, s Store, key string, ttl time.Duration) {
	t.Helper()
	if err := s.Set(t.Context(), key, []byte("v"), ttl); err != nil {
		t.Fatal(err)
	}
}

func has(t *testing.T, s Store, key string) bool {
	t.Helper()
	_, err := s.Get(t.Context(), key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func TestMemoryExpiresAtTheInstant(t *testing.T) {
	s, c := fakeMemory(10)
	set(t, s, "k", time.Second)
	c.Advance(time.Second - 1)
	if !has(t, s, "k") {
		t.Error("gone a nanosecond too early")
	}
	c.Advance(1)
	if has(t, s, "k") {
		t.Error("still there when its time was over")
	}
	if len(s.entries) != 0 || s.bytes != 0 || s.written.Len() != 0 || len(s.expiry) != 0 {
		t.Error("an expired entry that was met still takes up room")
	}
}

func TestMemoryAddKeepsTheFirstTTL(t *testing.T) {
	s, c := fakeMemory(10)
	for i := range 3 {
		if sum, err := s.Add(t.Context(), "n", 1, time.Minute); err != nil || sum != int64(i+1) {
			t.Fatalf("Add = %d, %v", sum, err)
		}
		c.Advance(20 * time.Second)
	}
	if has(t, s, "n") {
		t.Error("later additions kept the counter alive")
	}
}

func TestMemoryEvictsExpiredFirstThenOldest(t *testing.T) {
	s, c := fakeMemory(3)
	set(t, s, "old", time.Hour)
	set(t, s, "expiring", time.Second)
	set(t, s, "young", time.Hour)
	c.Advance(time.Minute)
	set(t, s, "fourth", time.Hour)
	for key, want := range map[string]bool{"old": true, "expiring": false, "young": true, "fourth": true} {
		if has(t, s, key) != want {
			t.Errorf("with an expired entry to evict: has(%s) = %v", key, !want)
		}
	}
	set(t, s, "old", time.Hour) // written again: no longer the oldest
	set(t, s, "fifth", time.Hour)
	for key, want := range map[string]bool{"old": true, "young": false, "fourth": true, "fifth": true} {
		if has(t, s, key) != want {
			t.Errorf("with none expired: has(%s) = %v", key, !want)
		}
	}
}

func TestMemoryOverwritingEvictsNobody(t *testing.T) {
	s, _ := fakeMemory(2)
	set(t, s, "a", time.Hour)
	set(t, s, "b", time.Hour)
	for range 5 {
		set(t, s, "b", time.Hour)
	}
	if !has(t, s, "a") {
		t.Error("overwriting b evicted a")
	}
}

func TestMemoryStaysBounded(t *testing.T) {
	s, c := fakeMemory(100)
	for i := range 10_000 {
		set(t, s, strconv.Itoa(i), time.Duration(1+i%7)*time.Second)
		if i%50 == 0 {
			c.Advance(time.Second)
		}
		if len(s.entries) > 100 || len(s.expiry) != len(s.entries) || s.written.Len() != len(s.entries) {
			t.Fatalf("after %d writes: %d entries, %d in expiry, %d in order of writing", i, len(s.entries), len(s.expiry), s.written.Len())
		}
	}
}

func TestMemoryBoundsBytes(t *testing.T) {
	s, _ := fakeMemory(1000)
	s.maxBytes = 10_000
	value := bytes.Repeat([]byte("x"), 3000)
	for i := range 20 {
		if err := s.Set(t.Context(), strconv.Itoa(i), value, time.Hour); err != nil {
			t.Fatal(err)
		}
		if s.bytes > s.maxBytes {
			t.Fatalf("holds %d bytes, bound is %d", s.bytes, s.maxBytes)
		}
	}
	if len(s.entries) != 3 || !has(t, s, "19") {
		t.Errorf("%d entries left, want the last 3", len(s.entries))
	}
}

func BenchmarkMemoryAdd(b *testing.B) {
	s := NewMemory(clock.System, 1<<20)
	keys := make([]string, 4096)
	for i := range keys {
		keys[i] = "limit:ins_" + strconv.Itoa(i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := s.Add(b.Context(), keys[i%len(keys)], 1, time.Minute); err != nil {
			b.Fatal(err)
		}
	}
}

// After the clock has jumped back a bucket is whole again in a burst's time at the latest.
func TestTakeAfterTheClockJumpedBack(t *testing.T) {
	clk := clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	s := NewMemory(clk, 10)
	b, ahead := []Bucket{{Key: "b", Interval: time.Second, Burst: 3}}, make([]time.Duration, 1)
	ask := func() bool {
		ok, err := s.Take(t.Context(), b, ahead)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	ask()
	clk.Advance(-24 * time.Hour)
	if ask() || ahead[0] != 3*time.Second {
		t.Errorf("right after the jump: %v ahead", ahead[0])
	}
	clk.Advance(time.Second)
	if !ask() {
		t.Error("locked out by a clock that jumped back")
	}
}
