package identity

import (
	"fmt"
	"testing"

	"landline/internal/id"
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
