package identity

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"landline/internal/identity/passkey"
	"landline/internal/module"
	"landline/internal/problem"
	"landline/internal/sqldb"
)

const (
	issuerPasskey   = "passkey"
	providerPasskey = "passkey"
	kindPasskey     = "passkey"
)

// passkeyVerifier takes both answers of a device: a sign-in, and the registration
// of a new passkey, which proves an identity that nobody has yet.
type passkeyVerifier struct{ s *Service }

// PasskeyOptions begins a ceremony for p: a sign-in of whoever comes, or a
// registration for p's user. The result goes to the platform as it is.
func (s *Service) PasskeyOptions(ctx context.Context, p *module.Principal, register bool, name string) (json.RawMessage, error) {
	now := s.now()
	var options json.RawMessage
	var ch passkey.Challenge
	var err error
	if register {
		var handle []byte
		var existing []passkey.Credential
		if handle, existing, err = s.passkeysOf(ctx, p.UserID); err != nil {
			return nil, err
		}
		if name == "" {
			name = s.app.Name
		}
		options, ch, err = s.passkeys.BeginRegistration(passkey.User{Handle: handle, Name: name}, existing, now)
	} else {
		return s.passkeySignIn(ctx, p.InstallationID, now)
	}
	if err != nil {
		return nil, err
	}
	return options, s.keepPasskey(ctx, ch, registrant(p.InstallationID, p.UserID))
}

// passkeysOf returns the user's handle, a new one when there is none, and passkeys.
func (s *Service) passkeysOf(ctx context.Context, user string) (handle []byte, all []passkey.Credential, err error) {
	identities, err := s.store.IdentitiesOf(ctx, user, maxIdentities)
	if err != nil {
		return nil, nil, err
	}
	for _, i := range identities {
		if i.Provider != providerPasskey {
			continue
		}
		p, err := s.profile(ctx, i)
		if err != nil {
			return nil, nil, err
		}
		var secret passkeySecret
		if err := json.Unmarshal(p.Secret, &secret); err != nil {
			return nil, nil, err
		}
		handle, all = secret.Handle, append(all, secret.Credential)
	}
	if handle == nil {
		handle = passkey.NewUserHandle()
	}
	return handle, all, nil
}

func (v passkeyVerifier) verify(ctx context.Context, p *module.Principal, c CredentialWire) (Proven, error) {
	if len(c.Passkey) == 0 {
		return Proven{}, invalid("passkey", "is needed: the device's answer as JSON")
	}
	var shape passkeyShape
	if json.Unmarshal(c.Passkey, &shape) == nil && len(shape.Response.Attestation) > 0 {
		return v.registration(ctx, p, c)
	}
	return v.signIn(ctx, p, c)
}

func (v passkeyVerifier) registration(ctx context.Context, p *module.Principal, c CredentialWire) (Proven, error) {
	a, err := passkey.ParseRegistration(c.Passkey)
	if err != nil {
		return Proven{}, passkeyRefusal(err)
	}
	use, repeat, err := v.use(ctx, p, c.Passkey)
	if err != nil || repeat {
		return Proven{Provider: providerPasskey, UseID: use, Repeat: repeat}, err
	}
	ch, taken, err := v.challenge(ctx, registrant(passkeyHolder(c, p.InstallationID), p.UserID), a.ChallengeID())
	if err != nil {
		return Proven{}, err
	}
	made, err := v.s.passkeys.FinishRegistration(ch, a, v.s.now())
	if err != nil {
		return Proven{}, passkeyRefusal(err)
	}
	lookup, err := v.s.lookup(issuerPasskey, base64.RawURLEncoding.EncodeToString(made.ID))
	if err != nil {
		return Proven{}, err
	}
	if _, _, err := v.s.store.IdentityBy(ctx, lookup); !errors.Is(err, sqldb.ErrNotFound) {
		if err == nil { // WebAuthn §7.1 step 26
			err = problem.New(problem.IdentityInUse, "this passkey is registered already; sign in with it")
		}
		return Proven{}, err
	}
	return v.proven(made, ch.UserHandle, made.UserVerified, use, taken)
}

func (v passkeyVerifier) signIn(ctx context.Context, p *module.Principal, c CredentialWire) (Proven, error) {
	a, err := passkey.ParseSignIn(c.Passkey)
	if err != nil {
		return Proven{}, passkeyRefusal(err)
	}
	use, repeat, err := v.use(ctx, p, c.Passkey)
	if err != nil || repeat {
		return Proven{Provider: providerPasskey, UseID: use, Repeat: repeat}, err
	}
	ch, taken, err := v.challenge(ctx, passkeyHolder(c, p.InstallationID), a.ChallengeID())
	if err != nil {
		return Proven{}, err
	}
	lookup, err := v.s.lookup(issuerPasskey, base64.RawURLEncoding.EncodeToString(a.CredentialID()))
	if err != nil {
		return Proven{}, err
	}
	i, _, err := v.s.store.IdentityBy(ctx, lookup)
	if errors.Is(err, sqldb.ErrNotFound) {
		return Proven{}, problem.New(problem.CredentialInvalid, "there is no such passkey").With("reason", string(passkey.Unknown))
	}
	if err != nil {
		return Proven{}, err
	}
	profile, err := v.s.profile(ctx, i)
	if err != nil {
		return Proven{}, err
	}
	var stored passkeySecret
	if err := json.Unmarshal(profile.Secret, &stored); err != nil {
		return Proven{}, err
	}
	proof, err := v.s.passkeys.FinishSignIn(ch, a, stored.Credential, stored.Handle, v.s.now())
	if err != nil {
		return Proven{}, passkeyRefusal(err)
	}
	if proof.CloneWarning {
		v.s.tell(ctx, SecurityEvent{Kind: SecurityCloned, User: i.UserID, Session: p.SessionID, Installation: p.InstallationID, Provider: providerPasskey, At: v.s.now()})
	}
	return v.proven(proof.Credential, stored.Handle, proof.UserVerified, use, taken)
}

func (v passkeyVerifier) proven(c passkey.Credential, handle []byte, verified bool, use string, taken Challenge) (Proven, error) {
	secret, err := json.Marshal(passkeySecret{Credential: c, Handle: bytes.Clone(handle)})
	methods := "swk"
	if verified {
		methods = "swk user"
	}
	return Proven{Provider: providerPasskey, Methods: methods, UseID: use, UseUntil: v.s.now().Add(passkeyRepeat), Take: &taken, Profile: Profile{
		Issuer: issuerPasskey, Subject: base64.RawURLEncoding.EncodeToString(c.ID), Secret: secret,
	}}, err
}

// passkeyRepeat is how long a device's answer, sent once more because the
// server's was lost, gets the same answer (L10).
const passkeyRepeat = 10 * time.Minute

// use is what this very answer of a device is remembered by, and whether it was
// used on p's installation before.
func (v passkeyVerifier) use(ctx context.Context, p *module.Principal, answer []byte) (id string, repeat bool, err error) {
	if id, err = v.s.blind("passkey use\x00" + p.InstallationID + "\x00" + string(answer)); err != nil {
		return "", false, err
	}
	_, err = v.s.store.CredentialUse(ctx, id)
	if errors.Is(err, sqldb.ErrNotFound) {
		return id, false, nil
	}
	return id, err == nil, err
}

// challenge finds what is answered. It is removed together with what the answer
// does, so that it is good once, and not lost when that fails.
func (v passkeyVerifier) challenge(ctx context.Context, holder, challenge string) (ch passkey.Challenge, stored Challenge, err error) {
	id, err := v.s.blind("passkey\x00" + challenge + "\x00" + holder)
	if err != nil {
		return ch, stored, err
	}
	stored, err = v.s.store.Challenge(ctx, id)
	if errors.Is(err, sqldb.ErrNotFound) {
		return ch, stored, challengeGone()
	}
	if err != nil {
		return ch, stored, err
	}
	return ch, stored, json.Unmarshal(stored.State, &ch)
}

// laterPasskey is the record of a passkey with the higher counter: of two
// sign-ins at once the one that is written last may have been verified first.
func laterPasskey(stored, verified []byte) ([]byte, error) {
	var a, b passkeySecret
	if err := json.Unmarshal(stored, &a); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(verified, &b); err != nil {
		return nil, err
	}
	if a.Credential.SignCount <= b.Credential.SignCount {
		return verified, nil
	}
	return stored, nil
}

func challengeGone() error {
	return problem.New(problem.CredentialInvalid, "the challenge is not one of this installation and user, too old, or was answered before").With("reason", "challenge")
}

func passkeyRefusal(err error) error {
	if reason := passkey.ReasonOf(err); reason != "" {
		return problem.New(problem.CredentialInvalid, "%s", err.Error()).With("reason", string(reason))
	}
	return err
}

// associationHandlers serve what apps and browsers need to use the passkeys.
func (s *Service) associationHandlers() []module.Handler {
	if s.passkeys == nil {
		return nil
	}
	var all []module.Handler
	for _, a := range s.passkeys.Associations() {
		all = append(all, module.Handler{Match: "GET " + a.Path, Auth: module.AuthNone, Doc: documentDoc(a.Path, "get-"+a.Path[len("/.well-known/"):], "Which apps and origins may use the passkeys"),
			Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				answerJSON(w, http.StatusOK, "public, max-age=3600", json.RawMessage(a.Body))
			})})
	}
	return all
}
