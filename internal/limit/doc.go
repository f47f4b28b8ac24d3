// Package limit decides whether a request is within its rate limits.
//
// It is the generic cell rate algorithm (GCRA, ITU-T I.371 annex A; the same
// decisions as a token bucket that refills continuously): a policy of Limit
// requests per Window with a Burst admits, for one key, at most Burst requests
// at once and in any stretch of time t at most Burst + t·Limit/Window.
//
// What it guarantees:
//   - Several policies are decided as one: a request that any of them refuses
//     is charged to none, also under parallel callers.
//   - Decisions for one key are exact under any number of parallel callers, and
//     where the checks are shared (type Shared) under those of any number of nodes.
//   - A wall clock that jumps back neither locks callers out nor refills their
//     allowance: time goes on from where it was. (A jump forward is time passing.)
//     Shared checks go by the clock of the store; if that one jumps back, a key
//     is at worst used up once.
//   - The loss of the store that nodes share turns nobody away and opens no gate:
//     each node goes on alone, from what it knows of the keys. A decision takes
//     the store's time limit at most.
//   - The memory is bounded: at most MaxKeys keys over all policies, about 40
//     bytes each in the worst case (two map entries of 16 bytes at a load of 7/16),
//     so 40 MB. An idle key costs nothing after one to two bursts' time.
//   - A policy that is asked for again with the same identity and parameters is
//     the same policy, with its counts; one that nobody holds any more is freed.
//
// What it does not: where some checks of a request are shared and some are not,
// the latter are held while the nodes' verdict is awaited, so that for that time
// parallel requests may be refused that would have been admitted; never the
// other way round. Without the store, nodes admit up to a burst each. Under more
// distinct keys than MaxKeys the coldest keys are forgotten, which admits them
// anew; Forgotten counts that. Keys are kept as 64-bit hashes under a random
// seed: two callers share an allowance with a probability of MaxKeys/2^64, about
// 6e-14.
package limit
