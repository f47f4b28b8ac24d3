package apikey

import (
	"strings"
	"testing"
	"time"

	"landline/internal/audit"
	"landline/internal/bus"
	"landline/internal/clock"
	"landline/internal/limit"
	"landline/internal/problem"
	"landline/internal/secret"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

type world struct {
	clk   *clock.Fake
	ring  *secret.Ring
	audit *audit.Log
	nodes []*Keys
}

// open starts two nodes on one database.
func open(t *testing.T, db *sqldb.DB) *world {
	t.Helper()
	w := &world{clk: clock.NewFake(time.Now())}
	var err error
	if w.ring, err = secret.Open(t.Context(), db, secret.Options{Dir: t.TempDir(), Clock: w.clk, Log: testkit.Logger(t)}); err != nil {
		t.Fatal(err)
	}
	w.audit = audit.New(db, w.clk)
	news := bus.NewMemory()
	t.Cleanup(func() {
		if err := news.Close(); err != nil {
			t.Error(err)
		}
	})
	for range 2 {
		k, err := Open(t.Context(), Options{DB: db, Ring: w.ring, Bus: news, Audit: w.audit, Clock: w.clk, Log: testkit.Logger(t)})
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := k.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
		w.nodes = append(w.nodes, k)
	}
	return w
}

func each(t *testing.T, fn func(t *testing.T, w *world)) {
	testkit.Engines(t, func(t *testing.T, openDB func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		fn(t, open(t, openDB(t, secret.Migrations, audit.Migrations, Migrations)))
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("never happened: " + what)
		}
	}
}

func TestKeyIsKnownEverywhereUntilItEnds(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b := w.nodes[0], w.nodes[1]
		key, token, err := a.Make(t.Context(), New{Name: "partner", Rate: &limit.Rate{Limit: 10, Window: time.Minute, Burst: 2}, Reason: "contract 7"})
		if err != nil || !strings.HasPrefix(token, TokenPrefix) {
			t.Fatal(token, err)
		}
		got, err := a.Find(token)
		if err != nil || got.ID != key.ID || got.Name != "partner" || got.Pace() == nil || got.Rate.Burst != 2 {
			t.Fatalf("%+v, %v", got, err)
		}
		eventually(t, "the other node knows the key", func() bool { _, err := b.Find(token); return err == nil })
		for _, wrong := range []string{"", "llk_", token[:len(token)-1], token + "A", strings.Replace(token, "llk_", "llo_", 1), newToken()} {
			if _, err := a.Find(wrong); err == nil {
				t.Errorf("%q was accepted", wrong)
			}
		}
		if err := a.End(t.Context(), key.ID, "leaked"); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Find(token); err == nil {
			t.Error("the node that ended the key still takes it")
		}
		eventually(t, "the other node refuses the key", func() bool { _, err := b.Find(token); return err != nil })
		if err := a.End(t.Context(), key.ID, ""); !problem.HasCode(err, problem.NotFound) {
			t.Errorf("ended twice: %v", err)
		}
		all, next, err := b.List(t.Context(), 1, "")
		if err != nil || len(all) != 1 || next != "" || all[0].DisabledAt.IsZero() {
			t.Errorf("%v, %q, %v", all, next, err)
		}
		entries, _, err := w.audit.List(t.Context(), audit.Filter{})
		if err != nil || len(entries) != 2 {
			t.Fatalf("%d audit entries, %v", len(entries), err)
		}
		for _, e := range entries {
			if strings.Contains(string(e.After)+string(e.Before), token) || e.Target != key.ID || e.Reason == "" {
				t.Errorf("%+v", e)
			}
		}
	})
}

func TestNamesAreUniqueAmongLiveKeys(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		k := w.nodes[0]
		first, _, err := k.Make(t.Context(), New{Name: "x"})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := k.Make(t.Context(), New{Name: "x"}); !problem.HasCode(err, problem.Conflict) {
			t.Errorf("a second x: %v", err)
		}
		if err := k.End(t.Context(), first.ID, ""); err != nil {
			t.Fatal(err)
		}
		if _, _, err := k.Make(t.Context(), New{Name: "x"}); err != nil {
			t.Errorf("x again, after the first ended: %v", err)
		}
		for _, n := range []New{{Name: ""}, {Name: "Big"}, {Name: "y", Rate: &limit.Rate{Limit: 1}}, {Name: "z", ExpiresAt: w.clk.Now().Add(-time.Second)}} {
			if _, _, err := k.Make(t.Context(), n); !problem.HasCode(err, problem.InvalidRequest) {
				t.Errorf("%+v: %v", n, err)
			}
		}
	})
}

func TestKeyExpiresAndOutlivesRotation(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		k := w.nodes[0]
		_, short, err := k.Make(t.Context(), New{Name: "short", ExpiresAt: w.clk.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		_, long, err := k.Make(t.Context(), New{Name: "long"})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // keys of the ring are announced one rotation ahead
			if err := w.ring.Rotate(t.Context(), purpose); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := k.Make(t.Context(), New{Name: "newer"}); err != nil {
			t.Fatal(err)
		}
		for name, token := range map[string]string{"short": short, "long": long} {
			if got, err := k.Find(token); err != nil || got.Name != name {
				t.Errorf("%s after a rotation: %+v, %v", name, got, err)
			}
		}
		w.clk.Advance(time.Hour)
		if _, err := k.Find(short); err == nil {
			t.Error("an expired key was accepted")
		}
		if _, err := k.Find(long); err != nil {
			t.Error(err)
		}
	})
}

// Keys stored under a version of the ring that this node does not know, or that
// was dropped, must not keep the good ones from being found.
func TestUnknownVersionHidesNoOtherKey(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		k := w.nodes[0]
		_, token, err := k.Make(t.Context(), New{Name: "good"})
		if err != nil {
			t.Fatal(err)
		}
		next := &index{byVersion: map[int]map[string]*Key{997: {}, 998: {}, 999: {}}, count: 1}
		for version, keys := range k.live.Load().byVersion {
			next.byVersion[version] = keys
		}
		k.live.Store(next)
		for range 50 { // a map is walked in another order each time
			if _, err := k.Find(token); err != nil {
				t.Fatal(err)
			}
		}
	})
}
