// Package emailcode has the rules of one-time codes sent by mail: addresses, the
// codes themselves, and who may ask for one when. It does no I/O and keeps
// nothing: a Challenge, a Pair and a Strangers are values that the caller stores,
// and changes in one transaction with what it does.
//
// What it guarantees:
//   - A code is accepted once, within its lifetime, from the installation that
//     asked for it, before it has been guessed wrong Attempts times; then it dies.
//     What is stored is a keyed hash: the database alone gives away neither codes nor addresses.
//   - What a stranger does changes nothing for an installation on which the
//     address was proved before (a known one): a stranger's request replaces no code but
//     its own, its wrong guesses kill no code but its own, and the limits for
//     strangers do not count for known installations.
//   - All strangers together get at most StrangerSends codes for an address in any
//     24 hours, so StrangerSends × Attempts guesses; at most a quarter of those codes
//     have Digits digits, the others have eight.
//   - Every decision follows from what was asked for and tried before, never from
//     whether there is an account. For an address that gets no mail, a decoy
//     behaves as a code does.
//
// What it does not: it cannot tell the owner on a new device from a stranger, so
// a flood of strangers may keep the owner from new devices for up to a day. It
// does not count by network address or by installation over all addresses; that
// is the rate limiter's work.
package emailcode
