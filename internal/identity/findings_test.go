package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"landline/internal/identity/passkey"
	"landline/internal/identity/provider/providertest"
	"landline/internal/module"
	"landline/internal/queue"
	"landline/internal/secret"
	"landline/internal/sqldb"
)

// A message and a credential that waits are closed with the account that they
// are about.
func TestWhatWaitsForAUserGoesWithThem(t *testing.T) {
	withCredentials(t, func(t *testing.T, f *fixture, _ *providertest.Issuer, box *outbox) {
		p, q := f.phone("a"), f.phone("b")
		f.post("/v1/auth/email-code", map[string]any{"email": "ada@example.com"}, p.bearer()...)
		p.take(f.post("/v1/auth/sign-in", map[string]any{"provider": "email_code", "email": "ada@example.com", "code": f.deliver(box)}, p.bearer()...))
		f.post("/v1/auth/email-code", map[string]any{"email": "ada@example.com"}, q.bearer()...)
		rows, _, err := f.queue.List(t.Context(), queue.Filter{Kind: mailJob{}.Kind(), Limit: 1})
		if err != nil || len(rows) != 1 {
			t.Fatal(rows, err)
		}
		job := &queue.Job[mailJob]{ID: rows[0].ID, CreatedAt: f.clock.Now()}
		if err := json.Unmarshal(rows[0].Args, &job.Args); err != nil {
			t.Fatal(err)
		}
		a := q.signIn("x9 ada@example.com", "n1", "provider", "other")
		a.wantCode(t, "another provider", 409, "account_exists_other_provider")
		pending := a.str("pending_link")
		if _, _, err := f.service.openTicket(t.Context(), kindPending, pending, q.installation); err != nil {
			t.Fatal(err)
		}
		if a := f.send(http.MethodDelete, "/v1/me", nil, p.bearer()...); a.Status != 202 {
			t.Fatal(a.Raw)
		}
		f.clock.Advance(14*24*time.Hour + time.Minute)
		if err := f.service.erase(t.Context(), p.user, 1); err != nil {
			t.Fatal(err)
		}
		sent := len(box.sent)
		if err := f.service.sendMail(t.Context(), job); err != nil || len(box.sent) != sent {
			t.Errorf("a message to somebody who was erased: %d sent, %v", len(box.sent)-sent, err)
		}
		if _, err := f.ring.Open(t.Context(), job.Args.Subject, fieldMail, job.Args.Sealed); !errors.Is(err, secret.ErrShredded) {
			t.Errorf("the message can be opened: %v", err)
		}
		if _, _, err := f.service.openTicket(t.Context(), kindPending, pending, q.installation); !errors.Is(err, errNoTicket) {
			t.Errorf("the credential can be opened: %v", err)
		}
	})
}

func TestAnExportThatFailsIsToldAndAskedForAnew(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		broken := true
		f.people.Register(module.Participant{Name: "broken", Export: func(context.Context, string, func(any) error) error {
			if broken {
				return errors.New("a fault of a capability")
			}
			return nil
		}})
		p := f.phone("a")
		id := f.post("/v1/me/export", nil, p.bearer()...).str("id")
		for attempt := 1; attempt < exportAttempts; attempt++ {
			if err := f.service.export(t.Context(), id, attempt); err == nil {
				t.Fatal("a failed attempt is not tried again")
			}
		}
		if a := f.get("/v1/me/exports/"+id, p.bearer()...); a.str("state") != "working" {
			t.Errorf("while it is tried: %s", a.Raw)
		}
		if err := f.service.export(t.Context(), id, exportAttempts); err != nil {
			t.Fatal(err)
		}
		if a := f.get("/v1/me/exports/"+id, p.bearer()...); a.str("state") != "failed" || a.str("fault") == "" {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
		f.get("/v1/me/exports/"+id+"/archive", p.bearer()...).wantCode(t, "its archive", 409, "conflict")
		broken = false
		again := f.post("/v1/me/export", nil, p.bearer()...)
		if again.Status != 202 || again.str("id") == id || again.str("state") != "working" {
			t.Fatalf("%d %s", again.Status, again.Raw)
		}
		if err := f.service.export(t.Context(), again.str("id"), 1); err != nil {
			t.Fatal(err)
		}
		if a := f.get("/v1/me/exports/"+again.str("id"), p.bearer()...); a.str("state") != "ready" {
			t.Errorf("%s", a.Raw)
		}
		// A job that died leaves nobody waiting for a week.
		f.clock.Advance(2 * time.Hour)
		third := f.post("/v1/me/export", nil, p.bearer()...).str("id")
		f.clock.Advance(exportPatience)
		p.back()
		if a := f.post("/v1/me/export", nil, p.bearer()...); a.Status != 202 || a.str("id") == third {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
	})
}

func TestProfileChangesAtOnceBothLand(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		p := f.phone("a")
		bodies := []map[string]any{{"name": "Ada"}, {"locale": "pl-PL"}, {"time_zone": "Europe/Warsaw"}, {"name": "Ada"}, {"locale": "pl-PL"}, {"time_zone": "Europe/Warsaw"}}
		answers := make([]answer, len(bodies))
		header := p.bearer()
		var all sync.WaitGroup
		for i, body := range bodies {
			all.Go(func() { answers[i] = f.send(http.MethodPatch, "/v1/me", body, header...) })
		}
		all.Wait()
		for _, a := range answers {
			if a.Status != 200 {
				t.Errorf("%d %s", a.Status, a.Raw)
			}
		}
		if a := p.me(); a.str("profile", "name") != "Ada" || a.str("profile", "locale") != "pl-PL" || a.str("profile", "time_zone") != "Europe/Warsaw" {
			t.Errorf("%s", a.Raw)
		}
	})
}

// A change that came between what is read and what is written is built upon.
func TestAProfileChangeIsNotLost(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		between := f.interpose()
		p := f.phone("a")
		f.send(http.MethodPatch, "/v1/me", map[string]any{"name": "Ada"}, p.bearer()...)
		between.meanwhile = func(Store) { f.send(http.MethodPatch, "/v1/me", map[string]any{"locale": "pl-PL"}, p.bearer()...) }
		if a := f.send(http.MethodPatch, "/v1/me", map[string]any{"name": "Ada Lovelace"}, p.bearer()...); a.Status != 200 || a.str("locale") != "pl-PL" {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
		if a := p.me(); a.str("profile", "name") != "Ada Lovelace" || a.str("profile", "locale") != "pl-PL" {
			t.Errorf("%s", a.Raw)
		}
	})
}

func TestAPasskeysCounterNeverFalls(t *testing.T) {
	record := func(n uint32) []byte {
		return must(json.Marshal(passkeySecret{Credential: passkey.Credential{ID: []byte("k"), SignCount: n}, Handle: []byte("h")}))
	}
	for _, c := range []struct{ stored, verified, want uint32 }{{5, 6, 6}, {7, 6, 7}, {0, 0, 0}, {6, 6, 6}} {
		var got passkeySecret
		if err := json.Unmarshal(must(laterPasskey(record(c.stored), record(c.verified))), &got); err != nil || got.Credential.SignCount != c.want {
			t.Errorf("%d after %d: %d, want %d; %v", c.verified, c.stored, got.Credential.SignCount, c.want, err)
		}
	}
	if _, err := laterPasskey([]byte("{"), record(1)); err == nil {
		t.Error("a record that cannot be read is taken")
	}
}

// watched keeps the changes that are applied.
type watched struct {
	Store
	mu      sync.Mutex
	changes []Change
}

func (s *watched) Apply(ctx context.Context, c Change) (bool, error) {
	s.mu.Lock()
	s.changes = append(s.changes, c)
	s.mu.Unlock()
	return s.Store.Apply(ctx, c)
}

// A password that is set and the end of whoever came with the old one are one write.
func TestANewPasswordAndTheEndOfOldSessionsAreOneWrite(t *testing.T) {
	withCredentials(t, func(t *testing.T, f *fixture, _ *providertest.Issuer, box *outbox) {
		var seen *watched
		f.start(func(s Store) Store {
			seen = &watched{Store: s}
			return seen
		})
		p := f.phone("a")
		set := func(password string) {
			t.Helper()
			f.clock.Advance(2 * time.Minute)
			f.post("/v1/auth/email-code", map[string]any{"email": "ada@example.com"}, p.bearer()...)
			p.take(f.post("/v1/auth/sign-up", map[string]any{"email": "ada@example.com", "code": f.deliver(box), "password": password}, p.bearer()...))
			if p.status != 200 {
				t.Fatalf("%d %s", p.status, p.last.Raw)
			}
		}
		set("correct horse battery staple")
		seen.changes = nil
		set("another horse battery staple")
		together := 0
		for _, c := range seen.changes {
			if (c.EndAll != nil) != (c.Used != nil) {
				t.Errorf("one without the other: %+v", c)
			}
			if c.EndAll != nil && c.EndAll.Except == p.session && c.EndAll.Reason == ReasonPassword {
				together++
			}
		}
		if together != 1 {
			t.Errorf("%d changes set the password and end the sessions", together)
		}
	})
}

func TestAPersonIsFoundByAWayToSignIn(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		p := f.phone("a")
		p.signIn("alice", "n1")
		way := must(f.service.store.IdentitiesOf(t.Context(), p.user, 1))[0].ID
		if a := f.post("/admin/v1/users/search", map[string]any{"id": way}); a.Status != 200 || !strings.Contains(a.Raw, `"id":"`+p.user) {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
		if a := f.post("/admin/v1/users/search", map[string]any{"id": "idn_01h455vb4pex5vsknk084sn02q"}); a.Status != 200 || strings.Contains(a.Raw, "usr_") {
			t.Errorf("nobody's: %d %s", a.Status, a.Raw)
		}
	})
}

// A user who changes while an erasure is replayed is erased all the same.
func TestAnErasureIsReplayedAgainstARace(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		between := f.interpose()
		p := f.phone("a")
		p.signIn("alice", "n1")
		between.meanwhile = moved(t, p.user, UserActive, UserLocked)
		if again := must(f.service.replayErasures(t.Context(), []string{p.user})); again != 1 {
			t.Errorf("%d erased again", again)
		}
		if u := must(f.service.store.User(t.Context(), p.user)); u.State != UserDeleting {
			t.Errorf("%+v", u)
		}
	})
}

// deadlines keeps until when the storage may take.
type deadlines struct {
	Store
	session, apply time.Duration
}

func (s *deadlines) Session(ctx context.Context, id string) (Grant, error) {
	if at, ok := ctx.Deadline(); ok {
		s.session = time.Until(at)
	}
	return s.Store.Session(ctx, id)
}

func (s *deadlines) Apply(ctx context.Context, c Change) (bool, error) {
	if at, ok := ctx.Deadline(); ok {
		s.apply = time.Until(at)
	}
	return s.Store.Apply(ctx, c)
}

// Reading and writing of a revocation share one time.
func TestARevocationIsBounded(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		var seen *deadlines
		f.start(func(s Store) Store {
			seen = &deadlines{Store: s}
			return seen
		})
		p := f.phone("a")
		if a := f.form("/oauth/revoke", "token", p.refresh); a.Status != 200 {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		if seen.session <= 0 || seen.session > revokeWithin || seen.apply <= 0 || seen.apply > seen.session {
			t.Errorf("reading may take %s, writing %s, together at most %s", seen.session, seen.apply, revokeWithin)
		}
	})
}

func (f *fixture) count(t *testing.T, text string, args ...any) (n int) {
	t.Helper()
	err := f.db.Read(t.Context(), func(ctx context.Context, q sqldb.Querier) error {
		return q.QueryRowContext(ctx, text, args...).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestInstallationsGoWithTheirUsers(t *testing.T) { // B-17, B-19
	engines(t, func(t *testing.T, f *fixture) {
		device := func(p *phone) (d string) {
			return must(f.service.store.Installation(t.Context(), p.installation)).App.Device
		}
		app := map[string]any{"app": map[string]any{"device": "Pixel-canary"}}
		here, idle, shared := &phone{f: f}, &phone{f: f}, &phone{f: f}
		for i, p := range []*phone{here, idle, shared} {
			p.take(f.post(registerPath, app, "Idempotency-Key", fmt.Sprintf("first-launch-%d-of-all", i)))
			err := f.db.Write(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				_, err := exec(ctx, tx, "DeviceProofPut", p.installation, "{}", "", 0, 0)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		// Who leaves today: nothing of the device stays, and the phone may come back.
		if a := f.send(http.MethodDelete, "/v1/me", nil, here.bearer()...); a.Status != 202 {
			t.Fatal(a.Raw)
		}
		if err := f.service.erase(t.Context(), here.user, 1); err != nil {
			t.Fatal(err)
		}
		if device(here) != "" || f.count(t, `SELECT COUNT(*) FROM device_proof WHERE installation_id = $1`, here.installation) != 0 {
			t.Errorf("the erased user's device is still known: %q", device(here))
		}
		was := here.installation
		here.back()
		if here.status != 200 || here.installation != was {
			t.Errorf("%d %s", here.status, here.last.Raw)
		}
		// Somebody else is on this phone: what is known of it is theirs.
		anonymous := shared.user
		shared.signIn("alice", "n1")
		account := shared.user
		if a := f.send(http.MethodDelete, "/v1/me", nil, shared.bearer()...); a.Status != 202 {
			t.Fatal(a.Raw)
		}
		shared.back() // a new anonymous user
		f.clock.Advance(15 * 24 * time.Hour)
		if err := f.service.erase(t.Context(), account, 1); err != nil {
			t.Fatal(err)
		}
		if shared.user == anonymous || device(shared) != "Pixel-canary" {
			t.Errorf("the other user's device: %q", device(shared))
		}
		// Who never came back is gone, and the installation with them.
		f.clock.Advance(100 * 24 * time.Hour)
		if err := f.service.retire(t.Context(), f.clock.Now()); err != nil {
			t.Fatal(err)
		}
		if err := f.service.erase(t.Context(), idle.user, 1); err != nil {
			t.Fatal(err)
		}
		if n := f.count(t, `SELECT COUNT(*) FROM installation WHERE id = $1`, idle.installation); n != 0 {
			t.Error("the installation of somebody who never came back is still there")
		}
	})
}

// An installation that nobody is on any more goes with the last of its sessions.
func TestInstallationsThatNobodyIsOnAreRemoved(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		left, alive := f.phone("a"), f.phone("b")
		first := f.phone("c")
		first.signIn("alice", "n0")
		f.send(http.MethodPatch, "/v1/me", map[string]any{"name": "Ada"}, left.bearer()...)
		if left.signIn("alice", "n1"); left.merged == nil {
			t.Fatal(left.last.Raw)
		}
		f.clock.Advance(200 * 24 * time.Hour)
		alive.back()
		f.clock.Advance(200 * 24 * time.Hour)
		alive.back()
		if err := f.service.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := f.count(t, `SELECT COUNT(*) FROM installation WHERE id = $1`, left.installation); n != 0 {
			t.Error("a phone that nobody is on is still there")
		}
		if alive.back(); alive.status != 200 {
			t.Errorf("a phone in use: %d %s", alive.status, alive.last.Raw)
		}
	})
}

func TestAnAnonymousUserKnowsUntilWhen(t *testing.T) { // B-19
	engines(t, func(t *testing.T, f *fixture) {
		p := f.phone("a")
		until := func() time.Time {
			t.Helper()
			at, err := time.Parse(time.RFC3339, p.me().str("expires_at"))
			if err != nil {
				t.Fatal(err)
			}
			return at
		}
		if got, want := until(), f.clock.Now().Add(f.config.Anonymous.EmptyKeep.D()); !got.Equal(want) {
			t.Errorf("without data %s, want %s", got, want)
		}
		f.send(http.MethodPatch, "/v1/me", map[string]any{"name": "Ada"}, p.bearer()...)
		if got, want := until(), f.clock.Now().Add(f.config.Anonymous.Keep.D()); !got.Equal(want) {
			t.Errorf("with data %s, want %s", got, want)
		}
		f.clock.Advance(10 * 24 * time.Hour)
		if p.back(); !until().Equal(f.clock.Now().Add(f.config.Anonymous.Keep.D())) {
			t.Errorf("after it was seen again: %s", until())
		}
		if p.signIn("alice", "n1"); p.me().Body["expires_at"] != nil {
			t.Errorf("an account: %s", p.me().Raw)
		}
	})
}
