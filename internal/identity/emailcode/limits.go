package emailcode

import (
	"slices"
	"time"
)

const (
	day       = 24 * time.Hour
	hour      = time.Hour
	maxResend = 15 * time.Minute
	manyHeld  = 512 // entries of a history at most, whatever the configuration says
)

// Pair is the history of one address on one installation, as it is stored.
type Pair struct {
	Sends []int64 `json:"sends,omitempty"` // instants of the last 24 hours, in Unix milliseconds
	Wrong []int64 `json:"wrong,omitempty"`
}

// Strangers is the history of one address on all installations that were not
// known when they asked, together, as it is stored.
type Strangers struct {
	Sends []int64 `json:"sends,omitempty"`
	Wrong []int64 `json:"wrong,omitempty"`
}

// Reason says why no code is sent.
type Reason string

// The reasons. They are for logs and metrics; to who asks, all are one answer
// with the wait.
const (
	Sendable        Reason = ""
	TooSoon         Reason = "too_soon"          // the pause between two codes
	TooMany         Reason = "too_many"          // codes on this installation
	TooManyWrong    Reason = "too_many_wrong"    // guesses on this installation
	TooManyStranger Reason = "too_many_stranger" // codes on unknown installations
)

// Decision is whether a code may be sent now.
type Decision struct {
	Reason Reason
	Wait   time.Duration // until the answer may be another; 0 with Sendable
}

// OK reports whether a code may be sent.
func (d Decision) OK() bool { return d.Reason == Sendable }

// CanSend decides. known says that the address was proved on this installation
// before; then strangers is not looked at.
func (r Rules) CanSend(known bool, pair Pair, strangers Strangers, now time.Time) Decision {
	worst := Decision{}
	consider := func(reason Reason, wait time.Duration) {
		if wait > worst.Wait {
			worst = Decision{Reason: reason, Wait: wait}
		}
	}
	consider(TooSoon, r.pause(pair, now))
	consider(TooMany, full(pair.Sends, r.c.Sends, now))
	consider(TooManyWrong, full(pair.Wrong, r.c.Wrong, now))
	if !known {
		consider(TooManyStranger, full(strangers.Sends, r.c.StrangerSends, now))
	}
	return worst
}

// pause is how long the next code must still wait for the last: resend, doubled
// for each code of the last hour beyond the first.
func (r Rules) pause(pair Pair, now time.Time) time.Duration {
	recent := within(pair.Sends, hour, now)
	if len(recent) == 0 {
		return 0
	}
	pause := r.c.Resend.D()
	for range len(recent) - 1 {
		pause = min(2*pause, max(maxResend, r.c.Resend.D()))
	}
	return max(pause-age(recent[len(recent)-1], now), 0)
}

// Sent is called when CanSend allowed a code and it is stored and sent, or is a decoy.
func (r Rules) Sent(known bool, pair Pair, strangers Strangers, now time.Time) (Pair, Strangers) {
	pair.Sends = add(pair.Sends, now)
	if !known {
		strangers.Sends = add(strangers.Sends, now)
	}
	return pair, strangers
}

// Failed is called for each Outcome Wrong.
func (r Rules) Failed(known bool, pair Pair, strangers Strangers, now time.Time) (Pair, Strangers) {
	pair.Wrong = add(pair.Wrong, now)
	if !known {
		strangers.Wrong = add(strangers.Wrong, now)
	}
	return pair, strangers
}

// Succeeded is called for Accepted: the installation is known from now on, and
// begins anew. What strangers did stays counted.
func (r Rules) Succeeded(Pair) Pair { return Pair{} }

// digits are more where strangers try: when they had a quarter of their codes, or
// used up the guesses of two.
func (r Rules) digits(s Strangers, now time.Time) int {
	if len(within(s.Sends, day, now)) >= r.c.StrangerSends/4 || len(within(s.Wrong, day, now)) >= 2*r.c.Attempts {
		return 8
	}
	return r.c.Digits
}

// full is how long it takes until fewer than limit instants are of the last day.
func full(history []int64, limit int, now time.Time) time.Duration {
	recent := within(history, day, now)
	if len(recent) < limit {
		return 0
	}
	return max(day-age(recent[len(recent)-limit], now), 1)
}

// within are the instants of the last span, the oldest first. Instants of the
// next day, from a clock that went back, count as now; later ones, from a clock
// that was wrong, count for nothing, or it would take as long to forget them.
func within(history []int64, span time.Duration, now time.Time) []int64 {
	i, end := 0, len(history)
	for i < end && age(history[i], now) >= span {
		i++
	}
	for end > i && time.UnixMilli(history[end-1]).Sub(now) > day {
		end--
	}
	return history[i:end]
}

func age(ms int64, now time.Time) time.Duration {
	return max(now.Sub(time.UnixMilli(ms)), 0)
}

// add returns a new history with now at its end and without what is too old.
func add(history []int64, now time.Time) []int64 {
	at := now.UnixMilli()
	kept := within(history, day, now)
	if n := len(kept); n > 0 {
		at = max(at, kept[n-1]) // stays sorted when a clock goes back
	}
	kept = kept[max(len(kept)-manyHeld+1, 0):]
	return append(slices.Clone(kept), at)
}
