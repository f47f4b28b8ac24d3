package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"landline/internal/audit"
	"landline/internal/clock"
	"landline/internal/observe"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 123_000_000, time.UTC)

func onEngines(t *testing.T, fn func(t *testing.T, db *sqldb.DB, log *audit.Log, clk *clock.Fake)) {
	t.Helper()
	testkit.Engines(t, func(t *testing.T, open func(t *testing.T, m ...sqldb.Migrations) *sqldb.DB) {
		clk := clock.NewFake(start)
		db := open(t, audit.Migrations)
		fn(t, db, audit.New(db, clk), clk)
	})
}

func record(t *testing.T, db *sqldb.DB, log *audit.Log, e audit.Entry) {
	t.Helper()
	if err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return log.Record(ctx, tx, e) }); err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T, log *audit.Log, f audit.Filter) ([]audit.Row, string) {
	t.Helper()
	rows, next, err := log.List(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return rows, next
}

func seqs(rows []audit.Row) []int64 {
	var out []int64
	for _, r := range rows {
		out = append(out, r.Seq)
	}
	return out
}

func TestEveryStatementIsPrepared(t *testing.T) {
	onEngines(t, func(t *testing.T, db *sqldb.DB, _ *audit.Log, _ *clock.Fake) {
		if err := sqldb.PrepareAll(t.Context(), db, audit.Queries); err != nil {
			t.Error(err)
		}
	})
}

func TestAnEntryComesBackAsRecorded(t *testing.T) {
	onEngines(t, func(t *testing.T, db *sqldb.DB, log *audit.Log, _ *clock.Fake) {
		ctx := observe.WithTrace(audit.WithActor(t.Context(), audit.Actor{Type: audit.TypeOperator, ID: "opr_1", IP: "192.0.2.7"}), "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
		err := db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			return log.Record(ctx, tx, audit.Entry{
				Action: "session.revoke", Target: "ses_1", Reason: "asked by the user – ticket 7",
				Before: map[string]any{"state": "active", "n": json.Number("9007199254740993")}, After: map[string]any{"state": "revoked"},
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		record(t, db, log, audit.Entry{Action: "job.purge"})
		rows, next := list(t, log, audit.Filter{})
		if len(rows) != 2 || next != "" {
			t.Fatalf("got %d rows, next %q", len(rows), next)
		}
		r := rows[1]
		want := audit.Row{
			Seq: 1, At: start, Actor: audit.Actor{Type: audit.TypeOperator, ID: "opr_1", IP: "192.0.2.7"}, Action: "session.revoke", Target: "ses_1",
			Reason: "asked by the user – ticket 7", RequestID: "4bf92f3577b34da6a3ce929d0e0e4736",
		}
		before, after := string(r.Before), string(r.After)
		if before != `{"n":9007199254740993,"state":"active"}` || after != `{"state":"revoked"}` {
			t.Errorf("before %s after %s", before, after)
		}
		if len(r.Salt) != 16 || len(r.LeafHash) != 32 {
			t.Errorf("salt of %d, hash of %d bytes", len(r.Salt), len(r.LeafHash))
		}
		r.Before, r.After, r.Salt, r.LeafHash = nil, nil, nil, nil
		if fmt.Sprint(r) != fmt.Sprint(want) {
			t.Errorf("got  %+v\nwant %+v", r, want)
		}
		if sys := rows[0]; sys.Actor != (audit.Actor{Type: audit.TypeSystem}) || sys.Before != nil || sys.After != nil {
			t.Errorf("an entry without an actor is %+v", sys)
		}
	})
}

// The order of seq is the order of commits: a reader that follows the tail never
// sees an entry appear behind one it has read.
func TestSeqIsTheOrderOfCommitsUnderManyWriters(t *testing.T) {
	onEngines(t, func(t *testing.T, db *sqldb.DB, log *audit.Log, _ *clock.Fake) {
		const writers, each = 32, 12
		stop, tailDone := make(chan struct{}), make(chan error, 1)
		go func() { tailDone <- followTail(t.Context(), log, stop) }()
		var wg sync.WaitGroup
		var mu sync.Mutex
		committed := 0
		errFail := errors.New("changed my mind")
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					fail := rand.IntN(4) == 0
					err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
						e := audit.Entry{Actor: audit.Actor{Type: audit.TypeUser, ID: fmt.Sprintf("usr_%d", w)}, Action: "thing.change", Target: fmt.Sprint(i)}
						if err := log.Record(ctx, tx, e); err != nil {
							return err
						}
						if fail {
							return errFail
						}
						return nil
					})
					switch {
					case fail && !errors.Is(err, errFail):
						t.Errorf("the rollback came back as %v", err)
					case !fail && err != nil:
						t.Error(err)
					case !fail:
						mu.Lock()
						committed++
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		close(stop)
		if err := <-tailDone; err != nil {
			t.Error(err)
		}
		n, err := log.Verify(t.Context())
		if err != nil || n != int64(committed) {
			t.Errorf("Verify says %d, %v; committed were %d", n, err, committed)
		}
	})
}

// followTail reads the newest entries again and again; each look must begin
// where the one before ended.
func followTail(ctx context.Context, log *audit.Log, stop <-chan struct{}) error {
	seen := int64(0)
	for {
		last := false
		select {
		case <-stop:
			last = true
		default:
		}
		var fresh []int64
		cursor := ""
		for {
			rows, next, err := log.List(ctx, audit.Filter{Limit: 200, Cursor: cursor})
			if err != nil {
				return err
			}
			for _, r := range rows {
				if r.Seq > seen {
					fresh = append(fresh, r.Seq)
				}
			}
			if cursor = next; next == "" || len(rows) == 0 || rows[len(rows)-1].Seq <= seen {
				break
			}
		}
		slices.Reverse(fresh)
		for _, s := range fresh {
			if s != seen+1 {
				return fmt.Errorf("entry %d became visible before entry %d", s, seen+1)
			}
			seen = s
		}
		if last {
			return nil
		}
	}
}

// Two nodes that settle at once give each entry one place.
func TestNodesSettleTogether(t *testing.T) {
	onEngines(t, func(t *testing.T, db *sqldb.DB, log *audit.Log, clk *clock.Fake) {
		nodes := []*audit.Log{log, audit.New(db, clk), audit.New(db, clk)}
		const n = 450
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for range n / 3 {
					if err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
						return log.Record(ctx, tx, audit.Entry{Action: "a.b"})
					}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for _, node := range nodes {
			wg.Go(func() {
				for range 10 {
					if err := node.Settle(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if got, err := log.Verify(t.Context()); got != n || err != nil {
			t.Errorf("Verify: %d, %v", got, err)
		}
	})
}

// A change that is committed before another begins comes first.
func TestOneAfterTheOtherStaysInOrder(t *testing.T) {
	onEngines(t, func(t *testing.T, db *sqldb.DB, log *audit.Log, clk *clock.Fake) {
		for i := range 250 { // more than one batch
			record(t, db, log, audit.Entry{Action: "a.b", Target: fmt.Sprint(i)})
			clk.Advance(-time.Second) // whatever the clocks say
		}
		var got []string
		for cursor, more := "", true; more; {
			rows, next := list(t, log, audit.Filter{Limit: 200, Cursor: cursor})
			for _, r := range rows {
				got = append(got, r.Target)
			}
			cursor, more = next, next != ""
		}
		slices.Reverse(got)
		for i, target := range got {
			if target != fmt.Sprint(i) {
				t.Fatalf("entry %d is that of change %s", i+1, target)
			}
		}
		if len(got) != 250 {
			t.Errorf("%d entries", len(got))
		}
	})
}

func TestRunSealsInTheBackground(t *testing.T) {
	db := testkit.SQLite(t, audit.Migrations)
	log := audit.New(db, clock.System)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); log.Run(ctx, testkit.Logger(t)) }()
	record(t, db, log, audit.Entry{Action: "a.b"})
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(20 * time.Second); ; <-look.C {
		var staged int
		err := db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
			return q.QueryRowContext(ctx, `SELECT COUNT(*) FROM audit_staged`).Scan(&staged)
		})
		if err != nil {
			t.Fatal(err)
		}
		if staged == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the entry is still not sealed")
		}
	}
	stop()
	<-done
}

func TestARollbackLeavesNoTraceAndNoGap(t *testing.T) {
	onEngines(t, func(t *testing.T, db *sqldb.DB, log *audit.Log, _ *clock.Fake) {
		record(t, db, log, audit.Entry{Action: "a.one"})
		fault := errors.New("no")
		err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			for range 3 {
				if err := log.Record(ctx, tx, audit.Entry{Action: "a.lost"}); err != nil {
					return err
				}
			}
			return fault
		})
		if !errors.Is(err, fault) {
			t.Fatal(err)
		}
		record(t, db, log, audit.Entry{Action: "a.two"})
		rows, _ := list(t, log, audit.Filter{})
		if got := seqs(rows); !slices.Equal(got, []int64{2, 1}) {
			t.Errorf("seqs are %v", got)
		}
		if n, err := log.Verify(t.Context()); n != 2 || err != nil {
			t.Errorf("Verify: %d, %v", n, err)
		}
	})
}

func TestTheDatabaseRefusesTampering(t *testing.T) {
	onEngines(t, func(t *testing.T, db *sqldb.DB, log *audit.Log, _ *clock.Fake) {
		for range 3 {
			record(t, db, log, audit.Entry{Action: "a.b", Target: "x"})
		}
		if err := log.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		record(t, db, log, audit.Entry{Action: "a.staged"})
		columns := `seq, staged_id, at, actor_type, actor_id, actor_ip, action, target, reason, request_id, salt, before_json, after_json, leaf_hash`
		attempts := map[string]string{
			"update":                `UPDATE audit_entry SET target = 'y' WHERE seq = 2`,
			"update nothing new":    `UPDATE audit_entry SET target = target`,
			"delete":                `DELETE FROM audit_entry WHERE seq = 3`,
			"delete all":            `DELETE FROM audit_entry`,
			"insert in the past":    `INSERT INTO audit_entry (` + columns + `) SELECT 0, -1, at, actor_type, actor_id, actor_ip, action, target, reason, request_id, salt, before_json, after_json, leaf_hash FROM audit_entry WHERE seq = 1`,
			"insert past the head":  `INSERT INTO audit_entry (` + columns + `) SELECT 9, -1, at, actor_type, actor_id, actor_ip, action, target, reason, request_id, salt, before_json, after_json, leaf_hash FROM audit_entry WHERE seq = 1`,
			"turn the counter back": `UPDATE audit_head SET size = 2`,
			"jump the counter":      `UPDATE audit_head SET size = size + 2`,
			"delete the counter":    `DELETE FROM audit_head`,
			"change a staged one":   `UPDATE audit_staged SET target = 'y'`,
			"delete a staged one":   `DELETE FROM audit_staged`,
		}
		if db.Engine() == sqldb.Postgres {
			attempts["truncate"] = `TRUNCATE audit_entry`
			attempts["truncate the staged"] = `TRUNCATE audit_staged`
			attempts["truncate the counter"] = `TRUNCATE audit_head`
		} else {
			attempts["replace"] = `REPLACE INTO audit_entry (` + columns + `) SELECT seq, staged_id, at, actor_type, actor_id, actor_ip, action, 'y', reason, request_id, salt, before_json, after_json, leaf_hash FROM audit_entry WHERE seq = 2`
			attempts["replace the last"] = `REPLACE INTO audit_entry (` + columns + `) SELECT seq, staged_id, at, actor_type, actor_id, actor_ip, action, 'y', reason, request_id, salt, before_json, after_json, leaf_hash FROM audit_entry WHERE seq = 3`
		}
		for name, statement := range attempts {
			err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				_, err := tx.ExecContext(ctx, statement)
				return err
			})
			if err == nil {
				t.Errorf("%s went through", name)
			}
		}
		if n, err := log.Verify(t.Context()); n != 4 || err != nil {
			t.Errorf("after all attempts Verify says %d, %v", n, err)
		}
	})
}

// Whoever may drop triggers can still change rows; Verify sees it.
func TestVerifySeesWhatTheTriggersCouldNotStop(t *testing.T) {
	for name, change := range map[string]string{
		"a changed text":     `UPDATE audit_entry SET reason = 'nothing to see' WHERE seq = 2`,
		"a changed document": `UPDATE audit_entry SET after_json = before_json WHERE seq = 2`,
		"a changed time":     `UPDATE audit_entry SET at = at + 1 WHERE seq = 2`,
		"a removed entry":    `DELETE FROM audit_entry WHERE seq = 2`,
		"a cut tail":         `DELETE FROM audit_entry WHERE seq = 3`,
		"an emptied log":     `DELETE FROM audit_entry`,
	} {
		t.Run(name, func(t *testing.T) {
			onEngines(t, func(t *testing.T, db *sqldb.DB, log *audit.Log, _ *clock.Fake) {
				for range 3 {
					record(t, db, log, audit.Entry{Action: "a.b", Target: "x", Before: 1, After: 2})
				}
				if err := log.Settle(t.Context()); err != nil {
					t.Fatal(err)
				}
				drop := []string{`DROP TRIGGER audit_entry_no_update`, `DROP TRIGGER audit_entry_no_delete`}
				if db.Engine() == sqldb.Postgres {
					drop = []string{`DROP TRIGGER audit_entry_no_change ON audit_entry`}
				}
				err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
					for _, s := range append(drop, change) {
						if _, err := tx.ExecContext(ctx, s); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := log.Verify(t.Context()); !errors.Is(err, audit.ErrTampered) {
					t.Errorf("Verify says %v", err)
				}
			})
		})
	}
}

func TestMalformedEntriesAreRefusedWithTheirChange(t *testing.T) {
	db := testkit.SQLite(t, audit.Migrations)
	log := audit.New(db, clock.System)
	for name, e := range map[string]audit.Entry{
		"no action":          {},
		"one word":           {Action: "revoke"},
		"upper case":         {Action: "Session.revoke"},
		"spaces":             {Action: "session. revoke"},
		"long":               {Action: "a." + strings.Repeat("b", 300)},
		"unknown actor type": {Action: "a.b", Actor: audit.Actor{Type: "robot", ID: "1"}},
		"actor without id":   {Action: "a.b", Actor: audit.Actor{Type: audit.TypeUser}},
		"no JSON before":     {Action: "a.b", Before: make(chan int)},
		"no JSON after":      {Action: "a.b", After: func() {}},
	} {
		err := db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return log.Record(ctx, tx, e) })
		if err == nil || !strings.HasPrefix(err.Error(), "audit: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n, err := log.Verify(t.Context()); n != 0 || err != nil {
		t.Errorf("%d entries were left, %v", n, err)
	}
}

func TestTextsAndDocumentsAreBounded(t *testing.T) {
	onEngines(t, func(t *testing.T, db *sqldb.DB, log *audit.Log, _ *clock.Fake) {
		record(t, db, log, audit.Entry{
			Actor: audit.Actor{Type: audit.TypeUser, ID: strings.Repeat("ł", 400)}, Action: "a.b", Target: "bad\xffutf8\x00nul",
			Reason: strings.Repeat("€", 5000), Before: strings.Repeat("x", audit.MaxDocument), After: map[string]string{"nul": "a\x00b"},
		})
		rows, _ := list(t, log, audit.Filter{})
		r := rows[0]
		if len(r.Actor.ID) > 255 || len(r.Reason) > 1000 || !strings.HasSuffix(r.Reason, "€…") {
			t.Errorf("id of %d, reason of %d bytes", len(r.Actor.ID), len(r.Reason))
		}
		if r.Target != "bad�utf8nul" {
			t.Errorf("target %q", r.Target)
		}
		var marker struct {
			Truncated bool
			Bytes     int
			SHA256    string
		}
		if err := json.Unmarshal(r.Before, &marker); err != nil || !marker.Truncated || marker.Bytes != audit.MaxDocument+2 || len(marker.SHA256) != 64 {
			t.Errorf("before is %s (%v)", r.Before, err)
		}
		if string(r.After) != `{"nul":"a\u0000b"}` {
			t.Errorf("after is %s", r.After)
		}
		if n, err := log.Verify(t.Context()); n != 1 || err != nil {
			t.Errorf("Verify: %d, %v", n, err)
		}
	})
}
