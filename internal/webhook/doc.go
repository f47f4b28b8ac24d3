// Package webhook tells the team's own services what happened: signed events,
// delivered over HTTP through the durable queue.
//
// # What it guarantees
//
//   - An event exists exactly when the transaction that emitted it committed
//     (an outbox), and is delivered at least once to every endpoint that
//     subscribes to its type, or ends as dead and can be replayed.
//   - A delivery is a POST by the Standard Webhooks specification 1.0.0
//     (https://www.standardwebhooks.com): webhook-id is the event's id and the
//     same on every attempt, so that receivers tell repetitions; every
//     attempt is signed anew, with all secrets of the endpoint.
//   - Events of one subject reach an endpoint one after the other, in the order
//     of their commits: the next one waits until the one before it is delivered
//     or dead. Each carries a sequence number that grows with every event of the
//     subject, for receivers that see a replay. An endpoint with order: none
//     trades this for speed.
//   - A failed attempt is repeated for about three days (see delays), never
//     sooner than Retry-After asks. 410 disables the endpoint until an operator
//     enables it; what is emitted meanwhile waits.
//   - An endpoint that is down costs one attempt now and then (see gate), and at
//     most its own share of workers: others' deliveries do not wait for it.
//   - No connection is made to an address that is not public unless the
//     endpoint's allow_private names it; redirects are failures.
//
// # What it does not
//
// It keeps no order between subjects. It does not know whether a receiver did
// anything with what it answered 2xx to. Events are thin: who emits one puts
// ids into it and no personal data, because it leaves the house and is kept for
// Settings.Keep.
//
// # How it works
//
// webhook_delivery has a row for every event and endpoint. Jobs of the queue
// only say that an endpoint may have something due; a worker then claims rows
// by a lease, sends, and records the outcome, with the next job in the same
// transaction. A node that dies leaves a lease that ends, and a sweep every
// minute finds whatever was missed, so that correctness never rests on memory.
package webhook
