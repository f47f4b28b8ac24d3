// Package kvtest is the contract of kv.Store as tests, run on every store.
package kvtest

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"landline/internal/kv"
)

// long is a time to live that no test outlives.
const long = time.Hour

// Run checks the contract on stores that open makes; each is empty and closed by open's cleanup.
func Run(t *testing.T, open func(t *testing.T) kv.Store) {
	for name, test := range map[string]func(*testing.T, kv.Store){
		"Get of nothing":                     getNothing,
		"Set and Get":                        setAndGet,
		"values are copies":                  valuesAreCopies,
		"SetNX":                              setNX,
		"CompareAndSwap":                     compareAndSwap,
		"CompareAndDelete":                   compareAndDelete,
		"Delete":                             deleteKeys,
		"Add":                                addCounter,
		"Add refuses":                        addRefuses,
		"Set expires":                        setExpires,
		"swap renews the time to live":       swapRenews,
		"Add keeps the first time to live":   addKeepsFirstTTL,
		"Take admits a burst":                takeBurst,
		"Take charges all or none":           takeAllOrNone,
		"Take refuses":                       takeRefuses,
		"Take never admits above the burst":  takeParallel,
		"Take refills":                       takeRefills,
		"Take survives a jump of the clock":  takeJump,
		"bounds":                             bounds,
		"one winner among swappers":          oneSwapWinner,
		"one winner among setters":           oneSetNXWinner,
		"one winner among deleters":          oneDeleteWinner,
		"no addition is lost":                noLostAdd,
		"a caller's context":                 callersContext,
		"after Close everything is an error": afterClose,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantValue(t *testing.T, s kv.Store, key, want string) {
	t.Helper()
	got, err := s.Get(t.Context(), key)
	if err != nil || string(got) != want {
		t.Fatalf("Get(%q) = %q, %v; want %q", key, got, err, want)
	}
}

func wantNone(t *testing.T, s kv.Store, key string) {
	t.Helper()
	if got, err := s.Get(t.Context(), key); !errors.Is(err, kv.ErrNotFound) {
		t.Fatalf("Get(%q) = %q, %v; want ErrNotFound", key, got, err)
	}
}

func wantDone(t *testing.T, what string, want bool) func(bool, error) {
	return func(got bool, err error) {
		t.Helper()
		if err != nil || got != want {
			t.Fatalf("%s = %v, %v; want %v", what, got, err, want)
		}
	}
}

// Eventually polls until ok says so, for at most 15 s.
func Eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(15 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within 15 s: %s", what)
		}
	}
}

func getNothing(t *testing.T, s kv.Store) { wantNone(t, s, "nothing") }

func setAndGet(t *testing.T, s kv.Store) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for key, value := range map[string]string{"a": "1", "empty": "", "bytes": string(all), "key with spaces\r\n\x00 and ż": "x", strings.Repeat("k", kv.MaxKey): "y"} {
		must(t, s.Set(t.Context(), key, []byte(value), long))
		wantValue(t, s, key, value)
	}
	must(t, s.Set(t.Context(), "a", []byte("2"), long))
	wantValue(t, s, "a", "2")
	must(t, s.Set(t.Context(), "nil", nil, long))
	if got, err := s.Get(t.Context(), "nil"); err != nil || got == nil || len(got) != 0 {
		t.Errorf("a nil value came back as %v, %v; want empty and not nil", got, err)
	}
	must(t, s.Ping(t.Context()))
}

func valuesAreCopies(t *testing.T, s kv.Store) {
	value := []byte("before")
	must(t, s.Set(t.Context(), "k", value, long))
	copy(value, "XXXXXX")
	got, err := s.Get(t.Context(), "k")
	must(t, err)
	copy(got, "YYYYYY")
	wantValue(t, s, "k", "before")
}

func setNX(t *testing.T, s kv.Store) {
	wantDone(t, "SetNX of nothing", true)(s.SetNX(t.Context(), "k", []byte("1"), long))
	wantDone(t, "SetNX of something", false)(s.SetNX(t.Context(), "k", []byte("2"), long))
	wantValue(t, s, "k", "1")
}

func compareAndSwap(t *testing.T, s kv.Store) {
	for _, old := range [][]byte{nil, {}, []byte("0")} {
		wantDone(t, "swap of nothing", false)(s.CompareAndSwap(t.Context(), "k", old, []byte("1"), long))
	}
	wantNone(t, s, "k")
	must(t, s.Set(t.Context(), "k", []byte("a\x00b"), long))
	wantDone(t, "swap of another value", false)(s.CompareAndSwap(t.Context(), "k", []byte("a"), []byte("1"), long))
	wantDone(t, "swap", true)(s.CompareAndSwap(t.Context(), "k", []byte("a\x00b"), nil, long))
	wantValue(t, s, "k", "")
	wantDone(t, "swap of empty", true)(s.CompareAndSwap(t.Context(), "k", nil, []byte("z"), long))
	wantValue(t, s, "k", "z")
}

func compareAndDelete(t *testing.T, s kv.Store) {
	wantDone(t, "delete of nothing", false)(s.CompareAndDelete(t.Context(), "k", nil))
	must(t, s.Set(t.Context(), "k", []byte("1"), long))
	wantDone(t, "delete of another value", false)(s.CompareAndDelete(t.Context(), "k", []byte("2")))
	wantValue(t, s, "k", "1")
	wantDone(t, "delete", true)(s.CompareAndDelete(t.Context(), "k", []byte("1")))
	wantNone(t, s, "k")
}

func deleteKeys(t *testing.T, s kv.Store) {
	must(t, s.Delete(t.Context()))
	for _, k := range []string{"a", "b", "c"} {
		must(t, s.Set(t.Context(), k, []byte("1"), long))
	}
	must(t, s.Delete(t.Context(), "a", "missing", "c", "a"))
	wantNone(t, s, "a")
	wantNone(t, s, "c")
	wantValue(t, s, "b", "1")
}

func wantSum(t *testing.T, s kv.Store, key string, delta, want int64) {
	t.Helper()
	if got, err := s.Add(t.Context(), key, delta, long); err != nil || got != want {
		t.Fatalf("Add(%q, %d) = %d, %v; want %d", key, delta, got, err, want)
	}
}

func addCounter(t *testing.T, s kv.Store) {
	wantSum(t, s, "n", 5, 5)
	wantSum(t, s, "n", -7, -2)
	wantSum(t, s, "n", 0, -2)
	wantValue(t, s, "n", "-2")
	// Beyond 2^53, where a floating-point number loses units.
	wantSum(t, s, "big", math.MaxInt64-1, math.MaxInt64-1)
	wantSum(t, s, "big", 1, math.MaxInt64)
	wantSum(t, s, "small", math.MinInt64, math.MinInt64)
	must(t, s.Set(t.Context(), "set", []byte("41"), long))
	wantSum(t, s, "set", 1, 42)
}

func addRefuses(t *testing.T, s kv.Store) {
	must(t, s.Set(t.Context(), "text", []byte("many"), long))
	wantSum(t, s, "max", math.MaxInt64, math.MaxInt64)
	wantSum(t, s, "min", math.MinInt64, math.MinInt64)
	for key, delta := range map[string]int64{"text": 1, "max": 1, "min": -1} {
		if sum, err := s.Add(t.Context(), key, delta, long); !errors.Is(err, kv.ErrNotCounter) || errors.Is(err, kv.ErrUnavailable) {
			t.Errorf("Add to %s = %d, %v; want ErrNotCounter", key, sum, err)
		}
	}
	wantValue(t, s, "text", "many")
	wantValue(t, s, "max", strconv.FormatInt(math.MaxInt64, 10))
}

func gone(t *testing.T, s kv.Store, key string) func() bool {
	return func() bool {
		_, err := s.Get(t.Context(), key)
		if err != nil && !errors.Is(err, kv.ErrNotFound) {
			t.Fatal(err)
		}
		return err != nil
	}
}

func setExpires(t *testing.T, s kv.Store) {
	must(t, s.Set(t.Context(), "set", []byte("1"), 20*time.Millisecond))
	must(t, s.Set(t.Context(), "tiny", []byte("1"), time.Nanosecond))
	must(t, s.Set(t.Context(), "stays", []byte("1"), long))
	_, err := s.SetNX(t.Context(), "nx", []byte("1"), 20*time.Millisecond)
	must(t, err)
	for _, key := range []string{"set", "tiny", "nx"} {
		Eventually(t, key+" expires", gone(t, s, key))
		wantDone(t, "swap of an expired value", false)(s.CompareAndSwap(t.Context(), key, []byte("1"), []byte("2"), long))
		wantDone(t, "delete of an expired value", false)(s.CompareAndDelete(t.Context(), key, []byte("1")))
		wantDone(t, "SetNX after expiry", true)(s.SetNX(t.Context(), key, []byte("3"), long))
	}
	wantValue(t, s, "stays", "1")
}

func swapRenews(t *testing.T, s kv.Store) {
	must(t, s.Set(t.Context(), "shortened", []byte("1"), long))
	wantDone(t, "swap", true)(s.CompareAndSwap(t.Context(), "shortened", []byte("1"), []byte("2"), 20*time.Millisecond))
	Eventually(t, "the swapped value expires", gone(t, s, "shortened"))
}

func addKeepsFirstTTL(t *testing.T, s kv.Store) {
	_, err := s.Add(t.Context(), "n", 1, 100*time.Millisecond)
	must(t, err)
	Eventually(t, "the counter starts again at 1", func() bool {
		sum, err := s.Add(t.Context(), "n", 1, long)
		must(t, err)
		return sum == 1
	})
}

func bounds(t *testing.T, s kv.Store) {
	big := bytes.Repeat([]byte("x"), kv.MaxValue)
	must(t, s.Set(t.Context(), "big", big, long))
	if got, err := s.Get(t.Context(), "big"); err != nil || !bytes.Equal(got, big) {
		t.Fatalf("a value of %d bytes came back with %d, %v", len(big), len(got), err)
	}
	tooBig := append(big, 'x')
	ctx := t.Context()
	setNX := func(key string, value []byte, ttl time.Duration) error {
		_, err := s.SetNX(ctx, key, value, ttl)
		return err
	}
	swap := func(key string, value []byte, ttl time.Duration) error {
		_, err := s.CompareAndSwap(ctx, key, []byte("1"), value, ttl)
		return err
	}
	set := func(key string, value []byte, ttl time.Duration) error { return s.Set(ctx, key, value, ttl) }
	for name, write := range map[string]func(string, []byte, time.Duration) error{"Set": set, "SetNX": setNX, "CompareAndSwap": swap} {
		if err := write("k", tooBig, long); !errors.Is(err, kv.ErrTooLarge) || !strings.Contains(err.Error(), "1048576") {
			t.Errorf("%s of too large a value: %v; want ErrTooLarge that says the bound", name, err)
		}
		for _, ttl := range []time.Duration{0, -1} {
			if err := write("k", nil, ttl); !errors.Is(err, kv.ErrInvalid) {
				t.Errorf("%s for %v: %v; want ErrInvalid", name, ttl, err)
			}
		}
	}
	if _, err := s.Add(ctx, "k", 1, 0); !errors.Is(err, kv.ErrInvalid) {
		t.Errorf("Add for 0: %v; want ErrInvalid", err)
	}
	for key, want := range map[string]error{"": kv.ErrInvalid, strings.Repeat("k", kv.MaxKey+1): kv.ErrTooLarge} {
		_, getErr := s.Get(ctx, key)
		_, addErr := s.Add(ctx, key, 1, long)
		_, delErr := s.CompareAndDelete(ctx, key, nil)
		for _, err := range []error{getErr, addErr, delErr, set(key, nil, long), setNX(key, nil, long), swap(key, nil, long), s.Delete(ctx, "fine", key)} {
			if !errors.Is(err, want) {
				t.Errorf("a key of %d bytes: %v; want %v", len(key), err, want)
			}
		}
	}
	wantNone(t, s, "k")
}

// race runs fn in 32 goroutines at once and returns how many said yes.
func race(t *testing.T, fn func(i int) (bool, error)) (yes int64) {
	t.Helper()
	var winners atomic.Int64
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range 32 {
		wg.Go(func() {
			<-start
			ok, err := fn(i)
			if err != nil {
				t.Error(err)
			}
			if ok {
				winners.Add(1)
			}
		})
	}
	close(start)
	wg.Wait()
	return winners.Load()
}

func oneSwapWinner(t *testing.T, s kv.Store) {
	must(t, s.Set(t.Context(), "k", []byte("0"), long))
	for round := range 10 {
		old := []byte(strconv.Itoa(round))
		next := []byte(strconv.Itoa(round + 1))
		if n := race(t, func(int) (bool, error) { return s.CompareAndSwap(t.Context(), "k", old, next, long) }); n != 1 {
			t.Fatalf("%d swaps of value %d succeeded, want 1", n, round)
		}
	}
	wantValue(t, s, "k", "10")
}

func oneSetNXWinner(t *testing.T, s kv.Store) {
	var mu sync.Mutex
	var won []string
	n := race(t, func(i int) (bool, error) {
		me := strconv.Itoa(i)
		ok, err := s.SetNX(t.Context(), "k", []byte(me), long)
		if ok {
			mu.Lock()
			defer mu.Unlock()
			won = append(won, me)
		}
		return ok, err
	})
	if n != 1 {
		t.Fatalf("%d won, want 1", n)
	}
	wantValue(t, s, "k", won[0])
}

func oneDeleteWinner(t *testing.T, s kv.Store) {
	must(t, s.Set(t.Context(), "k", []byte("1"), long))
	if n := race(t, func(int) (bool, error) { return s.CompareAndDelete(t.Context(), "k", []byte("1")) }); n != 1 {
		t.Fatalf("%d deletes succeeded, want 1", n)
	}
}

func noLostAdd(t *testing.T, s kv.Store) {
	const each = 20
	var mu sync.Mutex
	var sums []int64
	race(t, func(int) (bool, error) {
		for range each {
			sum, err := s.Add(t.Context(), "n", 1, long)
			if err != nil {
				return false, err
			}
			mu.Lock()
			sums = append(sums, sum)
			mu.Unlock()
		}
		return true, nil
	})
	slices.Sort(sums)
	for i, sum := range sums {
		if sum != int64(i+1) {
			t.Fatalf("sum number %d is %d: an addition was lost or told twice", i+1, sum)
		}
	}
	wantValue(t, s, "n", strconv.Itoa(32*each))
}

func callersContext(t *testing.T, s kv.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Get(ctx, "k")
	if !errors.Is(err, context.Canceled) || errors.Is(err, kv.ErrUnavailable) {
		t.Errorf("Get with a cancelled context: %v; want context.Canceled, and not the store's fault", err)
	}
	if err := s.Set(ctx, "k", nil, long); !errors.Is(err, context.Canceled) {
		t.Errorf("Set with a cancelled context: %v", err)
	}
	wantNone(t, s, "k")
}

func afterClose(t *testing.T, s kv.Store) {
	must(t, s.Close())
	must(t, s.Close())
	ctx := t.Context()
	_, getErr := s.Get(ctx, "k")
	_, addErr := s.Add(ctx, "k", 1, long)
	_, swapErr := s.CompareAndSwap(ctx, "k", nil, nil, long)
	for _, err := range []error{getErr, addErr, swapErr, s.Set(ctx, "k", nil, long), s.Ping(ctx)} {
		if !errors.Is(err, kv.ErrUnavailable) {
			t.Errorf("after Close: %v; want ErrUnavailable", err)
		}
	}
}
