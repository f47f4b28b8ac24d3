package identity

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// TestSimulatedRestores is figure F14: a backup that is older than what the
// phones hold comes back. Every session that nobody ended goes on; who signed
// out, was robbed or was deleted since does not come back.
func TestSimulatedRestores(t *testing.T) {
	t.Parallel()
	total := map[string]float64{}
	for i := range simCount(1, 20) {
		seed := simFirstSeed(t) + uint64(i)
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { restoreDrill(t, seed, total) })
	}
	simFigure(t, "F14", total)
	if total["sessions survived"] != total["sessions restored"] || total["sessions restored"] == 0 || total["ended sessions that are back"] > 0 || total["erased users that are back"] > 0 {
		t.Errorf("%v", total)
	}
}

// fate is what becomes of a phone between the backup and the restore.
type simFate int

const (
	fateLives simFate = iota
	fateSignsOut
	fateIsRobbed
	fateIsEnded // by an operator
	fateIsErased
	fateIsYounger // than the backup
	fates
)

func restoreDrill(t *testing.T, seed uint64, total map[string]float64) {
	s := newSimServer(t, false)
	r := newSimRefreshes(t, s, seed, 60)
	fate := map[*simClient]simFate{}
	for i, c := range r.clients {
		fate[c] = simFate(r.rng.IntN(int(fateIsYounger)))
		if i%2 == 0 { // accounts, too
			a := s.call(http.MethodPost, "/v1/auth/sign-in", c.access, map[string]any{"provider": "fake", "code": fmt.Sprintf("restored%d-%d", seed, i), "nonce": fmt.Sprintf("restored%d-%d", seed, i)})
			if a.status != http.StatusOK {
				t.Fatalf("%d %s", a.status, a.raw)
			}
			c.take(s, a.str("session", "access_token"), a.str("session", "refresh_token"), 900)
		}
	}
	backup := s.backup()
	began := s.now()
	for _, c := range r.clients {
		for range r.rng.IntN(6) { // the phones go on: their tokens get ahead of the backup
			s.clock.Advance(time.Duration(r.rng.IntN(60)) * time.Second)
			r.keep(c, r.granted(c, c.disk))
		}
		old := c.disk
		r.keep(c, r.granted(c, c.disk))
		r.meet(c, fate[c], old)
	}
	for i := range 10 {
		c := r.launch(fmt.Sprintf("younger-%d-of-seed-%d", i, seed))
		r.clients = append(r.clients, c)
		fate[c] = fateIsYounger
	}
	// The list that an operator keeps with the backups, see docs/reference/reliability/identity.md.
	ended, err := s.service.store.Revocations(t.Context(), Revocation{At: began.Add(-time.Second)}, 10_000)
	s.must(err)
	s.restore(backup)
	for _, one := range ended {
		if len(one.SessionID) > 4 && one.SessionID[:4] == "ses_" {
			if _, err := s.service.RevokeSession(context.Background(), one.SessionID, "ended after the backup was made"); err != nil {
				t.Fatal(err)
			}
		}
	}
	for c, f := range fate {
		if f == fateIsErased {
			s.must(s.service.erase(context.Background(), c.user, 1)) // the job that the journal has brought back
		}
	}
	_, err = s.service.DeclareRestore(context.Background(), 24*time.Hour, "drill")
	s.must(err)
	for _, c := range r.clients {
		r.afterRestore(c, fate[c], total)
	}
}

func (s *simServer) now() time.Time { return s.clock.Now() }

// meet lets a phone have its fate; old is a token it has used before.
func (r *simRefreshes) meet(c *simClient, f simFate, old string) {
	r.t.Helper()
	s := r.s
	ok := func(a simAnswer, status int) {
		r.t.Helper()
		if a.status != status {
			r.fail(c, "%d %s", a.status, a.raw)
		}
	}
	switch f {
	case fateSignsOut:
		ok(s.call(http.MethodPost, "/v1/auth/sign-out", c.access, nil), http.StatusNoContent)
	case fateIsRobbed:
		r.keep(c, r.granted(c, c.disk))
		s.clock.Advance(time.Hour)
		ok(s.refresh(old), http.StatusBadRequest)
	case fateIsEnded:
		t, _ := parseRefreshToken(c.disk)
		_, err := s.service.RevokeSession(context.Background(), t.session, "drill")
		s.must(err)
	case fateIsErased:
		a := s.call(http.MethodDelete, "/v1/me", c.access, nil)
		if a.status != http.StatusAccepted { // an account must have signed in just now
			_, err := s.service.requestErasure(context.Background(), c.user, "drill")
			s.must(err)
		}
		s.must(s.service.erase(context.Background(), c.user, 1))
	}
}

func (r *simRefreshes) afterRestore(c *simClient, f simFate, total map[string]float64) {
	r.t.Helper()
	a := r.s.refresh(c.disk)
	me := r.s.call(http.MethodGet, "/v1/me", c.access, nil)
	switch {
	case f == fateLives:
		total["sessions restored"]++
		if a.status == http.StatusOK {
			total["sessions survived"]++
		} else {
			r.t.Errorf("a session did not survive: %d %s", a.status, a.raw)
		}
	case f == fateIsYounger: // nothing is known of it, and the app is told how to go on
		total["sessions younger than the backup"]++
		if a.status != http.StatusBadRequest || a.str("recovery") != recoverInstallation {
			r.t.Errorf("a session younger than the backup: %d %s", a.status, a.raw)
		}
		back := r.s.call(http.MethodPost, registerPath, "", map[string]any{"installation_id": c.installation, "installation_secret": c.secret})
		if back.status != http.StatusCreated {
			r.t.Errorf("its installation comes back: %d %s", back.status, back.raw)
		}
	case f == fateIsErased:
		total["users erased"]++
		if a.status == http.StatusOK || me.status == http.StatusOK {
			total["erased users that are back"]++
			r.t.Errorf("an erased user is back: %s %s", a.raw, me.raw)
		}
	default:
		total["sessions ended"]++
		if a.status == http.StatusOK || me.status == http.StatusOK {
			total["ended sessions that are back"]++
			r.t.Errorf("a session that was ended (%d) is back: %s %s", f, a.raw, me.raw)
		}
	}
}

// TestSimulatedReplays is figure F13: whatever is sent a second time takes effect once.
func TestSimulatedReplays(t *testing.T) {
	t.Parallel()
	s := newSimServer(t, false)
	total := map[string]float64{"second effects": 0}
	again := func(what string, happened bool, detail string) {
		t.Helper()
		total["replays"]++
		total[what]++
		if happened {
			total["second effects"]++
			t.Errorf("%s had a second effect: %s", what, detail)
		}
	}
	for i := range simCount(4, 300) {
		key := func(what string) string { return fmt.Sprintf("%s-number-%d", what, i) }
		launch := func(what string) simAnswer {
			return s.call(http.MethodPost, registerPath, "", map[string]any{}, "Idempotency-Key", "first-launch-"+key(what))
		}
		signIn := func(access, nonce string) simAnswer {
			return s.call(http.MethodPost, "/v1/auth/sign-in", access, map[string]any{"provider": "fake", "code": key("subject"), "nonce": nonce})
		}
		one, two := launch("one"), launch("two")
		repeat := launch("one")
		again("first launch", repeat.str("installation", "id") != one.str("installation", "id") || repeat.status != 200, repeat.raw)

		// A write whose answer is lost, a merge, and the write again.
		account := signIn(one.str("session", "access_token"), key("n1"))
		body := simRecord{Collection: "files", Name: "a", Value: "x"}
		write := func(access string, body any, who string) simAnswer {
			return s.call(http.MethodPost, "/v1/records", access, body, "Idempotency-Key", key("write"), "Expect-User", who)
		}
		before := two.str("user", "id")
		write(two.str("session", "access_token"), body, before)
		merged := signIn(two.str("session", "access_token"), key("n2"))
		w := write(merged.str("session", "access_token"), body, before)
		rows := s.rowsOf(account.str("user", "id"))
		again("idempotency key across a merge", w.status != http.StatusNoContent || len(rows) != 1 || rows[0].Writes != 1, fmt.Sprintf("%d %s %v", w.status, w.raw, rows))
		w = write(merged.str("session", "access_token"), simRecord{Collection: "files", Name: "b"}, before)
		again("idempotency key with another body", w.status != http.StatusUnprocessableEntity, w.raw)

		// The credential that was used, elsewhere and after the sign-out.
		three := launch("three")
		a := signIn(three.str("session", "access_token"), key("n2"))
		again("credential on another installation", a.str("code") != "credential_used", a.raw)
		s.call(http.MethodPost, "/v1/auth/sign-out", merged.str("session", "access_token"), nil)
		back := s.call(http.MethodPost, registerPath, "", map[string]any{"installation_id": two.str("installation", "id"), "installation_secret": two.str("installation", "secret")})
		a = signIn(back.str("session", "access_token"), key("n2"))
		again("credential after the sign-out", a.str("code") != "credential_used", a.raw)

		// A proof of possession, and the token of a session that is over.
		d := newDevice(t)
		proof := d.proof(s.now(), nil)
		s.call(http.MethodPost, registerPath, "", map[string]any{"public_key": d.public(), "proof": proof})
		a = s.call(http.MethodPost, registerPath, "", map[string]any{"public_key": d.public(), "proof": proof})
		again("proof of possession", a.str("code") != "installation_proof_invalid", a.raw)
		a = s.refresh(merged.str("session", "refresh_token"))
		again("refresh token after the sign-out", a.status != http.StatusBadRequest, a.raw)
		a = s.call(http.MethodPost, "/oauth/revoke", "", url.Values{"token": {merged.str("session", "refresh_token")}})
		again("revocation", a.status != http.StatusOK, a.raw)
	}
	simFigure(t, "F13", total)
}
