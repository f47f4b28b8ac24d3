package identity

import (
	"time"
)

// Erasure is a user's way out of the system.
type Erasure struct {
	UserID      string
	State       ErasureState
	RequestedBy string // id of the user or operator
	RequestedAt time.Time
	EraseAt     time.Time // until then a sign-in can undo it
	FinishedAt  time.Time
	Report      ErasureReport
}

// ErasureState says how far an erasure is.
type ErasureState string

// The states of an erasure.
const (
	ErasureWaiting ErasureState = "waiting" // the sessions are over, the data is there
	ErasureUndone  ErasureState = "undone"  // the user came back in time
	ErasureRunning ErasureState = "running" // cannot be undone any more
	ErasureDone    ErasureState = "done"
)

// Export is a copy of everything that is kept about a user, for that user.
type Export struct {
	ID          string
	UserID      string
	State       ExportState
	RequestedAt time.Time
	FinishedAt  time.Time
	ExpiresAt   time.Time
	Size        int64  // bytes of the archive
	SHA256      string // of the archive, in hexadecimal digits
	Fault       string // why it failed, for its user; "" unless it has
}

// ExportState says whether an export can be fetched.
type ExportState string

// The states of an export.
const (
	ExportWorking ExportState = "working"
	ExportReady   ExportState = "ready"
	ExportFailed  ExportState = "failed" // it can be asked for anew
)

const prefixExport = "exp"
