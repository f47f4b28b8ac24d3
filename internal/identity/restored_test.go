package identity

import (
	"fmt"
	"testing"
	"time"

	"landline/internal/audit"
	"landline/internal/clock"
	"landline/internal/module"
	"landline/internal/queue"
	"landline/internal/secret"
	"landline/internal/sqldb"
	"landline/internal/testkit"
)

// person is an installation with its user and session, the same on both databases.
func person(t *testing.T, n int, on ...*SQLStore) (User, Session) {
	t.Helper()
	at := time.Now().UTC().Truncate(time.Millisecond)
	i := &Installation{ID: newInstallationID(), SecretVersion: 1, BootstrapKey: fmt.Sprint(n), CreatedAt: at, SeenAt: at}
	u := newUser(i.ID, at)
	s := newSession(u, *i, "app", methodSecret, at, RefreshPolicy{Idle: time.Hour, Absolute: time.Hour})
	for _, store := range on {
		if done, err := store.Apply(t.Context(), Change{Installation: i, User: &u, Session: &s}); err != nil || !done {
			t.Fatal(done, err)
		}
	}
	return u, s
}

// What ended in the replaced database ends in the backup; what only the backup
// has ended stays so; everything else lives. More rows than a page are carried.
func TestRestoreCarriesEndingsOver(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(*testing.T, ...sqldb.Migrations) *sqldb.DB) {
		backup, replaced := open(t, audit.Migrations, Migrations), open(t, audit.Migrations, Migrations)
		log := audit.New(backup, clock.System)
		here, there := NewSQLStore(backup, log), NewSQLStore(replaced, audit.New(replaced, clock.System))
		var ended []Session
		for n := range carryPage + 3 {
			_, s := person(t, n, here, there)
			ended = append(ended, s)
		}
		_, alive := person(t, -1, here, there)
		_, endedBefore := person(t, -2, here, there)
		locked, lockedSession := person(t, -3, here, there)
		_, late := person(t, -4, there) // made after the backup
		at := time.Now()
		end := func(store *SQLStore, all ...Session) {
			t.Helper()
			var c Change
			for _, s := range all {
				c.End = append(c.End, Ending{SessionID: s.ID, Reason: ReasonOperator, At: at})
			}
			if done, err := store.Apply(t.Context(), c); err != nil || !done {
				t.Fatal(done, err)
			}
		}
		end(there, append(ended, late)...)
		end(here, endedBefore)
		if _, err := replaced.Writer().ExecContext(t.Context(), `UPDATE app_user SET state = 'locked' WHERE id = $1`, locked.ID); err != nil {
			t.Fatal(err)
		}

		c, err := restored(t.Context(), module.Restored{DB: backup, Audit: log, Replaced: replaced, Window: time.Hour, Reason: "drill"})
		if err != nil || c.Fault != nil || c.Ended != len(ended)+1 {
			t.Fatalf("%d ended of %d, %v, %v", c.Ended, len(ended)+1, c.Fault, err)
		}
		for _, one := range []struct {
			s    Session
			want SessionState
		}{{ended[0], SessionRevoked}, {ended[carryPage], SessionRevoked}, {ended[carryPage+2], SessionRevoked}, {alive, SessionActive}, {endedBefore, SessionRevoked}, {lockedSession, SessionActive}} {
			if g, err := here.Session(t.Context(), one.s.ID); err != nil || g.Session.State != one.want {
				t.Errorf("%s is %q, want %q, %v", one.s.ID, g.Session.State, one.want, err)
			}
		}
		if u, err := here.User(t.Context(), locked.ID); err != nil || u.State != UserLocked {
			t.Errorf("a user that was locked is %q, %v", u.State, err)
		}
		denied := map[string]bool{}
		for after := (Revocation{}); ; {
			page, err := here.Revocations(t.Context(), after, 200)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page {
				denied[r.SessionID], after = true, r
			}
			if len(page) < 200 {
				break
			}
		}
		for _, s := range append(ended, late, endedBefore) {
			if !denied[s.ID] {
				t.Errorf("access tokens of the ended session %s are accepted", s.ID)
			}
		}
		if until, err := here.RestoreUntil(t.Context()); err != nil || !until.Equal(c.Until) || time.Until(until) < 50*time.Minute {
			t.Errorf("the window ends %v, %v, want %v", until, err, c.Until)
		}
	})
}

// A database that cannot tell what ended leaves the window shut; so does a window of no length.
func TestRestoreKeepsTheWindowShut(t *testing.T) {
	backup, unreadable := testkit.SQLite(t, audit.Migrations, Migrations), testkit.SQLite(t)
	log := audit.New(backup, clock.System)
	c, err := restored(t.Context(), module.Restored{DB: backup, Audit: log, Replaced: unreadable, Window: time.Hour})
	if err != nil || c.Fault == nil || !c.Until.IsZero() {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err = restored(t.Context(), module.Restored{DB: backup, Audit: log}); err != nil || c.Fault != nil || !c.Until.IsZero() {
		t.Errorf("%+v, %v", c, err)
	}
	if until, err := NewSQLStore(backup, log).RestoreUntil(t.Context()); err != nil || !until.IsZero() {
		t.Errorf("the window ends %v, %v", until, err)
	}
}

// A backup from before an erasure has the user's rows again: they are erased again,
// also where the replaced database, which says that the user is gone, was read.
func TestARestoreErasesAgainWhatTheReplacedDatabaseHadErased(t *testing.T) {
	testkit.Engines(t, func(t *testing.T, open func(*testing.T, ...sqldb.Migrations) *sqldb.DB) {
		all := []sqldb.Migrations{secret.Migrations, queue.Migrations, audit.Migrations, Migrations}
		f := newFixture(t, open(t, all...))
		replaced := open(t, all...)
		there := NewSQLStore(replaced, audit.New(replaced, clock.System))
		p, waiting, idle := f.phone("gone"), f.phone("leaving"), f.phone("shut-out")
		for i, one := range []*phone{p, waiting, idle} {
			one.signIn(fmt.Sprint("subject-", i), fmt.Sprint("n-", i))
			u := must(f.service.store.User(t.Context(), one.user))
			if done, err := there.Apply(t.Context(), Change{User: &u}); err != nil || !done {
				t.Fatal(done, err)
			}
		}
		lately := sqldb.Millis(time.Now())
		for _, change := range []string{
			`UPDATE app_user SET state = 'deleted' WHERE id = '` + p.user + `'`,
			`INSERT INTO erasure (user_id, state, requested_by, requested_at, erase_at, finished_at, report) VALUES ('` + p.user + `', 'done', '', 1, 1, 2, '{}')`,
			`UPDATE app_user SET state = 'deleting' WHERE id = '` + waiting.user + `'`,
			`INSERT INTO erasure (user_id, state, requested_by, requested_at, erase_at, report) VALUES ('` + waiting.user + `', 'waiting', '', 1, ` + fmt.Sprint(lately) + `, '{}')`,
			`UPDATE app_user SET state = 'locked_no_login', state_at = ` + fmt.Sprint(lately) + ` WHERE id = '` + idle.user + `'`,
			`INSERT INTO erasure (user_id, state, requested_by, requested_at, erase_at, finished_at, report) VALUES ('usr_01h455vb4pex5vsknk084sn02q', 'done', '', 1, 1, 2, '{}')`,
		} {
			if _, err := replaced.Writer().ExecContext(t.Context(), change); err != nil {
				t.Fatal(err)
			}
		}
		if c, err := restored(t.Context(), module.Restored{DB: f.db, Audit: f.audit, Replaced: replaced, Window: time.Hour, Reason: "drill"}); err != nil || c.Fault != nil {
			t.Fatal(c, err)
		}
		if again := must(f.service.replayErasures(t.Context(), []string{p.user})); again != 1 {
			t.Errorf("%d erased again", again)
		}
		if err := f.service.undoErasure(t.Context(), p.user, audit.Entry{Action: "user.undelete", Target: p.user}); err == nil {
			t.Error("an erasure that was done can be undone")
		}
		if err := f.service.erase(t.Context(), p.user, 1); err != nil {
			t.Fatal(err)
		}
		if left := must(f.service.store.IdentitiesOf(t.Context(), p.user, 1)); len(left) != 0 {
			t.Error("the way to sign in is back")
		}
		if u := must(f.service.store.User(t.Context(), p.user)); u.State != UserDeleted {
			t.Errorf("the user is %s", u.State)
		}
		if e := must(f.service.life.erasure(t.Context(), waiting.user)); e.State != ErasureWaiting {
			t.Errorf("a deletion that can be undone is %s", e.State)
		}
		if u := must(f.service.store.User(t.Context(), idle.user)); u.State != UserNoLogin || sqldb.Millis(u.StateAt) != lately {
			t.Errorf("locked_no_login since %v: the thirty days begin anew, or are over", u.StateAt)
		}
		if n := f.count(t, "SELECT COUNT(*) FROM erasure"); n != 2 {
			t.Errorf("%d erasures, want those of the two users that the backup knows", n)
		}
	})
}
