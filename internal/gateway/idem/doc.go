// Package idem remembers which writes were begun under an idempotency key and
// how they ended, so that a retry is answered instead of executed again
// (draft-ietf-httpapi-idempotency-key-header-07).
//
// A key lives in a scope: the app, the caller, the method and the route. It
// goes through three states: in flight (an attempt holds a lease), done (the
// answer is stored), unknown (the attempt was cut off after it may have taken
// effect). An attempt is Begin, then the execution, then exactly one of Finish,
// Lost and Release.
//
// Where the execution's own writes are in the same database, BeginTx and
// FinishTx do it in one transaction with them.
//
// What it guarantees, over all nodes on one database:
//   - Begin is durable before it returns, so of parallel attempts with one key
//     one is told to execute; Finish is durable before it returns, so an answer
//     that a client has seen is the answer that its retries will see.
//   - An attempt whose key was taken over cannot finish, mark or free it: the
//     lease is fenced by a random holder name and a count of attempts (ErrLost).
//   - A lease that ran out is treated as an unknown outcome. Whether a retry is
//     then refused or executed is the caller's choice (Request.Forward); an
//     attempt that was not taken over may still finish, however late.
//     On an embedded database, which one process serves at a time, the leases of
//     earlier processes count as run out.
//   - Finish, Lost and Release may be repeated with the same lease, which is the
//     way out of sqldb.ErrUncertain.
//
// What it does not: it cannot tell whether an upstream executed a request that
// was cut off. It keeps no key longer than Request.Keep, counted from the first
// attempt. Leases compare the clocks of different nodes: with Forward, clocks
// that are apart by more than the rest of a lease may let two nodes execute.
package idem
