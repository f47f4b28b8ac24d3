package emailcode

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// world is what a server stores of one address.
type world struct {
	rules     Rules
	now       time.Time
	known     map[string]bool
	pairs     map[string]Pair
	strangers Strangers
	codes     map[string]Challenge // by slot
	secrets   map[string]string    // the codes in the owner's mailbox, by slot
	sent      int
}

func newWorld() *world {
	return &world{rules: NewRules(DefaultConfig()), now: start, known: map[string]bool{}, pairs: map[string]Pair{}, codes: map[string]Challenge{}, secrets: map[string]string{}}
}

// ask is what the server does when a code is asked for.
func (w *world) ask(t interface{ Fatal(...any) }, from string) Decision {
	d := w.rules.CanSend(w.known[from], w.pairs[from], w.strangers, w.now)
	if !d.OK() {
		return d
	}
	c, code, err := w.rules.New(keys{1}, request(from), w.strangers, w.now)
	if err != nil {
		t.Fatal(err)
	}
	w.codes[c.Slot()], w.secrets[c.Slot()] = c, code
	w.pairs[from], w.strangers = w.rules.Sent(w.known[from], w.pairs[from], w.strangers, w.now)
	w.sent++
	return d
}

// guess is what the server does when a code is tried.
func (w *world) guess(from, input string) Outcome {
	slot := request(from).slot()
	c, held := w.codes[slot]
	if !held {
		return Spent
	}
	c, out := c.Verify(keys{1}, from, input, w.now)
	w.codes[slot] = c
	switch out {
	case Wrong:
		w.pairs[from], w.strangers = w.rules.Failed(w.known[from], w.pairs[from], w.strangers, w.now)
	case Accepted:
		w.pairs[from], w.known[from] = w.rules.Succeeded(w.pairs[from]), true
	}
	return out
}

func (q Request) slot() string { return Slot(q.Purpose, q.Address.Key, q.Installation) }

func TestPauseDoublesAndLimitsHold(t *testing.T) {
	w := newWorld()
	w.known["phone"] = true
	for i, want := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 15 * time.Minute, 15 * time.Minute} {
		if d := w.ask(t, "phone"); !d.OK() {
			t.Fatalf("%d: %+v", i, d)
		}
		if d := w.ask(t, "phone"); d.Reason != TooSoon || d.Wait != want {
			t.Fatalf("after code %d: %+v, want %s", i+1, d, want)
		}
		w.now = w.now.Add(want - time.Millisecond)
		if d := w.ask(t, "phone"); d.Wait != time.Millisecond {
			t.Fatalf("a millisecond early: %+v", d)
		}
		w.now = w.now.Add(time.Millisecond)
	}
	first := start
	for w.sent < 20 {
		w.now = w.now.Add(15 * time.Minute)
		w.ask(t, "phone")
	}
	w.now = w.now.Add(time.Hour)
	d := w.ask(t, "phone")
	if d.Reason != TooMany || !w.now.Add(d.Wait).Equal(first.Add(24*time.Hour)) {
		t.Errorf("the 21st in a day: %+v", d)
	}
	w.now = w.now.Add(d.Wait)
	if d := w.ask(t, "phone"); !d.OK() {
		t.Errorf("after the wait it was told: %+v", d)
	}
}

// Whatever strangers do, for a known installation it is as if they were not there.
func TestStrangersCannotLockOutAKnownInstallation(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		alone, together := newWorld(), newWorld()
		for _, w := range []*world{alone, together} {
			w.known["phone"] = true
		}
		for range rapid.IntRange(1, 150).Draw(rt, "steps") {
			step := time.Duration(rapid.IntRange(0, 600).Draw(rt, "seconds")) * time.Second
			alone.now, together.now = alone.now.Add(step), together.now.Add(step)
			switch rapid.IntRange(0, 5).Draw(rt, "what") {
			case 0:
				a, b := alone.ask(rt, "phone"), together.ask(rt, "phone")
				if a != b {
					rt.Fatalf("alone %+v, among strangers %+v", a, b)
				}
			case 1:
				slot, right := request("phone").slot(), rapid.Bool().Draw(rt, "right")
				if alone.secrets[slot] == "" {
					continue
				}
				inputs := []string{alone.secrets[slot], together.secrets[slot]}
				if !right {
					inputs = []string{wrong(inputs[0]), wrong(inputs[1])}
				}
				if a, b := alone.guess("phone", inputs[0]), together.guess("phone", inputs[1]); a != b {
					rt.Fatalf("alone %s, among strangers %s", a, b)
				}
			case 2, 3:
				together.ask(rt, fmt.Sprint("eve", rapid.IntRange(0, 30).Draw(rt, "eve")))
			default:
				together.guess(fmt.Sprint("eve", rapid.IntRange(0, 30).Draw(rt, "eve")), "000000")
			}
		}
	})
}

// Any number of strangers, doing the best that they can, for days.
func TestStrangersGetFewGuesses(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld()
		type guess struct {
			at     time.Time // when the code was asked for
			digits int
		}
		var guesses []guess
		var mails []time.Time
		eves := rapid.IntRange(1, 60).Draw(rt, "eves")
		for range rapid.IntRange(1, 60).Draw(rt, "rounds") {
			w.now = w.now.Add(time.Duration(rapid.IntRange(0, 4*3600).Draw(rt, "seconds")) * time.Second)
			for e := range eves {
				from := fmt.Sprint("eve", e)
				if w.ask(rt, from).OK() {
					mails = append(mails, w.now)
				}
				if rapid.IntRange(0, 3).Draw(rt, "waits") == 0 {
					continue // collects codes first
				}
				c := w.codes[request(from).slot()]
				for range 7 {
					secret := w.secrets[c.Slot()]
					if secret == "" {
						break
					}
					if w.guess(from, wrong(secret)) == Wrong {
						guesses = append(guesses, guess{c.CreatedAt, c.Digits})
					}
				}
			}
		}
		c := DefaultConfig()
		for _, g := range guesses {
			all, short := 0, 0
			for _, later := range guesses {
				if after := later.at.Sub(g.at); after >= 0 && after < 24*time.Hour {
					all++
					if later.digits < 8 {
						short++
					}
				}
			}
			if all > c.StrangerSends*c.Attempts || short > c.StrangerSends/4*c.Attempts {
				rt.Fatalf("%d guesses at the codes of a day, %d of them at short ones", all, short)
			}
		}
		for i := range mails {
			n := 0
			for _, later := range mails[i:] {
				if later.Sub(mails[i]) < 24*time.Hour {
					n++
				}
			}
			if n > c.StrangerSends {
				rt.Fatalf("%d mails in a day", n)
			}
		}
	})
}

func TestOneWhoProvedTheAddressIsKnown(t *testing.T) {
	w := newWorld()
	for e := range 20 {
		if d := w.ask(t, fmt.Sprint("eve", e)); !d.OK() {
			t.Fatalf("%+v", d)
		}
	}
	short := 0
	for _, c := range w.codes {
		if c.Digits == 6 {
			short++
		}
	}
	if short != 5 {
		t.Errorf("%d short codes for strangers who collect them before they guess", short)
	}
	if d := w.ask(t, "new phone"); d.Reason != TooManyStranger || d.Wait != 24*time.Hour {
		t.Fatalf("a stranger beyond the limit: %+v", d)
	}
	if w.guess("eve0", w.secrets[request("eve0").slot()]) != Accepted { // Eve was the owner
		t.Fatal("refused")
	}
	w.now = w.now.Add(time.Second)
	if d := w.ask(t, "eve0"); !d.OK() {
		t.Errorf("%+v", d)
	}
	if c := w.codes[request("eve0").slot()]; c.Digits != 8 {
		t.Errorf("%d digits while strangers try", c.Digits)
	}
}

func TestWrongGuessesOfOneInstallationEnd(t *testing.T) {
	w := newWorld()
	w.known["phone"] = true
	for range 5 {
		if d := w.ask(t, "phone"); !d.OK() {
			t.Fatalf("%+v", d)
		}
		for range 9 {
			w.guess("phone", wrong(w.secrets[request("phone").slot()]))
		}
		w.now = w.now.Add(16 * time.Minute)
	}
	if d := w.ask(t, "phone"); d.Reason != TooManyWrong {
		t.Errorf("after 25 wrong guesses: %+v", d)
	}
	w.now = w.now.Add(24 * time.Hour)
	if d := w.ask(t, "phone"); !d.OK() {
		t.Errorf("a day later: %+v", d)
	}
}

func TestClocksThatJump(t *testing.T) {
	for _, jump := range []time.Duration{-time.Hour, -23 * time.Hour, 365 * 24 * time.Hour} {
		w := newWorld()
		w.now = start.Add(max(jump, 0))
		w.ask(t, "phone")
		w.now = start.Add(min(jump, 0))
		d := w.ask(t, "phone")
		if jump < 0 && (d.Reason != TooSoon || d.Wait != 30*time.Second) || jump > 0 && !d.OK() {
			t.Errorf("%s: %+v", jump, d)
		}
	}
}

func TestHistoriesAreBoundedAndSurviveStorage(t *testing.T) {
	r := NewRules(DefaultConfig())
	var p Pair
	var s Strangers
	for range 2000 {
		p, s = r.Failed(false, p, s, start)
		p, s = r.Sent(false, p, s, start)
	}
	if len(p.Sends) > manyHeld || len(s.Wrong) > manyHeld {
		t.Errorf("%d entries", len(p.Sends))
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var back Pair
	if err := json.Unmarshal(text, &back); err != nil || r.CanSend(true, back, s, start) != r.CanSend(true, p, s, start) {
		t.Errorf("%v", err)
	}
	p, s = r.Sent(false, p, s, start.Add(48*time.Hour))
	if len(p.Sends) != 1 || len(s.Sends) != 1 {
		t.Errorf("old entries are kept: %d", len(p.Sends))
	}
}
