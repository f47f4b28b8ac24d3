package passkey

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
)

// SignInOptions narrow a sign-in. The zero value asks for any passkey that the
// device has for this domain, with user verification.
type SignInOptions struct {
	// Handle and Credentials are of the user who is to be proved, for a fresh
	// proof of who is signed in or for a second factor. Empty = whoever comes.
	Handle      []byte
	Credentials []Credential

	// SecondFactor says that another factor has been proved: a touch is enough.
	// It needs Handle and Credentials.
	SecondFactor bool
}

// BeginSignIn returns the options for the device, as JSON that
// PublicKeyCredential.parseRequestOptionsFromJSON, Android's
// GetPublicKeyCredentialOption and Apple's counterparts read, and what to remember.
func (rp *RelyingParty) BeginSignIn(o SignInOptions, now time.Time) (options json.RawMessage, ch Challenge, err error) {
	known := len(o.Handle) > 0
	if known != (len(o.Credentials) > 0) || o.SecondFactor && !known {
		return nil, ch, fmt.Errorf("passkey: a sign-in of one user needs the user's handle and credentials")
	}
	verification := protocol.VerificationRequired
	if o.SecondFactor {
		verification = protocol.VerificationDiscouraged
	}
	var assertion *protocol.CredentialAssertion
	var session *webauthn.SessionData
	if known {
		who := owner{User: User{Handle: o.Handle}}
		for i := range o.Credentials[:min(len(o.Credentials), maxCredentials)] {
			who.credentials = append(who.credentials, o.Credentials[i].library())
		}
		assertion, session, err = rp.library.BeginLogin(who, webauthn.WithUserVerification(verification),
			webauthn.WithAllowedCredentials(descriptors(o.Credentials)))
	} else {
		assertion, session, err = rp.library.BeginDiscoverableLogin(webauthn.WithUserVerification(verification))
	}
	if err != nil {
		return nil, ch, fmt.Errorf("passkey: %w", err)
	}
	if options, err = json.Marshal(assertion.Response); err != nil {
		return nil, ch, fmt.Errorf("passkey: %w", err)
	}
	return options, newChallenge(SignIn, session, now), nil
}

// Assertion is an app's answer to a sign-in, read but not yet believed.
type Assertion struct {
	parsed *protocol.ParsedCredentialAssertionData
}

// ParseSignIn reads what the device answered (AuthenticationResponseJSON).
func ParseSignIn(response []byte) (*Assertion, error) {
	if len(response) > MaxResponse {
		return nil, fail(Malformed, "the answer has %d bytes, at most %d are accepted", len(response), MaxResponse)
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return nil, malformed(err)
	}
	if n := len(parsed.RawID); n > maxCredentialID {
		return nil, fail(Malformed, "the credential id has %d bytes, at most %d are accepted", n, maxCredentialID)
	}
	return &Assertion{parsed: parsed}, nil
}

// ChallengeID is the ID of the Challenge that is answered.
func (a *Assertion) ChallengeID() string {
	return challengeID(a.parsed.Response.CollectedClientData.Challenge)
}

// CredentialID is the id of the credential that is claimed.
func (a *Assertion) CredentialID() []byte { return a.parsed.RawID }

// UserHandle is the handle of the user that is claimed; discoverable
// credentials always tell it.
func (a *Assertion) UserHandle() []byte { return a.parsed.Response.UserHandle }

// Proof is a sign-in that holds.
type Proof struct {
	Credential   Credential // with new counter, flags and time of use; to be stored
	UserVerified bool       // in this sign-in: "mfa" or "user" and "hwk"/"swk" of RFC 8176 follow from it

	// CloneWarning says that the counter did not go on: the key may exist twice,
	// or two sign-ins overtook one another. The stored counter stays. A warning
	// is a reason to tell the user and to ask for another proof, at the caller's
	// choice; synced passkeys have no counter and never warn.
	CloneWarning bool
}

// FinishSignIn checks an answer to ch against the credential that is stored
// under its CredentialID and the handle of the user who owns that credential.
// Errors are of type *Error. For a credential that is not stored, answer as if
// this had returned Unknown.
func (rp *RelyingParty) FinishSignIn(ch Challenge, a *Assertion, stored Credential, handle []byte, now time.Time) (Proof, error) {
	if err := ch.check(SignIn, now); err != nil {
		return Proof{}, err
	}
	claimed := a.parsed.Response.UserHandle
	switch {
	case len(handle) == 0 || len(stored.ID) == 0 || !bytes.Equal(stored.ID, a.parsed.RawID):
		return Proof{}, fail(Unknown, "there is no such passkey")
	case len(ch.UserHandle) > 0 && !bytes.Equal(ch.UserHandle, handle):
		return Proof{}, fail(WrongUser, "the passkey belongs to another user than the challenge")
	case len(claimed) > 0 && !bytes.Equal(claimed, handle), len(claimed) == 0 && len(ch.UserHandle) == 0:
		return Proof{}, fail(WrongUser, "the passkey belongs to another user than it says")
	case len(ch.Allowed) > 0 && !contains(ch.Allowed, stored.ID):
		return Proof{}, fail(Unknown, "the passkey is not among those that were asked for")
	}
	session := ch.session(rp.config.RPID)
	session.UserID, session.AllowedCredentialIDs = handle, [][]byte{stored.ID} // both just proved
	used, err := rp.library.ValidateLogin(owner{User: User{Handle: handle}, credentials: []webauthn.Credential{stored.library()}}, session, a.parsed)
	if err != nil {
		return Proof{}, rp.explain(err, &ch, a.parsed.Response.CollectedClientData, a.parsed.Response.AuthenticatorData)
	}
	flags := a.parsed.Response.AuthenticatorData.Flags
	stored.SignCount = used.Authenticator.SignCount
	stored.BackedUp = flags.HasBackupState()
	stored.UserVerified = stored.UserVerified || flags.HasUserVerified()
	stored.CloneWarning = stored.CloneWarning || used.Authenticator.CloneWarning
	stored.LastUsedAt = now.UTC()
	return Proof{Credential: stored, UserVerified: flags.HasUserVerified(), CloneWarning: used.Authenticator.CloneWarning}, nil
}

func contains(list [][]byte, id []byte) bool {
	for _, one := range list {
		if bytes.Equal(one, id) {
			return true
		}
	}
	return false
}
