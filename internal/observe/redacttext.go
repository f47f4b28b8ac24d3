package observe

import (
	"regexp"
	"strings"
)

// Redact returns s without the tokens and URL passwords that it recognises:
// our refresh tokens (v1.…), operator tokens (llo_…), signing secrets of webhooks (whsec_…), JSON Web Tokens (eyJ…),
// Authorization values, and the password in scheme://user:password@host.
//
// It runs on every text of every log line, also on what clients chose, so it
// looks for a few marks and reads on only there: linear in the length of s.
func Redact(s string) string {
	if len(s) < 8 {
		return s
	}
	s = redactAt(s, "eyJ", jsonWebToken)
	s = redactAt(s, "llo_", operatorToken)
	s = redactAt(s, "whsec_", webhookSecret)
	s = redactAt(s, ".", refreshToken)
	s = redactAt(s, " ", authorization)
	return redactAt(s, "://", urlPassword)
}

// redactAt asks find at every mark in s. find returns the part s[from:to] that
// it read, at or behind the mark, and whether that is a secret; what it read is
// not looked at again. A to of 0 means that there is nothing at this mark.
func redactAt(s, mark string, find func(s string, at int) (from, to int, secret bool)) string {
	var b strings.Builder
	kept := 0 // s[:kept] is in b
	for at := 0; ; {
		i := strings.Index(s[at:], mark)
		if i < 0 {
			break
		}
		from, to, secret := find(s, at+i)
		if secret && from >= kept {
			b.WriteString(s[kept:from])
			b.WriteString(redacted)
			kept = to
		}
		at = max(at+i+len(mark), to)
	}
	if kept == 0 {
		return s
	}
	b.WriteString(s[kept:])
	return b.String()
}

// run returns the end of the run of token characters that starts at i: those of
// base64url and the dot, and those of extra.
func run(s string, i int, extra string) int {
	for i < len(s) && (isWord(s[i]) || s[i] == '-' || s[i] == '.' || strings.IndexByte(extra, s[i]) >= 0) {
		i++
	}
	return i
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

func jsonWebToken(s string, at int) (from, to int, secret bool) {
	to = run(s, at, "")
	return at, to, to-at >= len("eyJ")+6
}

func operatorToken(s string, at int) (from, to int, secret bool) {
	to = run(s, at, "")
	return at, to, to-at >= len("llo_")+8
}

func webhookSecret(s string, at int) (from, to int, secret bool) {
	to = run(s, at, "+/=")
	return at, to, to-at >= len("whsec_")+8
}

var moduleVersion = regexp.MustCompile(`^v[1-9]\.\d+\.\d+([-+][0-9A-Za-z.+-]*)?$`)

// refreshToken is asked at every dot, for there are fewer dots than vs: "v1." and at least 20 more.
func refreshToken(s string, at int) (from, to int, secret bool) {
	from = at - len("v1")
	if from < 0 || s[from] != 'v' || s[from+1] < '1' || s[from+1] > '9' || from > 0 && isWord(s[from-1]) {
		return 0, 0, false
	}
	to = run(s, at, "")
	return from, to, to-at > 20 && !moduleVersion.MatchString(s[from:to])
}

// authorization is asked at every space: is a scheme before it and credentials behind?
func authorization(s string, at int) (from, to int, secret bool) {
	for _, scheme := range []string{"bearer", "basic", "dpop"} {
		start := at - len(scheme)
		if start < 0 || !strings.EqualFold(s[start:at], scheme) || start > 0 && isWord(s[start-1]) {
			continue
		}
		for from = at; from < len(s) && s[from] == ' '; {
			from++
		}
		to = run(s, from, "~+/=")
		return from, to, to-from >= 16
	}
	return 0, 0, false
}

func urlPassword(s string, at int) (from, to int, secret bool) {
	colon := at + len("://")
	for colon < len(s) && strings.IndexByte("/:@\" \t\r\n", s[colon]) < 0 {
		colon++
	}
	if colon == len(s) || s[colon] != ':' {
		return 0, 0, false
	}
	from = colon + 1
	for i := from; i < len(s) && strings.IndexByte("/\" \t\r\n", s[i]) < 0; i++ {
		if s[i] == '@' {
			to = i // the last one: a password may have an @ that nobody escaped
		}
	}
	return from, to, to > from
}
