package identity

import "time"

// SessionState says whether a session can be refreshed.
type SessionState string

// The states of a session. Only active sessions can be refreshed, and none becomes active again.
const (
	SessionActive  SessionState = "active"
	SessionRevoked SessionState = "revoked" // ended by somebody or by an alarm; its access tokens are refused
	SessionExpired SessionState = "expired" // ended by time
)

// Session is one user signed in on one installation. It owns one line of
// refresh tokens, which are numbered: Current is the newest one issued and the
// highest number, Previous the last one that was presented. Every number between
// them is an orphan: issued, and replaced by a recovery before anybody used it.
type Session struct {
	ID             string
	UserID         string
	InstallationID string
	ClientID       string
	State          SessionState
	EndReason      Reason // why it is not active; "" while it is
	KeyVersion     int    // of the MAC key that its refresh tokens are made with

	Current      int64
	Previous     int64 // 0 = none yet
	AcceptedFrom int64 // after sign-ins: the numbers from this one to Previous are as good as Previous; 0 = Previous alone
	Recoveries   int   // recoveries in a row, so Current-Previous-1; at most MaxRecoveries
	RotatedAt    time.Time

	CreatedAt     time.Time
	AuthTime      time.Time // when the user last proved who they are
	Methods       string    // RFC 8176 style authentication methods, space separated
	Scope         string    // space separated
	Formerly      string    // users merged into UserID on this installation, space separated, the newest first
	KeyThumbprint string    // RFC 7638 thumbprint of the key that its tokens are bound to (RFC 9449); "" = none
	Via           string    // how an OAuth client got it: ViaCode; "" = the app's own
	Device        Device    // of its installation
	IdleExpiresAt time.Time
	ExpiresAt     time.Time // absolute end
}

// ViaCode is Session.Via of the authorization code grant.
const ViaCode = "authorization_code"

// RefreshExpiresAt is when the session ends if it is not refreshed before.
func (s Session) RefreshExpiresAt() time.Time {
	if s.IdleExpiresAt.Before(s.ExpiresAt) {
		return s.IdleExpiresAt
	}
	return s.ExpiresAt
}

// Reason tells a client why a refresh was refused, and an operator why a session ended.
type Reason string

// The reasons. The first block is sent to clients; the rest are causes of session_revoked.
const (
	ReasonExpiredIdle     Reason = "refresh_token_expired_idle"
	ReasonExpiredAbsolute Reason = "refresh_token_expired_absolute"
	ReasonReused          Reason = "refresh_token_reused"
	ReasonStaleDuplicate  Reason = "stale_duplicate"
	ReasonSessionRevoked  Reason = "session_revoked"
	ReasonAccountDeleted  Reason = "account_deleted"
	ReasonAccountLocked   Reason = "account_locked"
	ReasonUserMerged      Reason = "user_merged"
	ReasonClientMismatch  Reason = "client_mismatch"

	ReasonSignOut      Reason = "sign_out"
	ReasonRevocation   Reason = "revocation_request" // RFC 7009
	ReasonOperator     Reason = "operator"
	ReasonReinstalled  Reason = "reinstalled"
	ReasonReplaced     Reason = "replaced"         // another account signed in on the installation
	ReasonCodeReplayed Reason = "code_replayed"    // an authorization code was used twice
	ReasonUnlinked     Reason = "unlinked"         // the identity it was opened with is gone
	ReasonPassword     Reason = "password_changed" // the password was changed on another session
)

// public is the reason as clients may see it.
func (r Reason) public() Reason {
	switch r {
	case ReasonSignOut, ReasonRevocation, ReasonOperator, ReasonReinstalled, ReasonReplaced, ReasonUnlinked, ReasonCodeReplayed, ReasonPassword, "":
		return ReasonSessionRevoked
	}
	return r
}

// Rule names the row of the refresh state machine that decided.
type Rule string

// The rules, as Decide applies them.
const (
	RuleMalformed      Rule = "R0"  // no token of ours: refused, and nothing is said of why
	RuleEnded          Rule = "R1"  // the session or its user has ended
	RuleExpired        Rule = "R2"  // the session's time is over
	RuleRotate         Rule = "R3"  // the newest token: the next one is issued
	RuleBound          Rule = "R3b" // the token of a session that is bound to a key, with a proof of the key: the same token again
	RuleConcurrent     Rule = "R4"  // the one before it, at once: the same newest token again
	RuleLostResponse   Rule = "R5"  // the one before it, later: its answer was lost; a new branch replaces the unused one
	RuleFastForward    Rule = "R6"  // a token newer than the database: a backup was restored
	RuleStaleDuplicate Rule = "R7"  // an older token, just after a rotation: refused, session kept
	RuleReused         Rule = "R8"  // an older token, later: stolen; the session ends
	RuleClientMismatch Rule = "R9"  // another client's token
	RuleUnavailable    Rule = "R10" // the storage gave no certain answer: retry
)

// RefreshPolicy bounds sessions and the tolerance for repeats.
type RefreshPolicy struct {
	Grace    time.Duration // how long after a rotation a repeat counts as concurrent
	Idle     time.Duration // a session ends when it is not refreshed for this long
	Absolute time.Duration // and this long after it began
}

// MaxRecoveries is how many lost answers in a row are believed.
const MaxRecoveries = 5

// Presented is a refresh token that has been shown to be genuine.
type Presented struct {
	Counter   int64
	ClientID  string // "" when the request names none
	KeyProof  string // thumbprint of the key that the request proves to hold (RFC 9449); "" = none
	Restoring bool   // the instance is in a declared window after a restore
}

// Verdict is what to do with a presented refresh token.
type Verdict struct {
	Rule   Rule
	Reason Reason  // why it is refused; "" when tokens are issued
	After  Session // the session's new row; meaningful when Write
	Write  bool    // After must be stored before the answer is given
	Replay string  // value of the Refresh-Replay header, or ""
}

// Granted reports whether tokens are issued.
func (v Verdict) Granted() bool { return v.Reason == "" }

// Decide applies rules R1 to R9 to the session s of user u. It does no I/O and
// changes nothing: the caller stores Verdict.After on condition that the row
// still is s, or decides again.
func Decide(s Session, u User, p Presented, now time.Time, policy RefreshPolicy) Verdict {
	refuse := func(rule Rule, why Reason) Verdict { return Verdict{Rule: rule, Reason: why, After: s} }
	if p.ClientID != "" && p.ClientID != s.ClientID {
		return refuse(RuleClientMismatch, ReasonClientMismatch)
	}
	if s.KeyThumbprint != "" && p.KeyProof != s.KeyThumbprint {
		return refuse(RuleClientMismatch, ReasonClientMismatch)
	}
	if s.State != SessionActive {
		return refuse(RuleEnded, s.EndReason.public())
	}
	if why := u.refusal(); why != "" {
		return refuse(RuleEnded, why)
	}
	if now.After(s.ExpiresAt) {
		return end(s, RuleExpired, SessionExpired, ReasonExpiredAbsolute)
	}
	if now.After(s.IdleExpiresAt) {
		return end(s, RuleExpired, SessionExpired, ReasonExpiredIdle)
	}
	// A clock that was set back makes the rotation look like the future; that
	// counts as "just now", so that no repeat is punished for it.
	recent := now.Sub(s.RotatedAt) <= policy.Grace
	switch {
	case p.Counter == s.Current && s.KeyThumbprint != "":
		return keep(s, now, policy)
	case p.Counter == s.Current:
		return advance(s, RuleRotate, now, policy)
	case s.acceptedBefore(p.Counter) && recent:
		return Verdict{Rule: RuleConcurrent, After: s, Replay: "concurrent"}
	case s.acceptedBefore(p.Counter) && s.Recoveries < MaxRecoveries:
		return advance(s, RuleLostResponse, now, policy)
	case p.Counter > s.Current && p.Restoring:
		s.Current = p.Counter
		return advance(s, RuleFastForward, now, policy)
	case p.Counter < s.Current && !s.acceptedBefore(p.Counter) && recent:
		return refuse(RuleStaleDuplicate, ReasonStaleDuplicate)
	default:
		return end(s, RuleReused, SessionRevoked, ReasonReused)
	}
}

// acceptedBefore reports whether the number is one that the app may have stored
// last although a newer one was issued.
func (s Session) acceptedBefore(counter int64) bool {
	return counter == s.Previous || s.AcceptedFrom > 0 && counter >= s.AcceptedFrom && counter < s.Previous
}

// takes reports whether the number can be refreshed with, as far as the session's
// line says: it is the newest one, or may be the last whose answer arrived.
func (s Session) takes(counter int64) bool {
	return counter == s.Current || s.acceptedBefore(counter)
}

// maxRenewals bounds how many sign-ins in a row issue a number without one of them being used.
const maxRenewals = 16

// renewed is a session whose user has proven themselves anew: the next number is
// issued, and ends those before it once it is used (ASVS 5.0 7.2.4). It cannot end
// them at once: when the answer is lost the app has what it had before, which may
// be any number that it was not seen to replace. A line that is recovering from
// lost answers stays as it is, because its orphans must stay dead.
func renewed(s Session, now time.Time, policy RefreshPolicy) Session {
	if s.KeyThumbprint != "" || s.Recoveries > 0 {
		return s
	}
	if s.AcceptedFrom == 0 {
		s.AcceptedFrom = max(1, s.Previous)
	}
	if s.Current-s.AcceptedFrom >= maxRenewals {
		return s
	}
	s.Previous = s.Current
	s.Current++
	s.RotatedAt, s.IdleExpiresAt = now, now.Add(policy.Idle)
	return s
}

// touchEvery is how much of the idle time must have passed before a bound
// session's refresh writes it anew: a hundredth.
const touchEvery = 100

// keep is the refresh of a session that is bound to a key: the key is what a
// thief lacks, so the token need not change, and no answer can be lost (RFC 9700
// §4.14.2). Only the idle time moves on, and not with every refresh.
func keep(s Session, now time.Time, policy RefreshPolicy) Verdict {
	v := Verdict{Rule: RuleBound, After: s}
	if until := now.Add(policy.Idle); until.Sub(s.IdleExpiresAt) >= policy.Idle/touchEvery {
		v.After.IdleExpiresAt, v.After.RotatedAt, v.Write = until, now, true
	}
	return v
}

// advance issues the next number. After a lost answer the unused current number
// is left behind as an orphan; otherwise it has been presented and becomes the
// previous one, and every orphan lies below it.
func advance(s Session, rule Rule, now time.Time, policy RefreshPolicy) Verdict {
	v := Verdict{Rule: rule, Write: true}
	if rule == RuleLostResponse {
		s.Recoveries++
		v.Replay = "lost-response"
	} else {
		s.Previous, s.AcceptedFrom, s.Recoveries = s.Current, 0, 0
	}
	s.Current++
	s.RotatedAt = now
	s.IdleExpiresAt = now.Add(policy.Idle)
	v.After = s
	return v
}

func end(s Session, rule Rule, state SessionState, why Reason) Verdict {
	s.State, s.EndReason = state, why
	return Verdict{Rule: rule, Reason: why, After: s, Write: true}
}
