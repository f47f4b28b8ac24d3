package identity

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"crypto/x509"

	"landline/internal/id"
	"landline/internal/problem"
)

const launchKey = "3f0c1f0e-9a41-4a51-9d52-6a5d3f1d7b10"

// same checks that two answers are about one installation, user and session.
func same(t *testing.T, a, b answer) {
	t.Helper()
	for _, path := range [][]string{{"installation", "id"}, {"installation", "secret"}, {"user", "id"}, {"session", "id"}, {"session", "refresh_token"}} {
		if a.str(path...) != b.str(path...) {
			t.Errorf("%v differs: %q and %q", path, a.str(path...), b.str(path...))
		}
	}
}

// different checks that b discloses nothing of a.
func different(t *testing.T, a, b answer) {
	t.Helper()
	for _, path := range [][]string{{"installation", "id"}, {"user", "id"}, {"session", "id"}, {"session", "refresh_token"}, {"session", "access_token"}} {
		if x, y := a.str(path...), b.str(path...); x == y || y == "" {
			t.Errorf("%v: %q and %q", path, x, y)
		}
	}
	if s := a.str("installation", "secret"); s != "" && s == b.str("installation", "secret") {
		t.Error("the secret is the same")
	}
}

func TestFirstLaunch(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		a := f.launch(launchKey)
		if a.Status != http.StatusCreated || a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("Data-Subject") != a.str("user", "id") {
			t.Fatalf("%d %v", a.Status, a.Header)
		}
		for prefix, got := range map[string]string{id.Installation: a.str("installation", "id"), id.User: a.str("user", "id"), id.Session: a.str("session", "id")} {
			if id.Check(prefix, got) != nil {
				t.Errorf("%q is not an id of type %s", got, prefix)
			}
		}
		session := a.Body["session"].(map[string]any)
		if a.str("user", "kind") != "anonymous" || session["token_type"] != "Bearer" || session["expires_in"] != 900.0 || session["refresh_expires_in"] != 90*24*3600.0 {
			t.Errorf("answer: %s", a.Raw)
		}
		if me := f.bearer(a.str("session", "access_token")); me.Status != 200 || me.str("id") != a.str("user", "id") ||
			me.str("session", "id") != a.str("session", "id") || me.str("installation", "id") != a.str("installation", "id") ||
			me.Header.Get("Data-Subject") != a.str("user", "id") || me.Header.Get("Cache-Control") != "no-store" || me.str("kind") != "anonymous" {
			t.Errorf("me: %d %s", me.Status, me.Raw)
		}
		for _, key := range []string{launchKey, `"` + launchKey + `"`} { // L1: both spellings of RFC 9651
			b := f.launch(key)
			if b.Status != http.StatusOK {
				t.Errorf("repeat: %d", b.Status)
			}
			same(t, a, b)
		}
		different(t, a, f.launch("another-key-0123456789"))
		if got := f.actions(); !slices.Equal(got, []string{"installation.create", "installation.create"}) {
			t.Errorf("audit: %v", got)
		}
	})
}

func TestParallelFirstLaunchesGetOnePair(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		d := newDevice(t)
		nodes := []*fixture{f, f.another()}
		for name, launch := range map[string]func(f *fixture) answer{
			"idempotency key": func(f *fixture) answer { return f.launch(launchKey) },
			"public key": func(f *fixture) answer {
				return f.post(registerPath, map[string]any{"public_key": d.public(), "proof": d.proof(f.clock.Now(), nil)})
			},
		} {
			var mu sync.Mutex
			var all []answer
			var wg sync.WaitGroup
			for i := range 64 {
				wg.Go(func() {
					a := launch(nodes[i%2])
					mu.Lock()
					defer mu.Unlock()
					all = append(all, a)
				})
			}
			wg.Wait()
			created := 0
			for _, a := range all {
				if a.Status == http.StatusCreated {
					created++
				} else if a.Status != http.StatusOK {
					t.Fatalf("%s: %d %s", name, a.Status, a.Raw)
				}
				same(t, all[0], a)
			}
			if created != 1 {
				t.Errorf("%s: %d installations were created", name, created)
			}
		}
	})
}

func TestComeBackWithTheSecret(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		a := f.launch(launchKey)
		show := func(body map[string]any) answer {
			body["installation_id"], body["installation_secret"] = a.str("installation", "id"), a.str("installation", "secret")
			return f.post(registerPath, body)
		}
		b := show(map[string]any{"app": map[string]any{"version": "5.0.0", "build": 7, "platform": "android"}}) // L15
		if b.Status != http.StatusOK {
			t.Fatalf("%d %s", b.Status, b.Raw)
		}
		same(t, a, b)
		if me := f.bearer(b.str("session", "access_token")); me.str("installation", "app", "version") != "5.0.0" {
			t.Errorf("the app's version was not taken: %s", me.Raw)
		}
		// A rotation in between: the current token is given, and it works.
		r := f.token(a.str("session", "refresh_token"))
		if c := show(map[string]any{}); c.str("session", "refresh_token") != r.str("refresh_token") || c.str("session", "id") != a.str("session", "id") {
			t.Error("the current refresh token was not given")
		}
		// L19: expired. The same user, a new session, once.
		f.clock.Advance(91 * 24 * time.Hour)
		c, d := show(map[string]any{}), show(map[string]any{})
		same(t, c, d)
		if c.str("user", "id") != a.str("user", "id") || c.str("session", "id") == a.str("session", "id") {
			t.Errorf("after the expiry: %s", c.Raw)
		}
		if x := f.token(r.str("refresh_token")); x.str("reason") != string(ReasonExpiredIdle) {
			t.Errorf("the expired token: %s", x.Raw)
		}
		if x := f.token(c.str("session", "refresh_token")); x.Status != 200 {
			t.Errorf("the new session's token: %s", x.Raw)
		}
		// L14: signed out. The same user again.
		if out := f.post("/v1/auth/sign-out", nil, "Authorization", "Bearer "+c.str("session", "access_token")); out.Status != http.StatusNoContent {
			t.Fatalf("sign out: %d %s", out.Status, out.Raw)
		}
		e := show(map[string]any{})
		if e.str("user", "id") != a.str("user", "id") || e.str("session", "id") == c.str("session", "id") {
			t.Errorf("after the sign-out: %s", e.Raw)
		}
		want := []string{"installation.create", "session.create", "session.sign_out", "session.create"}
		if got := f.actions(); !slices.Equal(got, want) {
			t.Errorf("audit: %v", got)
		}
	})
}

func TestComeBackInParallelAfterTheEnd(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		a := f.launch(launchKey)
		f.clock.Advance(400 * 24 * time.Hour)
		var mu sync.Mutex
		var all []answer
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				b := f.post(registerPath, map[string]any{"installation_id": a.str("installation", "id"), "installation_secret": a.str("installation", "secret")})
				mu.Lock()
				defer mu.Unlock()
				all = append(all, b)
			})
		}
		wg.Wait()
		for _, b := range all {
			if b.Status != http.StatusOK {
				t.Fatalf("%d %s", b.Status, b.Raw)
			}
			same(t, all[0], b)
		}
	})
}

func TestComeBackWithTheKey(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		d := newDevice(t)
		der, err := x509.MarshalPKIXPublicKey(&d.key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		a := f.post(registerPath, map[string]any{"public_key": d.public(), "proof": d.proof(f.clock.Now(), nil)})
		if a.Status != http.StatusCreated || a.str("installation", "secret") != "" {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		for _, body := range []map[string]any{
			{"public_key": base64.RawURLEncoding.EncodeToString(der)},
			{"installation_id": a.str("installation", "id")},
			{"installation_id": a.str("installation", "id"), "public_key": d.public()},
		} {
			body["proof"] = d.proof(f.clock.Now(), nil)
			b := f.post(registerPath, body)
			if b.Status != http.StatusOK {
				t.Fatalf("%d %s", b.Status, b.Raw)
			}
			same(t, a, b)
		}
		spent := d.proof(f.clock.Now(), nil)
		for i, want := range []int{http.StatusOK, http.StatusUnauthorized} {
			b := f.post(registerPath, map[string]any{"installation_id": a.str("installation", "id"), "proof": spent})
			if b.Status != want {
				t.Errorf("use %d of one proof: %d %s", i+1, b.Status, b.Raw)
			}
			if want != http.StatusOK {
				b.wantProblem(t, want, problem.InstallationProofInvalid)
			}
		}
	})
}

// TestWrongCredentialMakesAnotherInstallation is L18, and the deleted installation.
func TestWrongCredentialMakesAnotherInstallation(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		a := f.launch(launchKey)
		owner, thief := newDevice(t), newDevice(t)
		keyed := f.post(registerPath, map[string]any{"public_key": owner.public(), "proof": owner.proof(f.clock.Now(), nil)})
		wrong := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
		deleted := id.New(id.Installation)
		for name, try := range map[string]struct {
			victim answer
			send   func() answer
			from   string
		}{
			"wrong secret": {a, func() answer {
				return f.post(registerPath, map[string]any{"installation_id": a.str("installation", "id"), "installation_secret": wrong}, "Idempotency-Key", launchKey)
			}, a.str("installation", "id")},
			"secret for a key": {keyed, func() answer {
				return f.post(registerPath, map[string]any{"installation_id": keyed.str("installation", "id"), "installation_secret": wrong})
			}, keyed.str("installation", "id")},
			"wrong key": {keyed, func() answer {
				return f.post(registerPath, map[string]any{"installation_id": keyed.str("installation", "id"), "proof": thief.proof(f.clock.Now(), nil)})
			}, keyed.str("installation", "id")},
			"unknown installation": {a, func() answer {
				return f.post(registerPath, map[string]any{"installation_id": deleted, "installation_secret": wrong})
			}, ""},
		} {
			b := try.send()
			if b.Status != http.StatusCreated {
				t.Fatalf("%s: %d %s", name, b.Status, b.Raw)
			}
			different(t, try.victim, b)
			c := try.send()
			if c.Status != http.StatusOK {
				t.Errorf("%s, repeated: %d %s", name, c.Status, c.Raw)
			}
			same(t, b, c)
			got, err := f.service.store.Installation(t.Context(), b.str("installation", "id"))
			if err != nil || got.ClonedFrom != try.from {
				t.Errorf("%s: cloned from %q, %v", name, got.ClonedFrom, err)
			}
		}
		clones := 0
		for _, action := range f.actions() {
			if action == "installation.clone" {
				clones++
			}
		}
		if clones != 3 {
			t.Errorf("%d clones were audited: %v", clones, f.actions())
		}
		// The originals are as they were.
		if b := f.launch(launchKey); b.Status != http.StatusOK {
			t.Errorf("the original: %d", b.Status)
		} else {
			same(t, a, b)
		}
	})
}

// TestReinstallEndsTheAccountsSession is L16: rows as later sign-in makes them.
func TestReinstallEndsTheAccountsSession(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		a := f.launch(launchKey)
		ctx := context.Background()
		u := User{ID: id.New(id.User), Kind: Account, State: UserActive, CreatedAt: f.clock.Now()}
		session, err := f.service.beginSession(u, Installation{ID: a.str("installation", "id")}, testApp.ID, methodSecret, f.service.now())
		if err != nil {
			t.Fatal(err)
		}
		if done, err := f.service.store.Apply(ctx, Change{User: &u, Session: &session}); !done || err != nil {
			t.Fatal(done, err)
		}
		tokens, err := f.service.tokens(Grant{session, u}, session.Scope, f.service.now())
		if err != nil {
			t.Fatal(err)
		}
		body := map[string]any{"installation_id": a.str("installation", "id"), "installation_secret": a.str("installation", "secret")}
		same(t, a, f.post(registerPath, body)) // without the word, both live on
		if me := f.bearer(tokens.Access); me.str("kind") != "account" {
			t.Fatalf("me: %s", me.Raw)
		}
		body["reinstalled"] = true
		for range 2 {
			b := f.post(registerPath, body)
			if b.Status != http.StatusOK || b.str("user", "kind") != "anonymous" {
				t.Errorf("%d %s", b.Status, b.Raw)
			}
			same(t, a, b) // L15
		}
		f.bearer(tokens.Access).wantProblem(t, 401, problem.SessionRevoked)
		if x := f.token(tokens.Refresh); x.str("reason") != string(ReasonSessionRevoked) || x.str("recovery") != "" {
			t.Errorf("the account's refresh token: %s", x.Raw)
		}
		if got := f.actions(); !slices.Equal(got, []string{"installation.create", "session.revoke"}) {
			t.Errorf("audit: %v", got)
		}
	})
}

func TestBootstrapKeyIsForgotten(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		a := f.launch(launchKey)
		f.clock.Advance(f.config.BootstrapKeyKeep.D() - time.Second)
		if err := f.service.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		same(t, a, f.launch(launchKey))
		f.clock.Advance(2 * time.Second)
		if err := f.service.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		different(t, a, f.launch(launchKey))
		if b := f.post(registerPath, map[string]any{"installation_id": a.str("installation", "id"), "installation_secret": a.str("installation", "secret")}); b.str("user", "id") != a.str("user", "id") {
			t.Errorf("the secret no longer opens it: %s", b.Raw)
		}
	})
}

func TestClientsOfTheConfiguration(t *testing.T) {
	f := sqliteFixture(t)
	for name, want := range map[string]string{"com.example.flights.web": "com.example.flights.web", "com.example.other": testApp.ID, "": testApp.ID} {
		a := f.post(registerPath, map[string]any{}, "Idempotency-Key", "key-of-client-"+name+"-0123456789", "Test-Client", name)
		if x := f.token(a.str("session", "refresh_token"), "client_id", want); x.Status != 200 {
			t.Errorf("client %q: %d %s", name, x.Status, x.Raw)
		}
		if x := f.token(a.str("session", "refresh_token"), "client_id", "com.example.thief"); x.str("reason") != string(ReasonClientMismatch) {
			t.Errorf("client %q: %d %s", name, x.Status, x.Raw)
		}
	}
}

func TestRegistrationRefuses(t *testing.T) {
	f := sqliteFixture(t)
	d, other := newDevice(t), newDevice(t)
	now := f.clock.Now()
	ins, good := id.New(id.Installation), base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	private, err := (&jose.JSONWebKey{Key: d.key}).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	claim := func(name string, value any) string {
		return d.proof(now, func(_ map[jose.HeaderKey]any, c map[string]any) { c[name] = value })
	}
	with := func(proof string) map[string]any { return map[string]any{"public_key": d.public(), "proof": proof} }
	for name, c := range map[string]struct {
		body   map[string]any
		key    string
		status int
		code   problem.Code
	}{
		"nothing":              {map[string]any{}, "", 400, problem.IdempotencyKeyMissing},
		"a short key":          {map[string]any{}, "tooshort", 400, problem.IdempotencyKeyInvalid},
		"a key with a space":   {map[string]any{}, "sixteen characters here", 400, problem.IdempotencyKeyInvalid},
		"an id alone":          {map[string]any{"installation_id": ins}, launchKey, 400, problem.InvalidRequest},
		"no id":                {map[string]any{"installation_id": "ins_1", "installation_secret": good}, "", 400, problem.InvalidRequest},
		"a user's id":          {map[string]any{"installation_id": id.New(id.User), "installation_secret": good}, "", 400, problem.InvalidRequest},
		"a secret alone":       {map[string]any{"installation_secret": good}, launchKey, 400, problem.InvalidRequest},
		"a short secret":       {map[string]any{"installation_id": ins, "installation_secret": "abc"}, launchKey, 400, problem.InvalidRequest},
		"secret and proof":     {map[string]any{"installation_id": ins, "installation_secret": good, "proof": d.proof(now, nil)}, "", 400, problem.InvalidRequest},
		"a key without proof":  {map[string]any{"public_key": d.public()}, launchKey, 400, problem.InvalidRequest},
		"a proof without key":  {map[string]any{"proof": d.proof(now, nil)}, launchKey, 400, problem.InvalidRequest},
		"a private key":        {map[string]any{"public_key": json.RawMessage(private), "proof": d.proof(now, nil)}, "", 400, problem.InvalidRequest},
		"not a key":            {map[string]any{"public_key": "AAAA", "proof": d.proof(now, nil)}, "", 400, problem.InvalidRequest},
		"an unknown member":    {map[string]any{"installation": ins}, launchKey, 400, problem.UnknownField},
		"a control character":  {map[string]any{"app": map[string]any{"version": "1\x00"}}, launchKey, 400, problem.InvalidRequest},
		"another's proof":      {with(other.proof(now, nil)), "", 401, problem.InstallationProofInvalid},
		"no JWS":               {with("abc"), "", 401, problem.InstallationProofInvalid},
		"another method":       {with(claim("htm", "GET")), "", 401, problem.InstallationProofInvalid},
		"another URL":          {with(claim("htu", "https://evil.example.com"+registerPath)), "", 401, problem.InstallationProofInvalid},
		"too old":              {with(claim("iat", now.Add(-11*time.Minute).Unix())), "", 401, problem.InstallationProofInvalid},
		"too new":              {with(claim("iat", now.Add(11*time.Minute).Unix())), "", 401, problem.InstallationProofInvalid},
		"a time of nonsense":   {with(claim("iat", -9e18)), "", 401, problem.InstallationProofInvalid},
		"no time":              {with(claim("iat", nil)), "", 401, problem.InstallationProofInvalid},
		"no jti":               {with(claim("jti", "")), "", 401, problem.InstallationProofInvalid},
		"not typed as a proof": {with(d.proof(now, func(h map[jose.HeaderKey]any, _ map[string]any) { h[jose.HeaderType] = "JWT" })), "", 401, problem.InstallationProofInvalid},
	} {
		header := []string{}
		if c.key != "" {
			header = []string{"Idempotency-Key", c.key}
		}
		t.Run(name, func(t *testing.T) {
			a := f.post(registerPath, c.body, header...)
			if a.Status != c.status || a.str("code") != string(c.code) {
				t.Errorf("got %d %s, want %d %s", a.Status, a.Raw, c.status, c.code)
			}
		})
	}
	// The edges of what is allowed.
	for _, iat := range []time.Duration{-9 * time.Minute, 9 * time.Minute} {
		if a := f.post(registerPath, with(claim("iat", now.Add(iat).Unix()))); a.Status >= 400 {
			t.Errorf("iat %s: %d %s", iat, a.Status, a.Raw)
		}
	}
}

func TestLockedAnonymousUserStaysOut(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		a := f.launch(launchKey)
		if _, err := f.db.Writer().ExecContext(t.Context(), `UPDATE app_user SET state = 'locked' WHERE id = $1`, a.str("user", "id")); err != nil {
			t.Fatal(err)
		}
		f.post(registerPath, map[string]any{}, "Idempotency-Key", launchKey).wantStatus(t, 403)
		if x := f.token(a.str("session", "refresh_token")); x.str("reason") != string(ReasonAccountLocked) || x.str("recovery") != "" {
			t.Errorf("%d %s", x.Status, x.Raw)
		}
	})
}
