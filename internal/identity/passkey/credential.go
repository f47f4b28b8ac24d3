package passkey

import (
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
)

// Credential is what must be remembered of one passkey (the credential record of
// WebAuthn §4). It holds no secret.
type Credential struct {
	ID             []byte    `json:"id"`               // chosen by the authenticator, unique among all, at most 1023 bytes
	PublicKey      []byte    `json:"public_key"`       // COSE_Key (RFC 9052 §7)
	Format         string    `json:"format,omitempty"` // of the attestation statement that came with it; mostly "none"
	SignCount      uint32    `json:"sign_count"`       // 0 for ever with passkeys that are synced
	BackupEligible bool      `json:"backup_eligible"`  // may be copied to other devices of the person; never changes
	BackedUp       bool      `json:"backed_up"`        // was so when last used
	UserVerified   bool      `json:"user_verified"`    // has been used with user verification
	Transports     []string  `json:"transports,omitempty"`
	Attachment     string    `json:"attachment,omitempty"` // "platform", "cross-platform" or unknown
	AAGUID         string    `json:"aaguid"`               // kind of authenticator as it says itself, a UUID; zeros = untold
	CloneWarning   bool      `json:"clone_warning,omitempty"`
	CreatedAt      time.Time `json:"created_at"`
	LastUsedAt     time.Time `json:"last_used_at,omitzero"`
}

// User is whom a passkey is registered for. Name and DisplayName are shown by
// devices when the person chooses a passkey, and stored by them.
type User struct {
	Handle      []byte // of NewUserHandle, one per user and kept for ever
	Name        string // tells accounts apart: an address, a user name
	DisplayName string // "" = Name
}

// HandleSize is the length of user handles in bytes: the most that WebAuthn
// §5.4.3 allows, and what it recommends.
const HandleSize = 64

// NewUserHandle returns a random user handle.
func NewUserHandle() []byte {
	b := make([]byte, HandleSize)
	rand.Read(b)
	return b
}

const (
	maxCredentialID = 1023
	maxPublicKey    = 1024
	maxTransports   = 8
	maxName         = 64 // bytes that authenticators keep for certain (WebAuthn §6.4.1)
	maxCredentials  = 64 // named in options at most
)

// library returns c as the library knows it.
func (c *Credential) library() webauthn.Credential {
	var flags protocol.AuthenticatorFlags
	for flag, set := range map[protocol.AuthenticatorFlags]bool{
		protocol.FlagUserPresent: true, protocol.FlagUserVerified: c.UserVerified,
		protocol.FlagBackupEligible: c.BackupEligible, protocol.FlagBackupState: c.BackedUp,
	} {
		if set {
			flags |= flag
		}
	}
	return webauthn.Credential{
		ID: c.ID, PublicKey: c.PublicKey, AttestationFormat: c.Format,
		Transport:     c.descriptor().Transport,
		Flags:         webauthn.NewCredentialFlags(flags),
		Authenticator: webauthn.Authenticator{SignCount: c.SignCount},
	}
}

func (c *Credential) descriptor() protocol.CredentialDescriptor {
	d := protocol.CredentialDescriptor{Type: protocol.PublicKeyCredentialType, CredentialID: c.ID}
	for _, t := range c.Transports {
		d.Transport = append(d.Transport, protocol.AuthenticatorTransport(t))
	}
	return d
}

func descriptors(credentials []Credential) []protocol.CredentialDescriptor {
	var list []protocol.CredentialDescriptor
	for i := range credentials[:min(len(credentials), maxCredentials)] {
		list = append(list, credentials[i].descriptor())
	}
	return list
}

// transports keeps what is a name of a transport, so that what a client invents
// does not come back to others. Unknown ones are kept: new ones are made.
func transports(claimed []protocol.AuthenticatorTransport) []string {
	var kept []string
	for _, t := range claimed {
		if name := string(t); plain(name) && len(kept) < maxTransports && !slices.Contains(kept, name) {
			kept = append(kept, name)
		}
	}
	return kept
}

func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 32
}

func aaguid(b []byte) string {
	if len(b) != 16 {
		b = make([]byte, 16)
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// owner is a User with credentials for the library.
type owner struct {
	User
	credentials []webauthn.Credential
}

func (o owner) WebAuthnID() []byte                         { return o.Handle }
func (o owner) WebAuthnName() string                       { return o.Name }
func (o owner) WebAuthnDisplayName() string                { return o.DisplayName }
func (o owner) WebAuthnCredentials() []webauthn.Credential { return o.credentials }
