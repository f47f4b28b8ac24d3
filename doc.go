// Package landline runs Landline, the mobile app gateway and backend, inside a
// program of your own, with features that are written in Go beside those that
// landline.yaml proxies.
//
// A feature of the program stands behind the same policy as any other: access
// tokens, rate limits, idempotency, timeout, metrics, traces and problems. Apps
// cannot tell the two apart, so a feature can begin here and move to a service
// later.
//
// What it guarantees beyond that: the writes of a Write route, the request's
// Idempotency-Key and its answer are committed in one transaction. A repeated
// request is never executed twice, and never loses its answer, whenever the
// process is killed.
//
// The package has types of its own; nothing below it can be seen. Handlers and
// workers run concurrently. docs/guide/library.md walks through the example,
// which is examples/monolith.
package landline
