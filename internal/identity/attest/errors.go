package attest

import (
	"errors"
	"fmt"
)

// ErrUnsupported says that a kind of evidence is not configured, or not allowed here.
var ErrUnsupported = errors.New("attest: this kind of evidence is not accepted here; configure it under identity.device_proof")

// Error says why evidence does not verify. It may be shown: it quotes nothing
// that was sent.
type Error struct {
	Kind   Kind   // "" when the fault is in the client data
	Field  string // the part that is wrong; a closed set, so that it can label a metric
	Detail string
}

func (e *Error) Error() string {
	if e.Kind == "" {
		return fmt.Sprintf("attest: %s: %s", e.Field, e.Detail)
	}
	return fmt.Sprintf("attest: %s: %s: %s", e.Kind, e.Field, e.Detail)
}

func bad(kind Kind, field, format string, args ...any) *Error {
	return &Error{Kind: kind, Field: field, Detail: fmt.Sprintf(format, args...)}
}
