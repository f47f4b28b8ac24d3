// Package differential sends the same generated requests through nginx, as a
// plain reverse proxy, and through Landline, as a feature without a policy, to
// the same recording upstream. What the upstream was told and what the client
// got must be the same, but for the differences that accepted_test.go lists,
// each with its reason (docs/reference/gateway/differences.md).
//
// framing_test.go sends what smuggles requests past careless proxies: whatever
// reaches the upstream must be the one request that was meant, or nothing.
//
// Client and upstream are written here on bare TCP: they see and say exact
// bytes, also those that an HTTP library would refuse to write.
package differential
