package passkey

import (
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
)

// Lifetime is how long a ceremony may take. Devices are told the same as timeout.
const Lifetime = 5 * time.Minute

// Ceremony is what a Challenge is for.
type Ceremony string

// The ceremonies.
const (
	Registration Ceremony = "registration"
	SignIn       Ceremony = "sign_in"
)

// Challenge is what must be remembered while the device works. The caller stores
// it as JSON under ID and deletes it when it takes it out to finish: only that
// makes it single use.
type Challenge struct {
	ID           string    `json:"id"`        // hash of Challenge; see Attestation.ChallengeID
	Ceremony     Ceremony  `json:"ceremony"`  //
	Challenge    string    `json:"challenge"` // base64url of 32 random bytes
	UserHandle   []byte    `json:"user_handle,omitempty"`
	Allowed      [][]byte  `json:"allowed,omitempty"` // credential ids; empty = any of the user's
	Verification string    `json:"verification"`      // "required" or "discouraged"
	ExpiresAt    time.Time `json:"expires_at"`
}

func newChallenge(kind Ceremony, s *webauthn.SessionData, now time.Time) Challenge {
	return Challenge{
		ID: challengeID(s.Challenge), Ceremony: kind, Challenge: s.Challenge, UserHandle: s.UserID,
		Allowed: s.AllowedCredentialIDs, Verification: string(s.UserVerification), ExpiresAt: now.Add(Lifetime).UTC(),
	}
}

// session returns c as the library knows it. The time is ours to check.
func (c *Challenge) session(rpID string) webauthn.SessionData {
	return webauthn.SessionData{
		Challenge: c.Challenge, RelyingPartyID: rpID, UserID: c.UserHandle, AllowedCredentialIDs: c.Allowed,
		UserVerification: protocol.UserVerificationRequirement(c.Verification), CredParams: webauthn.CredentialParametersRecommendedL3(),
	}
}

func (c *Challenge) check(kind Ceremony, now time.Time) error {
	switch {
	case c.Ceremony != kind || c.Challenge == "":
		return fail(WrongCeremony, "it answers a challenge for another purpose")
	case !now.Before(c.ExpiresAt):
		return fail(Expired, "the challenge is older than %s: begin again", Lifetime)
	}
	return nil
}

// challengeID names a challenge without giving it away.
func challengeID(challenge string) string {
	sum := sha256.Sum256([]byte(challenge))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
