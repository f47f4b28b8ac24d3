// Command storage cuts the power under the embedded database, fails its I/O and
// fills its disk, and prints what became of what had been acknowledged.
//
//	go run ./test/chaos/storage
//
// It runs the real database layer, identity store, idempotency store, audit log,
// key ring and job queue on a disk that fails (internal/sqldb/faultfs). Every
// line of the table has a target; one that is missed makes the exit code 1. Two
// lines are controls, in which the same test must find losses.
//
// CHAOS_SHORT=1 gives a form for CI. A failing run prints its seed; -seed N -cuts 1
// repeats it as far as the scheduler allows.
package main
