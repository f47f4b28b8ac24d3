package identity

import (
	"context"

	"landline/internal/bus"
)

// SecurityKind names a kind of SecurityEvent.
type SecurityKind string

// The kinds.
const (
	SecurityNewDevice SecurityKind = "new_device"     // an account signed in on an installation for the first time
	SecurityReused    SecurityKind = "reuse_detected" // a stolen refresh token was used
	SecurityLinked    SecurityKind = "identity_linked"
	SecurityCloned    SecurityKind = "passkey_cloned" // a passkey's counter did not go on
	SecurityUnlinked  SecurityKind = "identity_unlinked"
)

// SecurityEvents is where they are published, for what reaches the user's other devices.
var SecurityEvents = bus.Topic[SecurityEvent]{Name: "identity.security"}

// tell publishes e, best effort: the audit log has it in any case.
func (s *Service) tell(ctx context.Context, e SecurityEvent) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishLimit)
	defer cancel()
	if err := SecurityEvents.Publish(ctx, s.bus, e); err != nil {
		s.log.WarnContext(ctx, "a security event could not be published", "kind", e.Kind, "user", e.User, "error", err)
	}
}
