package identity

import (
	"fmt"
	"testing"

	"landline/internal/id"
	"landline/internal/identity/provider/providertest"
)

// However many say that they have an address, who has shown it is found.
func TestUnverifiedAddressesHideNobody(t *testing.T) { // L8
	engines(t, func(t *testing.T, f *fixture) {
		crowd := User{ID: newID(id.User), Kind: Account, State: UserActive, CreatedAt: t0}
		if done := must(f.service.store.Apply(t.Context(), Change{User: &crowd})); !done {
			t.Fatal("no user")
		}
		address := must(f.service.emailLookup("ada@example.com"))
		for n := range maxIdentities { // older than the one that counts
			i := Identity{ID: newID(prefixIdentity), UserID: crowd.ID, Provider: "fake", Lookup: fmt.Sprint("crowd-", n), EmailLookup: address, Sealed: []byte{1}, CreatedAt: t0, UsedAt: t0}
			if done := must(f.service.store.Apply(t.Context(), Change{Identity: &i})); !done {
				t.Fatal("no identity")
			}
		}
		f.phone("a").signIn("ada ada@example.com", "n1")
		f.phone("b").signIn("x9 ada@example.com", "n2", "provider", "other").wantCode(t, "another provider", 409, "account_exists_other_provider")
	})
}

func TestTheOtherMethodsAreTold(t *testing.T) { // L8
	withCredentials(t, func(t *testing.T, f *fixture, _ *providertest.Issuer, box *outbox) {
		p := f.phone("a")
		f.post("/v1/auth/email-code", map[string]any{"email": "ada@example.com"}, p.bearer()...)
		p.take(f.post("/v1/auth/sign-up", map[string]any{"email": "ada@example.com", "code": f.deliver(box), "password": "correct horse battery staple"}, p.bearer()...))
		p.link("ada ada@example.com", "n1")
		q := f.phone("b")
		a := q.signIn("x9 ada@example.com", "n2", "provider", "other")
		a.wantCode(t, "verified by this provider", 409, "account_exists_other_provider")
		methods, _ := a.Body["methods"].([]any)
		if fmt.Sprint(methods) != "[email_code password fake]" {
			t.Errorf("methods %v", methods)
		}
		if a := q.signIn("x9 ada@example.com unverified", "n3", "provider", "other"); a.Status != 200 || a.Body["methods"] != nil {
			t.Errorf("not verified: %d %s", a.Status, a.Raw)
		}
	})
}

func TestAnAddressLinksNothing(t *testing.T) { // L8, L9
	engines(t, func(t *testing.T, f *fixture) {
		first := f.phone("a")
		first.signIn("alice alice@example.com", "n1")
		second := f.phone("b")
		anonymous := second.user
		second.take(f.post("/v1/auth/sign-in", map[string]any{"provider": "other", "code": "x9 Alice@Example.com", "nonce": "n2"}, second.bearer()...))
		if second.status != 409 || second.code != "account_exists_other_provider" {
			t.Fatalf("%d %s", second.status, second.last.Raw)
		}
		pending := second.last.str("pending_link")
		if a := second.me(); a.str("id") != anonymous || a.str("kind") != "anonymous" {
			t.Errorf("the refused sign-in changed the user: %s", a.Raw)
		}
		// A stranger's account cannot take it.
		mallory := f.phone("m")
		if mallory.signIn("mallory", "n3", "pending_link", pending); mallory.status != 400 {
			t.Errorf("another installation: %d %s", mallory.status, mallory.last.Raw)
		}
		if a := mallory.me(); a.str("kind") != "anonymous" {
			t.Errorf("a sign-in that was refused was done: %s", a.Raw)
		}
		if second.signIn("alice alice@example.com", "n4", "pending_link", pending); second.status != 200 || second.user != first.user {
			t.Fatalf("%d %s", second.status, second.last.Raw)
		}
		third := f.phone("c")
		third.take(f.post("/v1/auth/sign-in", map[string]any{"provider": "other", "code": "x9 alice@example.com", "nonce": "n5"}, third.bearer()...))
		if third.status != 200 || third.user != first.user {
			t.Errorf("the attached way in: %d %s", third.status, third.last.Raw)
		}
		fourth := f.phone("d")
		fourth.take(f.post("/v1/auth/sign-in", map[string]any{"provider": "other", "code": "y7 alice@example.com unverified", "nonce": "n6"}, fourth.bearer()...))
		if fourth.status != 200 || fourth.user == first.user {
			t.Errorf("an unverified address: %d %s", fourth.status, fourth.last.Raw)
		}
	})
}
