package secret

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"landline/internal/clock"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

var begin = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func newMasterKey() string {
	b := make([]byte, keySize)
	rand.Read(b)
	return base64.StdEncoding.EncodeToString(b)
}

// engines runs fn with a fresh database of each engine and two nodes on it.
func engines(t *testing.T, fn func(t *testing.T, n *nodes)) {
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		n := &nodes{db: open(t, Migrations), clk: clock.NewFake(begin), master: newMasterKey()}
		n.a, n.b = n.open(t), n.open(t)
		fn(t, n)
	})
}

type nodes struct {
	db     *sqldb.DB
	clk    *clock.Fake
	master string
	a, b   *Ring
}

func (n *nodes) open(t *testing.T) *Ring {
	t.Helper()
	r, err := Open(t.Context(), n.db, Options{MasterKey: n.master, Clock: n.clk, Log: testkit.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (n *nodes) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if err := n.db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, sql, args...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestQueriesPrepareOnBothEngines(t *testing.T) {
	engines(t, func(t *testing.T, n *nodes) { must(t, sqldb.PrepareAll(t.Context(), n.db, Queries)) })
}

func TestEnsureFromManyNodesAtOnceMakesOneSetOfKeys(t *testing.T) {
	engines(t, func(t *testing.T, n *nodes) {
		rings := []*Ring{n.a, n.b, n.open(t), n.open(t)}
		var wg sync.WaitGroup
		errs := make(chan error, 64)
		for _, r := range rings {
			for range 4 {
				wg.Go(func() {
					errs <- r.Ensure(t.Context(), "token", ES256)
					errs <- r.Ensure(t.Context(), "refresh", HMAC)
				})
			}
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			must(t, err)
		}
		kid, _, err := n.a.Signer("token")
		must(t, err)
		for _, r := range rings {
			if got, _, err := r.Signer("token"); err != nil || got != kid {
				t.Errorf("signer %s, %v; want %s", got, err, kid)
			}
			if got := len(r.Keys()); got != 4 {
				t.Errorf("%d keys, want current and next of two purposes", got)
			}
		}
		if err := n.a.Ensure(t.Context(), "token", HMAC); err == nil || !strings.Contains(err.Error(), "another purpose") {
			t.Errorf("another algorithm: %v", err)
		}
	})
}

func TestSignatureSurvivesRotationsUntilItsKeyExpires(t *testing.T) {
	engines(t, func(t *testing.T, n *nodes) {
		must(t, n.a.Ensure(t.Context(), "token", ES256, Keep(time.Hour)))
		must(t, n.b.Ensure(t.Context(), "token", ES256, Keep(time.Hour)))
		digest := sha256.Sum256([]byte("hello"))
		sign := func(r *Ring) (kid string, sig []byte) {
			kid, key, err := r.Signer("token")
			must(t, err)
			sig, err = ecdsa.SignASN1(rand.Reader, key, digest[:])
			must(t, err)
			return kid, sig
		}
		verify := func(r *Ring, kid string, sig []byte) bool {
			key, purpose, ok := r.Verifier(kid)
			return ok && purpose == "token" && ecdsa.VerifyASN1(key, digest[:], sig)
		}
		kid1, sig1 := sign(n.a)
		must(t, n.a.Rotate(t.Context(), "token"))
		kid2, sig2 := sign(n.a)
		if kid1 == kid2 {
			t.Fatal("rotation did not change the key")
		}
		// B has not reloaded: it knows the new key because it was the next one.
		for _, r := range []*Ring{n.a, n.b} {
			if !verify(r, kid1, sig1) || !verify(r, kid2, sig2) || verify(r, kid2, sig1) {
				t.Error("a signature does not verify on both sides of a rotation")
			}
		}
		must(t, n.b.Reload(t.Context()))
		if got, _ := sign(n.b); got != kid2 {
			t.Errorf("after Reload B signs with %s, want %s", got, kid2)
		}
		set := n.b.JWKS("token", "unknown")
		if len(set.Keys) != 3 || set.Keys[0].KeyID != kid2 || set.Keys[2].KeyID != kid1 {
			t.Errorf("JWKS %+v", set.Keys)
		}
		for _, k := range set.Keys {
			if !k.IsPublic() || !k.Valid() || k.Use != "sig" || k.Algorithm != "ES256" {
				t.Errorf("JWK %s is not a public signing key", k.KeyID)
			}
		}
		n.clk.Advance(time.Hour)
		if verify(n.b, kid1, sig1) || len(n.b.JWKS("token").Keys) != 2 {
			t.Error("the previous key outlives what it signed")
		}
		if !verify(n.b, kid2, sig2) {
			t.Error("the current key expired")
		}
		n.clk.Advance(time.Millisecond)
		must(t, n.a.Rotate(t.Context(), "token"))
		for _, k := range n.a.Keys() {
			if k.ID == kid1 {
				t.Error("an expired key was not deleted")
			}
		}
	})
}

func TestTwoNodesRotatingAtOnce(t *testing.T) {
	engines(t, func(t *testing.T, n *nodes) {
		must(t, n.a.Ensure(t.Context(), "token", ES256))
		must(t, n.b.Ensure(t.Context(), "token", ES256))
		var wg sync.WaitGroup
		errs := make(chan error, 20)
		for range 5 {
			wg.Go(func() { errs <- n.a.Rotate(t.Context(), "token") })
			wg.Go(func() { errs <- n.b.Rotate(t.Context(), "token") })
		}
		wg.Wait()
		close(errs)
		done := 0
		for err := range errs {
			if err == nil {
				done++
			} else if !errors.Is(err, sqldb.ErrConflict) {
				t.Error(err)
			}
		}
		must(t, n.a.Reload(t.Context()))
		states := map[KeyState]int{}
		for _, k := range n.a.Keys() {
			states[k.State]++
		}
		if done == 0 || states[Current] != 1 || states[Next] != 1 || states[Previous] != done {
			t.Errorf("%d rotations left %v", done, states)
		}
	})
}

func TestRotateTxRollsBackWithItsCaller(t *testing.T) {
	engines(t, func(t *testing.T, n *nodes) {
		must(t, n.a.Ensure(t.Context(), "token", ES256))
		before, _, err := n.a.Signer("token")
		must(t, err)
		refused := errors.New("audit refused")
		err = n.db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			if _, err := n.a.RotateTx(ctx, tx, "token"); err != nil {
				return err
			}
			return refused
		})
		if !errors.Is(err, refused) {
			t.Fatalf("got %v", err)
		}
		must(t, n.a.Reload(t.Context()))
		if after, _, err := n.a.Signer("token"); err != nil || after != before {
			t.Errorf("signer changed to %s, %v", after, err)
		}
		if err := n.a.Rotate(t.Context(), "unheard"); !errors.Is(err, ErrNoPurpose) {
			t.Errorf("rotate of an unknown purpose: %v", err)
		}
	})
}

func TestDrop(t *testing.T) {
	engines(t, func(t *testing.T, n *nodes) {
		must(t, n.a.Ensure(t.Context(), "token", ES256))
		leaked, _, err := n.a.Signer("token")
		must(t, err)
		drop := func(id string) error {
			return n.db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return n.a.Drop(ctx, tx, id) })
		}
		if err := drop(leaked); !errors.Is(err, sqldb.ErrConflict) {
			t.Errorf("drop of the current key: %v", err)
		}
		must(t, n.a.Rotate(t.Context(), "token"))
		must(t, drop(leaked))
		must(t, n.a.Reload(t.Context()))
		if _, _, ok := n.a.Verifier(leaked); ok {
			t.Error("a dropped key verifies")
		}
		if err := drop(leaked); !errors.Is(err, sqldb.ErrNotFound) {
			t.Errorf("drop of an unknown key: %v", err)
		}
	})
}

func TestMACVersions(t *testing.T) {
	engines(t, func(t *testing.T, n *nodes) {
		must(t, n.a.Ensure(t.Context(), "refresh", HMAC))
		must(t, n.b.Ensure(t.Context(), "refresh", HMAC))
		v1, mac1, err := n.a.MAC("refresh", []byte("token"))
		must(t, err)
		index, err := n.a.BlindIndex("refresh", []byte("token"))
		must(t, err)
		if v, err := n.a.MACVersion("refresh"); err != nil || v != v1 {
			t.Errorf("MACVersion = %d, %v; MAC says %d", v, err, v1)
		}
		must(t, n.a.Rotate(t.Context(), "refresh"))
		v2, mac2, err := n.a.MAC("refresh", []byte("token"))
		must(t, err)
		if v, err := n.a.MACVersion("refresh"); err != nil || v != v2 {
			t.Errorf("MACVersion = %d, %v; MAC says %d", v, err, v2)
		}
		if v1 == v2 || bytes.Equal(mac1, mac2) || bytes.Equal(mac1, index) {
			t.Error("two keys made the same MAC")
		}
		n.clk.Advance(10 * 365 * 24 * time.Hour)
		for _, r := range []*Ring{n.a, n.b} {
			if !r.VerifyMAC("refresh", v1, []byte("token"), mac1) || !r.VerifyMAC("refresh", v2, []byte("token"), mac2) {
				t.Error("a MAC does not verify")
			}
			if r.VerifyMAC("refresh", v2, []byte("token"), mac1) || r.VerifyMAC("refresh", v1, []byte("other"), mac1) ||
				r.VerifyMAC("refresh", 99, []byte("token"), mac1) || r.VerifyMAC("refresh", v1, []byte("token"), nil) {
				t.Error("a wrong MAC verifies")
			}
			if got, err := r.BlindIndex("refresh", []byte("token")); err != nil || !bytes.Equal(got, index) {
				t.Errorf("the blind index moved: %v", err)
			}
		}
		if _, err := n.a.MACWith("refresh", 99, nil); !errors.Is(err, ErrNoPurpose) {
			t.Errorf("unknown version: %v", err)
		}
		if _, _, err := n.a.Signer("refresh"); err == nil {
			t.Error("an HMAC purpose signs")
		}
	})
}

func TestKeyRowsCannotBeExchangedOrChanged(t *testing.T) {
	for name, change := range map[string]string{
		"bit flip": `UPDATE secret_key SET wrapped = $1 WHERE purpose = 'p' AND version = 1`,
		"purpose":  `UPDATE secret_key SET purpose = 'r' WHERE purpose = 'p'`,
		"version":  `UPDATE secret_key SET version = version + 5 WHERE purpose = 'p'`,
		"alg":      `UPDATE secret_key SET alg = 'ES256' WHERE purpose = 'p'`,
		"swap":     `UPDATE secret_key SET wrapped = (SELECT wrapped FROM secret_key k WHERE k.purpose = 'q' AND k.version = 1) WHERE purpose = 'p' AND version = 1`,
		"empty":    `UPDATE secret_key SET wrapped = $1 WHERE purpose = 'p'`,
	} {
		t.Run(name, func(t *testing.T) {
			engines(t, func(t *testing.T, n *nodes) {
				must(t, n.a.Ensure(t.Context(), "p", HMAC))
				must(t, n.a.Ensure(t.Context(), "q", HMAC))
				var args []any
				switch name {
				case "empty":
					args = append(args, []byte{})
				case "bit flip":
					var w []byte
					must(t, n.db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
						return q.QueryRowContext(ctx, `SELECT wrapped FROM secret_key WHERE purpose = 'p' AND version = 1`).Scan(&w)
					}))
					w = bytes.Clone(w)
					w[len(w)/2] ^= 1
					args = append(args, w)
				}
				n.exec(t, change, args...)
				if err := n.a.Reload(t.Context()); !errors.Is(err, ErrTampered) {
					t.Errorf("reload: %v, want ErrTampered", err)
				}
				if _, _, err := n.a.MAC("p", nil); err != nil {
					t.Errorf("a failed reload took the keys away: %v", err)
				}
			})
		})
	}
}

func BenchmarkSigner(b *testing.B) {
	r := benchRing(b)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, _, err := r.Signer("token"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkMAC(b *testing.B) {
	r := benchRing(b)
	data := make([]byte, 32)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, _, err := r.MAC("refresh", data); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func benchRing(b *testing.B) *Ring {
	b.Helper()
	db, err := sqldb.Open(b.Context(), sqldb.Options{Dir: b.TempDir()})
	if err == nil {
		err = db.Migrate(b.Context(), Migrations)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	r, err := Open(b.Context(), db, Options{MasterKey: newMasterKey()})
	if err == nil {
		err = errors.Join(r.Ensure(b.Context(), "token", ES256), r.Ensure(b.Context(), "refresh", HMAC))
	}
	if err != nil {
		b.Fatal(err)
	}
	return r
}
