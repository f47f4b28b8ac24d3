package password

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"landline/internal/config"
	"landline/internal/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cheap is the cheapest that is allowed.
func cheap() Config {
	c := DefaultConfig()
	c.Memory, c.Iterations, c.Slots = 7<<20, 5, 1
	return c
}

func hasher(t testing.TB, c Config) *Hasher {
	t.Helper()
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHashAndVerify(t *testing.T) {
	h := hasher(t, cheap())
	stored, err := h.Hash(t.Context(), "correct horse battery staple")
	if err != nil || !strings.HasPrefix(stored, "$argon2id$v=19$m=7168,t=5,p=1$") {
		t.Fatalf("%q %v", stored, err)
	}
	again, err := h.Hash(t.Context(), "correct horse battery staple")
	if err != nil || again == stored {
		t.Errorf("the same salt twice: %v", err)
	}
	for password, want := range map[string]bool{"correct horse battery staple": true, "correct horse battery stapl": false, "": false, strings.Repeat("x", 2000): false, "\xff": false} {
		if ok, rehash, err := h.Verify(t.Context(), password, stored); err != nil || ok != want || rehash {
			t.Errorf("%q: %v %v %v", password, ok, rehash, err)
		}
	}
	if _, err := h.Hash(t.Context(), strings.Repeat("x", 1025)); err == nil {
		t.Error("1025 bytes were hashed")
	}
	if err := h.VerifyNone(t.Context(), "anything"); err != nil {
		t.Error(err)
	}
}

func TestKeyboardsThatComposeDifferentlyGiveTheSamePassword(t *testing.T) {
	h := hasher(t, cheap())
	stored, err := h.Hash(t.Context(), "za\u017c\u00f3\u0142\u0107 g\u0119\u015bl\u0105")
	if err != nil {
		t.Fatal(err)
	}
	if ok, _, err := h.Verify(t.Context(), "zaz\u0307o\u0301\u0142c\u0301 ge\u0328s\u0301la\u0328", stored); err != nil || !ok {
		t.Errorf("decomposed: %v %v", ok, err)
	}
}

// The hash is one of the reference implementation's own tests (phc-winner-argon2, src/test.c).
func TestHashOfAnotherImplementation(t *testing.T) {
	const foreign = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	c := cheap()
	c.Slots = 10
	h := hasher(t, c)
	if ok, rehash, err := h.Verify(t.Context(), "password", foreign); err != nil || !ok || !rehash {
		t.Errorf("%v %v %v", ok, rehash, err) // fewer iterations than configured
	}
	if ok, rehash, err := h.Verify(t.Context(), "Password", foreign); err != nil || ok || rehash {
		t.Errorf("%v %v %v", ok, rehash, err)
	}
	if _, _, err := hasher(t, cheap()).Verify(t.Context(), "password", foreign); err == nil || errors.Is(err, ErrBusy) {
		t.Errorf("a hash that needs more memory than there is: %v", err)
	}
}

func TestRehashWhenCostsRise(t *testing.T) {
	stored, err := hasher(t, cheap()).Hash(t.Context(), "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Config)
		want   bool
	}{
		"same":             {func(*Config) {}, false},
		"more memory":      {func(c *Config) { c.Memory = 8 << 20 }, true},
		"more iterations":  {func(c *Config) { c.Iterations = 6 }, true},
		"more parallelism": {func(c *Config) { c.Parallelism = 2 }, true},
		"less of one":      {func(c *Config) { c.Memory, c.Iterations = 19<<20, 2 }, true}, // more memory than stored
	} {
		conf := cheap()
		c.change(&conf)
		if ok, rehash, err := hasher(t, conf).Verify(t.Context(), "correct horse", stored); err != nil || !ok || rehash != c.want {
			t.Errorf("%s: %v %v %v", name, ok, rehash, err)
		}
	}
}

func TestWorkBeyondTheLimitsIsTurnedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cheap()
		c.Queue, c.Wait = 2, config.Duration(time.Second)
		h := hasher(t, c)
		if err := h.memory.Acquire(t.Context(), h.budget); err != nil { // somebody hashes
			t.Fatal(err)
		}
		results := make(chan error, 2)
		go func() { results <- h.VerifyNone(t.Context(), "x") }()
		go func() { _, err := h.Hash(t.Context(), "x"); results <- err }()
		synctest.Wait()
		if s := h.Stats(); s.Waiting != 2 || s.Running != 0 {
			t.Errorf("%+v", s)
		}
		began := time.Now()
		if _, _, err := h.Verify(t.Context(), "x", mustHash(t)); !errors.Is(err, ErrBusy) || time.Since(began) != 0 {
			t.Errorf("one too many waits %s: %v", time.Since(began), err)
		}
		for range 2 {
			if err := <-results; !errors.Is(err, ErrBusy) {
				t.Errorf("%v", err)
			}
		}
		if time.Since(began) != time.Second {
			t.Errorf("waited %s", time.Since(began))
		}
		if s := h.Stats(); s.Waiting != 0 || s.Refused != 3 {
			t.Errorf("%+v", s)
		}
		// One who waits gets the slot when it is free, and one who leaves leaves no trace.
		ctx, cancel := context.WithCancel(t.Context())
		go func() { results <- h.VerifyNone(ctx, "x") }()
		go func() { results <- h.VerifyNone(t.Context(), "x") }()
		synctest.Wait()
		cancel()
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		h.memory.Release(h.budget)
		if err := <-results; err != nil {
			t.Error(err)
		}
		if p := problem.From(ErrBusy); p.Status() != 503 || p.Code != problem.Overloaded {
			t.Errorf("%+v", p)
		}
	})
}

func mustHash(t *testing.T) string {
	t.Helper()
	h := &hash{params: params{memory: 7168, iterations: 5, parallelism: 1}, salt: make([]byte, 16), key: make([]byte, 32)}
	return h.String()
}

// What is being hashed at once never needs more memory than slots × memory, also
// with stored hashes that need more than today's.
func TestMemoryIsBoundedUnderParallelCallers(t *testing.T) {
	c := cheap()
	c.Slots, c.Queue, c.Wait = 3, 1000, config.Duration(30*time.Second)
	h := hasher(t, c)
	big := (&hash{params: params{memory: 2 * 7168, iterations: 1, parallelism: 1}, salt: make([]byte, 16), key: make([]byte, 32)}).String()
	var mu sync.Mutex
	var held, top int64
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			p := h.params
			if i%2 == 0 {
				p.memory *= 2
			}
			err := h.within(t.Context(), p, func() {
				mu.Lock()
				held += int64(p.memory)
				top = max(top, held)
				mu.Unlock()
				derive("x", make([]byte, 16), params{memory: 64, iterations: 1, parallelism: 1}, 32)
				mu.Lock()
				held -= int64(p.memory)
				mu.Unlock()
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if top > h.budget || top == 0 {
		t.Errorf("%d KiB at once, allowed %d", top, h.budget)
	}
	if _, _, err := h.Verify(t.Context(), "x", big); err != nil {
		t.Error(err)
	}
}

func TestStoredHashesThatAreNone(t *testing.T) {
	h := hasher(t, cheap())
	good := mustHash(t)
	for _, stored := range []string{"", "x", "$2a$10$abcdefghijklmnopqrstuv", strings.Replace(good, "argon2id", "argon2i", 1), strings.Replace(good, "v=19", "v=16", 1),
		strings.Replace(good, "m=7168", "m=4294967295", 1), strings.Replace(good, "m=7168", "m=07168", 1), strings.Replace(good, "m=7168", "m=1", 1),
		strings.Replace(good, "t=5", "t=0", 1), strings.Replace(good, "p=1", "p=255", 1), strings.Replace(good, "m=7168,t=5", "t=5,m=7168", 1),
		good + "$", good + "=", good + "\n", good[:len(good)-30], strings.Repeat("$", 600)} {
		if ok, _, err := h.Verify(t.Context(), "x", stored); ok || err == nil {
			t.Errorf("%q was read", stored)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Add("$argon2id$v=19$m=7168,t=5,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, text string) {
		if h, err := parse(text); err == nil && h.String() != text {
			t.Errorf("%q is written %q", text, h)
		}
	})
}

func TestConfiguration(t *testing.T) {
	for name, c := range map[string]struct{ yaml, fault string }{
		"defaults":     {"{}", ""},
		"owasp 1":      {"{memory: 46MiB, iterations: 1}", ""},
		"owasp 5":      {"{memory: 7MiB, iterations: 5}", ""},
		"weak":         {"{memory: 18MiB, iterations: 2}", "less than is safe"},
		"weaker":       {"{memory: 7MiB, iterations: 4}", "less than is safe"},
		"tiny":         {"{memory: 1MiB, iterations: 20}", "7MiB"},
		"huge":         {"{memory: 2GiB}", "1GiB"},
		"iterations":   {"{iterations: 0}", "1 to 20"},
		"parallelism":  {"{parallelism: 300}", "1 to 16"},
		"slots":        {"{slots: -1}", "0 to 256"},
		"queue":        {"{queue: 20000}", "10000"},
		"wait":         {"{wait: 1ms}", "100ms"},
		"short":        {"{min_length: 6}", "8 to 64"},
		"count":        {"{min_count: 0}", "min_count"},
		"missing list": {"{breached: nowhere.txt}", "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := DefaultConfig()
			err := config.LoadBytes("landline.yaml", []byte("password: "+c.yaml), []config.Section{{Key: "password", Ptr: &cfg, Doc: "…"}}, config.SystemEnv())
			if c.fault == "" && err != nil || c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)) {
				t.Errorf("%v, want a fault about %q", err, c.fault)
			}
		})
	}
	if _, err := New(Config{Memory: 1 << 20, Iterations: 1, Parallelism: 1}); err == nil {
		t.Error("a weak hasher was made")
	}
}

// What a stranger could see: the processor time of a wrong password of somebody
// over that of nobody, taken in turn.
func BenchmarkVerify(b *testing.B) {
	h := hasher(b, DefaultConfig())
	stored, err := h.Hash(b.Context(), "correct horse")
	if err != nil {
		b.Fatal(err)
	}
	var took [2]time.Duration // somebody, nobody
	work := [2]func() error{
		func() error { _, _, err := h.Verify(b.Context(), "wrong horse", stored); return err },
		func() error { return h.VerifyNone(b.Context(), "wrong horse") },
	}
	for i := 0; b.Loop(); i++ {
		for _, which := range [2]int{i % 2, 1 - i%2} { // who comes second pays for the first one's garbage
			began := processorTime(b)
			if err := work[which](); err != nil {
				b.Fatal(err)
			}
			took[which] += processorTime(b) - began
		}
	}
	b.ReportMetric(float64(took[0].Microseconds())/1000/float64(b.N), "cpu-ms/verify")
	b.ReportMetric(float64(took[0])/float64(took[1]), "somebody/nobody")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
