package webhook

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// delays is the pause after the n-th failed attempt, ±20 %; after the last one
// follows no other. Together they span three days.
var delays = []time.Duration{
	5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour,
	2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 12 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// giveUp is how long after the event, or its replay, a delivery that still
// waits is dead: longer than all delays with their jitter and the last attempts.
const giveUp = 90 * time.Hour

// maxRetryAfter bounds how long a receiver may put a delivery off.
const maxRetryAfter = 24 * time.Hour

// maxPause bounds how long an answer 429 or 503 puts the whole endpoint off.
const maxPause = time.Hour

// delay returns the pause after failed attempt n (from 1) of a round, never
// less than the receiver asked for; ok is false when there is no next attempt.
// random is in [0, 1).
func delay(steps []time.Duration, n int, asked time.Duration, random float64) (d time.Duration, ok bool) {
	if n > len(steps) {
		return 0, false
	}
	d = time.Duration(float64(steps[n-1]) * (0.8 + 0.4*random))
	return max(d, min(asked, maxRetryAfter)), true
}

// retryAfter reads Retry-After (RFC 9110 §10.2.3): seconds, or a date. 0 when
// there is none, or one that cannot be read.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter) // #nosec G115 -- 31 bits
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(0, at.Sub(now)), maxRetryAfter)
}
