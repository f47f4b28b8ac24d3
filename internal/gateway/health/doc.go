// Package health knows which targets of an upstream should be asked.
//
// Two sources tell: active probes (a request to a health path, at an interval)
// and passive observation (the outcomes of real requests: a target that fails
// is ejected for a while). A target that comes back gets its share of the
// requests step by step (slow start).
//
// What it guarantees:
//   - Nothing is known of a new target: it counts as healthy until a source
//     says otherwise. One probe or one failure never decides, unless so
//     configured: a target that flaps between good and bad probes stays as it is.
//   - Passive ejection never takes more than the configured share of the
//     targets, and never the last one.
//   - Share is safe for concurrent use, does not block on probes and does not
//     allocate.
//
// What it does not: it says nothing when no target is left. The caller decides
// whether to ask targets that are down; a health check may be what is broken.
// Every node sees for itself.
package health
