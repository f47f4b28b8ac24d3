package observe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"unicode"
)

const redacted = "[redacted]"

// maxText is the longest text of a log line's value, in bytes; clients choose some of them.
const maxText = 16 << 10

// loggable bounds s and takes out its secrets.
func loggable(s string) string {
	if more := len(s) - maxText; more > 0 {
		return Redact(strings.ToValidUTF8(s[:maxText], "\uFFFD")) + fmt.Sprintf("… (%d bytes more)", more)
	}
	return Redact(s)
}

// redactAttr is the last word on every attribute: groups are the names around it.
func redactAttr(groups []string, a slog.Attr) slog.Attr {
	a.Value = a.Value.Resolve()
	if secretKey(a.Key) || anySecret(groups) {
		switch a.Value.Kind() {
		case slog.KindBool, slog.KindDuration, slog.KindTime: // "token_expires": no secret
		default:
			a.Value = slog.StringValue(redacted)
		}
		return a
	}
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(loggable(a.Value.String()))
	case slog.KindAny:
		a.Value = redactAny(a.Value)
	}
	return a
}

func redactAny(v slog.Value) slog.Value {
	switch x := v.Any().(type) {
	case nil, slog.Level, *slog.Source:
		return v
	case error:
		return slog.StringValue(loggable(x.Error()))
	default:
		b, err := json.Marshal(x)
		if err != nil {
			return slog.StringValue("[not loggable: " + Redact(err.Error()) + "]")
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		var tree any
		if err := d.Decode(&tree); err != nil {
			return slog.StringValue("[not loggable: " + Redact(err.Error()) + "]")
		}
		return slog.AnyValue(redactTree(tree))
	}
}

func redactTree(tree any) any {
	switch t := tree.(type) {
	case string:
		return loggable(t)
	case []any:
		for i := range t {
			t[i] = redactTree(t[i])
		}
	case map[string]any:
		for k, v := range t {
			if _, isBool := v.(bool); secretKey(k) && !isBool {
				t[k] = redacted
			} else {
				t[k] = redactTree(v)
			}
		}
	}
	return tree
}

func anySecret(groups []string) bool {
	for _, g := range groups {
		if secretKey(g) {
			return true
		}
	}
	return false
}

// Words that make a key secret wherever they stand, and those that do so only
// at the end or before another word.
var (
	secretWords = map[string]bool{
		"password": true, "passwd": true, "passphrase": true, "secret": true, "secrets": true, "credential": true,
		"credentials": true, "authorization": true, "cookie": true, "cookies": true, "bearer": true, "jwt": true, "otp": true, "dpop": true,
	}
	secretEnds  = map[string]bool{"token": true, "tokens": true, "proof": true, "dsn": true}
	secretPairs = map[string]bool{"api key": true, "private key": true, "master key": true, "signing key": true, "access key": true, "encryption key": true}
	// "secret_name", "password_set": about a secret, not one.
	harmlessEnds = map[string]bool{
		"id": true, "ids": true, "name": true, "type": true, "kind": true, "count": true, "version": true, "length": true, "status": true, "set": true,
		"ttl": true, "expires": true, "endpoint": true, "alg": true, "method": true, "scheme": true, "source": true, "in": true, "at": true,
	}
)

// secretKey reports whether the name of an attribute says that its value is a secret.
func secretKey(key string) bool {
	if !slices.ContainsFunc(secretParts, func(part string) bool { return containsFold(key, part) }) {
		return false // nearly every key of nearly every line: no allocation
	}
	words := splitWords(key)
	if len(words) == 0 || len(words) > 1 && harmlessEnds[words[len(words)-1]] {
		return false
	}
	for i, w := range words {
		if secretWords[w] || i > 0 && secretPairs[words[i-1]+" "+w] {
			return true
		}
	}
	last := words[len(words)-1]
	return secretEnds[last] || last == "apikey"
}

// secretParts are what the words below have in common: one is in every key that is a secret's.
var secretParts = []string{"pass", "secret", "cred", "auth", "cookie", "bearer", "jwt", "otp", "dpop", "token", "proof", "dsn", "key"}

// containsFold is strings.Contains for a lower-case part and any case of s.
func containsFold(s, part string) bool {
	for i := 0; i+len(part) <= len(s); i++ {
		j := 0
		for j < len(part) && (s[i+j] == part[j] || s[i+j]|0x20 == part[j]) {
			j++
		}
		if j == len(part) {
			return true
		}
	}
	return false
}

// splitWords cuts "refreshToken", "refresh_token" and "Refresh-Token" into lower-case words.
func splitWords(key string) []string {
	var b strings.Builder
	lower := false
	for _, r := range key {
		if unicode.IsUpper(r) && lower {
			b.WriteByte(' ')
		}
		lower = unicode.IsLower(r) || unicode.IsDigit(r)
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			r = ' '
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return strings.Fields(b.String())
}
