package secret

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"landline/internal/clock"
	"landline/internal/sqldb"
)

func TestFieldEncryption(t *testing.T) {
	engines(t, func(t *testing.T, n *nodes) {
		ctx := t.Context()
		plain := []byte("anna@example.com")
		sealed, err := n.a.Seal(ctx, "usr_1", "identity.email", plain)
		must(t, err)
		if len(sealed) != len(plain)+37 || bytes.Contains(sealed, plain) {
			t.Errorf("sealed to %d bytes", len(sealed))
		}
		again, err := n.b.Seal(ctx, "usr_1", "identity.email", plain)
		must(t, err)
		if bytes.Equal(sealed, again) {
			t.Error("two seals of one value are equal")
		}
		for _, r := range []*Ring{n.a, n.b} {
			for _, c := range [][]byte{sealed, again} {
				if got, err := r.Open(ctx, "usr_1", "identity.email", c); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("open: %q, %v", got, err)
				}
			}
		}
		if _, err := n.a.Seal(ctx, "usr_2", "identity.email", plain); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ subject, field string }{{"usr_1", "identity.phone"}, {"usr_2", "identity.email"}, {"usr_3", "identity.email"}} {
			if _, err := n.a.Open(ctx, c.subject, c.field, sealed); !errors.Is(err, ErrTampered) {
				t.Errorf("open as %s of %s: %v", c.field, c.subject, err)
			}
		}
		for i := range sealed {
			bad := bytes.Clone(sealed)
			bad[i] ^= 0x40
			if _, err := n.a.Open(ctx, "usr_1", "identity.email", bad); !errors.Is(err, ErrTampered) {
				t.Fatalf("byte %d changed: %v", i, err)
			}
			if _, err := n.a.Open(ctx, "usr_1", "identity.email", sealed[:i]); !errors.Is(err, ErrTampered) {
				t.Fatalf("cut to %d: %v", i, err)
			}
		}
		for _, subject := range []string{"", strings.Repeat("x", maxField+1)} {
			if _, err := n.a.Seal(ctx, subject, "f", plain); err == nil {
				t.Errorf("subject of %d bytes was taken", len(subject))
			}
		}
	})
}

func TestDataKeyIsMadeOnceByManyNodes(t *testing.T) {
	engines(t, func(t *testing.T, n *nodes) {
		var wg sync.WaitGroup
		out := make(chan []byte, 16)
		for i := range 16 {
			r := []*Ring{n.a, n.b}[i%2]
			wg.Go(func() {
				c, err := r.Seal(t.Context(), "usr_1", "f", []byte("v"))
				if err != nil {
					t.Error(err)
				}
				out <- c
			})
		}
		wg.Wait()
		close(out)
		for c := range out {
			if got, err := n.a.Open(t.Context(), "usr_1", "f", c); err != nil || string(got) != "v" {
				t.Errorf("open: %q, %v", got, err)
			}
		}
	})
}

func TestSealTxBelongsToItsTransaction(t *testing.T) {
	engines(t, func(t *testing.T, n *nodes) {
		refused := errors.New("refused")
		var lost []byte
		err := n.db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) (err error) {
			if lost, err = n.a.SealTx(ctx, tx, "usr_1", "f", []byte("v")); err != nil {
				return err
			}
			return refused
		})
		if !errors.Is(err, refused) {
			t.Fatal(err)
		}
		if _, err := n.a.Open(t.Context(), "usr_1", "f", lost); !errors.Is(err, ErrTampered) {
			t.Errorf("a rolled back data key opens: %v", err)
		}
		var kept []byte
		must(t, n.db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) (err error) {
			kept, err = n.a.SealTx(ctx, tx, "usr_1", "f", []byte("v"))
			return err
		}))
		if got, err := n.b.Open(t.Context(), "usr_1", "f", kept); err != nil || string(got) != "v" {
			t.Errorf("open: %q, %v", got, err)
		}
	})
}

func TestShredIsFinalEverywhere(t *testing.T) {
	engines(t, func(t *testing.T, n *nodes) {
		ctx := t.Context()
		sealed, err := n.a.Seal(ctx, "usr_1", "f", []byte("v"))
		must(t, err)
		_, err = n.b.Open(ctx, "usr_1", "f", sealed) // B caches the key
		must(t, err)
		refused := errors.New("refused")
		err = n.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			if err := n.a.Shred(ctx, tx, "usr_1"); err != nil {
				return err
			}
			return refused
		})
		if !errors.Is(err, refused) {
			t.Fatal(err)
		}
		if _, err := n.a.Open(ctx, "usr_1", "f", sealed); err != nil {
			t.Fatalf("a rolled back shred destroyed the key: %v", err)
		}
		for range 2 { // idempotent
			must(t, n.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return n.a.Shred(ctx, tx, "usr_1") }))
		}
		if _, err := n.a.Open(ctx, "usr_1", "f", sealed); !errors.Is(err, ErrShredded) {
			t.Errorf("open after shred: %v", err)
		}
		if _, err := n.a.Seal(ctx, "usr_1", "f", []byte("late")); !errors.Is(err, ErrShredded) {
			t.Errorf("seal after shred: %v", err)
		}
		if _, err := n.b.Open(ctx, "usr_1", "f", sealed); err != nil {
			t.Errorf("B is expected to open from its cache: %v", err)
		}
		n.clk.Advance(DataKeyTTL)
		if _, err := n.b.Open(ctx, "usr_1", "f", sealed); !errors.Is(err, ErrShredded) {
			t.Errorf("B after the cache's time: %v", err)
		}
		var left int
		must(t, n.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
			return q.QueryRowContext(ctx, `SELECT COUNT(*) FROM secret_dek WHERE wrapped <> $1`, []byte{}).Scan(&left)
		}))
		if left != 0 {
			t.Error("the wrapped key is still in its row")
		}
		must(t, n.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return n.a.Shred(ctx, tx, "usr_never") }))
		if _, err := n.b.Seal(ctx, "usr_never", "f", nil); !errors.Is(err, ErrShredded) {
			t.Errorf("a subject shredded before its first seal: %v", err)
		}
	})
}

func TestForgetDropsTheCachedKey(t *testing.T) {
	engines(t, func(t *testing.T, n *nodes) {
		sealed, err := n.a.Seal(t.Context(), "usr_1", "f", []byte("v"))
		must(t, err)
		_, err = n.b.Open(t.Context(), "usr_1", "f", sealed)
		must(t, err)
		must(t, n.db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return n.a.Shred(ctx, tx, "usr_1") }))
		n.b.Forget("usr_1")
		if _, err := n.b.Open(t.Context(), "usr_1", "f", sealed); !errors.Is(err, ErrShredded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestDataKeyCacheIsBoundedAndRefusesStaleKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c dataKeyCache
		clk := clock.NewFake(begin)
		c.init(clk)
		c.max = 3
		type entry struct{ until time.Time }
		model := map[string]entry{}
		subject := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"})
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				s := subject.Draw(t, "subject")
				c.put(s, &dataKey{}, c.epoch())
				if e, ok := model[s]; !ok || !clk.Now().Before(e.until) && c.items[s] != nil {
					model[s] = entry{clk.Now().Add(DataKeyTTL)}
				}
			},
			"stale put": func(t *rapid.T) {
				s := subject.Draw(t, "subject")
				epoch := c.epoch()
				c.drop(s)
				c.put(s, &dataKey{}, epoch)
				if c.get(s) != nil {
					t.Fatal("a key read before a shred was cached after it")
				}
				delete(model, s)
			},
			"drop": func(t *rapid.T) {
				s := subject.Draw(t, "subject")
				c.drop(s)
				delete(model, s)
			},
			"wait": func(t *rapid.T) { clk.Advance(time.Duration(rapid.IntRange(0, 130).Draw(t, "s")) * time.Second) },
			"": func(t *rapid.T) {
				if len(c.items) > c.max || len(c.items) != c.order.Len() {
					t.Fatalf("%d items, %d in order", len(c.items), c.order.Len())
				}
				for s := range c.items {
					if _, ok := model[s]; !ok {
						t.Fatalf("%s was dropped and is still there", s)
					}
				}
			},
		})
	})
}
