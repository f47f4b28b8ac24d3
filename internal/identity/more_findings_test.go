package identity

import (
	"testing"

	"landline/internal/identity/provider/providertest"
)

// An app may send Apple's ID token together with its code. Both are spent then:
// the token alone opens nothing on another phone.
func TestAnIDTokenBesideACodeIsSpentToo(t *testing.T) {
	withCredentials(t, func(t *testing.T, f *fixture, idp *providertest.Issuer, _ *outbox) {
		person := map[string]any{"sub": "alice", "nonce": "raw"}
		body := func() map[string]any {
			return withProvider(map[string]any{"id_token": idp.IDToken("flights", person), "nonce": "raw",
				"code": idp.Code("flights", "com.example.flights:/callback", "", person), "redirect_uri": "com.example.flights:/callback"})
		}
		p, thief := f.phone("a"), f.phone("thief")
		first, sent := p.access, body()
		if p.take(f.post("/v1/auth/sign-in", sent, p.bearer()...)); p.status != 200 {
			t.Fatalf("%d %s", p.status, p.last.Raw)
		}
		alone := withProvider(map[string]any{"id_token": sent["id_token"], "nonce": "raw"})
		f.post("/v1/auth/sign-in", alone, thief.bearer()...).wantCode(t, "the ID token alone", 403, "credential_used")
		f.post("/v1/auth/sign-in", sent, thief.bearer()...).wantCode(t, "both elsewhere", 403, "credential_used")
		repeat := &phone{f: f, access: first}
		if repeat.take(f.post("/v1/auth/sign-in", sent, repeat.bearer()...)); repeat.status != 200 || repeat.user != p.user {
			t.Errorf("the repeat, whose first answer was lost: %d %s", repeat.status, repeat.last.Raw)
		}
	})
}
