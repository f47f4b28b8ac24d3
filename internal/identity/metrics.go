package identity

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landline/internal/observe"
)

// metrics are the package's counters. Those of the hot path are resolved once.
type metrics struct {
	registrations *prometheus.CounterVec
	refreshes     *prometheus.CounterVec
	endings       *prometheus.CounterVec
	polls         *prometheus.CounterVec
	signIns       *prometheus.CounterVec
	merges        *prometheus.CounterVec
	devices       *prometheus.CounterVec
	codes         *prometheus.CounterVec
	propagation   prometheus.Observer

	cached, verified, invalid, expired, revoked prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	verifications := observe.Counter(reg, "landline_identity_access_token_checks_total",
		"Access tokens presented, by result: cached (verified before), verified, invalid, expired, revoked.", "result")
	return &metrics{
		registrations: observe.Counter(reg, "landline_identity_registrations_total",
			"Calls of POST /v1/installations that were granted, by result: created, attached, cloned (a wrong credential was shown for an id; a new installation was made), reinstalled.", "result"),
		refreshes: observe.Counter(reg, "landline_identity_refreshes_total",
			"Refresh tokens presented, by the rule that decided: R0 not ours, R1 ended, R2 expired, R3 rotated, R3b bound to a key and kept, R4 concurrent repeat, R5 lost answer, R6 restored backup, R7 stale duplicate, R8 reused (theft alarm), R9 wrong client, R10 storage unavailable.", "rule"),
		endings: observe.Counter(reg, "landline_identity_sessions_ended_total",
			"Sessions that ended before their time, by reason.", "reason"),
		signIns: observe.Counter(reg, "landline_identity_sign_ins_total",
			"Sign-ins that were granted, by kind of provider and by move: promote (the anonymous user became an account), merge (it became part of one), switch (it had nothing and stays), add (another account beside), create (a new account beside), again (the same account).", "provider", "move"),
		merges: observe.Counter(reg, "landline_identity_merged_records_total",
			"Records of merged users, by collection and result: moved, conflict (kept as a conflict), deduped (the account had it).", "collection", "result"),
		codes: observe.Counter(reg, "landline_identity_email_codes_total",
			"Codes by e-mail, by event: sent; too_soon, too_many, too_many_wrong, too_many_stranger (not sent); accepted, wrong, malformed, foreign, too_late, spent (tried).", "event"),
		devices: observe.Counter(reg, "landline_identity_device_proofs_total",
			"Device proofs presented, by kind of evidence and result: none, key, app, hardware (the level), refused.", "kind", "result"),
		polls: observe.Counter(reg, "landline_identity_revocation_polls_total",
			"Reads of the revocations of other nodes, by result: ok, error. While they fail, only the bus tells this node of revoked sessions.", "result"),
		propagation: observe.Histogram(reg, "landline_identity_revocation_propagation_seconds",
			"Time from a revocation on another node until this node refuses the session's access tokens, by the nodes' clocks.",
			[]float64{0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 30}).WithLabelValues(),
		cached: verifications.WithLabelValues("cached"), verified: verifications.WithLabelValues("verified"),
		invalid: verifications.WithLabelValues("invalid"), expired: verifications.WithLabelValues("expired"),
		revoked: verifications.WithLabelValues("revoked"),
	}
}

func (m *metrics) gauges(reg prometheus.Registerer, denied, tokens func() int, polled func() time.Duration) {
	observe.GaugeFunc(reg, "landline_identity_denied_sessions", "Revoked sessions whose access tokens have not all expired.",
		func() float64 { return float64(denied()) })
	observe.GaugeFunc(reg, "landline_identity_verified_tokens", "Verified access tokens that this node remembers.",
		func() float64 { return float64(tokens()) })
	observe.GaugeFunc(reg, "landline_identity_revocation_age_seconds", "Time since this node last read the revocations of other nodes; more than a second means that revocations may reach it late.",
		func() float64 { return polled().Seconds() })
}
