// Package overload keeps a node and the services behind it at work when more
// is asked than can be done: what cannot be answered in time is turned away at
// once, the least important first.
//
// Three tools, each usable without the others:
//   - Guard admits requests to the node: a hard cap on those in flight, a
//     memory guard, and optionally an adaptive limit.
//   - Limiter is an adaptive limit of concurrency: it follows the latency that
//     it is told, down when requests begin to queue, up when they do not.
//   - Bulkhead is a fixed limit with a short, bounded wait.
//
// Importance is a Level. A lower level may use only a share of each limit, so
// that what is left is there for the higher ones: under rising load background
// work is turned away first, then what a person waits for, and what the others
// depend on (signing in, kill switches) last.
//
// Admission never blocks, but for a Bulkhead's wait, and needs no database and
// no network. Every node decides for itself.
package overload
