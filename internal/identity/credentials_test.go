package identity

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"landline/internal/config"
	"landline/internal/identity/passkey"
	"landline/internal/identity/passkey/passkeytest"
	"landline/internal/identity/provider"
	"landline/internal/identity/provider/providertest"
	"landline/internal/mail"
	"landline/internal/queue"
)

// outbox keeps what would be mailed.
type outbox struct {
	mu   sync.Mutex
	sent []mail.Message
}

func (o *outbox) Send(_ context.Context, m mail.Message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent = append(o.sent, m)
	return nil
}

func (o *outbox) last() mail.Message {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.sent) == 0 {
		return mail.Message{}
	}
	return o.sent[len(o.sent)-1]
}

var sixDigits = regexp.MustCompile(`\b\d{6,8}\b`)

// withCredentials is a node that offers everything, with a stand-in for the
// providers and a box for mail.
func withCredentials(t *testing.T, fn func(t *testing.T, f *fixture, idp *providertest.Issuer, box *outbox)) {
	engines(t, func(t *testing.T, f *fixture) {
		idp := must(providertest.Start(f.clock))
		t.Cleanup(func() { idp.Close() })
		idp.AddClient("flights", providertest.Client{Secret: "s3cret-of-the-test"})
		oidc := provider.OIDCConfig{}
		oidc.Defaults()
		oidc.Issuer, oidc.ClientIDs, oidc.ClientSecret = idp.URL(), []string{"flights"}, config.Secret("s3cret-of-the-test")
		oidc.RedirectURIs = []string{"com.example.flights:/callback"}
		box := &outbox{}
		f.config.Providers.OIDC = map[string]provider.OIDCConfig{"acme": oidc}
		f.config.EmailCode.On, f.config.Password.On = true, true
		f.config.Passkey = passkey.Config{RPID: "example.com", Name: "Flights"}
		f.outbox = box
		f.start(nil)
		fn(t, f, idp, box)
	})
}

// deliver does the newest mail job, and returns the code in its message.
func (f *fixture) deliver(box *outbox) string {
	f.t.Helper()
	rows, _, err := f.queue.List(f.t.Context(), queue.Filter{Kind: mailJob{}.Kind(), Limit: 1})
	if err != nil || len(rows) != 1 {
		f.t.Fatalf("%d mail jobs, %v", len(rows), err)
	}
	job := &queue.Job[mailJob]{ID: rows[0].ID, CreatedAt: f.clock.Now()}
	if err := json.Unmarshal(rows[0].Args, &job.Args); err != nil {
		f.t.Fatal(err)
	}
	if err := f.service.sendMail(f.t.Context(), job); err != nil {
		f.t.Fatal(err)
	}
	return sixDigits.FindString(box.last().Text)
}

func TestOIDCSignIn(t *testing.T) {
	withCredentials(t, func(t *testing.T, f *fixture, idp *providertest.Issuer, _ *outbox) {
		signIn := func(p *phone, body map[string]any) answer {
			body["provider"] = "oidc:acme"
			return p.take(f.post("/v1/auth/sign-in", body, p.bearer()...))
		}
		person := map[string]any{"sub": "alice", "email": "alice@example.com", "email_verified": true, "nonce": "raw"}
		p, q := f.phone("a"), f.phone("b")
		token := idp.IDToken("flights", person)
		if signIn(p, map[string]any{"id_token": token, "nonce": "raw"}); p.status != 200 || p.last.str("user", "kind") != "account" {
			t.Fatalf("%d %s", p.status, p.last.Raw)
		}
		if a := p.me(); !strings.Contains(a.Raw, `"email":"alice@example.com","email_verified":true`) {
			t.Errorf("%s", a.Raw)
		}
		for name, c := range map[string]struct {
			body map[string]any
			code string
		}{
			"the same token elsewhere": {map[string]any{"id_token": token, "nonce": "raw"}, "credential_used"},
			"another nonce":            {map[string]any{"id_token": idp.IDToken("flights", person), "nonce": "other"}, "credential_invalid"},
			"another audience":         {map[string]any{"id_token": idp.IDToken("somebody", person), "nonce": "raw"}, "credential_invalid"},
			"rubbish":                  {map[string]any{"id_token": "x.y.z", "nonce": "raw"}, "credential_invalid"},
			"nothing":                  {map[string]any{}, "invalid_request"},
		} {
			if a := f.post("/v1/auth/sign-in", withProvider(c.body), q.bearer()...); a.str("code") != c.code {
				t.Errorf("%s: %d %s", name, a.Status, a.Raw)
			}
		}
		// A code is exchanged, and its repeat gets the same answer.
		code := idp.Code("flights", "com.example.flights:/callback", "", map[string]any{"sub": "alice", "nonce": "raw"})
		body := map[string]any{"code": code, "redirect_uri": "com.example.flights:/callback", "nonce": "raw"}
		first := q.access
		if signIn(q, body); q.status != 200 || q.user != p.user {
			t.Fatalf("%d %s", q.status, q.last.Raw)
		}
		repeat := &phone{f: f, access: first}
		if signIn(repeat, body); repeat.status != 200 || repeat.user != p.user {
			t.Errorf("the repeat: %d %s", repeat.status, repeat.last.Raw)
		}
		// The provider is down: nothing is accepted, and the same token is good later.
		idp.Rotate()
		third := f.phone("c")
		late := idp.IDToken("flights", person)
		idp.Fail(providertest.Failure{Status: http.StatusServiceUnavailable}, providertest.Keys, providertest.Discovery)
		f.clock.Advance(2 * time.Minute)
		if signIn(third, map[string]any{"id_token": late, "nonce": "raw"}); third.status != 503 || third.code != "provider_unavailable" || third.last.Header.Get("Retry-After") == "" {
			t.Errorf("%d %s", third.status, third.last.Raw)
		}
		idp.Heal()
		f.clock.Advance(90 * time.Second)
		if signIn(third, map[string]any{"id_token": late, "nonce": "raw"}); third.status != 200 || third.user != p.user {
			t.Errorf("after it is back: %d %s", third.status, third.last.Raw)
		}
	})
}

func withProvider(body map[string]any) map[string]any {
	body["provider"] = "oidc:acme"
	return body
}

func TestEmailCodeSignIn(t *testing.T) {
	withCredentials(t, func(t *testing.T, f *fixture, _ *providertest.Issuer, box *outbox) {
		p, thief := f.phone("a"), f.phone("b")
		send := func(p *phone, email string) answer {
			return f.post("/v1/auth/email-code", map[string]any{"email": email}, p.bearer()...)
		}
		try := func(p *phone, email, code string) answer {
			return p.take(f.post("/v1/auth/sign-in", map[string]any{"provider": "email_code", "email": email, "code": code}, p.bearer()...))
		}
		a := send(p, "Ada@Example.com")
		if a.Status != 202 || a.Body["expires_in"] != 600.0 {
			t.Fatalf("%d %s", a.Status, a.Raw)
		}
		code := f.deliver(box)
		if code == "" || box.last().To != "Ada@example.com" && box.last().To != "ada@example.com" && box.last().To != "Ada@Example.com" {
			t.Fatalf("%+v", box.last())
		}
		if a := send(p, "ada@example.com"); a.Status != 429 || a.Header.Get("Retry-After") == "" {
			t.Errorf("at once again: %d %s", a.Status, a.Raw)
		}
		if try(thief, "ada@example.com", code); thief.code != "credential_invalid" {
			t.Errorf("on another installation: %d %s", thief.status, thief.last.Raw)
		}
		wrong := "000000"
		if code == wrong {
			wrong = "111111"
		}
		if try(p, "ada@example.com", wrong); p.code != "credential_invalid" || p.last.Body["attempts_left"] != 4.0 {
			t.Errorf("a wrong code: %d %s", p.status, p.last.Raw)
		}
		user := p.user
		if try(p, "ada@example.com", code); p.status != 200 || p.user != user || p.last.str("user", "kind") != "account" {
			t.Fatalf("%d %s", p.status, p.last.Raw)
		}
		if try(p, "ada@example.com", code); p.status != 200 || p.user != user {
			t.Errorf("a repeat: %d %s", p.status, p.last.Raw)
		}
		if strings.Contains(f.logs.String(), code) {
			t.Error("the code is in the log")
		}
		// A second device, and a deletion, are told to the address.
		send(thief, "ada@example.com")
		try(thief, "ada@example.com", f.deliver(box))
		if f.deliver(box); !strings.Contains(box.last().Subject, "sign-in") {
			t.Errorf("%+v", box.last())
		}
		f.send(http.MethodDelete, "/v1/me", nil, thief.bearer()...)
		if f.deliver(box); !strings.Contains(strings.ToLower(box.last().Subject+box.last().Text), "delet") {
			t.Errorf("%+v", box.last())
		}
	})
}

func TestPasswords(t *testing.T) {
	withCredentials(t, func(t *testing.T, f *fixture, _ *providertest.Issuer, box *outbox) {
		const good = "correct horse battery staple"
		p, q := f.phone("a"), f.phone("b")
		signIn := func(p *phone, email, password string) answer {
			return p.take(f.post("/v1/auth/sign-in", map[string]any{"provider": "password", "email": email, "password": password}, p.bearer()...))
		}
		f.post("/v1/auth/email-code", map[string]any{"email": "ada@example.com"}, p.bearer()...)
		code := f.deliver(box)
		signUp := func(password string) answer {
			return p.take(f.post("/v1/auth/sign-up", map[string]any{"email": "ada@example.com", "code": code, "password": password}, p.bearer()...))
		}
		if signUp("password1"); p.status != 400 || !strings.Contains(p.last.Raw, "password") {
			t.Errorf("a common password: %d %s", p.status, p.last.Raw)
		}
		if signUp(good); p.status != 200 || p.last.str("user", "kind") != "account" {
			t.Fatalf("%d %s", p.status, p.last.Raw)
		}
		nobody, somebody := signIn(q, "nobody@example.com", good), signIn(q, "ada@example.com", "not this one")
		if nobody.Status != 403 || nobody.str("code") != somebody.str("code") || nobody.str("detail") != somebody.str("detail") {
			t.Errorf("who is there can be told: %s %s", nobody.Raw, somebody.Raw)
		}
		if signIn(q, "Ada@Example.com", good); q.status != 200 || q.user != p.user {
			t.Fatalf("%d %s", q.status, q.last.Raw)
		}
		// Guesses of strangers do not lock the owner out.
		stranger := f.phone("c")
		for range 12 {
			signIn(stranger, "ada@example.com", "guess guess")
		}
		if stranger.code != "rate_limited" {
			t.Errorf("after twelve guesses: %d %s", stranger.status, stranger.last.Raw)
		}
		if signIn(p, "ada@example.com", good); p.status != 200 {
			t.Errorf("the owner: %d %s", p.status, p.last.Raw)
		}
		// A new password ends what the old one opened.
		f.clock.Advance(time.Hour)
		a := f.token(p.refresh)
		p.access = a.str("access_token")
		f.post("/v1/auth/email-code", map[string]any{"email": "ada@example.com"}, p.bearer()...)
		code = f.deliver(box)
		if signUp("another horse, another battery"); p.status != 200 || q.me().Status != 401 || p.me().Status != 200 {
			t.Errorf("after the change: %d %s; %d %d", p.status, p.last.Raw, q.me().Status, p.me().Status)
		}
		if strings.Contains(f.logs.String(), good) || strings.Contains(f.logs.String(), "argon2id") {
			t.Error("a password or its hash is in the log")
		}
	})
}

func TestPasskeys(t *testing.T) {
	withCredentials(t, func(t *testing.T, f *fixture, _ *providertest.Issuer, _ *outbox) {
		device := passkeytest.NewSynced("https://example.com")
		options := func(p *phone, ceremony string) []byte {
			a := f.post("/v1/auth/passkey-options", map[string]any{"ceremony": ceremony, "name": "ada"}, p.bearer()...)
			if a.Status != 200 {
				t.Fatalf("%d %s", a.Status, a.Raw)
			}
			return must(json.Marshal(a.Body["options"]))
		}
		send := func(p *phone, path string, response []byte) answer {
			return p.take(f.post(path, map[string]any{"provider": "passkey", "passkey": json.RawMessage(response)}, p.bearer()...))
		}
		p, q := f.phone("a"), f.phone("b")
		user := p.user
		created := must(device.Create(options(p, "registration")))
		if send(p, "/v1/auth/sign-in", created); p.status != 200 || p.user != user || p.last.str("user", "kind") != "account" {
			t.Fatalf("%d %s", p.status, p.last.Raw)
		}
		if send(p, "/v1/auth/sign-in", created); p.status != 200 || p.user != user { // its answer was lost (L10)
			t.Errorf("the same registration again: %d %s", p.status, p.last.Raw)
		}
		got := must(device.Get(options(q, "sign_in")))
		if a := send(p, "/v1/auth/sign-in", got); a.Status != 403 {
			t.Errorf("another installation's challenge: %d %s", a.Status, a.Raw)
		}
		if send(q, "/v1/auth/sign-in", got); q.status != 200 || q.user != user {
			t.Fatalf("%d %s", q.status, q.last.Raw)
		}
		if send(q, "/v1/auth/sign-in", got); q.status != 200 || q.user != user {
			t.Errorf("a repeat: %d %s", q.status, q.last.Raw)
		}
		if a := send(p, "/v1/auth/sign-in", got); a.str("code") != "credential_invalid" {
			t.Errorf("a replay on another installation: %d %s", a.Status, a.Raw)
		}
		p.signOut(t)
		if a := send(q, "/v1/auth/sign-in", got); a.Status != 200 {
			t.Errorf("a repeat: %d %s", a.Status, a.Raw)
		}
		q.signOut(t)
		if a := send(q, "/v1/auth/sign-in", got); a.str("code") != "credential_used" {
			t.Errorf("a replay after the sign-out: %d %s", a.Status, a.Raw)
		}
		if send(q, "/v1/auth/sign-in", must(device.Get(options(q, "sign_in")))); q.user != user {
			t.Fatalf("%d %s", q.status, q.last.Raw)
		}
		second := passkeytest.New("https://example.com")
		if a := f.post("/v1/auth/link", map[string]any{"provider": "passkey", "passkey": json.RawMessage(must(second.Create(options(q, "registration"))))}, q.bearer()...); a.Status != 200 {
			t.Errorf("a second passkey: %d %s", a.Status, a.Raw)
		}
		r := f.phone("c")
		if send(r, "/v1/auth/sign-in", must(second.Get(options(r, "sign_in")))); r.user != user {
			t.Errorf("with the second passkey: %d %s", r.status, r.last.Raw)
		}
	})
}

// Of several accounts on one installation each registers its own passkeys.
func TestAPasskeyIsRegisteredByWhoBegan(t *testing.T) {
	withCredentials(t, func(t *testing.T, f *fixture, _ *providertest.Issuer, _ *outbox) {
		p := f.phone("a")
		begin := func() json.RawMessage {
			a := f.post("/v1/auth/passkey-options", map[string]any{"ceremony": "registration", "name": "ada"}, p.bearer()...)
			return must(passkeytest.New("https://example.com").Create(must(json.Marshal(a.Body["options"]))))
		}
		finish := func(path string, created json.RawMessage) answer {
			return f.post(path, map[string]any{"provider": "passkey", "passkey": created}, p.bearer()...)
		}
		p.signIn("alice", "n1")
		created, alice := begin(), p.access
		p.signIn("bob", "n2")
		for _, path := range []string{"/v1/auth/link", "/v1/auth/sign-in"} {
			if a := finish(path, created); a.Status != 403 || a.str("reason") != "challenge" {
				t.Errorf("%s as bob: %d %s", path, a.Status, a.Raw)
			}
		}
		if p.access = alice; finish("/v1/auth/link", created).Status != 200 {
			t.Error("alice's registration was lost")
		}
	})
}

func TestNoticesOfProviders(t *testing.T) { // L22, L23
	withCredentials(t, func(t *testing.T, f *fixture, idp *providertest.Issuer, _ *outbox) {
		f.service.providers.Close()
		f.config.Providers = provider.DefaultConfig()
		f.config.Providers.Apple = &provider.AppleConfig{ClientIDs: []string{"com.example.flights"}, StandIn: idp.URL()}
		f.development = true
		f.start(nil)
		apple := func(p *phone, subject string) answer {
			f.clock.Advance(time.Second)
			token := idp.IDToken("com.example.flights", map[string]any{"sub": subject, "email": subject + "@example.com", "nonce": "raw"})
			return p.take(f.post("/v1/auth/sign-in", map[string]any{"provider": "apple", "id_token": token, "nonce": "raw"}, p.bearer()...))
		}
		notice := func(jti, kind, subject string) int {
			f.clock.Advance(time.Second)
			body := idp.AppleNotice("com.example.flights", jti, map[string]any{"type": kind, "sub": subject, "event_time": f.clock.Now().UnixMilli()})
			r := must(http.NewRequest(http.MethodPost, "/v1/auth/notices/apple", strings.NewReader(string(body))))
			r.Header.Set("Content-Type", "application/json")
			return f.do(r).Status
		}
		p, q := f.phone("a"), f.phone("b")
		if apple(p, "ada"); p.status != 200 {
			t.Fatalf("%d %s", p.status, p.last.Raw)
		}
		if apple(q, "eve"); q.status != 200 {
			t.Fatalf("%d %s", q.status, q.last.Raw)
		}
		for range 2 { // a duplicate changes nothing
			if got := notice("j1", "consent-revoked", "ada"); got != 200 {
				t.Fatalf("a notice: %d", got)
			}
		}
		if p.me().Status != 401 || q.me().Status != 200 {
			t.Errorf("after the consent was revoked: %d %d", p.me().Status, q.me().Status)
		}
		user := p.user
		p.take(f.post(registerPath, map[string]any{"installation_id": p.installation, "installation_secret": p.secret}))
		if u := must(f.service.store.User(t.Context(), user)); u.State != UserNoLogin {
			t.Errorf("%+v", u)
		}
		if apple(p, "ada"); p.status != 200 || p.user != user { // the consent was renewed
			t.Errorf("%d %s", p.status, p.last.Raw)
		}
		if got := notice("j2", "account-delete", "eve"); got != 200 {
			t.Fatalf("a notice: %d", got)
		}
		if u := must(f.service.store.User(t.Context(), q.user)); u.State != UserDeleting {
			t.Errorf("%+v", u)
		}
		if got := notice("j3", "account-delete", "stranger"); got != 200 {
			t.Errorf("about nobody: %d", got)
		}
		r := must(http.NewRequest(http.MethodPost, "/v1/auth/notices/apple", strings.NewReader(`{"payload":"x.y.z"}`)))
		if a := f.do(r); a.Status != 400 || a.str("err") == "" {
			t.Errorf("rubbish: %d %s", a.Status, a.Raw)
		}
	})
}
