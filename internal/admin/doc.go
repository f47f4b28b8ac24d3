// Package admin is the admin listener: the API that operators, the command line
// and the console use, with metrics, health and profiles beside it.
//
// It guarantees:
//   - Every request needs an operator's token, except /metrics, /healthz and
//     /readyz, and in development /debug/pprof, from a loopback address with no
//     proxy in front.
//   - An operation without a stated role is for owners only.
//   - A change is made and audited in one transaction, or not at all. The one
//     exception is the reload of the configuration, which is no row: its entry
//     is written before, its outcome after.
//   - The last owner cannot be removed or demoted, also not by two at once.
//   - Tokens are 256 random bits; only a keyed MAC is stored, and a token is
//     shown once. An address that keeps presenting bad tokens is turned away.
//   - A browser is no way in: there is no CORS, no cookie, requests from pages of
//     other origins are refused, and so is a Host that is neither an address, nor
//     localhost, nor configured (DNS rebinding).
//
// It does not speak TLS; put it behind a tunnel or a proxy that does when it has
// to be reached from elsewhere. A token is a bearer token: whoever holds it is
// the operator.
package admin
