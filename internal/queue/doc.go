// Package queue is Landline's durable background work: jobs that are enqueued
// in the transaction of the change that causes them, and worked at least once.
//
// # What it guarantees
//
//   - A job exists exactly when the transaction that enqueued it committed.
//   - It is worked until it succeeds, is cancelled, or is out of attempts; then
//     it is dead, stays for DeadKept and can be retried by an operator.
//   - While nothing fails, it is worked once: nodes share a lane without
//     working the same job twice. A worker must still tolerate a second run:
//     when a node dies, or the database is away at the end of a job, the job is
//     worked again. Sign an effect outside the database with Job.ID.
//   - A node picks up what it enqueued itself right after the commit, other
//     nodes' jobs by notification (PostgreSQL) or within the poll interval.
//   - On SQLite, which one process owns, jobs cut off by a crash start again
//     with the process; on PostgreSQL another node takes them over after
//     Options.RescueAfter. The cut-off attempt counts, so that a job that
//     kills its process cannot do so for ever.
//
// # What it does not
//
// It keeps no order between jobs; it does not limit how much is enqueued; jobs
// due at the same time in one lane go by priority, then by age.
//
// # Retries
//
// Attempt n (from 1) that fails is repeated after 1 s · 3^(n-1), at most 6 h,
// ±20 %: 1 s, 3 s, 9 s, 27 s, 81 s, 4 min, 12 min, 36 min, 1.8 h, 5.5 h, 6 h.
// The default of 12 attempts so spans about 14 hours. RetryAfter overrides it.
//
// # How it is built
//
// River (riverqueue.com) v0.31 keeps the rows and hands them out. Three things
// are ours, because v0.31 does them late or unreliably: waking workers after a
// commit (wake.go), periodic jobs, which are a row per period and need no
// leader (periodic.go), and taking up the jobs of a crashed single node. A
// fetch that fails is repeated at the next poll; River's leader, re-elected
// within 15 s, moves due jobs, rescues and deletes. On SQLite River changes
// rows one by one; test/load/queue prints what that costs.
package queue
