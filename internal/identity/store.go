package identity

import (
	"context"
	"errors"
	"time"

	"landline/internal/audit"
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

	// Line finds an installation with its anonymous user and its active sessions.
	Line(ctx context.Context, by LineKey) (Line, error)

	// Session finds a session, active or not, with its user; a user that is gone
	// has the state deleted.
	Session(ctx context.Context, id string) (Grant, error)

	// SessionsOf lists the newest sessions of a user, at most limit.
	SessionsOf(ctx context.Context, userID string, limit int) ([]Grant, error)

	User(ctx context.Context, id string) (User, error)
	Installation(ctx context.Context, id string) (Installation, error)

	// Revocations lists revocations after the given one, oldest first, at most limit.
	Revocations(ctx context.Context, after Revocation, limit int) ([]Revocation, error)

	// RestoreUntil is the end of the last declared window after a restore, zero when there was none.
	RestoreUntil(ctx context.Context) (time.Time, error)

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

// Revocation is a session whose access tokens are refused from At on.
type Revocation struct {
	SessionID string
	At        time.Time
}

// Retention says what Clean may remove: everything older than the given times.
type Retention struct {
	BootstrapKeys time.Time // by the installation's creation
	Proofs        time.Time // by their expiry
	Revocations   time.Time // by their time
	Sessions      time.Time // by their absolute end
}

// Change is a set of rows to write together. Each part but Seen and Audit is a
// condition too.
type Change struct {
	Installation *Installation // new; neither its bootstrap key nor its public key is known
	Proof        *Proof        // not spent before, else Apply returns ErrProofSpent
	Seen         *Installation // app details and SeenAt of a known one
	End          []Ending      // each session is active
	Update       *Update       // the session is active and still has the number of Before
	User         *User         // new; its installation has no other active anonymous user
	Session      *Session      // new; its user has no other active session on its installation
	Restore      *Window       // a declared window after a restore
	Audit        []audit.Entry
}

// Update is the outcome of a Decide that writes. When After is revoked, the revocation is recorded too.
type Update struct {
	Before, After Session
	At            time.Time
}

// Ending revokes a session.
type Ending struct {
	SessionID string
	Reason    Reason
	At        time.Time
}

// Window is the time in which refresh tokens newer than the database are believed.
type Window struct{ From, Until time.Time }
