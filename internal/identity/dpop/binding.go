package dpop

import (
	"crypto/subtle"
	"strings"
)

// CheckBinding decides whether an access token may be used (RFC 9449 §7.1,
// §7.2). scheme is the authentication scheme of the request, in any case; jkt is
// the token's cnf.jkt, "" when it is bound to no key; proof is the verified
// proof, nil when there is none.
//
// A token that is bound is refused as a Bearer token, and without a proof of
// its key; one that is not bound is refused with the scheme DPoP. The error is an
// *Error with the code InvalidToken, or InvalidProof when no proof came.
func CheckBinding(scheme, jkt string, proof *Proof) error {
	dpop := strings.EqualFold(scheme, "DPoP")
	switch {
	case !dpop && !strings.EqualFold(scheme, "Bearer"):
		return &Error{Code: InvalidToken, Detail: "the scheme must be DPoP or Bearer"}
	case !dpop && jkt == "":
		return nil
	case !dpop:
		return &Error{Code: InvalidToken, Detail: "the access token is bound to a key: send it as Authorization: DPoP, with a proof"}
	case jkt == "":
		return &Error{Code: InvalidToken, Detail: "the access token is not bound to a key: send it as Authorization: Bearer"}
	case proof == nil:
		return invalid("the request has no field DPoP with a proof")
	case subtle.ConstantTimeCompare([]byte(jkt), []byte(proof.Thumbprint)) != 1:
		return &Error{Code: InvalidToken, Detail: "the access token is bound to another key than the proof's"}
	}
	return nil
}

// CheckGrant decides whether a refresh token, an authorization code or another
// grant that is bound to the key jkt may be used with proof. A grant that is not
// bound ("") may be used with any key, which then binds what is issued (RFC 9449 §5).
func CheckGrant(jkt string, proof *Proof) error {
	switch {
	case jkt == "":
		return nil
	case proof == nil:
		return invalid("the grant is bound to a key: the request needs a field DPoP with a proof")
	case subtle.ConstantTimeCompare([]byte(jkt), []byte(proof.Thumbprint)) != 1:
		return &Error{Code: InvalidToken, Detail: "the grant is bound to another key than the proof's"}
	}
	return nil
}
