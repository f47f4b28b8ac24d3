package identity

import (
	"context"
	"errors"
	"time"

	"landline/internal/audit"
	"landline/internal/sqldb"
)

// ErrProofSpent says that a proof of possession has been used before.
var ErrProofSpent = errors.New("identity: the proof has been used before")

// Store keeps installations, users and sessions. Every write goes through Apply,
// so that what belongs together is durable together. Absent things are
// sqldb.ErrNotFound. identitytest holds the contract.
type Store interface {
	// Apply writes all of c and returns true once it is durable, or writes
	// nothing and returns false when one of its conditions does not hold. After
	// an error the outcome may be unknown.
	Apply(ctx context.Context, c Change) (bool, error)

	// Rotate does in one step what Session, Decide and Apply do for a refresh by
	// RuleRotate of a session that is bound to no key and whose user is active, and
	// returns true once it is durable, with what tokens are made of. False says that
	// nothing was done and another rule may apply.
	Rotate(ctx context.Context, r Rotation) (Grant, bool, error)

	// Line finds an installation with its anonymous user and its active sessions.
	Line(ctx context.Context, by LineKey) (Line, error)

	// Session finds a session, active or not, with its user; a user that is gone
	// has the state deleted.
	Session(ctx context.Context, id string) (Grant, error)

	// SessionsOf lists the newest sessions of a user, at most limit.
	SessionsOf(ctx context.Context, userID string, limit int) ([]Grant, error)

	// ActiveSessionsOf lists the newest active sessions of a user, at most limit;
	// their time may be over.
	ActiveSessionsOf(ctx context.Context, userID string, limit int) ([]Grant, error)

	User(ctx context.Context, id string) (User, error)
	Installation(ctx context.Context, id string) (Installation, error)

	// Revocations lists revocations after the given one, oldest first, at most limit.
	Revocations(ctx context.Context, after Revocation, limit int) ([]Revocation, error)

	// RestoreUntil is the end of the last declared window after a restore, zero when there was none.
	RestoreUntil(ctx context.Context) (time.Time, error)

	// IdentityBy finds the identity with this lookup and its user.
	IdentityBy(ctx context.Context, lookup string) (Identity, User, error)

	// IdentitiesOf lists a user's identities, oldest first, at most limit.
	IdentitiesOf(ctx context.Context, userID string, limit int) ([]Identity, error)

	// IdentitiesByEmail lists the identities with this address, verified or not, at most limit.
	IdentitiesByEmail(ctx context.Context, emailLookup string, limit int) ([]Identity, error)

	// VerifiedByEmail lists those with this address whose owner has shown that it
	// is theirs, at most limit: however many others claim it, they are found.
	VerifiedByEmail(ctx context.Context, emailLookup string, limit int) ([]Identity, error)

	CredentialUse(ctx context.Context, id string) (CredentialUse, error)

	// MergeOf finds where a user went; MergesInto lists who became part of one, the newest first.
	MergeOf(ctx context.Context, from string) (UserMerge, error)
	MergesInto(ctx context.Context, into string, limit int) ([]UserMerge, error)

	// Conflicts lists a user's merge conflicts after the given id, at most limit.
	Conflicts(ctx context.Context, userID, after string, limit int) ([]MergeConflict, error)

	Challenge(ctx context.Context, id string) (Challenge, error)

	// Browser finds what a browser's cookie opens, expired or not.
	Browser(ctx context.Context, id string) (Browser, error)

	// Consent finds what a user has allowed a client.
	Consent(ctx context.Context, userID, clientID string) (Consent, error)

	// Clean removes what is no longer needed, at most limit rows of each kind,
	// and returns how many rows it removed.
	Clean(ctx context.Context, before Retention, limit int) (int64, error)
}

// Grant is a session and its user.
type Grant struct {
	Session Session
	User    User
}

// Line is an installation and who is on it.
type Line struct {
	Installation Installation
	Anonymous    User    // active or locked; zero when the installation has none
	Active       []Grant // active by their state; their time may be over
}

// LineKey selects a Line by the one field that is set.
type LineKey struct{ ID, Thumbprint, BootstrapKey string }

// Revocation is a session, or a user with all its sessions, whose access tokens
// are refused from At on.
type Revocation struct {
	SessionID string // or the id of a user
	Reason    Reason
	At        time.Time
}

// Retention says what Clean may remove: everything older than the given times.
type Retention struct {
	BootstrapKeys time.Time // by the installation's creation
	Proofs        time.Time // by their expiry
	Revocations   time.Time // by their time
	Sessions      time.Time // by their absolute end
	Unlinked      time.Time // what a restored backup is told of, by its time
	Expired       time.Time // credential uses and challenges, by their expiry
}

// Change is a set of rows to write together. Each part but Seen, EndAll and Audit
// is a condition too.
type Change struct {
	Installation *Installation  // new; neither its bootstrap key nor its public key is known
	Proof        *Proof         // not spent before, else Apply returns ErrProofSpent
	Seen         *Installation  // app details and SeenAt of a known one
	Active       string         // the user with this id is active
	End          []Ending       // each session is active
	EndAll       *EndAll        // no condition
	Update       *Update        // the session is active and still has the number of Before
	Promote      string         // the anonymous user with this id is active; it becomes an account
	Merge        *UserMerge     // From is active and anonymous, or an account where the merge says so; its access tokens are refused from CreatedAt on
	State        []StateChange  // each user has the state From
	User         *User          // new; its installation has no other active anonymous user
	Identity     *Identity      // new; nobody has its lookup
	Used         *Identity      // a known one: address, Sealed and UsedAt
	UsedFrom     []byte         // Sealed of Used as it was read: it is that still
	Unlink       *Unlinking     // the user has it
	Reassign     *Reassign      // the session is active and of the user Before
	Session      *Session       // new; its user has no other active session on its installation
	Use          *CredentialUse // not spent before; one that is held was, by nobody
	ProvenWith   *SessionProof  // no condition
	ProvenAs     string         // Session is proven with what the session of this id is; no condition
	Challenges   []Challenge    // each still has its version; 0 = not there
	Take         *Challenge     // still has this version; it is removed
	Browser      *Browser       // new
	EndBrowser   string         // the id of one that is there
	Consent      *Consent       // takes the place of an earlier one; no condition
	Restore      *Window        // a declared window after a restore
	Audit        []audit.Entry

	// Within is called last with the change's transaction, for what other
	// packages write with it: events, jobs, a merge's rows. It may be called more than once, of which one counts.
	Within func(ctx context.Context, tx *sqldb.Tx) error
}

// SessionProof is a way to sign in that a session was opened or renewed with.
type SessionProof struct {
	SessionID, IdentityID string
	ExpiresAt             time.Time // absolute end of the session
}

// Reassign makes a session go on as After.UserID, with its AuthTime, Methods,
// Formerly and numbers.
type Reassign struct {
	Before  string // user id
	Current int64  // number before
	After   Session
}

// StateChange moves a user from one state to another.
type StateChange struct {
	UserID   string
	From, To UserState
	At       time.Time
}

// EndAll revokes all active sessions of a user.
type EndAll struct {
	UserID string
	Except string // a session that stays; "" = none
	Proven string // only those that were proven with this identity, or of which that is not known; "" = all
	Reason Reason
	At     time.Time
}

// Update is the outcome of a Decide that writes. When After is revoked, the revocation is recorded too.
type Update struct {
	Before, After Session
	At            time.Time
}

// Rotation is a refresh that is expected to be by RuleRotate.
type Rotation struct {
	SessionID     string
	Counter       int64 // of the token that is presented
	KeyVersion    int
	ClientID      string
	At            time.Time
	IdleExpiresAt time.Time // of the session afterwards
}

// Ending revokes a session.
type Ending struct {
	SessionID string
	Reason    Reason
	At        time.Time
}

// Window is the time in which refresh tokens newer than the database are believed.
type Window struct{ From, Until time.Time }
