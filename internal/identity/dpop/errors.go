package dpop

import (
	"errors"
	"strings"
)

// Code is an OAuth error code.
type Code string

// The codes, with where they are registered.
const (
	InvalidProof Code = "invalid_dpop_proof" // RFC 9449 §5, §12.2
	UseNonce     Code = "use_dpop_nonce"     // RFC 9449 §8, §9
	InvalidToken Code = "invalid_token"      // RFC 6750 §3.1: the token is not bound to the proof's key
)

// Error says why a proof, or the token that came with it, is refused.
type Error struct {
	Code   Code
	Detail string // may be shown: printable ASCII without " and \; quotes nothing that was sent
	Nonce  string // with UseNonce: the value of the field DPoP-Nonce of the answer
}

func (e *Error) Error() string { return "dpop: " + string(e.Code) + ": " + e.Detail }

// Is makes errors.Is match by code: errors.Is(err, &Error{Code: UseNonce}).
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Detail == "" && t.Nonce == ""
}

func invalid(detail string) *Error { return &Error{Code: InvalidProof, Detail: detail} }

// NonceField is the name of the field in which a server gives a nonce (RFC 9449 §8).
const NonceField = "DPoP-Nonce"

// Challenge is the value of WWW-Authenticate of a resource server's 401 (RFC
// 9449 §7.1, §9). err nil, or another than *Error, gives the challenge for a
// request without credentials. algs are the algorithms that are accepted, see
// Verifier.Algorithms; realm "" is left out.
//
// With UseNonce the answer also needs NonceField: Error.Nonce.
func Challenge(err error, realm, algs string) string {
	var b strings.Builder
	b.WriteString("DPoP ")
	if realm != "" {
		b.WriteString(`realm="` + quotable(realm) + `", `)
	}
	if e, ok := errors.AsType[*Error](err); ok {
		b.WriteString(`error="` + string(e.Code) + `", error_description="` + quotable(e.Detail) + `", `)
	}
	b.WriteString(`algs="` + quotable(algs) + `"`)
	return b.String()
}

// TokenError is what an authorization server answers (RFC 6749 §5.2, RFC 9449
// §5, §8): always status 400 with these members. With use_dpop_nonce the answer
// also needs NonceField: Error.Nonce. ok is false when err is no *Error.
func TokenError(err error) (code, description string, ok bool) {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return "", "", false
	}
	if e.Code == InvalidToken { // at a token endpoint the bound thing is a refresh token
		return "invalid_grant", e.Detail, true
	}
	return string(e.Code), e.Detail, true
}

// quotable keeps what RFC 6749 appendix A.7, A.8 allows in a description.
func quotable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, s)
}
