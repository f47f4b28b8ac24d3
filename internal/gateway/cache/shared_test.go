package cache

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"landline/internal/clock"
	"landline/internal/kv"
	"landline/internal/testkit"
)

// stores runs a test on the memory store and on Redis.
func stores(t *testing.T, test func(t *testing.T, store kv.Store)) {
	t.Run("memory", func(t *testing.T) { test(t, kv.NewMemory(clock.System, 1000)) })
	t.Run("redis", func(t *testing.T) {
		store, err := kv.NewRedis(testkit.Redis(t), testkit.RedisPrefix(t), testkit.Logger(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		test(t, store)
	})
}

func node(t *testing.T, store kv.Store) *Shared {
	return NewShared(store, time.Now, func(err error) { t.Errorf("the store failed: %v", err) })
}

func live(path, part, body string, lines ...string) *Entry {
	now := time.Now()
	return NewEntry(&Policy{TTL: time.Hour}, Answer{
		Key: Key{path, part}, Feature: "f", Policy: "p", Status: 200, Header: header(append(lines, "X-A: ü", "Content-Type: text/plain")...), Body: []byte(body),
		Request: header("Accept-Language: de"), Asked: now, Answered: now, Took: time.Second, TagField: "Surrogate-Key",
	})
}

func TestSharedStore(t *testing.T) {
	stores(t, func(t *testing.T, store kv.Store) {
		ctx := t.Context()
		a, b := node(t, store), node(t, store)
		k, de := Key{"/a", "part"}, header("Accept-Language: de")
		get := func(s *Shared, k Key, h http.Header) (*Entry, Place) {
			t.Helper()
			e, place, err := s.Get(ctx, "f", "p", k, h)
			if err != nil {
				t.Fatal(err)
			}
			return e, place
		}
		put := func(s *Shared, place Place, e *Entry) bool {
			t.Helper()
			ok, err := s.Put(ctx, place, e, de)
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		e, place := get(a, k, de)
		if e != nil || !put(a, place, live("/a", "part", "body", "Vary: Accept-Language", "Surrogate-Key: t", `ETag: "1"`)) {
			t.Fatal("cannot store")
		}
		got, _ := get(b, k, de)
		if got == nil || string(got.Body) != "body" || got.Header.Get("X-A") != "ü" || got.Took != time.Second || len(got.Tags) != 1 || !got.Validated() {
			t.Fatalf("another node finds %+v", got)
		}
		if d := Decide(&Policy{}, &Asked{}, got, time.Now()); d != Fresh {
			t.Errorf("verdict %d", d)
		}
		for name, k := range map[string]Key{"part": {"/a", "other"}, "path": {"/b", "part"}} {
			if e, _ := get(b, k, de); e != nil {
				t.Errorf("another %s gets %s", name, e.Body)
			}
		}
		if e, _ := get(b, k, header("Accept-Language: en")); e != nil {
			t.Errorf("another language gets %s", e.Body)
		}
		if e, _, err := b.Get(ctx, "f", "other policy", k, de); e != nil || err != nil {
			t.Errorf("another policy gets %v, %v", e, err)
		}

		// A write to the path, and a fill that began before it.
		_, before := get(b, k, de)
		_, absent := get(b, Key{"/new", "part"}, de)
		for _, path := range []string{"/a", "/new"} {
			if err := a.PurgePath(ctx, "f", path); err != nil {
				t.Fatal(err)
			}
		}
		if e, _ := get(b, k, de); e != nil {
			t.Error("found after the path was purged")
		}
		if put(b, before, live("/a", "part", "old")) || put(b, absent, live("/new", "part", "old")) {
			t.Error("an answer from before the purge was stored")
		}
		_, after := get(b, k, de)
		if !put(b, after, live("/a", "part", "new")) {
			t.Error("an answer from after the purge was not")
		}

		// A purge of the feature: b learns of it by news (Forget).
		if err := a.PurgeFeature(ctx, "f"); err != nil {
			t.Fatal(err)
		}
		b.Forget("f")
		if e, _ := get(b, k, de); e != nil {
			t.Error("found after the feature was purged")
		}
		_, place = get(b, k, de)
		if put(b, place, live("/a", "part", string(make([]byte, MaxShared)))) {
			t.Error("stored beyond its bound")
		}
		if e := live("/a", "part", "x"); true {
			e.Header["X-B"] = []string{"\xff"}
			if put(b, place, e) {
				t.Error("stored a header that JSON changes")
			}
		}
	})
}

// broken is a store that fails while it is told to.
type broken struct {
	kv.Store
	down  atomic.Bool
	calls atomic.Int64
}

func (b *broken) fail() error {
	b.calls.Add(1)
	if b.down.Load() {
		return kv.ErrUnavailable
	}
	return nil
}

func (b *broken) Get(ctx context.Context, key string) ([]byte, error) {
	if err := b.fail(); err != nil {
		return nil, err
	}
	return b.Store.Get(ctx, key)
}

func (b *broken) Set(ctx context.Context, key string, v []byte, ttl time.Duration) error {
	if err := b.fail(); err != nil {
		return err
	}
	return b.Store.Set(ctx, key, v, ttl)
}

func (b *broken) SetNX(ctx context.Context, key string, v []byte, ttl time.Duration) (bool, error) {
	if err := b.fail(); err != nil {
		return false, err
	}
	return b.Store.SetNX(ctx, key, v, ttl)
}

func TestSharedStoreThatFails(t *testing.T) {
	clk := clock.NewFake(time.Now())
	store := &broken{Store: kv.NewMemory(clock.System, 1000)}
	failures := 0
	s := NewShared(store, clk.Now, func(error) { failures++ })
	k := Key{"/a", "part"}
	_, place, err := s.Get(t.Context(), "f", "p", k, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := s.Put(t.Context(), place, live("/a", "part", "old"), nil); !ok || err != nil {
		t.Fatal(ok, err)
	}
	store.down.Store(true)
	if _, _, err := s.Get(t.Context(), "f", "p", k, nil); !errors.Is(err, kv.ErrUnavailable) {
		t.Fatalf("%v", err)
	}
	calls := store.calls.Load()
	for range 100 {
		if _, _, err := s.Get(t.Context(), "f", "p", k, nil); !errors.Is(err, errPaused) {
			t.Fatalf("%v", err)
		}
	}
	if store.calls.Load() != calls || failures != 1 {
		t.Errorf("%d calls, %d failures: it must be left alone for a while", store.calls.Load()-calls, failures)
	}
	if err := s.PurgeFeature(t.Context(), "f"); err == nil {
		t.Error("a purge that did not reach the store must say so")
	}
	store.down.Store(false)
	clk.Advance(sharedPause + time.Millisecond)
	if e, _, err := s.Get(t.Context(), "f", "p", k, nil); err != nil || e != nil {
		t.Errorf("%v %v: the purge is made good before anything is read", e, err)
	}
}
