// Package quota counts requests against allowances per calendar day or month.
//
// What it guarantees, over all nodes on one database and over restarts:
//   - No more requests are admitted in a period than the limit says. A node takes
//     units in blocks from the database and durably before it uses them, so that
//     neither a crash nor a parallel node can spend one twice.
//   - A request that one of several quotas refuses is charged to none.
//   - Most decisions touch no database: a block is a sixteenth of what is left,
//     1 to 1000 units.
//   - Units that a node does not use are given back when their key has been idle
//     for a while, and when the node stops.
//   - While the database does not answer, a node goes on counting from what it
//     knew, and settles what it admitted once the database is back: a quota is an
//     agreement with callers, and an outage of ours does not break it for them.
//     Only then may nodes together admit more than the limit.
//
// What it does not: a node that is killed takes its blocks with it, at most a
// sixteenth of what was left of a quota each time. Remaining may lag behind what
// other nodes have taken since.
package quota
