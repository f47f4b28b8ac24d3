// Package aggregate makes one answer for an app out of several calls to
// services: a backend for frontend as configuration. It knows JSON, templates
// and the order of calls; sending a call is the gateway's.
//
// A Plan is compiled once from a Spec; Compile reports every fault with its
// place: names that are not there, calls that wait for each other, paths and
// templates that cannot be read. A Plan does not change and serves any number
// of requests at once.
//
// What it guarantees:
//   - A call runs as soon as those that it needs have answered; all others run
//     beside each other, at most MaxCalls.
//   - Nothing is silently empty. A call that failed, a stock answer and a
//     member that a service did not send are named in the answer (Missing).
//   - A required call that fails ends the whole: reads that still run are
//     cancelled, writes are left to end, and nothing of the plan runs on when
//     Run returns.
//   - Answers of services are checked to be JSON and then copied as they are:
//     numbers keep their digits, members their order. Of two members with one
//     name the last counts wherever a member is looked for.
//   - A template never makes a path out of a missing value, an object, a list,
//     or a value with control characters; a value stays inside its segment or
//     parameter.
//
// What it does not: there is no transaction over several writes, and none is
// taken back when another fails.
package aggregate
