package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"landline/internal/module"
	"landline/internal/sqldb"
)

// keeper is a capability with consents, a ledger and flags of people, as the
// ones that own them will be: its merge is made of the ready policies alone.
type keeper struct{ db *sqldb.DB }

var keeperMigrations = sqldb.Migrations{Module: "keeper", FS: fstest.MapFS{"0001_keeper.sql": {Data: []byte(`-- +goose Up
CREATE TABLE keeper_consent (user_id key_text NOT NULL, purpose key_text NOT NULL, granted BIGINT NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (user_id, purpose));
CREATE TABLE keeper_ledger (user_id key_text NOT NULL, ref key_text NOT NULL, unit key_text NOT NULL, amount BIGINT NOT NULL, PRIMARY KEY (user_id, ref));
CREATE TABLE keeper_flag (user_id key_text NOT NULL, name key_text NOT NULL, value TEXT NOT NULL, PRIMARY KEY (user_id, name));
`)}}}

func (k keeper) exec(t *testing.T, text string, args ...any) {
	t.Helper()
	err := k.db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, text, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (k keeper) decides(t *testing.T, user, purpose string, granted bool, at time.Time) {
	t.Helper()
	n := 0
	if granted {
		n = 1
	}
	k.exec(t, `INSERT INTO keeper_consent (user_id, purpose, granted, at) VALUES ($1, $2, $3, $4)`, user, purpose, n, at.UnixMilli())
}

func (k keeper) credit(t *testing.T, user, ref, unit string, amount int) {
	t.Helper()
	k.exec(t, `INSERT INTO keeper_ledger (user_id, ref, unit, amount) VALUES ($1, $2, $3, $4)`, user, ref, unit, amount)
}

func (k keeper) flag(t *testing.T, user, name, value string) {
	t.Helper()
	k.exec(t, `INSERT INTO keeper_flag (user_id, name, value) VALUES ($1, $2, $3)`, user, name, value)
}

func pairs[V any](ctx context.Context, q sqldb.Querier, text string, args ...any) (map[string]V, error) {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[string]V{}
	for rows.Next() {
		var name string
		var v V
		if err := rows.Scan(&name, &v); err != nil {
			return nil, err
		}
		all[name] = v
	}
	return all, rows.Err()
}

func (k keeper) decisions(ctx context.Context, q sqldb.Querier, user string) (all []module.Decision, err error) {
	at, err := pairs[int64](ctx, q, `SELECT purpose, at FROM keeper_consent WHERE user_id = $1`, user)
	if err != nil {
		return nil, err
	}
	granted, err := pairs[int64](ctx, q, `SELECT purpose, granted FROM keeper_consent WHERE user_id = $1`, user)
	for purpose, ms := range at {
		all = append(all, module.Decision{Purpose: purpose, Granted: granted[purpose] == 1, Explicit: true, At: time.UnixMilli(ms).UTC()})
	}
	return all, err
}

// Balances is module.Ledger.Balances.
func (k keeper) Balances(ctx context.Context, tx *sqldb.Tx, user string) (map[string]int64, error) {
	return pairs[int64](ctx, tx, `SELECT unit, CAST(SUM(amount) AS BIGINT) FROM keeper_ledger WHERE user_id = $1 GROUP BY unit`, user)
}

// Moves is module.Ledger.Moves.
func (k keeper) Moves(ctx context.Context, tx *sqldb.Tx, user, prefix string) (n int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM keeper_ledger WHERE user_id = $1 AND ref LIKE $2`, user, prefix+"%").Scan(&n)
	return n, err
}

// Append is module.Ledger.Append.
func (k keeper) Append(ctx context.Context, tx *sqldb.Tx, e module.LedgerEntry) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO keeper_ledger (user_id, ref, unit, amount) VALUES ($1, $2, $3, $4)`, e.User, e.Ref, e.Unit, e.Amount)
	return err
}

func (k keeper) participants() []module.Participant {
	count := func(table string) func(context.Context, sqldb.Querier, string) (int64, error) {
		return func(ctx context.Context, q sqldb.Querier, user string) (n int64, err error) {
			err = q.QueryRowContext(ctx, `SELECT COUNT(*) FROM `+table+` WHERE user_id = $1`, user).Scan(&n)
			return n, err
		}
	}
	return []module.Participant{
		{Name: "consents", Policies: []module.MergePolicy{module.Newest}, Count: count("keeper_consent"),
			Merge: func(ctx context.Context, tx *sqldb.Tx, m module.Merge) (out module.Moved, err error) {
				from, err := k.decisions(ctx, tx, m.From)
				if err != nil || len(from) == 0 {
					return out, err
				}
				into, err := k.decisions(ctx, tx, m.Into)
				if err != nil {
					return out, err
				}
				if _, err := tx.ExecContext(ctx, `DELETE FROM keeper_consent WHERE user_id IN ($1, $2)`, m.From, m.Into); err != nil {
					return out, err
				}
				for _, d := range module.LatestDecisions(from, into) {
					n := 0
					if d.Granted {
						n = 1
					}
					if _, err := tx.ExecContext(ctx, `INSERT INTO keeper_consent (user_id, purpose, granted, at) VALUES ($1, $2, $3, $4)`, m.Into, d.Purpose, n, d.At.UnixMilli()); err != nil {
						return out, err
					}
				}
				for _, d := range from { // the history of the one who goes is kept where the user can read it
					if err := m.Conflict(d.Purpose, must(json.Marshal(d))); err != nil {
						return out, err
					}
				}
				out.Conflicts = int64(len(from))
				return out, nil
			}},
		{Name: "credits", Policies: []module.MergePolicy{module.SumOps}, Count: count("keeper_ledger"),
			Merge: func(ctx context.Context, tx *sqldb.Tx, m module.Merge) (module.Moved, error) {
				return module.MoveLedger(ctx, tx, k, m)
			}},
		{Name: "flags", MayMerge: func(ctx context.Context, q sqldb.Querier, from, into string) error {
			flags := func(user string) (map[string]string, error) {
				return pairs[string](ctx, q, `SELECT name, value FROM keeper_flag WHERE user_id = $1`, user)
			}
			a, err := flags(from)
			if err != nil {
				return err
			}
			b, err := flags(into)
			if err != nil {
				return err
			}
			return module.SameFlags(a, b)
		}},
	}
}

func withKeeper(t *testing.T, fn func(t *testing.T, f *fixture, k keeper)) {
	engines(t, func(t *testing.T, f *fixture) {
		if err := f.db.Migrate(t.Context(), keeperMigrations); err != nil {
			t.Fatal(err)
		}
		k := keeper{f.db}
		for _, p := range k.participants() {
			f.people.Register(p)
		}
		fn(t, f, k)
	})
}

func TestConsentsFollowTheLatestDecision(t *testing.T) { // L27
	withKeeper(t, func(t *testing.T, f *fixture, k keeper) {
		p, q := f.phone("a"), f.phone("b")
		p.signIn("alice", "n1")
		account, anonymous := p.user, q.user
		now := f.clock.Now()
		k.decides(t, account, "ads", true, now)
		k.decides(t, anonymous, "ads", false, now) // at the same time
		k.decides(t, account, "mail", false, now)
		k.decides(t, anonymous, "mail", true, now.Add(time.Minute))
		k.decides(t, account, "research", false, now.Add(time.Minute))
		k.decides(t, anonymous, "research", true, now)
		k.decides(t, anonymous, "push", true, now)
		if q.signIn("alice", "n2"); q.status != 200 || q.merged["conflicts"] != 4.0 {
			t.Fatalf("%d %s", q.status, q.last.Raw)
		}
		for range 2 { // the second look of the merge's job, twice, because jobs may run again
			if err := f.service.finishMerge(t.Context(), anonymous); err != nil {
				t.Fatal(err)
			}
		}
		var got []module.Decision
		err := f.db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) (err error) {
			got, err = k.decisions(ctx, q, account)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]bool{"ads": false, "mail": true, "research": false, "push": true}
		if len(got) != len(want) {
			t.Errorf("%+v", got)
		}
		for _, d := range got {
			if d.Granted != want[d.Purpose] {
				t.Errorf("%s: granted %v", d.Purpose, d.Granted)
			}
		}
		if a := f.get("/v1/me/merge-conflicts", q.bearer()...); strings.Count(a.Raw, `"collection":"consents"`) != 4 {
			t.Errorf("what was decided before cannot be read: %s", a.Raw)
		}
	})
}

func TestCreditsMoveOnce(t *testing.T) { // L28
	withKeeper(t, func(t *testing.T, f *fixture, k keeper) {
		p, q := f.phone("a"), f.phone("b")
		p.signIn("alice", "n1")
		account, anonymous := p.user, q.user
		k.credit(t, account, "purchase-1", "credits", 10)
		k.credit(t, anonymous, "purchase-2", "credits", 30)
		k.credit(t, anonymous, "spent-1", "credits", -5)
		k.credit(t, anonymous, "purchase-3", "premium_days", 7)
		k.credit(t, anonymous, "trial", "trial_days", 0)
		q.signIn("alice", "n2")
		merge := fmt.Sprint(q.merged["id"])
		if q.merged["records"] != 2.0 {
			t.Fatalf("%d %s", q.status, q.last.Raw)
		}
		q.signIn("alice", "n2")                              // the repeat
		k.credit(t, anonymous, "purchase-4", "credits", 100) // from a process that had not heard of it
		for range 3 {
			if err := f.service.finishMerge(t.Context(), anonymous); err != nil {
				t.Fatal(err)
			}
		}
		balances := func(user string) (b map[string]int64) {
			t.Helper()
			err := f.db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) (err error) {
				b, err = k.Balances(ctx, tx, user)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		if got := balances(account); got["credits"] != 10+25+100 || got["premium_days"] != 7 {
			t.Errorf("the account has %v", got)
		}
		for unit, n := range balances(anonymous) {
			if n != 0 {
				t.Errorf("the merged user has %d %s", n, unit)
			}
		}
		entries := map[string]int64{}
		err := f.db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) (err error) {
			entries, err = pairs[int64](ctx, q, `SELECT ref, amount FROM keeper_ledger WHERE user_id = $1 AND ref LIKE 'mrg%'`, account)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != 3 || entries[merge+"/1"] != 25 || entries[merge+"/2"] != 7 || entries[merge+"/3"] != 100 {
			t.Errorf("entries by merge id: %v", entries)
		}
	})
}

func TestFlagsThatDifferStopAMerge(t *testing.T) { // L29
	withKeeper(t, func(t *testing.T, f *fixture, k keeper) {
		p, q := f.phone("a"), f.phone("b")
		p.signIn("alice", "n1")
		account, anonymous := p.user, q.user
		k.flag(t, account, "age", "adult")
		k.flag(t, anonymous, "age", "child")
		k.credit(t, anonymous, "purchase", "credits", 30)
		before := len(f.actions())
		for range 2 {
			a := q.signIn("alice", "n2")
			a.wantCode(t, "a child's phone", 409, "merge_policy")
			if a.str("collection") != "flags" || a.str("reason") != "age_differs" {
				t.Errorf("%s", a.Raw)
			}
		}
		if q.me().str("id") != anonymous || !slices.Equal(f.actions()[before:], []string{"sign_in.refuse"}) || len(f.events.list()) != 1 {
			t.Errorf("something has happened: %s, %q, %q", q.me().Raw, f.actions()[before:], f.events.list())
		}
		thief := f.phone("c")
		thief.signIn("alice", "n2").wantCode(t, "the credential elsewhere", 403, "credential_used")
		// The same credential, and the data stays where it is.
		body := map[string]any{"provider": "fake", "code": "alice", "nonce": "n2", "keep_anonymous": true}
		if q.take(f.post("/v1/auth/sign-in", body, q.bearer()...)); q.status != 200 || q.user != account || q.merged != nil {
			t.Fatalf("%d %s", q.status, q.last.Raw)
		}
		q.signOut(t)
		if q.user != anonymous {
			t.Errorf("after the sign-out: %s, was %s", q.user, anonymous)
		}
		// Where the flags are the same, the merge happens.
		k.exec(t, `UPDATE keeper_flag SET value = 'adult' WHERE user_id = $1`, anonymous)
		if q.signIn("alice", "n3"); q.status != 200 || q.merged["from"] != anonymous {
			t.Errorf("%d %s", q.status, q.last.Raw)
		}
	})
}
