package cache

import (
	"strings"
	"time"
)

// Absent is the value of a directive that is not there.
const Absent time.Duration = -1

// maxDelta is what a larger number of seconds means (RFC 9111 §1.2.2).
const maxDelta = 1<<31 - 1

// Directives is a Cache-Control field, of a request or of an answer
// (RFC 9111 §5.2, RFC 5861). Durations are Absent where the directive is. The
// qualified forms no-cache="field" and private="field" count as unqualified,
// which is the stricter reading that the RFC leaves open.
type Directives struct {
	NoStore, NoCache                   bool
	Private, Public                    bool
	MustRevalidate, ProxyRevalidate    bool
	MustUnderstand                     bool
	OnlyIfCached                       bool
	MaxAge, SMaxAge                    time.Duration
	StaleWhileRevalidate, StaleIfError time.Duration
	MinFresh                           time.Duration
	MaxStale                           time.Duration // any staleness: maxDelta seconds
}

// ParseDirectives reads the lines of a Cache-Control field. It never fails:
// what is no directive is passed over, a lifetime that is no number is 0, and
// of two values for one directive the stricter counts.
func ParseDirectives(lines []string) Directives {
	d := Directives{MaxAge: Absent, SMaxAge: Absent, StaleWhileRevalidate: Absent, StaleIfError: Absent, MinFresh: Absent, MaxStale: Absent}
	for _, line := range lines {
		for line != "" {
			var name, value string
			var valued bool
			name, value, valued, line = nextDirective(line)
			d.set(name, value, valued)
		}
	}
	return d
}

// nextDirective cuts one directive off: token [ "=" ( token / quoted-string ) ].
func nextDirective(s string) (name, value string, valued bool, rest string) {
	end := strings.IndexAny(s, "=,")
	if end < 0 {
		return strings.TrimSpace(s), "", false, ""
	}
	name, rest = strings.TrimSpace(s[:end]), s[end+1:]
	if s[end] == ',' {
		return name, "", false, rest
	}
	rest = strings.TrimLeft(rest, " \t")
	if strings.HasPrefix(rest, `"`) {
		value, rest = quoted(rest[1:])
		if comma := strings.IndexByte(rest, ','); comma >= 0 {
			return name, value, true, rest[comma+1:]
		}
		return name, value, true, ""
	}
	value, rest, _ = strings.Cut(rest, ",")
	return name, strings.TrimSpace(value), true, rest
}

// quoted reads a quoted-string whose opening quote is gone. One that does not
// end takes the rest of the line.
func quoted(s string) (value, rest string) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:]
		case '\\':
			if i++; i < len(s) {
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}

func (d *Directives) set(name, value string, valued bool) {
	switch strings.ToLower(name) {
	case "no-store":
		d.NoStore = true
	case "no-cache":
		d.NoCache = true
	case "private":
		d.Private = true
	case "public":
		d.Public = true
	case "must-revalidate":
		d.MustRevalidate = true
	case "proxy-revalidate":
		d.ProxyRevalidate = true
	case "must-understand":
		d.MustUnderstand = true
	case "only-if-cached":
		d.OnlyIfCached = true
	case "max-age":
		smaller(&d.MaxAge, seconds(value))
	case "s-maxage":
		smaller(&d.SMaxAge, seconds(value))
	case "stale-while-revalidate":
		smaller(&d.StaleWhileRevalidate, seconds(value))
	case "stale-if-error":
		smaller(&d.StaleIfError, seconds(value))
	case "min-fresh":
		d.MinFresh = max(d.MinFresh, seconds(value))
	case "max-stale":
		if !valued {
			value = "2147483647"
		}
		smaller(&d.MaxStale, seconds(value))
	}
}

func smaller(have *time.Duration, v time.Duration) {
	if *have == Absent || v < *have {
		*have = v
	}
}

// seconds reads delta-seconds; what is none is 0, which is stale already.
func seconds(s string) time.Duration {
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0
		}
		if n = n*10 + int(c-'0'); n > maxDelta {
			n = maxDelta
		}
	}
	return time.Duration(n) * time.Second
}
