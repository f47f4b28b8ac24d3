// Package gateway is a request's way through Landline: it finds the route,
// runs the stages of the route's feature in one written order (pipeline.go)
// and ends at a module's handler or at an upstream of the team.
//
// What it guarantees:
//
//   - Every request ends in exactly one answer, and every failure of ours is a
//     problem of the catalogue. An answer that an upstream cuts short aborts the
//     client's connection; it is never passed off as whole.
//
//   - The table of routes is immutable. Apply builds a new one and swaps it in
//     one step: a request lives and ends on the table that it started with, no
//     request fails because of a reload, and the state of breakers and limits
//     of features that did not change is kept.
//
//   - Bodies stream in both directions and are never held whole in memory.
//
//   - What the client says about identity, route or network never reaches an
//     upstream as if the gateway had said it: Landline-* (but Landline-Client),
//     Forwarded and X-Forwarded-* are ours, unless a trusted proxy set the latter.
//
//   - A request reaches a target that works if there is one (stage_try.go,
//     upstream_pick.go), and is sent again only where that cannot execute it
//     twice. Under overload the least important is turned away first
//     (stage_shed.go).
//
// What it does not: nodes do not tell each other about health, breakers,
// ejections or adaptive limits; each sees for itself.
package gateway
