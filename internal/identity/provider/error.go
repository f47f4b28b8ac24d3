package provider

import (
	"errors"
	"fmt"
	"time"
)

// Kind says who has to act.
type Kind int

// The kinds of failure.
const (
	// Refused: what the app sent is no proof. The user signs in with the provider
	// again; the same credential will not do. Answer 401.
	Refused Kind = iota + 1
	// Unavailable: the provider cannot be asked. The app sends the same credential
	// again after RetryAfter. Answer 503.
	Unavailable
	// Misconfigured: the provider does not accept our configuration, or its
	// answers cannot be used. An operator has to act; answer 503 and tell them.
	Misconfigured
)

// String is the kind in one word.
func (k Kind) String() string {
	switch k {
	case Refused:
		return "refused"
	case Unavailable:
		return "unavailable"
	case Misconfigured:
		return "misconfigured"
	}
	return "unknown"
}

// Reason is a stable word for one cause, fit for metrics and tests.
type Reason string

// The reasons of Refused.
const (
	ReasonMissing         Reason = "missing"          // no credential
	ReasonTooLarge        Reason = "too_large"        // over 8 KiB
	ReasonMalformed       Reason = "malformed"        // not a compact JWS of a JSON object
	ReasonEncrypted       Reason = "encrypted"        // a JWE
	ReasonAlgorithm       Reason = "algorithm"        // not in the allow-list
	ReasonCritical        Reason = "critical"         // a critical header that nobody here knows
	ReasonType            Reason = "type"             // another kind of token
	ReasonUnknownKey      Reason = "unknown_key"      // no such key at the issuer
	ReasonSignature       Reason = "signature"        // does not verify
	ReasonIssuer          Reason = "issuer"           // another issuer
	ReasonAudience        Reason = "audience"         // for another app
	ReasonAuthorizedParty Reason = "authorized_party" // azp
	ReasonSubject         Reason = "subject"          // missing or unusable
	ReasonExpired         Reason = "expired"          // exp
	ReasonTooOld          Reason = "too_old"          // iat
	ReasonNotYet          Reason = "not_yet"          // iat or nbf in the future
	ReasonNonce           Reason = "nonce"            // missing or another one
	ReasonHostedDomain    Reason = "hosted_domain"    // hd
	ReasonCode            Reason = "code"             // the provider refused the authorization code
	ReasonRedirectURI     Reason = "redirect_uri"     // not one of the configuration
	ReasonClientID        Reason = "client_id"        // not one of the configuration
	ReasonVerifier        Reason = "code_verifier"    // not as RFC 7636 §4.1
	ReasonState           Reason = "state"            // the redirect belongs to another sign-in
	ReasonTimeout         Reason = "timeout"          // the user took too long
	ReasonCancelled       Reason = "cancelled"        // the user said no
	ReasonProvider        Reason = "provider_refused" // the provider ended the sign-in
)

// The reasons of Unavailable and Misconfigured.
const (
	ReasonUnreachable   Reason = "unreachable"   // no answer, or a 5xx or 429
	ReasonAnswer        Reason = "answer"        // an answer that cannot be used
	ReasonAddress       Reason = "address"       // an address that may not be called
	ReasonCredentials   Reason = "credentials"   // our client id or secret was refused
	ReasonUnsupported   Reason = "unsupported"   // not configured, or the provider cannot do it
	ReasonClosed        Reason = "closed"        // the Set was closed
	ReasonRequestFaulty Reason = "request"       // the provider calls our request wrong
	ReasonIssuerDiffers Reason = "issuer_differ" // discovery names another issuer
)

// Sentinels for errors.Is, one for each Kind.
var (
	ErrRefused       = errors.New("provider: the credential is refused")
	ErrUnavailable   = errors.New("provider: the sign-in provider is unavailable")
	ErrMisconfigured = errors.New("provider: the sign-in provider is misconfigured")
)

// Error is every failure of this package. Detail is a sentence that may be shown
// to the app's developer; Cause is for the log. Neither holds a token, a code or
// a secret.
type Error struct {
	Kind       Kind
	Provider   string // "apple", "oidc:acme"
	Reason     Reason
	Detail     string
	RetryAfter time.Duration // of Unavailable; 0 = as the caller likes
	Cause      error         // nil = none
}

// Error gives provider, reason, detail and cause.
func (e *Error) Error() string {
	s := fmt.Sprintf("provider %s: %s (%s): %s", e.Provider, e.Kind, e.Reason, e.Detail)
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is makes errors.Is(err, ErrRefused) and its like true.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrRefused:
		return e.Kind == Refused
	case ErrUnavailable:
		return e.Kind == Unavailable
	case ErrMisconfigured:
		return e.Kind == Misconfigured
	}
	return false
}

// SETCode is the error code with which RFC 8935 §2.4 wants a refused security
// event token answered: 400 {"err": code, "description": Detail}.
func (e *Error) SETCode() string {
	switch e.Reason {
	case ReasonUnknownKey, ReasonSignature, ReasonAlgorithm:
		return "invalid_key"
	case ReasonIssuer:
		return "invalid_issuer"
	case ReasonAudience:
		return "invalid_audience"
	}
	return "invalid_request"
}

func refuse(reason Reason, format string, args ...any) *Error {
	return &Error{Kind: Refused, Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

func unavailable(cause error, reason Reason, format string, args ...any) *Error {
	return &Error{Kind: Unavailable, Reason: reason, Detail: fmt.Sprintf(format, args...), Cause: cause}
}

func misconfigured(cause error, reason Reason, format string, args ...any) *Error {
	return &Error{Kind: Misconfigured, Reason: reason, Detail: fmt.Sprintf(format, args...), Cause: cause}
}

// from returns err as an *Error of the provider.
func (p *Provider) from(err error) *Error {
	c := *asError(err)
	c.Provider = p.name
	return &c
}
