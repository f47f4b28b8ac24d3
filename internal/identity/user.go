package identity

import "time"

// UserKind says whether a user has at least one identity.
type UserKind string

// The kinds of user.
const (
	Anonymous UserKind = "anonymous" // made with an installation
	Account   UserKind = "account"   // has at least one identity
)

// UserState says whether a user can have sessions.
type UserState string

// The states of a user. A user never leaves merged or deleted.
const (
	UserActive   UserState = "active"
	UserLocked   UserState = "locked"          // kept, but cannot sign in
	UserNoLogin  UserState = "locked_no_login" // its provider withdrew the only way in; that way opens it again, and after noLoginKeep it is erased
	UserMerged   UserState = "merged"          // became part of another user
	UserDeleting UserState = "deleting"        // asked to be deleted; until then a sign-in can undo it
	UserDeleted  UserState = "deleted"         // erased; the id is kept so that nothing recreates it
)

// User is a person, or the stand-in for one that each installation begins with.
type User struct {
	ID             string
	Kind           UserKind
	State          UserState
	InstallationID string // where an anonymous user was made; a promoted one keeps it; "" otherwise
	CreatedAt      time.Time
	MergedInto     string    // of a merged user: where it went
	StateAt        time.Time // when State last changed; zero = never
}

// refusal is why a user in this state can have no session, "" when it can.
func (u User) refusal() Reason {
	switch u.State {
	case UserActive:
		return ""
	case UserLocked, UserNoLogin:
		return ReasonAccountLocked
	case UserMerged:
		return ReasonUserMerged
	default:
		return ReasonAccountDeleted
	}
}
