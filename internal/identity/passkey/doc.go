// Package passkey registers passkeys and signs users in with them: WebAuthn
// Level 3 (https://www.w3.org/TR/webauthn-3/) with discoverable credentials, on
// the library go-webauthn.
//
// It keeps nothing. A ceremony begins with a Challenge that the caller stores
// under Challenge.ID, and ends when the caller takes that Challenge out of its
// store again, deleting it in the same step, and hands it to FinishRegistration
// or FinishSignIn with what the app sent.
//
// What it guarantees:
//   - A Challenge is good for Lifetime, for one kind of ceremony, for one user
//     where it was begun for one, and for the answer that carries it.
//   - An answer counts only from one of the configured origins: web origins, and
//     Android apps by the hash of their signing certificate. Pages in frames of
//     other origins are refused.
//   - A passkey that is to stand alone (the default) is used with user
//     verification; every use needs user presence.
//   - The user handle is random. It tells nothing of the user's id or address.
//   - Answers are bounded to MaxResponse, credential ids to 1023 bytes (the limit
//     of WebAuthn §4), public keys to 1024 bytes.
//
// What it does not: it cannot know whether a Challenge is used a second time;
// taking it out of the store is what makes it single use. Attestation is not
// asked for and what comes is not judged, so it does not tell what kind of
// authenticator holds the key; the AAGUID is a hint for people.
package passkey
