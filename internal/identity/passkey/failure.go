package passkey

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	"github.com/go-webauthn/webauthn/protocol"
)

// Reason says why an answer was refused.
type Reason string

// The reasons.
const (
	Malformed         Reason = "malformed"          // not what a browser or platform API gives out
	Expired           Reason = "expired"            // begin again
	WrongCeremony     Reason = "wrong_ceremony"     // registration in place of sign-in, or the other way round
	WrongChallenge    Reason = "wrong_challenge"    // answers another challenge
	WrongOrigin       Reason = "wrong_origin"       // from an app or page that is not configured
	WrongRelyingParty Reason = "wrong_rp"           // made for another domain
	NotPresent        Reason = "user_not_present"   // nobody touched the device
	NotVerified       Reason = "user_not_verified"  // no biometrics, PIN or pattern
	Unknown           Reason = "unknown_credential" // not a passkey of this user
	WrongUser         Reason = "wrong_user"         // the user handle is another user's
	BadAlgorithm      Reason = "bad_algorithm"      // a key of a kind that was not offered
	Refused           Reason = "refused"            // a signature or a flag does not hold
)

// Error is a refused answer. Its text names no secret and may be shown to the app.
type Error struct {
	Reason Reason
	Detail string
	Cause  error // what the library says, for the log
}

func (e *Error) Error() string { return fmt.Sprintf("passkey: %s: %s", e.Reason, e.Detail) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is compares by reason, so that errors.Is(err, &Error{Reason: Expired}) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Reason == e.Reason
}

// ReasonOf returns the reason of a refusal, "" for another error or none.
func ReasonOf(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return ""
}

func fail(r Reason, detail string, args ...any) *Error {
	return &Error{Reason: r, Detail: fmt.Sprintf(detail, args...)}
}

// explain finds out why the library, which has the last word, refused an answer.
func (rp *RelyingParty) explain(cause error, ch *Challenge, client protocol.CollectedClientData, data protocol.AuthenticatorData) *Error {
	want := protocol.AssertCeremony
	if ch.Ceremony == Registration {
		want = protocol.CreateCeremony
	}
	rpHash := sha256.Sum256([]byte(rp.config.RPID))
	e := fail(Refused, "its signature or its flags do not hold")
	switch {
	case client.Type != want:
		e = fail(WrongCeremony, "its type is not %s", want)
	case subtle.ConstantTimeCompare([]byte(client.Challenge), []byte(ch.Challenge)) != 1:
		e = fail(WrongChallenge, "it answers another challenge")
	case !protocol.IsOriginInHaystack(client.Origin, rp.web) && !slices.Contains(rp.apps, client.Origin):
		e = fail(WrongOrigin, "it comes from %.200q, which is not among the configured origins", client.Origin)
	case client.CrossOrigin || client.TopOrigin != "":
		e = fail(WrongOrigin, "it comes from a frame in a page of another origin")
	case subtle.ConstantTimeCompare(data.RPIDHash, rpHash[:]) != 1:
		e = fail(WrongRelyingParty, "it was made for another domain than %s", rp.config.RPID)
	case !data.Flags.HasUserPresent():
		e = fail(NotPresent, "the user was not present")
	case ch.Verification == string(protocol.VerificationRequired) && !data.Flags.HasUserVerified():
		e = fail(NotVerified, "the user was not verified")
	}
	e.Cause = cause
	return e
}
