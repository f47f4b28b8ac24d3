// Package dpop verifies DPoP proofs (RFC 9449): short-lived JWTs with which a
// client shows, for one request, that it holds the private key that its tokens
// are bound to.
//
// What it guarantees of an accepted proof:
//
//   - It was signed by the private key of the public key in its header, with an
//     algorithm of the allow-list that fits the key; its type is dpop+jwt.
//   - It was made for this method and this URL, compared after normalisation
//     (RFC 3986 §6.2.2, §6.2.3) without query and fragment, and, when the request
//     carries an access token, for that token.
//   - It was made now: its iat is within the window or, which is stronger and
//     also works on phones with a wrong clock, it carries a nonce that this
//     server gave a few minutes ago (RFC 9449 §4.3 step 11).
//   - It costs bounded work: one header field, at most MaxProof bytes, keys of
//     bounded size. Verifying does no I/O.
//
// What it leaves to the caller: that a proof is used once. Proof.ReplayID and
// Proof.Expires say what must be remembered and for how long; ReplayCache
// remembers in the memory of a node, Shared in a store of all nodes, Layered in
// both. CheckBinding compares the key with the token's cnf.jkt.
//
// Errors are *Error and fit to be shown: they tell what is wrong with the proof
// and never quote it.
package dpop
