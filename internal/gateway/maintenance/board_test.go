package maintenance

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"landline/internal/audit"
	"landline/internal/bus"
	"landline/internal/clock"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestStatementsPrepare(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(*testing.T, ...sqldb.Migrations) *sqldb.DB) {
		if err := sqldb.PrepareAll(t.Context(), open(t, Migrations), Queries); err != nil {
			t.Fatal(err)
		}
	})
}

// node is a Board of its own on a shared database.
func node(t *testing.T, db *sqldb.DB, b bus.Bus, clk clock.Clock) *Board {
	t.Helper()
	board := New(Options{DB: db, Bus: b, Audit: audit.New(db, clk), Clock: clk, Log: testkit.Logger(t), Features: func() []string { return []string{"search"} }})
	if err := board.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := board.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return board
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("never happened: %s", what)
		case <-tick.C:
		}
	}
}

func TestSwitchesReachEveryNodeAndSurviveARestart(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(*testing.T, ...sqldb.Migrations) *sqldb.DB) {
		db, clk, news := open(t, audit.Migrations, Migrations), clock.NewFake(start), bus.NewMemory()
		t.Cleanup(func() { news.Close() })
		one, two := node(t, db, news, clk), node(t, db, news, clk)
		if one.State() != nil {
			t.Fatal("something is switched at first")
		}
		n := Notice{Title: "Back at four", Message: "New servers.", Until: start.Add(time.Hour), RetryAfter: 5 * time.Minute, Allow: []string{"search"}}
		if _, err := one.Set(t.Context(), "", n, "move"); err != nil {
			t.Fatal(err)
		}
		if _, err := one.Set(t.Context(), "search", Notice{}, ""); err != nil {
			t.Fatal(err)
		}
		if s := one.State(); s == nil || s.App == nil || s.App.Message != "New servers." || s.Features["search"] == nil {
			t.Fatalf("this node knows at once: %+v", s)
		}
		eventually(t, "the other node learns by the bus", func() bool { s := two.State(); return s != nil && s.App != nil && s.Features["search"] != nil })
		if got := *two.State().App; got.Title != n.Title || !got.Until.Equal(n.Until) || got.RetryAfter != n.RetryAfter || len(got.Allow) != 1 {
			t.Errorf("stored %+v, want %+v", got, n)
		}
		again := node(t, db, news, clk)
		if s := again.State(); s == nil || len(again.Switches()) != 2 {
			t.Fatalf("after a restart: %+v", s)
		}
		if err := two.Clear(t.Context(), "search", ""); err != nil {
			t.Fatal(err)
		}
		if err := two.Clear(t.Context(), "", "done"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the end arrives", func() bool { return one.State() == nil })
		if err := two.Clear(t.Context(), "", ""); !errors.Is(err, sqldb.ErrNotFound) {
			t.Errorf("a switch that is not set: %v", err)
		}
		rows, _, err := audit.New(db, clk).List(t.Context(), audit.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, r := range rows {
			told = append(told, r.Action+" "+r.Target)
		}
		slices.Sort(told)
		if got := strings.Join(told, ", "); got != "maintenance.off app, maintenance.off search, maintenance.on app, maintenance.on search" {
			t.Errorf("audited: %s", got)
		}
	})
}

func TestANodeWithoutTheBusPolls(t *testing.T) {
	db := testkit.Postgres(t, audit.Migrations, Migrations)
	clk := clock.NewFake(start)
	deaf, other := bus.NewMemory(), bus.NewMemory()
	t.Cleanup(func() { deaf.Close(); other.Close() })
	one, two := node(t, db, deaf, clk), node(t, db, other, clk)
	began := time.Now()
	if _, err := one.Set(t.Context(), "search", Notice{}, ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other node polls", func() bool { return two.State() != nil })
	t.Logf("seen after %s", time.Since(began))
}

func TestProblemSaysWhatAnAppShows(t *testing.T) {
	for name, c := range map[string]struct {
		n           Notice
		least, most time.Duration
		body        []string
	}{
		"nothing said":          {Notice{}, time.Minute, 66 * time.Second, []string{`"title":"Maintenance"`, `"until":null`, DefaultMessage}},
		"an end":                {Notice{Until: start.Add(10 * time.Minute), Title: "Back soon"}, 10 * time.Minute, 11 * time.Minute, []string{`"until":"2026-03-01T12:10:00Z"`, `"title":"Back soon"`}},
		"look again earlier":    {Notice{Until: start.Add(time.Hour), RetryAfter: time.Minute}, time.Minute, 66 * time.Second, nil},
		"never after the end":   {Notice{Until: start.Add(time.Minute), RetryAfter: time.Hour}, time.Minute, 66 * time.Second, nil},
		"spread is bounded":     {Notice{RetryAfter: 2 * time.Hour}, 2 * time.Hour, 2*time.Hour + 30*time.Second, nil},
		"the end is a blink":    {Notice{Until: start.Add(time.Millisecond)}, time.Second, 2 * time.Second, nil},
		"message is the detail": {Notice{Message: "Hold on."}, time.Minute, 66 * time.Second, []string{`"detail":"Hold on."`, `"message":"Hold on."`, `"code":"maintenance"`}},
	} {
		t.Run(name, func(t *testing.T) {
			p := c.n.Problem(start)
			if p.Status() != 503 || p.RetryAfter < c.least || p.RetryAfter > c.most {
				t.Errorf("%d, retry after %s", p.Status(), p.RetryAfter)
			}
			body := string(p.Body("/x", "", ""))
			for _, want := range c.body {
				if !strings.Contains(body, want) {
					t.Errorf("%s does not hold %s", body, want)
				}
			}
		})
	}
}

func TestActive(t *testing.T) {
	n := &Notice{From: start, Until: start.Add(time.Hour)}
	for at, want := range map[time.Duration]bool{-time.Second: false, 0: true, 59 * time.Minute: true, time.Hour: false} {
		if got := n.Active(start.Add(at)); got != want {
			t.Errorf("%s after the beginning: %v", at, got)
		}
	}
	if (*Notice)(nil).Active(start) || !(&Notice{}).Active(start) {
		t.Error("no notice holds, or one without bounds does not")
	}
}
