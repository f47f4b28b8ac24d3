package quota

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"landline/internal/clock"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

var start = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

func policy(t testing.TB, limit int64, w Window, zone string) *Policy {
	t.Helper()
	p, err := NewPolicy("f/q/user", limit, w, zone)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func node(t testing.TB, db *sqldb.DB, clk clock.Clock) *Meter {
	t.Helper()
	return New(Options{DB: db, Clock: clk, Log: testkit.Logger(t.(*testing.T))})
}

func each(t *testing.T, fn func(t *testing.T, db *sqldb.DB, clk *clock.Fake)) {
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		fn(t, open(t, Migrations), clock.NewFake(start))
	})
}

func take(t testing.TB, m *Meter, key string, policies ...*Policy) (bool, []State) {
	t.Helper()
	checks := make([]Check, len(policies))
	for i, p := range policies {
		checks[i] = Check{p, key}
	}
	states := make([]State, len(checks))
	return m.Take(t.Context(), checks, states), states
}

func TestLimitHoldsOverNodesAndPeriods(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB, clk *clock.Fake) {
		a, b, p := node(t, db, clk), node(t, db, clk), policy(t, 100, Day, "")
		for day := range 2 {
			admitted := 0
			for i := range 150 {
				if ok, st := take(t, []*Meter{a, b}[i%2], "u", p); ok {
					admitted++
				} else if !st[0].Refused || st[0].Reset != 12*time.Hour && day == 0 {
					t.Fatalf("%+v", st)
				}
			}
			// Blocks are on both nodes; what one has left the other cannot give.
			for range 100 {
				if ok, _ := take(t, a, "u", p); ok {
					admitted++
				}
				if ok, _ := take(t, b, "u", p); ok {
					admitted++
				}
			}
			if admitted != 100 {
				t.Errorf("day %d: %d admitted, the limit is 100", day, admitted)
			}
			clk.Advance(12 * time.Hour)
		}
	})
}

func TestParallelNodesNeverExceedTheLimit(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB, clk *clock.Fake) {
		nodes, p := []*Meter{node(t, db, clk), node(t, db, clk)}, policy(t, 300, Month, "")
		var admitted atomic.Int64
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				for range 10 {
					if ok, _ := take(t, nodes[i%2], "u", p); ok {
						admitted.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if n := admitted.Load(); n != 300 {
			t.Errorf("%d of 640 admitted, the limit is 300", n)
		}
	})
}

// Units survive a restart; a stop gives the unused ones back, a crash loses a block at most.
func TestRestartAndCrash(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB, clk *clock.Fake) {
		p := policy(t, 160, Day, "")
		first := node(t, db, clk)
		for range 5 {
			take(t, first, "u", p)
		}
		if err := first.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		second := node(t, db, clk)
		if _, st := take(t, second, "u", p); st[0].Remaining != 154 {
			t.Errorf("after a restart %d remain, want 154", st[0].Remaining)
		}
		third := node(t, db, clk) // the second was killed with its block
		_, st := take(t, third, "u", p)
		if got := st[0].Remaining; got > 153 || got < 153-155/blockShare {
			t.Errorf("after a crash %d remain, want 153 less a block at most", got)
		}
	})
}

func TestRefusedIsChargedToNoQuota(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB, clk *clock.Fake) {
		m := node(t, db, clk)
		wide, err := NewPolicy("f/wide/user", 100, Month, "")
		if err != nil {
			t.Fatal(err)
		}
		tight := policy(t, 2, Day, "")
		for i := range 5 {
			ok, st := take(t, m, "u", wide, tight)
			if want := i < 2; ok != want || st[0].Refused || st[1].Refused == want {
				t.Fatalf("request %d: %v %+v", i+1, ok, st)
			}
		}
		if _, st := take(t, m, "u", wide); st[0].Remaining != 97 {
			t.Errorf("%d remain of the wide one, want 97", st[0].Remaining)
		}
	})
}

func TestIdleUnitsAreGivenBack(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB, clk *clock.Fake) {
		a, b, p := node(t, db, clk), node(t, db, clk), policy(t, 100, Day, "")
		take(t, a, "u", p)
		clk.Advance(idleAfter)
		if err := a.Sweep(t.Context(), idleAfter); err != nil {
			t.Fatal(err)
		}
		if _, st := take(t, b, "u", p); st[0].Remaining != 98 || len(a.entries) != 0 {
			t.Errorf("%d remain, %d entries held", st[0].Remaining, len(a.entries))
		}
		clk.Advance(48 * time.Hour)
		if err := errors.Join(a.Sweep(t.Context(), idleAfter), b.Sweep(t.Context(), idleAfter), a.delete(t.Context())); err != nil {
			t.Fatal(err)
		}
		var rows int
		err := db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
			return q.QueryRowContext(ctx, "SELECT COUNT(*) FROM quota_usage").Scan(&rows)
		})
		if err != nil || rows != 0 || len(b.entries) != 0 {
			t.Errorf("%d rows, %d entries, %v", rows, len(b.entries), err)
		}
	})
}

// Without the database a node goes on counting, to the limit as it knew it, and pays later.
func TestDatabaseThatIsGone(t *testing.T) {
	clk := clock.NewFake(start)
	db := testkit.SQLite(t, Migrations)
	m, p := node(t, db, clk), policy(t, 10, Day, "")
	take(t, m, "u", p)
	drop := func(from, to string) {
		err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.ExecContext(ctx, "ALTER TABLE "+from+" RENAME TO "+to)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	drop("quota_usage", "hidden")
	admitted := 1
	for range 20 {
		if ok, _ := take(t, m, "u", p); ok {
			admitted++
		}
	}
	if admitted != 10 {
		t.Errorf("%d admitted, want 10", admitted)
	}
	drop("hidden", "quota_usage")
	clk.Advance(restFor + lookAgain)
	if ok, _ := take(t, m, "u", p); ok {
		t.Error("what was admitted alone was forgotten")
	}
	if ok, _ := take(t, node(t, db, clk), "u", p); ok {
		t.Error("what was admitted alone was not paid")
	}
}

func TestPeriods(t *testing.T) {
	for _, c := range []struct {
		window          Window
		zone            string
		now, begin, end string
	}{
		{Day, "", "2026-03-10T12:00:00Z", "2026-03-10T00:00:00Z", "2026-03-11T00:00:00Z"},
		{Day, "Europe/Warsaw", "2026-03-10T23:30:00Z", "2026-03-10T23:00:00Z", "2026-03-11T23:00:00Z"},
		{Day, "Europe/Warsaw", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"}, // 23 hours
		{Day, "Europe/Warsaw", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"}, // 25 hours
		{Month, "Asia/Tokyo", "2026-12-31T14:59:59Z", "2026-11-30T15:00:00Z", "2026-12-31T15:00:00Z"},
		{Month, "", "2026-02-28T23:59:59Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"},
	} {
		now, err := time.Parse(time.RFC3339, c.now)
		if err != nil {
			t.Fatal(err)
		}
		begin, end := policy(t, 1, c.window, c.zone).Period(now)
		if got := begin.UTC().Format(time.RFC3339); got != c.begin {
			t.Errorf("%s %s at %s begins %s, want %s", c.window, c.zone, c.now, got, c.begin)
		}
		if got := end.UTC().Format(time.RFC3339); got != c.end {
			t.Errorf("%s %s at %s ends %s, want %s", c.window, c.zone, c.now, got, c.end)
		}
	}
	for _, bad := range []func() (*Policy, error){
		func() (*Policy, error) { return NewPolicy("x", 0, Day, "") },
		func() (*Policy, error) { return NewPolicy("x", 1, "year", "") },
		func() (*Policy, error) { return NewPolicy("x", 1, Day, "Nowhere/City") },
		func() (*Policy, error) { return NewPolicy("x", 1, Day, "Local") },
	} {
		if _, err := bad(); err == nil {
			t.Error("accepted")
		}
	}
}

// Nodes that come and go, crash and let units lie never admit more than the
// limit, and all of it as long as none crashes.
func TestMetersMatchModel(t *testing.T) {
	db := testkit.SQLite(t, Migrations)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		clk := clock.NewFake(start)
		limit := rapid.Int64Range(1, 60).Draw(rt, "limit")
		p, err := NewPolicy(fmt.Sprint("model", run), limit, Day, "")
		if err != nil {
			rt.Fatal(err)
		}
		nodes := []*Meter{node(t, db, clk), node(t, db, clk)}
		admitted, crashed := int64(0), false
		for range rapid.IntRange(1, 120).Draw(rt, "steps") {
			i := rapid.IntRange(0, 1).Draw(rt, "node")
			switch rapid.IntRange(0, 30).Draw(rt, "what") {
			case 0:
				nodes[i], crashed = node(t, db, clk), true
			case 1:
				if err := nodes[i].Stop(t.Context()); err != nil {
					rt.Fatal(err)
				}
				nodes[i] = node(t, db, clk)
			case 2:
				clk.Advance(idleAfter)
				if err := nodes[i].Sweep(t.Context(), idleAfter); err != nil {
					rt.Fatal(err)
				}
			default:
				if ok, _ := take(t, nodes[i], "u", p); ok {
					admitted++
				}
			}
			if admitted > limit {
				rt.Fatalf("%d admitted, the limit is %d", admitted, limit)
			}
		}
		if crashed {
			return
		}
		for range limit {
			clk.Advance(2 * lookAgain)
			for _, n := range nodes {
				if ok, _ := take(t, n, "u", p); ok {
					admitted++
				}
			}
		}
		if admitted != limit {
			rt.Fatalf("%d admitted in all, the limit is %d", admitted, limit)
		}
	})
}
