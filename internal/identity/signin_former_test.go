package identity

import (
	"testing"

	"slices"
	"strings"

	"pgregory.net/rapid"
)

// An app may hold writes of the user before the merge for longer than the
// session of the merge lasts: signing out and in again must not lose them.
func TestFormerUsersAreKnownAfterSigningInAgain(t *testing.T) { // L11, L20
	withNotes(t, func(t *testing.T, f *fixture, n *notes) {
		first, second := f.phone("a"), f.phone("b")
		first.signIn("alice", "n1")
		was := second.user
		n.add(t, was, "op")
		if second.signIn("alice", "n2"); second.merged["from"] != was {
			t.Fatalf("%d %s", second.status, second.last.Raw)
		}
		again := func(nonce string) {
			t.Helper()
			f.post("/v1/auth/sign-out", nil, second.bearer()...)
			second.take(f.post(registerPath, map[string]any{"installation_id": second.installation, "installation_secret": second.secret}))
			if nonce == "n4" { // with something to carry over, the session of the stand-in goes on
				n.add(t, second.user, "op2")
			}
			if second.signIn("alice", nonce); second.user != first.user {
				t.Fatalf("%d %s", second.status, second.last.Raw)
			}
			p, err := f.auth.Authenticate(request(second.bearer()...))
			if err != nil || !p.Is(was) {
				t.Errorf("signed in again, the session is not %s any more: %+v %v", was, p, err)
			}
		}
		again("n3")
		again("n4")
		third := f.phone("c") // another installation of the account has never been that user
		third.signIn("alice", "n5")
		if p, err := f.auth.Authenticate(request(third.bearer()...)); err != nil || p.Is(was) {
			t.Errorf("on another installation the session is %s: %v", was, err)
		}
	})
}

// TestWithFormerKeepsTheNewest: the list is a set, the newest first, and bounded.
func TestWithFormerKeepsTheNewest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list string
		var want []string // by the definition: every user once, by last mention
		for range rapid.IntRange(0, 60).Draw(t, "merges") {
			user := "usr_" + string(rune('a'+rapid.IntRange(0, 19).Draw(t, "user")))
			list = withFormer(list, user, t0)
			want = append([]string{user}, slices.DeleteFunc(want, func(s string) bool { return s == user })...)
			if got := strings.Fields(formerNow(list, t0)); !slices.Equal(got, want[:min(len(want), maxFormerly)]) {
				t.Fatalf("%q, wanted the newest %d of %q", got, maxFormerly, want)
			}
		}
	})
}

// TestSignInNeverMixesPersons: whatever the facts, what is decided keeps the
// rules that the matrix stands on.
func TestSignInNeverMixesPersons(t *testing.T) {
	user := rapid.Custom(func(t *rapid.T) User {
		return User{ID: rapid.SampledFrom([]string{"usr_a", "usr_b", "usr_c"}).Draw(t, "id"), Kind: rapid.SampledFrom([]UserKind{Anonymous, Account}).Draw(t, "kind"), State: UserActive}
	})
	rapid.Check(t, func(t *rapid.T) {
		f := SignInFacts{Current: user.Draw(t, "current"), HasData: rapid.Bool().Draw(t, "data"), EmailTaken: rapid.Bool().Draw(t, "address taken")}
		if rapid.Bool().Draw(t, "known") {
			f.Owner = user.Draw(t, "owner")
			f.Owner.Kind = Account // only accounts have identities
		}
		move := DecideSignIn(f)
		known := f.Owner.ID != ""
		switch {
		case (move == MoveMerge || move == MovePromote) && f.Current.Kind != Anonymous && f.Owner.ID != f.Current.ID:
			t.Fatalf("%s takes an account apart", move)
		case move == MoveMerge && (!known || !f.HasData):
			t.Fatalf("a merge of nothing, or into nobody: %+v", f)
		case (move == MovePromote || move == MoveCreate || move == MoveExists) == known:
			t.Fatalf("%s, although the credential is known: %v", move, known)
		case move != MoveExists && !known && f.EmailTaken:
			t.Fatalf("%s although somebody else has the address", move)
		case move == MoveSwitch && f.HasData:
			t.Fatal("an anonymous user's data is left behind")
		case (move == MoveAgain) != (known && f.Owner.ID == f.Current.ID):
			t.Fatalf("%s of %s by %s", move, f.Owner.ID, f.Current.ID)
		}
	})
}
