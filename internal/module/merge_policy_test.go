package module

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func TestLatestDecision(t *testing.T) { // L27
	asked := func(granted bool, minutes int) Decision {
		return Decision{Purpose: "ads", Granted: granted, Explicit: true, At: noon.Add(time.Duration(minutes) * time.Minute)}
	}
	byDefault := Decision{Purpose: "ads", Granted: true, At: noon.Add(time.Hour)}
	for name, c := range map[string]struct{ a, b, want Decision }{
		"the later grant":                        {asked(false, 0), asked(true, 1), asked(true, 1)},
		"the later withdrawal":                   {asked(true, 0), asked(false, 1), asked(false, 1)},
		"at the same time the withdrawal":        {asked(true, 0), asked(false, 0), asked(false, 0)},
		"what was asked beats a later default":   {asked(false, 0), byDefault, asked(false, 0)},
		"two grants at one time are the same":    {asked(true, 0), asked(true, 0), asked(true, 0)},
		"of two defaults the later one is taken": {Decision{Purpose: "ads", At: noon}, byDefault, byDefault},
	} {
		for _, got := range []Decision{LatestDecision(c.a, c.b), LatestDecision(c.b, c.a)} {
			if got != c.want {
				t.Errorf("%s: %+v, want %+v", name, got, c.want)
			}
		}
	}
}

// The order in which decisions are looked at must not matter, and a merge never
// allows what was refused last.
func TestLatestDecisionsOfAnyHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one := rapid.Custom(func(t *rapid.T) Decision {
			return Decision{Purpose: rapid.SampledFrom([]string{"ads", "mail", "research"}).Draw(t, "purpose"), Granted: rapid.Bool().Draw(t, "granted"),
				Explicit: rapid.Bool().Draw(t, "explicit"), At: noon.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "at")) * time.Minute)}
		})
		from, into := rapid.SliceOfN(one, 0, 6).Draw(t, "from"), rapid.SliceOfN(one, 0, 6).Draw(t, "into")
		got, other := LatestDecisions(from, into), LatestDecisions(into, from)
		if len(got) != len(other) {
			t.Fatalf("%v and %v", got, other)
		}
		for i, d := range got {
			if d != other[i] {
				t.Fatalf("the order matters: %v and %v", got, other)
			}
			for _, e := range append(append([]Decision{}, from...), into...) {
				if e.Purpose == d.Purpose && e.Explicit && !e.Granted && d.Granted && (!d.Explicit || !e.At.Before(d.At)) {
					t.Fatalf("%+v is allowed although %+v", d, e)
				}
			}
		}
		if again := LatestDecisions(got, got); len(again) != len(got) {
			t.Fatalf("a repeat changes %v into %v", got, again)
		}
	})
}

func TestSameFlags(t *testing.T) { // L29
	var no *MergeRefused
	if err := SameFlags(map[string]string{"age": "child"}, map[string]string{"age": "adult"}); !errors.As(err, &no) || no.Reason != "age_differs" {
		t.Errorf("%v", err)
	}
	for _, same := range []map[string]string{nil, {"age": "child"}, {"region": "eu"}, {"age": "child", "region": "eu"}} {
		if err := SameFlags(same, map[string]string{"age": "child"}); err != nil {
			t.Errorf("%v: %v", same, err)
		}
	}
}
