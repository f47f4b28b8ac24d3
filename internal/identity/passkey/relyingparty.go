package passkey

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
)

// MaxResponse is the most bytes that an app's answer may have.
const MaxResponse = 32 << 10

// RelyingParty runs ceremonies. It is safe for concurrent use and keeps no state.
type RelyingParty struct {
	config       Config
	library      *webauthn.WebAuthn
	web, apps    []string
	associations []Association
}

// New returns the relying party of c, which must be Enabled and checked.
func New(c Config) (*RelyingParty, error) {
	if err := checkRPID(c.RPID); err != nil {
		return nil, fmt.Errorf("passkey: rp_id %w", err)
	}
	for _, o := range c.Origins {
		if err := checkOrigin(o); err != nil {
			return nil, fmt.Errorf("passkey: origin %q %w", o, err)
		}
	}
	rp := &RelyingParty{config: c, web: c.webOrigins()}
	var err error
	if rp.apps, err = c.appOrigins(); err != nil {
		return nil, err
	}
	if rp.associations, err = associations(&c, rp.web); err != nil {
		return nil, fmt.Errorf("passkey: %w", err)
	}
	name := c.Name
	if name == "" {
		name = c.RPID
	}
	required := true
	rp.library, err = webauthn.New(&webauthn.Config{
		RPID: c.RPID, RPDisplayName: name, RPOrigins: rp.web, RPOpaqueOrigins: rp.apps,
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			RequireResidentKey: &required, ResidentKey: protocol.ResidentKeyRequirementRequired,
			UserVerification: protocol.VerificationRequired,
		},
		Timeouts: webauthn.TimeoutsConfig{
			Login:        webauthn.TimeoutConfig{Timeout: Lifetime, TimeoutUVD: Lifetime},
			Registration: webauthn.TimeoutConfig{Timeout: Lifetime, TimeoutUVD: Lifetime},
		},
		// Password managers send credProps unasked. Nothing here depends on outputs of extensions.
		ExtensionsUnsolicitedOutputPolicy: protocol.UnsolicitedOutputPolicyIgnore,
	})
	if err != nil {
		return nil, fmt.Errorf("passkey: %w", err)
	}
	return rp, nil
}

// Serves reports whether pages of origin may use the passkeys: it is one of the
// web origins. Of an address with a path, what is before it counts.
func (rp *RelyingParty) Serves(address string) bool {
	u, err := url.Parse(address)
	return err == nil && slices.Contains(rp.web, u.Scheme+"://"+u.Host)
}

// BeginRegistration returns the options for the device, as JSON that
// PublicKeyCredential.parseCreationOptionsFromJSON, Android's
// CreatePublicKeyCredentialRequest and Apple's counterparts read, and what to
// remember. The device refuses to make a second passkey beside existing, the
// user's credentials; the first 64 are named.
func (rp *RelyingParty) BeginRegistration(u User, existing []Credential, now time.Time) (options json.RawMessage, ch Challenge, err error) {
	if n := len(u.Handle); n < 16 || n > HandleSize {
		return nil, ch, fmt.Errorf("passkey: the user handle has %d bytes, wanted 16 to %d of NewUserHandle", n, HandleSize)
	}
	if u.Name == "" {
		return nil, ch, fmt.Errorf("passkey: the user has no name")
	}
	if u.DisplayName == "" {
		u.DisplayName = u.Name
	}
	u.Name, u.DisplayName = clip(u.Name), clip(u.DisplayName)
	creation, session, err := rp.library.BeginRegistration(owner{User: u},
		webauthn.WithExclusions(descriptors(existing)), webauthn.WithCredentialParameters(webauthn.CredentialParametersRecommendedL3()))
	if err != nil {
		return nil, ch, fmt.Errorf("passkey: %w", err)
	}
	if options, err = json.Marshal(creation.Response); err != nil {
		return nil, ch, fmt.Errorf("passkey: %w", err)
	}
	return options, newChallenge(Registration, session, now), nil
}

// clip cuts at a character so that devices need not cut.
func clip(name string) string {
	if len(name) > maxName {
		name = name[:maxName]
	}
	return strings.ToValidUTF8(name, "")
}

// Attestation is an app's answer to a registration, read but not yet believed.
type Attestation struct {
	parsed *protocol.ParsedCredentialCreationData
}

// ParseRegistration reads what the device answered (RegistrationResponseJSON).
func ParseRegistration(response []byte) (*Attestation, error) {
	if len(response) > MaxResponse {
		return nil, fail(Malformed, "the answer has %d bytes, at most %d are accepted", len(response), MaxResponse)
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return nil, malformed(err)
	}
	if n := len(parsed.RawID); n > maxCredentialID {
		return nil, fail(Malformed, "the credential id has %d bytes, at most %d are accepted", n, maxCredentialID)
	}
	if n := len(parsed.Response.AttestationObject.AuthData.AttData.CredentialPublicKey); n > maxPublicKey {
		return nil, fail(Malformed, "the public key has %d bytes, at most %d are accepted", n, maxPublicKey)
	}
	return &Attestation{parsed: parsed}, nil
}

func malformed(err error) *Error {
	e := fail(Malformed, "it is not the JSON of a public key credential as browsers and platform APIs give it")
	e.Cause = err
	return e
}

// ChallengeID is the ID of the Challenge that is answered.
func (a *Attestation) ChallengeID() string {
	return challengeID(a.parsed.Response.CollectedClientData.Challenge)
}

// CredentialID is the id of the new credential. Where it is known already, for
// whatever user, the registration must be refused (WebAuthn §7.1 step 26).
func (a *Attestation) CredentialID() []byte { return a.parsed.RawID }

// FinishRegistration checks an answer to ch and returns the credential to
// store. Errors are of type *Error.
func (rp *RelyingParty) FinishRegistration(ch Challenge, a *Attestation, now time.Time) (Credential, error) {
	if err := ch.check(Registration, now); err != nil {
		return Credential{}, err
	}
	data := a.parsed.Response.AttestationObject.AuthData
	made, err := rp.library.CreateCredential(owner{User: User{Handle: ch.UserHandle}}, ch.session(rp.config.RPID), a.parsed)
	if err != nil {
		return Credential{}, rp.explain(err, &ch, a.parsed.Response.CollectedClientData, data)
	}
	if err := checkKey(made.PublicKey); err != nil {
		return Credential{}, err
	}
	return Credential{
		ID: bytes.Clone(made.ID), PublicKey: bytes.Clone(made.PublicKey), Format: made.AttestationFormat,
		SignCount: made.Authenticator.SignCount, BackupEligible: data.Flags.HasBackupEligible(), BackedUp: data.Flags.HasBackupState(),
		UserVerified: data.Flags.HasUserVerified(), Transports: transports(made.Transport),
		Attachment: string(made.Authenticator.Attachment), AAGUID: aaguid(made.Authenticator.AAGUID), CreatedAt: now.UTC(),
	}, nil
}
