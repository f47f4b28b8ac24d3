package clock

import (
	"testing"
	"time"
)

func TestFakeMovesOnlyWhenTold(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("", 3600))
	c := NewFake(start)
	if !c.Now().Equal(start) || c.Now().Location() != time.UTC {
		t.Errorf("starts at %v, want %v in UTC", c.Now(), start)
	}
	c.Advance(time.Minute)
	c.Advance(-2 * time.Minute)
	if got := c.Now().Sub(start); got != -time.Minute {
		t.Errorf("moved by %v, want -1m", got)
	}
}

func TestSystemIsUTC(t *testing.T) {
	before := time.Now()
	got := System.Now()
	if got.Location() != time.UTC || got.Before(before) || got.After(time.Now()) {
		t.Errorf("%v", got)
	}
}
