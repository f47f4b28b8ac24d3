// Package observe is how Landline is watched: structured logs, Prometheus
// metrics, trace context and trace export, health.
//
// It guarantees: no log line shows the value of a key that names a secret, nor
// one of our tokens inside a text; a metric label filled by outsiders stays
// bounded (CapLabel); recording a span never waits, and what is dropped is
// counted; a health check that hangs does not hang the health page.
//
// It does not guarantee that every secret is recognised: redaction is the
// second line of defence, not putting secrets into logs is the first.
package observe
