// Package attest verifies what a device says about itself: that the app is
// genuine, and that its key lives in secure hardware.
//
// Four kinds of evidence are understood, all verified here, without a call to
// Apple or Google:
//
//   - App Attest (iOS): an attestation of a key in the Secure Enclave, once, and
//     assertions signed with it later.
//   - Play Integrity (Android): tokens of classic requests, encrypted and signed
//     with response keys of the app's owner.
//   - Android key attestation: a certificate chain from the key to Google's roots.
//   - A fake one, in development only, for emulators and tests.
//
// What it guarantees of an accepted piece of evidence:
//
//   - It answers a challenge that this server gave to this installation for this
//     purpose at most five minutes ago, and it names the installation's key.
//   - Every signature was verified up to a pinned root or a configured key, and
//     every field that Apple's and Google's pages ask to check was checked.
//   - Its size, nesting and number of elements were bounded before it was read.
//
// What it leaves to the caller: to use Challenge.ID once, to store the Verdict
// and the AppleKey, to advance a key's counter durably, and to decide by Policy
// whether a level is required or only a signal. Nothing here touches a database
// or the network. Genuine evidence may say something bad: that is a Verdict of a
// low level with Reasons. Evidence that does not verify is an *Error.
//
// An honest limit: attestation raises the price of abuse. It is no proof that a
// person is who they say, and a device that Google certifies may still be farmed.
package attest
