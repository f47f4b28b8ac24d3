package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"landline/internal/module"
	"landline/internal/sqldb"
)

// phone is an installation with the tokens that its app has stored.
type phone struct {
	f                     *fixture
	installation, secret  string
	user, access, refresh string
	session               string
	status                int
	code                  string // of the last problem
	merged                map[string]any
	last                  answer
}

func (f *fixture) phone(key string) *phone {
	f.t.Helper()
	p := &phone{f: f}
	p.take(f.post(registerPath, map[string]any{}, "Idempotency-Key", "first-launch-of-"+key))
	if p.installation == "" {
		f.t.Fatalf("no installation: %s", p.last.Raw)
	}
	return p
}

func (p *phone) take(a answer) answer {
	p.last, p.status, p.code = a, a.Status, a.str("code")
	if a.Status/100 != 2 {
		return a
	}
	if s := a.str("installation", "id"); s != "" {
		p.installation, p.secret = s, a.str("installation", "secret")
	}
	p.user, p.session = a.str("user", "id"), a.str("session", "id")
	p.access, p.refresh = a.str("session", "access_token"), a.str("session", "refresh_token")
	p.merged, _ = a.Body["merged"].(map[string]any)
	return a
}

func (p *phone) bearer() []string { return []string{"Authorization", "Bearer " + p.access} }

// signIn sends a credential of the provider "fake": subject and perhaps address. nonce makes it one credential.
func (p *phone) signIn(subject, nonce string, more ...string) answer {
	p.f.t.Helper()
	body := map[string]any{"provider": "fake", "code": subject, "nonce": nonce}
	for i := 0; i < len(more); i += 2 {
		body[more[i]] = more[i+1]
	}
	return p.take(p.f.post("/v1/auth/sign-in", body, p.bearer()...))
}

func (p *phone) me() answer { return p.f.get("/v1/me", p.bearer()...) }

// notes is a collection of one capability: operations with ids, and one profile per user.
type notes struct {
	db *sqldb.DB
}

var notesMigrations = sqldb.Migrations{Module: "notes", FS: fstest.MapFS{"0001_note.sql": {Data: []byte(
	"-- +goose Up\nCREATE TABLE note (user_id key_text NOT NULL, op key_text NOT NULL, PRIMARY KEY (user_id, op));\n")}}}

func newNotes(db *sqldb.DB) *notes { return &notes{db} }

func (n *notes) add(t *testing.T, user, op string) {
	t.Helper()
	err := n.db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO note (user_id, op) VALUES ($1, $2) ON CONFLICT DO NOTHING`, user, op)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (n *notes) of(t *testing.T, user string) (all []string) {
	t.Helper()
	err := n.db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
		all = nil
		rows, err := q.QueryContext(ctx, `SELECT op FROM note WHERE user_id = $1 ORDER BY op`, user)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var op string
			if err := rows.Scan(&op); err != nil {
				return err
			}
			all = append(all, op)
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// participant moves notes; an operation that the account has as well is not
// doubled, and one whose id begins with "same" is a record that can be there once.
func (n *notes) participant() module.Participant {
	return module.Participant{
		Name: "notes", Policies: []module.MergePolicy{module.AccountWins},
		Count: func(ctx context.Context, q sqldb.Querier, user string) (count int64, err error) {
			err = q.QueryRowContext(ctx, `SELECT COUNT(*) FROM note WHERE user_id = $1`, user).Scan(&count)
			return count, err
		},
		Merge: func(ctx context.Context, tx *sqldb.Tx, m module.Merge) (out module.Moved, err error) {
			rows, err := tx.QueryContext(ctx, `SELECT op FROM note WHERE user_id = $1 ORDER BY op LIMIT $2`, m.From, m.Limit+1)
			if err != nil {
				return out, err
			}
			var ops []string
			for rows.Next() {
				var op string
				if err := rows.Scan(&op); err != nil {
					return out, err
				}
				ops = append(ops, op)
			}
			rows.Close()
			if out.More = len(ops) > m.Limit; out.More {
				ops = ops[:m.Limit]
			}
			for _, op := range ops {
				var there int
				if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM note WHERE user_id = $1 AND op = $2`, m.Into, op).Scan(&there); err != nil {
					return out, err
				}
				statement, args := `UPDATE note SET user_id = $1 WHERE user_id = $2 AND op = $3`, []any{m.Into, m.From, op}
				switch {
				case there == 0:
					out.Records++
				case strings.HasPrefix(op, "same"):
					out.Conflicts++
					if err := m.Conflict(op, json.RawMessage(`{"of":"`+m.From+`"}`)); err != nil {
						return out, err
					}
					statement, args = `DELETE FROM note WHERE user_id = $1 AND op = $2`, []any{m.From, op}
				default:
					out.Deduped++
					statement, args = `DELETE FROM note WHERE user_id = $1 AND op = $2`, []any{m.From, op}
				}
				if _, err := tx.ExecContext(ctx, statement, args...); err != nil {
					return out, err
				}
			}
			return out, nil
		},
	}
}

// withNotes is a node with one capability whose rows are merged.
func withNotes(t *testing.T, fn func(t *testing.T, f *fixture, n *notes)) {
	engines(t, func(t *testing.T, f *fixture) {
		if err := f.db.Migrate(t.Context(), notesMigrations); err != nil {
			t.Fatal(err)
		}
		n := newNotes(f.db)
		f.people.Register(n.participant())
		fn(t, f, n)
	})
}

func TestPromoteKeepsTheUserAndEveryToken(t *testing.T) { // L2
	withNotes(t, func(t *testing.T, f *fixture, n *notes) {
		p := f.phone("a")
		user, access := p.user, p.access
		n.add(t, user, "op1")
		if p.signIn("alice", "n1"); p.status != 200 || p.user != user || p.merged != nil || p.last.str("user", "kind") != "account" {
			t.Fatalf("%d %s", p.status, p.last.Raw)
		}
		if got := n.of(t, user); !slices.Equal(got, []string{"op1"}) {
			t.Errorf("the user has %q", got)
		}
		if a := f.get("/v1/me", "Authorization", "Bearer "+access); a.Status != 200 || a.str("kind") != "account" {
			t.Errorf("the old token: %d %s", a.Status, a.Raw)
		}
		if got := f.events.list(); !slices.Equal(got, []string{"user.promoted " + user}) {
			t.Errorf("events %q", got)
		}
	})
}

func TestMergeCarriesEverythingOver(t *testing.T) { // L3, L10, L13
	withNotes(t, func(t *testing.T, f *fixture, n *notes) {
		first := f.phone("a")
		first.signIn("alice", "n1")
		account := first.user
		for _, op := range []string{"same-profile", "op-both", "op-account"} {
			n.add(t, account, op)
		}

		second := f.phone("b")
		anonymous, oldAccess, oldRefresh := second.user, second.access, second.refresh
		for _, op := range []string{"same-profile", "op-both", "op-phone"} {
			n.add(t, anonymous, op)
		}
		second.signIn("alice", "n2")
		if second.status != 200 || second.user != account || second.merged["from"] != anonymous || second.merged["into"] != account {
			t.Fatalf("%d %s", second.status, second.last.Raw)
		}
		if second.merged["records"] != 1.0 || second.merged["conflicts"] != 1.0 || second.merged["state"] != "done" {
			t.Errorf("merged %v", second.merged)
		}
		if got := n.of(t, account); !slices.Equal(got, []string{"op-account", "op-both", "op-phone", "same-profile"}) {
			t.Errorf("the account has %q", got)
		}
		if got := n.of(t, anonymous); len(got) != 0 {
			t.Errorf("the merged user still has %q", got)
		}
		a := f.get("/v1/me/merge-conflicts", second.bearer()...)
		if list, _ := a.Body["data"].([]any); a.Status != 200 || len(list) != 1 || !strings.Contains(a.Raw, `"record":{"of":"`+anonymous) {
			t.Errorf("conflicts: %d %s", a.Status, a.Raw)
		}

		// The merged user's token asks for a refresh; its refresh token gives the account.
		if a := f.get("/v1/me", "Authorization", "Bearer "+oldAccess); a.Status != 401 || a.str("code") != "token_expired" || a.str("recoverable") != "refresh" {
			t.Errorf("the merged user's token: %d %s", a.Status, a.Raw)
		}
		again := &phone{f: f, installation: second.installation, refresh: oldRefresh}
		got := f.token(oldRefresh)
		if got.Status != 200 {
			t.Fatalf("the refresh token of a lost answer: %d %s", got.Status, got.Raw)
		}
		again.access = got.str("access_token")
		if a := again.me(); a.str("id") != account {
			t.Errorf("after the refresh: %d %s", a.Status, a.Raw)
		}
		// The repeat of the call itself, with the credential that is spent.
		if again.signIn("alice", "n2"); again.status != 200 || again.user != account || again.merged["from"] != anonymous || again.merged["records"] != 1.0 {
			t.Errorf("the repeat: %d %s", again.status, again.last.Raw)
		}
		// Nobody else can use it.
		third := f.phone("c")
		if third.signIn("alice", "n2"); third.code != "credential_used" {
			t.Errorf("on another installation: %d %s", third.status, third.last.Raw)
		}
		p, err := f.auth.Authenticate(request("Authorization", "Bearer "+again.access))
		if err != nil || !p.Is(anonymous) || !p.Is(account) || p.Is(third.user) {
			t.Errorf("who the token is: %+v %v", p, err)
		}
	})
}

func request(header ...string) *http.Request {
	r, _ := http.NewRequest(http.MethodGet, "/", nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func TestAnEmptyUserStays(t *testing.T) { // L4, L14
	withNotes(t, func(t *testing.T, f *fixture, n *notes) {
		first := f.phone("a")
		first.signIn("alice", "n1")
		second := f.phone("b")
		anonymous := second.user
		if second.signIn("alice", "n2"); second.user != first.user || second.merged != nil {
			t.Fatalf("%d %s", second.status, second.last.Raw)
		}
		if a := f.post("/v1/auth/sign-out", nil, second.bearer()...); a.Status != 204 {
			t.Fatalf("sign-out: %d %s", a.Status, a.Raw)
		}
		second.take(f.post(registerPath, map[string]any{"installation_id": second.installation, "installation_secret": second.secret}))
		if second.user != anonymous {
			t.Errorf("after the sign-out the installation has another user: %s, was %s", second.user, anonymous)
		}
		// Where the team's own services keep the data, only they know that it is empty.
		f.events.wants = true
		if second.signIn("alice", "n3"); second.merged["from"] != anonymous {
			t.Errorf("with a subscriber of user.merged: %d %s", second.status, second.last.Raw)
		}
	})
}

func TestAccountsAreNeverMerged(t *testing.T) { // L5, L12
	withNotes(t, func(t *testing.T, f *fixture, n *notes) {
		p := f.phone("a")
		p.signIn("alice", "n1")
		alice, aliceAccess := p.user, p.access
		n.add(t, alice, "op-alice")
		if p.signIn("bob", "n2"); p.user == alice || p.merged != nil {
			t.Fatalf("%d %s", p.status, p.last.Raw)
		}
		bob := p.user
		if got := n.of(t, bob); len(got) != 0 {
			t.Errorf("bob has %q", got)
		}
		if a := f.get("/v1/me", "Authorization", "Bearer "+aliceAccess); a.str("id") != alice {
			t.Errorf("alice is signed out: %d %s", a.Status, a.Raw)
		}
		if p.signIn("alice", "n3"); p.user != alice || p.merged != nil {
			t.Errorf("back to alice: %d %s", p.status, p.last.Raw)
		}
		f.service.config.Accounts.One = true
		q := f.phone("b")
		q.signIn("carol", "n4")
		carolAccess := q.access
		if q.signIn("bob", "n5"); q.user != bob {
			t.Fatalf("%d %s", q.status, q.last.Raw)
		}
		if a := f.get("/v1/me", "Authorization", "Bearer "+carolAccess); a.Status != 401 {
			t.Errorf("accounts.one keeps two: %d %s", a.Status, a.Raw)
		}
	})
}

func TestLinkAndUnlink(t *testing.T) { // L6, L7, B-16
	engines(t, func(t *testing.T, f *fixture) {
		p := f.phone("a")
		link := func(code, nonce string) answer {
			return f.post("/v1/auth/link", map[string]any{"provider": "other", "code": code, "nonce": nonce}, p.bearer()...)
		}
		p.signIn("alice", "n1")
		a := link("a2", "n2")
		if a.Status != 200 || !strings.HasPrefix(a.str("id"), "idn_") {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		second := a.str("id")
		if again := link("a2", "n3"); again.str("id") != second {
			t.Errorf("a repeat: %d %s", again.Status, again.Raw)
		}
		q := f.phone("b")
		q.signIn("bob", "n4")
		if a := f.post("/v1/auth/link", map[string]any{"provider": "other", "code": "a2", "nonce": "n5"}, q.bearer()...); a.Status != 409 || a.str("code") != "identity_in_use" {
			t.Errorf("bob takes alice's: %d %s", a.Status, a.Raw)
		}
		var ids []string
		list, _ := p.me().Body["identities"].([]any)
		for _, one := range list {
			ids = append(ids, one.(map[string]any)["id"].(string))
		}
		if len(ids) != 2 {
			t.Fatalf("identities %q", ids)
		}
		// Both at once: one stays.
		var wait sync.WaitGroup
		status := make([]int, 2)
		for i := range ids {
			wait.Go(func() {
				status[i] = f.post("/v1/auth/unlink", map[string]any{"identity_id": ids[i]}, p.bearer()...).Status
			})
		}
		wait.Wait()
		slices.Sort(status)
		if !slices.Equal(status, []int{204, 409}) {
			t.Errorf("two unlinks at once: %v", status)
		}
		f.clock.Advance(6 * time.Minute)
		if a := link("a3", "n6"); a.Status != 401 || a.str("code") != "insufficient_user_authentication" || !strings.Contains(a.Header.Get("WWW-Authenticate"), "max_age=300") {
			t.Errorf("long after the sign-in: %d %s %s", a.Status, a.Header.Get("WWW-Authenticate"), a.Raw)
		}
	})
}

func TestParallelSignInsMakeOneMerge(t *testing.T) { // L10
	withNotes(t, func(t *testing.T, f *fixture, n *notes) {
		first := f.phone("a")
		first.signIn("alice", "n1")
		second := f.phone("b")
		for i := range 20 {
			n.add(t, second.user, fmt.Sprintf("op%02d", i))
		}
		var wait sync.WaitGroup
		answers := make([]answer, 8)
		header := second.bearer()
		for i := range answers {
			wait.Go(func() {
				answers[i] = f.post("/v1/auth/sign-in", map[string]any{"provider": "fake", "code": "alice", "nonce": "n2"}, header...)
			})
		}
		wait.Wait()
		granted := 0
		for _, a := range answers {
			switch {
			case a.Status == 200 && a.str("user", "id") == first.user:
				granted++
			case a.Status == 401 && a.str("code") == "token_expired": // came after the merge: refresh and repeat
			default:
				t.Errorf("%d %s", a.Status, a.Raw)
			}
		}
		if granted == 0 || len(n.of(t, first.user)) != 20 {
			t.Errorf("%d granted, %d records", granted, len(n.of(t, first.user)))
		}
		if events := f.events.list(); len(events) != 2 {
			t.Errorf("events %q", events)
		}
	})
}

func TestALargeMergeGoesOnInItsJob(t *testing.T) { // L25
	withNotes(t, func(t *testing.T, f *fixture, n *notes) {
		first := f.phone("a")
		first.signIn("alice", "n1")
		second := f.phone("b")
		from := second.user
		err := f.db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			for i := range 2*mergeBatch + 7 {
				if _, err := tx.ExecContext(ctx, `INSERT INTO note (user_id, op) VALUES ($1, $2)`, from, fmt.Sprintf("op%05d", i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if second.signIn("alice", "n2"); second.merged["state"] != "running" || second.merged["records"] != float64(mergeBatch) {
			t.Fatalf("%d %s", second.status, second.last.Raw)
		}
		if err := f.service.finishMerge(t.Context(), from); err != nil {
			t.Fatal(err)
		}
		n.add(t, from, "late") // from a process that had not heard of it
		if err := f.service.finishMerge(t.Context(), from); err != nil {
			t.Fatal(err)
		}
		m, err := f.service.store.MergeOf(t.Context(), from)
		if err != nil || m.State != MergeDone || m.Records != 2*mergeBatch+8 || len(n.of(t, first.user)) != 2*mergeBatch+8 {
			t.Errorf("%+v %v, %d records", m, err, len(n.of(t, first.user)))
		}
	})
}

func TestDecideSignIn(t *testing.T) {
	anonymous, account, other := User{ID: "a", Kind: Anonymous}, User{ID: "u", Kind: Account}, User{ID: "o", Kind: Account}
	for name, c := range map[string]struct {
		facts SignInFacts
		want  Move
	}{
		"L2 nobody's, anonymous":               {SignInFacts{Current: anonymous}, MovePromote},
		"L3 an account's, anonymous with data": {SignInFacts{Current: anonymous, Owner: account, HasData: true}, MoveMerge},
		"L4 an account's, anonymous, empty":    {SignInFacts{Current: anonymous, Owner: account}, MoveSwitch},
		"L5 another account's":                 {SignInFacts{Current: account, Owner: other}, MoveAdd},
		"L5 another account's, with data":      {SignInFacts{Current: account, Owner: other, HasData: true}, MoveAdd},
		"L5 nobody's, account":                 {SignInFacts{Current: account}, MoveCreate},
		"L8 nobody's, the address is taken":    {SignInFacts{Current: anonymous, EmailTaken: true}, MoveExists},
		"L8 from an account":                   {SignInFacts{Current: account, EmailTaken: true}, MoveExists},
		"the own":                              {SignInFacts{Current: account, Owner: account}, MoveAgain},
	} {
		if got := DecideSignIn(c.facts); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
