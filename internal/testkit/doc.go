// Package testkit gives tests real engines: a fresh SQLite file, a fresh
// PostgreSQL database with a linguistic collation, a Redis of their own prefix.
//
// It guarantees that a test never passes because an engine was missing: without
// TEST_POSTGRES_URL or TEST_REDIS_URL the test fails and says how to get them.
// It does not isolate processes: tests share the servers, not the databases.
package testkit
