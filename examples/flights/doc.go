// Package flights is the demo's upstream: a small airline service as a team
// might have it before Landline stands in front, with real airports, a
// departures board and a status endpoint that is deliberately flaky.
//
// It keeps trips in memory and counts how often each was really booked, so that
// one can see that a repeated POST was executed once. It trusts the
// Landline-Identity header only after verifying it with Landline's public keys.
package flights
