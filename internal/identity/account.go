package identity

import "time"

// Identity is a way to prove an account. Issuer and subject together are its
// name; an e-mail address is data and never decides who somebody is.
type Identity struct {
	ID            string
	UserID        string
	Provider      string // as configured: apple, google, oidc:<name>, external:<name>, email_code, password, passkey
	Lookup        string // keyed hash of issuer and subject
	EmailLookup   string // keyed hash of the address; "" = none
	EmailVerified bool
	Sealed        []byte // Profile under the user's data key
	CreatedAt     time.Time
	UsedAt        time.Time
	SecretAt      time.Time // when a password was last set; zero = never, or not known
	SecretVoid    bool      // the password in Sealed is not good: a later one was lost in a restore
}

// Unlinking removes a way to sign in.
type Unlinking struct {
	ID, UserID string
	At         time.Time
}

// CredentialUse is a credential that was spent.
type CredentialUse struct {
	ID             string
	InstallationID string
	UserID         string
	MergedFrom     string
	ExpiresAt      time.Time

	Held bool // it was spent before, by nobody yet: UserID is who got it now; not stored
}

// UserMerge is one user's becoming part of another. It is an alias for ever.
type UserMerge struct {
	ID             string
	From, Into     string
	InstallationID string // where From was made
	State          MergeState
	Records        int64
	Conflicts      int64
	Deduped        int64
	CreatedAt      time.Time
	FinishedAt     time.Time

	Account bool // From is an account; not stored
}

// MergeState says whether all rows have moved.
type MergeState string

// The states of a merge.
const (
	MergeRunning MergeState = "running"
	MergeDone    MergeState = "done"
)

// MergeConflict is a record that lost in a merge. Its user may read it.
type MergeConflict struct {
	ID         string
	MergeID    string
	UserID     string
	Collection string
	Key        string
	Sealed     []byte
	CreatedAt  time.Time
}

// Challenge is what a credential of several steps remembers between them.
type Challenge struct {
	ID        string // keyed hash of what it is found by
	Kind      string
	State     []byte
	Version   int64 // 0 = not stored yet
	ExpiresAt time.Time
}

// Move names the row of the link and merge matrix that a sign-in follows.
type Move string

// The moves.
const (
	MovePromote Move = "promote" // L2: the anonymous user becomes an account and keeps its id
	MoveMerge   Move = "merge"   // L3, L13: the anonymous user becomes part of the account
	MoveSwitch  Move = "switch"  // L4: the account signs in, the empty anonymous user stays for later
	MoveAdd     Move = "add"     // L5: another account signs in beside the one that is there
	MoveCreate  Move = "create"  // L5, L9: a new account beside the one that is there
	MoveAgain   Move = "again"   // the account that is signed in proves itself again
	MoveExists  Move = "exists"  // L8: another account has the same verified address: sign in as it first
)

// SignInFacts is what decides about a sign-in.
type SignInFacts struct {
	Current    User // of the session
	Owner      User // whose identity the credential is; zero when nobody's
	HasData    bool // Current has something to carry over
	EmailTaken bool // another account has the credential's verified address
}

// DecideSignIn is the link and merge matrix for a sign-in. It does no I/O.
// Accounts are never merged with one another, and an address alone links nothing.
func DecideSignIn(f SignInFacts) Move {
	known := f.Owner.ID != ""
	switch {
	case known && f.Owner.ID == f.Current.ID:
		return MoveAgain
	case known && f.Current.Kind == Account:
		return MoveAdd
	case known && f.HasData:
		return MoveMerge
	case known:
		return MoveSwitch
	case f.EmailTaken:
		return MoveExists
	case f.Current.Kind == Account:
		return MoveCreate
	}
	return MovePromote
}

// Prefixes of ids that this capability alone makes.
const (
	prefixIdentity = "idn"
	prefixMerge    = "mrg"
	prefixConflict = "cfl"
)
