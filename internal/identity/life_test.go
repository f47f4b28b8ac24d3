package identity

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"landline/internal/identity/attest"
	"landline/internal/identity/attest/attesttest"
	"landline/internal/module"
	"landline/internal/queue"
	"landline/internal/secret"
	"landline/internal/sqldb"
)

func (f *fixture) send(method, path string, body any, header ...string) answer {
	f.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		f.t.Fatal(err)
	}
	r := httptest.NewRequest(method, path, bytes.NewReader(b))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return f.do(r)
}

func TestSessionsAndDevices(t *testing.T) { // B-15
	engines(t, func(t *testing.T, f *fixture) {
		one, two, other := f.phone("a"), f.phone("b"), f.phone("c")
		one.signIn("alice", "n1")
		two.signIn("alice", "n2")
		other.signIn("bob", "n3")
		a := f.get("/v1/me/sessions", one.bearer()...)
		if list, _ := a.Body["data"].([]any); len(list) != 2 || strings.Count(a.Raw, `"current":true`) != 1 || !strings.Contains(a.Raw, two.session) {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		if a := f.get("/v1/me/installations", one.bearer()...); !strings.Contains(a.Raw, two.installation) || strings.Contains(a.Raw, other.installation) {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
		for _, foreign := range []string{other.session, "ses_01h455vb4pex5vsknk084sn02q", "x"} {
			if a := f.send(http.MethodDelete, "/v1/me/sessions/"+foreign, nil, one.bearer()...); a.Status != 404 {
				t.Errorf("ending %s: %d %s", foreign, a.Status, a.Raw)
			}
		}
		if a := f.send(http.MethodDelete, "/v1/me/sessions/"+two.session, nil, one.bearer()...); a.Status != 204 {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		if a := two.me(); a.Status != 401 || one.me().Status != 200 || other.me().Status != 200 {
			t.Errorf("after one session was ended: %d %d %d", two.me().Status, one.me().Status, other.me().Status)
		}
		two.take(f.post(registerPath, map[string]any{"installation_id": two.installation, "installation_secret": two.secret}))
		two.signIn("alice", "n4")
		if a := f.post("/v1/auth/sign-out?everywhere=true", nil, two.bearer()...); a.Status != 204 {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		if one.me().Status != 401 || two.me().Status != 401 || other.me().Status != 200 {
			t.Errorf("after signing out everywhere: %d %d %d", one.me().Status, two.me().Status, other.me().Status)
		}
	})
}

func TestProfileIsMergedOnce(t *testing.T) { // L26
	engines(t, func(t *testing.T, f *fixture) {
		patch := func(p *phone, name string) answer {
			return f.send(http.MethodPatch, "/v1/me", map[string]any{"name": name}, p.bearer()...)
		}
		one, two, three := f.phone("a"), f.phone("b"), f.phone("c")
		if a := f.send(http.MethodPatch, "/v1/me", map[string]any{"time_zone": "Mars/Base"}, one.bearer()...); a.Status != 400 || !strings.Contains(a.Raw, "time_zone") {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
		if a := patch(one, "Ada of the phone"); a.Status != 200 || a.str("name") != "Ada of the phone" {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		f.send(http.MethodPatch, "/v1/me", map[string]any{"locale": "pl-PL"}, one.bearer()...)
		two.signIn("alice", "n1")
		if one.signIn("alice", "n2"); one.merged["records"] != 1.0 { // the account had none
			t.Fatalf("%d %s", one.status, one.last.Raw)
		}
		if a := one.me(); a.str("profile", "name") != "Ada of the phone" || a.str("profile", "locale") != "pl-PL" {
			t.Errorf("%s", a.Raw)
		}
		patch(three, "Ada of the tablet")
		if three.signIn("alice", "n3"); three.merged["conflicts"] != 1.0 {
			t.Errorf("%s", three.last.Raw)
		}
		if a := f.get("/v1/me/merge-conflicts", three.bearer()...); !strings.Contains(a.Raw, "Ada of the tablet") {
			t.Errorf("%s", a.Raw)
		}
		if a := three.me(); a.str("profile", "name") != "Ada of the phone" {
			t.Errorf("%s", a.Raw)
		}
	})
}

func TestDeletionCanBeUndoneInTime(t *testing.T) { // B-17, L21
	withNotes(t, func(t *testing.T, f *fixture, n *notes) {
		f.people.Register(n.eraser())
		p, q := f.phone("a"), f.phone("b")
		p.signIn("alice alice@example.com", "n1")
		q.signIn("alice alice@example.com", "n2")
		n.add(t, p.user, "op")
		f.clock.Advance(6 * time.Minute)
		if a := f.send(http.MethodDelete, "/v1/me", nil, p.bearer()...); a.Status != 401 || a.str("code") != "insufficient_user_authentication" {
			t.Fatalf("long after the sign-in: %d %s", a.Status, a.Raw)
		}
		p.signIn("alice alice@example.com", "n3")
		a := f.send(http.MethodDelete, "/v1/me", nil, p.bearer()...)
		if a.Status != 202 || a.str("state") != "waiting" {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		if a := q.me(); a.Status != 401 || a.str("code") != "account_deleted" {
			t.Errorf("the other device: %d %s", a.Status, a.Raw)
		}
		if a := f.token(q.refresh); a.str("reason") != "account_deleted" {
			t.Errorf("a refresh: %d %s", a.Status, a.Raw)
		}
		p.take(f.post(registerPath, map[string]any{"installation_id": p.installation, "installation_secret": p.secret}))
		account := q.user
		if p.signIn("alice alice@example.com", "n4"); p.code != "deletion_pending" || p.last.str("erase_at") == "" {
			t.Fatalf("%d %s", p.status, p.last.Raw)
		}
		if err := f.service.erase(t.Context(), account, 1); err != nil { // too early
			t.Fatal(err)
		}
		if p.signIn("alice alice@example.com", "n4", "undo_deletion", "yes"); p.status != 400 {
			t.Errorf("a wrong type: %d", p.status)
		}
		body := map[string]any{"provider": "fake", "code": "alice alice@example.com", "nonce": "n4", "undo_deletion": true}
		if p.take(f.post("/v1/auth/sign-in", body, p.bearer()...)); p.status != 200 || p.user != account {
			t.Fatalf("%d %s", p.status, p.last.Raw)
		}
		f.clock.Advance(15 * 24 * time.Hour)
		if err := f.service.erase(t.Context(), account, 1); err != nil {
			t.Fatal(err)
		}
		if got := n.of(t, account); !slices.Equal(got, []string{"op"}) {
			t.Errorf("after the undo the account has %q", got)
		}
	})
}

// eraser lets notes be erased and exported.
func (n *notes) eraser() module.Participant {
	return module.Participant{Name: "notes_life",
		Erase: func(ctx context.Context, tx *sqldb.Tx, user string, _ int) (int64, error) {
			r, err := tx.ExecContext(ctx, `DELETE FROM note WHERE user_id = $1`, user)
			if err != nil {
				return 0, err
			}
			_, err = r.RowsAffected()
			return 0, err
		},
		Export: func(ctx context.Context, user string, emit func(any) error) error {
			return n.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) error {
				rows, err := q.QueryContext(ctx, `SELECT op FROM note WHERE user_id = $1`, user)
				if err != nil {
					return err
				}
				defer rows.Close()
				for rows.Next() {
					var op string
					if err := rows.Scan(&op); err != nil {
						return err
					}
					if err := emit(map[string]string{"op": op}); err != nil {
						return err
					}
				}
				return rows.Err()
			})
		},
	}
}

// flakyRevoker is a provider that fails at first.
type flakyRevoker struct{ calls, failures int }

func (r *flakyRevoker) revoke(_ context.Context, p Profile) (string, error) {
	if p.Refresh != "provider-refresh-canary" {
		return "", errors.New("another token")
	}
	if r.calls++; r.calls <= r.failures {
		return "", errors.New("no answer")
	}
	return "200", nil
}

func TestErasureLeavesNothing(t *testing.T) {
	withNotes(t, func(t *testing.T, f *fixture, n *notes) {
		f.people.Register(n.eraser())
		revoker := &flakyRevoker{failures: 1}
		f.service.revokers["fake"] = revoker
		p, q := f.phone("a"), f.phone("b")
		p.signIn("alice-canary alice-canary@example.com", "n1")
		account := p.user
		i := must(f.service.store.IdentitiesOf(t.Context(), account, 1))[0]
		profile := must(f.service.profile(t.Context(), i))
		before := i.Sealed
		profile.Refresh = "provider-refresh-canary"
		if err := f.service.seal(t.Context(), &i, profile); err != nil {
			t.Fatal(err)
		}
		if _, err := f.service.store.Apply(t.Context(), Change{Used: &i, UsedFrom: before}); err != nil {
			t.Fatal(err)
		}
		f.send(http.MethodPatch, "/v1/me", map[string]any{"name": "Ada Canary"}, p.bearer()...)
		n.add(t, q.user, "op-of-the-alias")
		alias := q.user
		q.signIn("alice-canary alice-canary@example.com", "n2")
		n.add(t, alias, "late") // what came after the merge

		if a := f.send(http.MethodDelete, "/v1/me", nil, q.bearer()...); a.Status != 202 {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		f.clock.Advance(15 * 24 * time.Hour)
		if err := f.service.erase(t.Context(), account, 1); err == nil {
			t.Fatal("the provider's failure was not told")
		}
		if err := f.service.erase(t.Context(), account, 2); err != nil {
			t.Fatal(err)
		}
		if err := f.service.erase(t.Context(), account, 3); err != nil { // a repeat
			t.Fatal(err)
		}
		if revoker.calls != 2 {
			t.Errorf("the provider was called %d times", revoker.calls)
		}
		e := must(f.service.life.erasure(t.Context(), account))
		if e.State != ErasureDone || e.Report.Providers["fake"] != "200" || e.Report.Aliases != 1 {
			t.Errorf("%+v", e)
		}
		if len(n.of(t, account))+len(n.of(t, alias)) != 0 {
			t.Error("rows are left")
		}
		if _, err := f.ring.Seal(t.Context(), account, "x", nil); !errors.Is(err, secret.ErrShredded) {
			t.Errorf("the user's key: %v", err)
		}
		if events := f.events.list(); !slices.Contains(events, "user.deleted "+account) {
			t.Errorf("events %q", events)
		}
		// The credential is free, and the user who was stays gone.
		q.take(f.post(registerPath, map[string]any{"installation_id": q.installation, "installation_secret": q.secret}))
		if q.signIn("alice-canary alice-canary@example.com", "n9"); q.status != 200 || q.user == account {
			t.Errorf("a new account: %d %s", q.status, q.last.Raw)
		}
		if u := must(f.service.store.User(t.Context(), account)); u.State != UserDeleted {
			t.Errorf("%+v", u)
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A backup from before the erasure comes back: the journal erases again.
func TestARestoredBackupBringsNobodyBack(t *testing.T) {
	f := sqliteFixture(t)
	p, gone := f.phone("a"), f.phone("b")
	p.signIn("alice", "n1")
	account := p.user
	f.send(http.MethodPatch, "/v1/me", map[string]any{"name": "Ada"}, p.bearer()...)
	for _, user := range []string{account, "usr_01h455vb4pex5vsknk084sn02q"} { // the second is younger than the backup
		if err := f.service.journal.append(f.clock.Now(), user); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(f.dir, journalFile)
	file := must(os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0))
	file.WriteString(`{"user":"usr_cut`) // a crash
	file.Close()
	const after = "usr_01h455vb4pex5vsknk084sn03q" // must not be lost with the line that was cut
	if err := f.service.journal.append(f.clock.Now(), after); err != nil {
		t.Fatal(err)
	}
	if users := must(f.service.journal.users()); !slices.Contains(users, after) {
		t.Errorf("the journal has %q", users)
	}
	if err := f.service.replayJournal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.me().Status != 401 || f.token(p.refresh).Status != 400 {
		t.Errorf("the erased user is signed in: %s", p.me().Raw)
	}
	if err := f.service.erase(t.Context(), account, 1); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{account, "usr_01h455vb4pex5vsknk084sn02q"} {
		if u := must(f.service.store.User(t.Context(), user)); u.State != UserDeleted {
			t.Errorf("%+v", u)
		}
	}
	if gone.me().Status != 200 {
		t.Errorf("somebody else: %s", gone.me().Raw)
	}
	if again := must(f.service.replayErasures(t.Context(), must(f.service.journal.users()))); again != 0 {
		t.Errorf("%d users are erased a third time", again)
	}
}

func TestAnonymousUsersGoAtOnce(t *testing.T) {
	withNotes(t, func(t *testing.T, f *fixture, n *notes) {
		f.people.Register(n.eraser())
		p := f.phone("a")
		user := p.user
		n.add(t, user, "op")
		f.clock.Advance(time.Hour)
		p.take(f.post(registerPath, map[string]any{"installation_id": p.installation, "installation_secret": p.secret}))
		if a := f.send(http.MethodDelete, "/v1/me", nil, p.bearer()...); a.Status != 202 {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		if err := f.service.erase(t.Context(), user, 1); err != nil {
			t.Fatal(err)
		}
		p.take(f.post(registerPath, map[string]any{"installation_id": p.installation, "installation_secret": p.secret}))
		if p.status != 200 || p.user == user || len(n.of(t, user)) != 0 {
			t.Errorf("%d %s", p.status, p.last.Raw)
		}
	})
}

func TestExportHasEverything(t *testing.T) {
	withNotes(t, func(t *testing.T, f *fixture, n *notes) {
		f.people.Register(n.eraser())
		p, q, other := f.phone("a"), f.phone("b"), f.phone("c")
		other.signIn("bob bob@example.com", "n0")
		p.signIn("alice alice@example.com", "n1")
		f.send(http.MethodPatch, "/v1/me", map[string]any{"name": "Ada"}, p.bearer()...)
		n.add(t, q.user, "op-of-the-alias")
		alias := q.user
		apple := withApple(t, f)
		for _, one := range []*phone{p, other} {
			data := attesttest.ClientData(one.challenge("attest"), "")
			_, keyID, object := apple.Attest(appleApp, data)
			if a := one.prove(map[string]any{"kind": "app_attest", "client_data": data, "key_id": keyID, "object": object}); a.Status != 200 {
				t.Fatalf("%d %s", a.Status, a.Raw)
			}
		}
		q.signIn("alice alice@example.com", "n2")
		a := f.post("/v1/me/export", nil, q.bearer()...)
		id := a.str("id")
		if a.Status != 202 || a.str("state") != "working" {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		if again := f.post("/v1/me/export", nil, q.bearer()...); again.str("id") != id {
			t.Errorf("a second request: %s", again.Raw)
		}
		if a := f.get("/v1/me/exports/"+id+"/archive", q.bearer()...); a.Status != 409 {
			t.Errorf("before it is ready: %d %s", a.Status, a.Raw)
		}
		for range 2 { // and a repeat of the job
			if err := f.service.export(t.Context(), id, 1); err != nil {
				t.Fatal(err)
			}
		}
		a = f.get("/v1/me/exports/"+id, q.bearer()...)
		if a.str("state") != "ready" {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		for _, path := range []string{"", "/archive"} {
			if a := f.get("/v1/me/exports/"+id+path, other.bearer()...); a.Status != 404 {
				t.Errorf("somebody else's export%s: %d %s", path, a.Status, a.Raw)
			}
		}
		r := httptest.NewRequest(http.MethodGet, a.str("archive"), nil)
		r.Header.Set("Authorization", "Bearer "+q.access)
		w := httptest.NewRecorder()
		f.handler.ServeHTTP(w, r)
		sum := sha256.Sum256(w.Body.Bytes())
		if w.Code != 200 || hex.EncodeToString(sum[:]) != a.str("sha256") {
			t.Fatalf("%d, %d bytes", w.Code, w.Body.Len())
		}
		files := unzip(t, w.Body.Bytes())
		for name, want := range map[string]string{
			"account.jsonl": `"name":"Ada"`, "identities.jsonl": "alice@example.com", "notes_life.jsonl": "op-of-the-alias",
			"merges.jsonl": alias, "sessions.jsonl": p.session, "audit.jsonl": "user.promote", "manifest.json": exportFormat,
		} {
			if !strings.Contains(files[name], want) {
				t.Errorf("%s has no %q: %s", name, want, files[name])
			}
		}
		var proof struct {
			Installation string `json:"installation_id"`
			attest.Verdict
		}
		if err := json.Unmarshal([]byte(files["device_proofs.jsonl"]), &proof); err != nil || proof.Installation != p.installation ||
			proof.Kind != attest.AppAttest || proof.Level != attest.LevelHardware || !proof.At.Equal(f.clock.Now()) {
			t.Errorf("device_proofs.jsonl: %v %s", err, files["device_proofs.jsonl"])
		}
		for name, text := range files {
			if strings.Contains(text, other.installation) || strings.Contains(text, "bob") || strings.Contains(text, other.user) {
				t.Errorf("%s tells of somebody else: %s", name, text)
			}
		}
		f.clock.Advance(8 * 24 * time.Hour)
		if err := f.service.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := f.service.life.exportPart(t.Context(), id, 0); !errors.Is(err, sqldb.ErrNotFound) {
			t.Errorf("an expired export is still there: %v", err)
		}
	})
}

func unzip(t *testing.T, b []byte) map[string]string {
	t.Helper()
	archive := must(zip.NewReader(bytes.NewReader(b), int64(len(b))))
	files := map[string]string{}
	for _, f := range archive.File {
		r := must(f.Open())
		files[f.Name] = string(must(io.ReadAll(r)))
		r.Close()
	}
	return files
}

func TestOverdueErasuresBeginAgain(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		p := f.phone("a")
		p.signIn("alice", "n1")
		f.send(http.MethodDelete, "/v1/me", nil, p.bearer()...)
		f.clock.Advance(15 * 24 * time.Hour)
		jobs := func() int {
			rows, _, err := f.queue.List(t.Context(), queue.Filter{Kind: eraseArgs{}.Kind()})
			if err != nil {
				t.Fatal(err)
			}
			return len(rows)
		}
		before := jobs()
		for range 2 {
			if err := f.service.clean(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := jobs(); got != before+1 {
			t.Errorf("%d jobs, were %d", got, before)
		}
	})
}
