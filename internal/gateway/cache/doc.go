// Package cache keeps answers of upstreams and decides when they may be given
// again: the rules of a shared HTTP cache (RFC 9111), with stale-while-revalidate
// and stale-if-error (RFC 5861), a store with a budget of bytes in memory, and a
// second one that nodes share through kv.
//
// The rules (directives.go, rules.go, validate.go, vary.go) are pure functions
// of a policy, headers and instants: they do no I/O and read no clock.
//
// What it guarantees:
//   - An entry is found under its path, its partition (Key) and the values of
//     the request fields that its Vary names, compared as text and never by hash:
//     two partitions never meet. In the shared store keys are SHA-256 over
//     length-prefixed parts, and what is read is compared again.
//   - The store never holds more bytes than its budget, headers, keys and
//     bookkeeping included; the least recently used entry goes first.
//   - A purge beats every fill that began before it: what such a fill brings is
//     not stored (Mark, Put).
//   - Losing the shared store costs hits and at most 100 ms once in two seconds;
//     nothing waits for it longer.
//
// What it does not: it stores no partial content, no answers with trailers or
// Set-Cookie, and no answer in part. A purge that reached this node while the
// shared store was down is made good as soon as it answers, unless this node
// ends before; then other nodes' copies live until they expire.
package cache
