package dpop

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"landline/internal/clock"
	"landline/internal/identity/dpop/dpoptest"
)

func TestNonceFlow(t *testing.T) {
	key, fake := dpoptest.New(), clock.NewFake(testNow)
	nonces := NewNonces(testKeys{current: 1}, "dpop-nonce", 0)
	v := newVerifier(t, Options{Nonces: nonces, RequireNonce: true, Clock: fake})
	ask := func(nonce string, at time.Time) (*Proof, error) {
		return v.Verify(Request{Fields: []string{key.Proof("POST", testURL, "", nonce, at)}, Method: "POST", URL: testURL})
	}
	_, err := ask("", testNow)
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Code != UseNonce || e.Nonce == "" {
		t.Fatalf("without a nonce: %v", err)
	}
	nonce := e.Nonce
	p, err := ask(nonce, testNow)
	if err != nil || p.NextNonce != "" {
		t.Fatalf("with the nonce: %+v, %v", p, err)
	}
	// The clock of the phone is five years slow: the nonce says when the proof was made.
	if _, err := ask(nonce, testNow.AddDate(-5, 0, 0)); err != nil {
		t.Errorf("with the nonce and a wrong clock: %v", err)
	}
	fake.Advance(NonceStep)
	p, err = ask(nonce, testNow)
	if err != nil || p.NextNonce == "" || p.NextNonce == nonce {
		t.Fatalf("one step later: %+v, %v", p, err)
	}
	next := p.NextNonce
	if p, err = ask(next, testNow); err != nil || p.NextNonce != "" {
		t.Fatalf("the next nonce: %+v, %v", p, err)
	}
	fake.Advance(NonceStep)
	if _, err = ask(nonce, testNow); codeOf(err) != UseNonce {
		t.Errorf("two steps later: %v", err)
	}
	for _, bad := range []string{"x", nonce[:len(nonce)-1], nonce + "A", "B" + next[1:], next[:len(next)-2] + "AA", next + "\n"} {
		if _, err = ask(bad, testNow); codeOf(err) != UseNonce {
			t.Errorf("the nonce %q: %v", bad, err)
		}
	}
}

// A phone with a wrong clock is told to use a nonce when there are any, and else to correct the clock.
func TestWrongClock(t *testing.T) {
	key := dpoptest.New()
	request := Request{Fields: []string{key.Proof("POST", testURL, "", "", testNow.Add(-time.Hour))}, Method: "POST", URL: testURL}
	with := newVerifier(t, Options{Nonces: NewNonces(testKeys{current: 1}, "dpop-nonce", 0)})
	if _, err := with.Verify(request); codeOf(err) != UseNonce {
		t.Errorf("with nonces: %v", err)
	}
	without := newVerifier(t, Options{})
	if _, err := without.Verify(request); codeOf(err) != InvalidProof {
		t.Errorf("without nonces: %v", err)
	}
	request.Fields = []string{key.Proof("POST", testURL, "", "of another server", testNow)}
	if _, err := without.Verify(request); err != nil {
		t.Errorf("a nonce that nobody asked for: %v", err)
	}
}

// A nonce outlives a rotation of its key, and none is good of a key that is gone or of another purpose.
func TestNonceKeys(t *testing.T) {
	first, second := NewNonces(testKeys{current: 1}, "dpop-nonce", 0), NewNonces(testKeys{current: 2}, "dpop-nonce", 0)
	text, err := first.Current(testNow)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok := second.Check(text, testNow); !ok {
		t.Error("a nonce of the key before is refused")
	}
	if _, _, ok := NewNonces(testKeys{current: 1}, "other", 0).Check(text, testNow); ok {
		t.Error("a nonce of another purpose is accepted")
	}
	if _, err := NewNonces(testKeys{current: 3}, "dpop-nonce", 0).Current(testNow); err == nil {
		t.Error("a nonce was made without a key")
	}
	v := newVerifier(t, Options{Nonces: NewNonces(testKeys{current: 3}, "dpop-nonce", 0), RequireNonce: true})
	_, err = v.Verify(Request{Fields: []string{dpoptest.New().Proof("POST", testURL, "", "", testNow)}, Method: "POST", URL: testURL})
	if err == nil || codeOf(err) != "" {
		t.Errorf("the server's own fault is told as the client's: %v", err)
	}
}

// A nonce is good from when it is given for at least one step and at most two.
func TestNonceLife(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		step := time.Duration(rapid.IntRange(1, 600).Draw(t, "step")) * time.Second
		given := testNow.Add(time.Duration(rapid.IntRange(0, 1_000_000).Draw(t, "given")) * time.Millisecond)
		after := time.Duration(rapid.IntRange(0, 2_000_000).Draw(t, "after")) * time.Millisecond
		n := NewNonces(testKeys{current: 1}, "p", step)
		text, err := n.Current(given)
		if err != nil {
			t.Fatal(err)
		}
		expires, old, ok := n.Check(text, given.Add(after))
		if after <= step && !ok {
			t.Fatalf("refused after %s of a step of %s", after, step)
		}
		if after >= 2*step && ok {
			t.Fatalf("accepted after %s of a step of %s", after, step)
		}
		if ok && (!given.Add(after).Before(expires) || old && after == 0) {
			t.Fatalf("expires %s, old %v, after %s", expires, old, after)
		}
	})
}
