// Package password hashes and verifies passwords, and decides which may be set.
//
// Passwords are hashed with Argon2id (RFC 9106) and kept as a PHC string, which
// names its own parameters. Which passwords may be set follows NIST SP 800-63B:
// a least length and any characters, no rules of composition, none that is known
// from breaches or too common.
//
// What it guarantees:
//   - Hashing never takes more memory at once than Config.Slots × Config.Memory, nor
//     more processors than Slots × Parallelism; of those who wait, more than
//     Config.Queue are turned away at once and the others after Config.Wait, with
//     ErrBusy. (Memory that was used is given back by the garbage collector, so the
//     process may hold about twice that for a while.)
//   - Verifying a password of nobody (VerifyNone) takes the same work, in the same
//     queue, as that of somebody whose hash has today's parameters.
//   - Hashes are compared in constant time.
//   - No password is in an error or a log.
//
// What it does not: it does not count attempts. A hash with older parameters takes
// the time of those, so after a change of the parameters the time tells, until
// their next sign-in, who has not signed in since. A hash that is being computed
// goes on when its caller gives up.
package password
