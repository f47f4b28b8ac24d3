package sqldb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"landline/internal/sqldb"
	"landline/internal/testkit"
)

func adding(id string) sqldb.Statement {
	return sqldb.Statement{Text: `INSERT INTO thing (id, n) VALUES ($1, $2) ON CONFLICT DO NOTHING`, Args: []any{id, 1}}
}

func addingPart(id, thing string) sqldb.Statement {
	return sqldb.Statement{Text: `INSERT INTO part (id, thing) VALUES ($1, $2) ON CONFLICT DO NOTHING`, Args: []any{id, thing}}
}

// addPair adds a thing with its part, by the one way or the other.
func addPair(ctx context.Context, db *sqldb.DB, id string, together bool) error {
	if together {
		unmet, err := db.WriteAll(ctx, []sqldb.Statement{adding(id), addingPart(id, id)})
		if err == nil && unmet != sqldb.Met {
			return fmt.Errorf("condition %d of %s does not hold", unmet, id)
		}
		return err
	}
	return db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := insert(id)(ctx, tx); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO part (id, thing) VALUES ($1, $2)`, id, id)
		return err
	})
}

// sharing opens both engines so that who writes while held holds shares what comes after.
func sharing(t *testing.T, fn func(t *testing.T, db *sqldb.DB)) {
	t.Run(sqldb.SQLite, func(t *testing.T) { fn(t, testkit.SQLite(t, things)) })
	t.Run(sqldb.Postgres, func(t *testing.T) { // the loop waits for the one connection
		fn(t, testkit.Open(t, sqldb.Options{URL: testkit.PostgresURL(t), MaxConns: 1}, things))
	})
}

type verdict struct {
	unmet int
	err   error
}

// together runs all as callers of one transaction, behind a first that is taken up alone.
func together(t *testing.T, db *sqldb.DB, all ...[]sqldb.Statement) []verdict {
	t.Helper()
	release := held(t, db)
	defer release()
	all = append([][]sqldb.Statement{{adding("first")}}, all...)
	got := make([]verdict, len(all))
	var wg sync.WaitGroup
	for i, one := range all {
		wg.Go(func() { got[i].unmet, got[i].err = db.WriteAll(context.WithoutCancel(t.Context()), one) })
		waitFor(t, "the caller to be in line", func() bool { return db.Stats().Waiting == i+1 })
	}
	release()
	wg.Wait()
	if got[0] != (verdict{sqldb.Met, nil}) {
		t.Errorf("the first caller got %v", got[0])
	}
	return got[1:]
}

func TestWriteAll(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		db := open(t, things)
		run := func(want int, wantErr error, all ...sqldb.Statement) {
			t.Helper()
			unmet, err := db.WriteAll(t.Context(), all)
			if !errors.Is(err, wantErr) || err == nil && unmet != want {
				t.Errorf("WriteAll = %d, %v; want %d, %v", unmet, err, want, wantErr)
			}
		}
		run(sqldb.Met, nil)
		run(sqldb.Met, nil, adding("a"), adding("b"))
		run(0, nil, adding("a"), adding("c"))
		run(1, nil, adding("c"), adding("a"), adding("d"))
		run(1, nil, adding("c"), sqldb.Statement{Text: `UPDATE thing SET n = 9`}) // more than one row is not one
		wantIDs(t, db, "a", "b")
		var id, name sql.NullString
		var text string
		var n int
		var big int64
		run(sqldb.Met, nil, sqldb.Statement{Text: `UPDATE thing SET n = n + 1 WHERE id > $1`, Args: []any{""}, Any: true},
			sqldb.Statement{Text: `UPDATE thing SET n = n + $1 WHERE id = $2 RETURNING id, name, id, n, n`, Args: []any{1 << 40, "b"}, Into: []any{&id, &name, &text, &n, &big}})
		if id.String != "b" || name.Valid || text != "b" || n != 1<<40+2 || big != int64(n) {
			t.Errorf("returned %v %v %q %d %d", id, name, text, n, big)
		}
		run(0, nil, sqldb.Statement{Text: `UPDATE thing SET n = 5 WHERE id = $1 RETURNING n`, Args: []any{"nobody"}, Into: []any{&n}})
		run(0, sqldb.ErrText, sqldb.Statement{Text: `UPDATE thing SET name = $1`, Args: []any{"\x00"}, Any: true})
		run(0, sqldb.ErrConflict, adding("c"), sqldb.Statement{Text: `INSERT INTO thing (id, n) VALUES ('a', 1)`})
		run(0, sqldb.ErrConflict, adding("c"), addingPart("p", "nobody"))
		for name, bad := range map[string]sqldb.Statement{
			"NULL into a text": {Text: `UPDATE thing SET n = 1 WHERE id = 'a' RETURNING name`, Into: []any{&text}},
			"a place missing":  {Text: `UPDATE thing SET n = 1 WHERE id = 'a' RETURNING id, n`, Into: []any{&text}},
			"no such column":   {Text: `UPDATE thing SET nn = 1`, Any: true},
		} {
			if _, err := db.WriteAll(t.Context(), []sqldb.Statement{adding("c"), bad}); err == nil {
				t.Errorf("%s: no error", name)
			}
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := db.WriteAll(gone, []sqldb.Statement{adding("c")}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled before: %v", err)
		}
		wantIDs(t, db, "a", "b")
	})
}

// One caller of a shared transaction fails in every way there is; those before
// and after it must not notice.
func TestWhoFailsAmongOthersFailsAlone(t *testing.T) {
	for name, c := range map[string]struct {
		poison []sqldb.Statement
		unmet  int
		err    bool
	}{
		"unmet at once":                    {[]sqldb.Statement{adding("before"), adding("poison")}, 0, false},
		"unmet after it wrote":             {[]sqldb.Statement{adding("poison"), adding("before")}, 1, false},
		"a constraint":                     {[]sqldb.Statement{adding("poison"), {Text: `INSERT INTO thing (id, n) VALUES ('before', 1)`}}, 0, true},
		"a constraint, nothing written":    {[]sqldb.Statement{{Text: `INSERT INTO thing (id, n) VALUES ('before', 1)`}}, 0, true},
		"a deferred constraint":            {[]sqldb.Statement{adding("poison"), addingPart("p", "nobody")}, 0, true},
		"no statement at all":              {[]sqldb.Statement{adding("poison"), {Text: `SELEC`}}, 0, true},
		"too few arguments":                {[]sqldb.Statement{adding("poison"), {Text: `UPDATE thing SET n = $1, name = $2`, Args: []any{1}, Any: true}}, 0, true},
		"a result that does not fit":       {[]sqldb.Statement{{Text: `INSERT INTO thing (id, n) VALUES ('poison', 1) RETURNING id`, Into: []any{new(int64)}}}, 0, true},
		"unmet by what a neighbour undoes": {[]sqldb.Statement{{Text: `DELETE FROM thing WHERE id = 'first'`}, {Text: `DELETE FROM thing WHERE id = 'first'`}}, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			sharing(t, func(t *testing.T, db *sqldb.DB) {
				got := together(t, db, []sqldb.Statement{adding("before"), addingPart("b", "before")}, c.poison, []sqldb.Statement{adding("after")})
				if ok := (verdict{sqldb.Met, nil}); got[0] != ok || got[2] != ok {
					t.Errorf("the neighbours got %v and %v", got[0], got[2])
				}
				if (got[1].err != nil) != c.err || !c.err && got[1].unmet != c.unmet {
					t.Errorf("the poisoned caller got %v", got[1])
				}
				wantIDs(t, db, "after", "before", "first")
				if _, err := db.WriteAll(t.Context(), []sqldb.Statement{adding("later")}); err != nil {
					t.Errorf("the next write: %v", err)
				}
			})
		})
	}
}

// Of callers who want the same in one transaction one gets it, and those who do
// not can read it.
func TestOneOfManyInATransactionWins(t *testing.T) {
	sharing(t, func(t *testing.T, db *sqldb.DB) {
		var all [][]sqldb.Statement
		for i := range 6 {
			all = append(all, []sqldb.Statement{adding("wanted"), adding(fmt.Sprint("own-", i))}, []sqldb.Statement{adding(fmt.Sprint("mine-", i)), addingPart("p", "wanted")})
		}
		won := map[string]int{}
		for i, v := range together(t, db, all...) {
			if v.err != nil {
				t.Error(v.err)
			}
			if v.unmet == sqldb.Met {
				won[[]string{"thing", "part"}[i%2]]++
			}
		}
		if won["thing"] != 1 || won["part"] != 1 {
			t.Errorf("winners: %v", won)
		}
		if got := ids(t, db); len(got) != 4 { // first, wanted, and one of each winner's own
			t.Errorf("things %q", got)
		}
	})
}

// Who has lost to a neighbour hears of it when the neighbour's work can be read,
// so that who then looks again does not find what it found before, again and again
// within the transaction that decides.
func TestWhoHasLostCanReadWhoWon(t *testing.T) {
	sharing(t, func(t *testing.T, db *sqldb.DB) {
		release := held(t, db)
		defer release()
		ctx := context.WithoutCancel(t.Context())
		lost := errors.New("lost")
		var wins atomic.Int64
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				var err error
				if own := fmt.Sprint("own-", i); i%2 == 0 { // writes before it loses
					var unmet int
					if unmet, err = db.WriteAll(ctx, []sqldb.Statement{adding(own), adding("wanted")}); err == nil && unmet != sqldb.Met {
						err = lost
					}
				} else {
					err = db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
						if err := insert(own)(ctx, tx); err != nil {
							return err
						}
						n, err := tx.ExecContext(ctx, `INSERT INTO thing (id, n) VALUES ('wanted', 1) ON CONFLICT DO NOTHING`)
						if err != nil {
							return err
						}
						if k, err := n.RowsAffected(); err != nil || k == 0 {
							return errors.Join(lost, err)
						}
						return nil
					})
				}
				switch {
				case err == nil:
					wins.Add(1)
				case !errors.Is(err, lost):
					t.Error(err)
				case !slices.Contains(ids(t, db), "wanted"):
					t.Errorf("caller %d has lost to something that it cannot read", i)
				}
			})
			waitFor(t, "the caller to be in line", func() bool { return db.Stats().Waiting == i+1 })
		}
		release()
		wg.Wait()
		if wins.Load() != 1 {
			t.Errorf("%d winners", wins.Load())
		}
	})
}

// A compare-and-set that many try in both ways of writing counts each success once.
func TestCompareAndSetInBothWays(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		db := open(t, things)
		if _, err := db.WriteAll(t.Context(), []sqldb.Statement{adding("sum")}); err != nil {
			t.Fatal(err)
		}
		var done atomic.Int64
		var wg sync.WaitGroup
		for c := range 12 {
			wg.Go(func() {
				for range 10 {
					if c%4 == 0 {
						err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
							var n int64
							if err := tx.QueryRowContext(ctx, `SELECT n FROM thing WHERE id = 'sum'`).Scan(&n); err != nil {
								return err
							}
							_, err := tx.ExecContext(ctx, `UPDATE thing SET n = $1 WHERE id = 'sum'`, n+1)
							return err
						})
						if err == nil {
							done.Add(1)
						} else if !errors.Is(err, sqldb.ErrBusy) {
							t.Error(err)
						}
						continue
					}
					n, err := scalar[int64](t, db, `SELECT n FROM thing WHERE id = 'sum'`)
					if err != nil {
						t.Error(err)
						return
					}
					unmet, err := db.WriteAll(t.Context(), []sqldb.Statement{
						{Text: `UPDATE thing SET n = n + 1 WHERE id = 'sum' AND n = $1`, Args: []any{n}},
						{Text: `INSERT INTO thing (id, n) VALUES ($1, 0)`, Args: []any{fmt.Sprintf("%d-%d", c, n)}},
					})
					if err == nil && unmet == sqldb.Met {
						done.Add(1)
					} else if err != nil && !errors.Is(err, sqldb.ErrBusy) {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if n, err := scalar[int64](t, db, `SELECT n FROM thing WHERE id = 'sum'`); err != nil || n != done.Load()+1 {
			t.Errorf("the sum is %d, %v; %d were told that they had added to it", n, err, done.Load())
		}
	})
}

func TestStatementsShareFewCommits(t *testing.T) {
	sharing(t, func(t *testing.T, db *sqldb.DB) {
		before := db.Stats()
		var all [][]sqldb.Statement
		for i := range 20 {
			all = append(all, []sqldb.Statement{adding(fmt.Sprint(i))})
		}
		together(t, db, all...)
		if s := db.Stats(); s.Writes-before.Writes != 21 || s.Commits-before.Commits > 2 {
			t.Errorf("%d writes in %d commits", s.Writes-before.Writes, s.Commits-before.Commits)
		}
	})
}

// A caller that leaves the line has written nothing; a line that is full and a
// database that is closed say so.
func TestStatementsThatAreNotRun(t *testing.T) {
	for _, engine := range []string{sqldb.SQLite, sqldb.Postgres} {
		t.Run(engine, func(t *testing.T) {
			o := sqldb.Options{Dir: t.TempDir(), Queue: 2, MaxConns: 1}
			if engine == sqldb.Postgres {
				o.URL = testkit.PostgresURL(t)
			}
			db := testkit.Open(t, o, things)
			release := held(t, db)
			defer release()
			if engine == sqldb.Postgres { // one is taken up, and waits for the connection
				go db.WriteAll(context.WithoutCancel(t.Context()), []sqldb.Statement{adding("taken up")}) //nolint:errcheck // seen below
				waitFor(t, "it to be taken up", func() bool { return db.Stats().Waiting == 1 && db.InLine() == 0 })
			}
			ctx, cancel := context.WithCancel(t.Context())
			left := make(chan error, 2)
			for range 2 {
				go func() {
					_, err := db.WriteAll(ctx, []sqldb.Statement{adding("left")})
					left <- err
				}()
			}
			waiting := 2
			if engine == sqldb.Postgres {
				waiting = 3
			}
			waitFor(t, "both to be in line", func() bool { return db.Stats().Waiting == waiting })
			if _, err := db.WriteAll(t.Context(), []sqldb.Statement{adding("too many")}); !errors.Is(err, sqldb.ErrBusy) {
				t.Errorf("a full line: %v", err)
			}
			cancel()
			for range 2 {
				if err := <-left; !errors.Is(err, context.Canceled) {
					t.Errorf("left: %v", err)
				}
			}
			release()
			waitFor(t, "the line to be empty", func() bool { return db.Stats().Waiting == 0 })
			if err := addPair(t.Context(), db, "then", true); err != nil {
				t.Error(err)
			}
			want := []string{"then"}
			if engine == sqldb.Postgres {
				want = []string{"taken up", "then"}
			}
			wantIDs(t, db, want...)
		})
	}
}

// A caller that waits for a lock holds up those it shares with for a moment only.
func TestWhoWaitsForALockWaitsAlone(t *testing.T) {
	db := testkit.Open(t, sqldb.Options{URL: testkit.PostgresURL(t), MaxConns: 4}, things)
	if err := db.Write(t.Context(), insert("locked")); err != nil {
		t.Fatal(err)
	}
	locked, letGo, over := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		over <- db.Write(context.WithoutCancel(t.Context()), func(ctx context.Context, tx *sqldb.Tx) error {
			if _, err := tx.ExecContext(ctx, `UPDATE thing SET name = 'held' WHERE id = 'locked'`); err != nil {
				return err
			}
			close(locked)
			<-letGo
			return errors.New("changed my mind")
		})
	}()
	<-locked
	waits := make(chan verdict, 1)
	go func() {
		unmet, err := db.WriteAll(context.WithoutCancel(t.Context()), []sqldb.Statement{{Text: `UPDATE thing SET n = 7 WHERE id = 'locked'`}})
		waits <- verdict{unmet, err}
	}()
	for i := range 5 {
		if err := addPair(t.Context(), db, fmt.Sprint("free-", i), true); err != nil {
			t.Error(err)
		}
	}
	select {
	case v := <-waits:
		t.Errorf("it did not wait for the lock: %v", v)
	default:
	}
	close(letGo)
	if err := <-over; err == nil {
		t.Error("the holder has committed")
	}
	if v := <-waits; v != (verdict{sqldb.Met, nil}) {
		t.Errorf("with the lock free: %v", v)
	}
	if n, err := scalar[int64](t, db, `SELECT n FROM thing WHERE id = 'locked'`); err != nil || n != 7 {
		t.Error(n, err)
	}
}

func TestALineCutAtASharedCommit(t *testing.T) {
	p, proxied := newProxy(t, testkit.PostgresURL(t))
	db := testkit.Open(t, sqldb.Options{URL: proxied, MaxConns: 2}, things)
	for _, when := range []string{"before commit", "after commit"} {
		p.cut.Store(when)
		_, err := db.WriteAll(t.Context(), []sqldb.Statement{adding(when)})
		wantErr(t, err, sqldb.ErrUncertain)
		wantErr(t, err, sqldb.ErrUnavailable)
		p.cut.Store("")
	}
	for range 3 { // all that is open is cut, which nobody has noticed
		if err := addPair(t.Context(), db, fmt.Sprint("back-", time.Now().UnixNano()), true); err != nil {
			t.Errorf("with the line back: %v", err)
		}
		p.drop()
	}
	if got := ids(t, db); len(got) != 4 || got[0] != "after commit" {
		t.Errorf("things %q", got)
	}
}

// Many groups at once, on a server that gives each a connection.
func TestACrowdOfStatements(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		db := open(t, things)
		var wg sync.WaitGroup
		for c := range 300 {
			wg.Go(func() {
				for i := range 3 {
					if err := addPair(t.Context(), db, fmt.Sprintf("%03d-%d", c, i), true); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if n, err := scalar[int64](t, db, `SELECT COUNT(*) FROM thing t JOIN part p ON p.thing = t.id`); err != nil || n != 900 {
			t.Error(n, err)
		}
	})
}
