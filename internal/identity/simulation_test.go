package identity

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// line is what the model presents tokens to: the pure machine, or the real service.
type line interface {
	// present returns the number of the token it gets, or false; the rule is for messages.
	present(counter int64) (next int64, ok bool, rule Rule)
	advance(time.Duration)
}

// pureLine is Decide without a store.
type pureLine struct {
	s   Session
	u   User
	now time.Time
}

func newPureLine() *pureLine {
	u := User{ID: "usr_1", Kind: Anonymous, State: UserActive}
	return &pureLine{s: newSession(u, Installation{ID: "ins_1"}, "app", methodSecret, t0, testPolicy), u: u, now: t0}
}

func (p *pureLine) advance(d time.Duration) { p.now = p.now.Add(d) }

func (p *pureLine) present(counter int64) (int64, bool, Rule) {
	v := Decide(p.s, p.u, Presented{Counter: counter}, p.now, testPolicy)
	p.s = v.After
	return v.After.Current, v.Granted(), v.Rule
}

// honest is a client as phones are: it keeps one token, answers get lost, the
// process is killed before it stores one, two of its processes send the same
// token at once. It must never be refused, as long as fewer than six answers in
// a row are lost.
type honest struct {
	token    int64
	failures int // lost or unstored answers in a row
}

func (h *honest) refresh(t *rapid.T, l line) {
	sends := 1
	if rapid.IntRange(0, 4).Draw(t, "duplicate") == 0 {
		sends = 2
	}
	var last int64
	for range sends {
		next, ok, rule := l.present(h.token)
		if !ok {
			t.Fatalf("an honest client with token %d was refused by %s", h.token, rule)
		}
		last = next
		l.advance(time.Duration(rapid.IntRange(0, 10).Draw(t, "apart")) * time.Second)
	}
	if h.failures < MaxRecoveries && rapid.IntRange(0, 2).Draw(t, "lost") == 0 {
		h.failures++
		return
	}
	h.token, h.failures = last, 0
}

// pause lets time pass between two refreshes; clocks jump back, too.
func pause(t *rapid.T, l line) {
	d := rapid.OneOf(rapid.Int64Range(0, 60), rapid.Int64Range(3600, 20*24*3600), rapid.Int64Range(-3600, 0)).Draw(t, "pause")
	l.advance(time.Duration(d) * time.Second)
}

func TestHonestClientIsNeverRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPureLine()
		h := &honest{token: 1}
		for range rapid.IntRange(1, 200).Draw(t, "refreshes") {
			if p.now.Sub(t0) > 300*24*time.Hour { // its absolute end is not the subject
				return
			}
			pause(t, p)
			h.refresh(t, p)
		}
	})
}

// TestHonestClientThatSignsInIsNeverRefused mixes in sign-ins, whose answers get
// lost as well: whatever the client stored last is good, and what it has been
// seen to replace is not.
func TestHonestClientThatSignsInIsNeverRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPureLine()
		h := &honest{token: 1}
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			if p.now.Sub(t0) > 300*24*time.Hour {
				return
			}
			pause(t, p)
			if rapid.Bool().Draw(t, "signs in") {
				before := p.s
				p.s = renewed(p.s, p.now, testPolicy)
				if p.s.Current < before.Current || p.s.Current-p.s.Previous-1 != int64(p.s.Recoveries) {
					t.Fatalf("%+v became %+v", before, p.s)
				}
				if rapid.Bool().Draw(t, "the answer arrives") {
					h.token, h.failures = p.s.Current, 0
				}
				continue
			}
			old, current := h.token, p.s.Current
			h.refresh(t, p)
			if old == current && h.failures == 0 { // the newest was used: all before it are dead
				for n := int64(1); n < old; n++ {
					if v := Decide(p.s, p.u, Presented{Counter: n}, p.now.Add(time.Hour), testPolicy); v.Granted() {
						t.Fatalf("number %d is good although %d was used: %+v", n, old, p.s)
					}
				}
			}
		}
	})
}

// TestTheftEndsTheFamily lets a thief copy the token of a client that loses
// nothing. One of them may go on alone; the second time the line changes hands
// the session ends for both.
func TestTheftEndsTheFamily(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { theft(t, newPureLine(), rapid.IntRange(0, 20).Draw(t, "before")) })
}

func theft(t *rapid.T, l line, before int) {
	tokens := [2]int64{1, 1} // of owner and thief
	for range before {
		l.advance(time.Hour)
		next, ok, rule := l.present(tokens[0])
		if !ok {
			t.Fatalf("the owner was refused by %s before the theft", rule)
		}
		tokens = [2]int64{next, next}
	}
	last, changes := -1, 0
	for range 40 {
		who := rapid.IntRange(0, 1).Draw(t, "who")
		if last >= 0 && who != last {
			changes++
		}
		last = who
		l.advance(time.Hour)
		next, ok, rule := l.present(tokens[who])
		switch {
		case ok && changes >= 2:
			t.Fatalf("%s granted a token to a line in two hands", rule)
		case !ok && rule != RuleReused:
			t.Fatalf("refused by %s", rule)
		case !ok:
			for _, token := range tokens {
				if _, ok, rule := l.present(token); ok {
					t.Fatalf("%s granted a token after the alarm", rule)
				}
			}
			return
		}
		tokens[who] = next
	}
}

// TestNumbersGrowAndOrphansStayDead checks the invariants of the machine under any input.
func TestNumbersGrowAndOrphansStayDead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPureLine()
		orphans := map[int64]bool{}
		for range 100 {
			p.advance(time.Duration(rapid.Int64Range(-60, 3600).Draw(t, "pause")) * time.Second)
			before := p.s
			c := rapid.Int64Range(max(1, p.s.Current-8), p.s.Current+1).Draw(t, "counter")
			next, ok, rule := p.present(c)
			if ok && orphans[c] {
				t.Fatalf("orphan %d was accepted by %s", c, rule)
			}
			if ok && next < before.Current || p.s.Current < before.Current {
				t.Fatalf("%s went from %d to %d", rule, before.Current, p.s.Current)
			}
			if rule == RuleLostResponse {
				orphans[before.Current] = true
			}
			if before.State != SessionActive && (ok || p.s.State != before.State) {
				t.Fatalf("%s brought a session back", rule)
			}
			if p.s.State == SessionActive && p.s.Current-p.s.Previous-1 != int64(p.s.Recoveries) {
				t.Fatalf("recoveries %d do not match %d and %d", p.s.Recoveries, p.s.Previous, p.s.Current)
			}
		}
	})
}

// serviceLine presents real tokens to a real service on a real store.
type serviceLine struct {
	t *testing.T
	f *fixture
	g Grant
}

func (l *serviceLine) advance(d time.Duration) { l.f.clock.Advance(d) }

func (l *serviceLine) present(counter int64) (int64, bool, Rule) {
	s := l.g.Session
	s.Current = counter
	token, err := l.f.service.refresh.current(s)
	if err != nil {
		l.t.Fatal(err)
	}
	out, err := l.f.service.Refresh(context.Background(), token, "", "")
	if err != nil {
		l.t.Fatal(err)
	}
	if out.Refused {
		return 0, false, out.Rule
	}
	next, ok := l.f.service.refresh.verify(out.Tokens.Refresh)
	if !ok {
		l.t.Fatal("the service gave a token it does not know")
	}
	return next.counter, true, out.Rule
}
