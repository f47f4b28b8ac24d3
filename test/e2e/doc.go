// Package e2e runs the built binary the way a team would: landline.yaml, real
// listeners, an upstream, and scenarios in readable files (scenarios/*.yaml:
// request → expected answer). Every scenario runs on SQLite, on PostgreSQL, and
// on two nodes that share PostgreSQL and Redis, where each step goes to the
// other node than the step before.
package e2e
