package provider

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"pgregory.net/rapid"

	"landline/internal/identity/provider/providertest"
)

// spend has strangers use up the fetches for keys that are not known.
func (f *fixture) spend() {
	f.t.Helper()
	for i := range renewBurst {
		_, err := f.verify("oidc:acme", f.stranger(fmt.Sprint("spent-", i)))
		wants(f.t, "a stranger", err, Refused, ReasonUnknownKey)
	}
}

var strangersKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// stranger is a token of now with a key that acme never had.
func (f *fixture) stranger(kid string) string {
	f.t.Helper()
	key, err := strangersKey()
	if err != nil {
		f.t.Fatal(err)
	}
	now := f.clock.Now()
	claims := fmt.Sprintf(`{"iss":%q,"aud":"flights","sub":"x","nonce":%q,"iat":%d,"exp":%d}`, f.acme.URL(), nonce, now.Unix(), now.Add(time.Hour).Unix())
	return providertest.SignBytes(jose.RS256, key, kid, []byte(claims), nil)
}

// A provider that swaps its keys without warning costs nobody a sign-in: the new
// key is good at once, and the old one is over for good.
func TestKeysThatChangeWithoutWarning(t *testing.T) {
	f := newFixture(t)
	old, before := f.acme.KeySet().Keys[0].KeyID, f.token()
	if _, err := f.verify("oidc:acme", before); err != nil {
		t.Fatal(err)
	}
	f.acme.Rotate()
	f.acme.Withdraw(old)
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Errorf("the new key: %v", err)
	}
	_, err := f.verify("oidc:acme", before)
	wants(t, "the old key", err, Refused, ReasonUnknownKey)
	if n := f.acme.Calls(providertest.Keys); n != 3 {
		t.Errorf("%d fetches, want the first, one for the new key and one for the old", n)
	}
}

// When strangers have used up the fetches, a token with a new key is not refused:
// it is good a little later.
func TestNewKeyWhileFetchesAreUsedUp(t *testing.T) {
	f := newFixture(t)
	old, before := f.acme.KeySet().Keys[0].KeyID, f.token()
	f.clock.Advance(2 * time.Minute)
	if _, err := f.verify("oidc:acme", before); err != nil {
		t.Fatal(err)
	}
	f.spend()
	f.acme.Rotate()
	f.acme.Withdraw(old)
	f.clock.Advance(3 * time.Second)
	fetches := f.acme.Calls(providertest.Keys)
	token := f.token()
	_, err := f.verify("oidc:acme", token)
	if e := wants(t, "no fetch left", err, Unavailable, ReasonUnreachable); e.RetryAfter != renewEvery-3*time.Second {
		t.Errorf("Retry-After %s", e.RetryAfter)
	}
	if n := f.acme.Calls(providertest.Keys); n != fetches {
		t.Errorf("%d fetches beyond the bound", n-fetches)
	}
	f.clock.Advance(renewEvery - 3*time.Second)
	if _, err := f.verify("oidc:acme", token); err != nil {
		t.Errorf("after Retry-After: %v", err)
	}
	// The keys were asked for after the old token was made, whatever the clocks: no need to ask again.
	_, err = f.verify("oidc:acme", before)
	wants(t, "the old key", err, Refused, ReasonUnknownKey)
	if n := f.acme.Calls(providertest.Keys); n != fetches+1 {
		t.Errorf("%d fetches, want 1", n-fetches)
	}
}

// A fetch that began before the call may bring the keys of before: they are no
// reason to refuse.
func TestAFetchThatBeganEarlierIsNotTheLastWord(t *testing.T) {
	f := newFixture(t)
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Fatal(err)
	}
	keys := f.get("oidc:acme").keys.(*cached[keySet])
	fetch := keys.fetch
	began, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	keys.fetch = func(ctx context.Context) (keySet, time.Duration, error) {
		set, fresh, err := fetch(ctx)
		once.Do(func() { close(began); <-goOn })
		return set, fresh, err
	}
	f.clock.Advance(31 * time.Minute) // more than half of what they are fresh for
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Fatal(err)
	}
	<-began
	f.acme.Rotate()
	f.get("oidc:acme").keys = &whenMissed{cached: keys, tell: sync.OnceFunc(func() { close(goOn) })}
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Error(err)
	}
	if n := f.acme.Calls(providertest.Keys); n != 3 {
		t.Errorf("%d fetches, want the first, the early one and one for the new key", n)
	}
}

// whenMissed tells when somebody misses a key.
type whenMissed struct {
	*cached[keySet]
	tell func()
}

func (w *whenMissed) renew(ctx context.Context, version int, since time.Time) (keySet, int, error) {
	w.tell()
	return w.cached.renew(ctx, version, since)
}

// Tokens with invented key ids make a burst of fetches and then one in a while,
// whoever sends them.
func TestUnknownKeysMakeFewFetches(t *testing.T) {
	f := newFixture(t)
	if _, err := f.verify("oidc:acme", f.token()); err != nil {
		t.Fatal(err)
	}
	const steps = 50
	for step := range steps + 1 {
		for i := range 6 {
			_, err := f.verify("oidc:acme", f.stranger(fmt.Sprintf("k%d-%d", step, i)))
			switch {
			case errors.Is(err, ErrRefused):
				wants(t, "invented", err, Refused, ReasonUnknownKey)
			default:
				if e := wants(t, "invented", err, Unavailable, ReasonUnreachable); e.RetryAfter <= 0 || e.RetryAfter > renewEvery {
					t.Errorf("Retry-After %s", e.RetryAfter)
				}
			}
		}
		if step < steps {
			f.clock.Advance(renewEvery / 2)
		}
	}
	if n := f.acme.Calls(providertest.Keys); n != 1+renewBurst+steps/2 {
		t.Errorf("%d fetches, want %d", n, 1+renewBurst+steps/2)
	}
}

// Whatever happens to the provider and the clock, keys are never used beyond
// max_stale, a provider that is down is left alone for the backoff, and those who
// miss a key make no more fetches than they may.
func TestCacheKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := newFixtureFor(rt)
		defer f.end()
		var fetched, failed time.Time
		var renewals []time.Time
		up := true
		f.cache.fetch = func(context.Context) (int, time.Duration, error) {
			if now := f.clock.Now(); !failed.IsZero() && now.Sub(failed) < firstBackoff {
				rt.Errorf("a provider that is down is asked again %s later", now.Sub(failed))
			}
			failed = time.Time{}
			if f.tries = append(f.tries, f.clock.Now()); !up {
				failed = f.clock.Now()
				return 0, 0, unavailable(nil, ReasonUnreachable, "down")
			}
			fetched = f.clock.Now()
			return 1, time.Hour, nil
		}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			up = rapid.Bool().Draw(rt, "up")
			f.clock.Advance(time.Duration(rapid.OneOf(rapid.IntRange(0, 15), rapid.IntRange(0, 7200)).Draw(rt, "seconds")) * time.Second)
			known := !fetched.IsZero() && f.clock.Now().Sub(fetched) < f.cache.maxStale
			renew := rapid.Bool().Draw(rt, "renew")
			var err error
			if renew {
				before := len(f.tries)
				_, _, err = f.cache.renew(context.Background(), f.cache.version, time.Time{})
				if len(f.tries) > before {
					renewals = append(renewals, f.clock.Now())
				}
			} else {
				_, _, err = f.cache.get(context.Background())
			}
			f.settle()
			fresh := fetched.Equal(f.clock.Now())
			if !renew && err == nil && !known && !fresh {
				rt.Fatalf("keys of %s ago are used", f.clock.Now().Sub(fetched))
			}
			if !renew && err != nil && known {
				rt.Fatalf("keys of %s ago are not used: %v", f.clock.Now().Sub(fetched), err)
			}
			if up && err != nil && f.clock.Now().Sub(f.tries[len(f.tries)-1]) >= lastBackoff {
				rt.Fatalf("the provider is up, and was not asked: %v", err)
			}
		}
		for i := range renewals {
			for j := i + renewBurst; j < len(renewals); j++ {
				if d, least := renewals[j].Sub(renewals[i]), time.Duration(j-i-renewBurst+1)*renewEvery; d < least {
					rt.Fatalf("%d fetches for keys that are not known within %s", j-i+1, d)
				}
			}
		}
	})
}
