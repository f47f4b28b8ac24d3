package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

const redacted = "[redacted]"

// secretWords are looked for in member names with case and separators removed.
var secretWords = []string{
	"password", "passwd", "passphrase", "secret", "token", "authorization", "cookie", "credential",
	"privatekey", "apikey", "masterkey", "signingkey", "assertion", "otp", "onetimecode", "verifier", "mac",
}

// harmlessEnds are what names about a secret, rather than holding one, end in.
var harmlessEnds = []string{"id", "ids", "type", "count", "at", "in", "ttl", "version", "alg", "lifetime", "idle", "absolute"}

// document renders v as JSON with secrets replaced and the size bounded; nil for nil.
func document(v any) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	if string(raw) == "null" {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	out, err := json.Marshal(redact(tree)) // sorts members: the same thing gives the same bytes
	if err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	if len(out) > MaxDocument {
		sum := sha256.Sum256(out)
		return json.Marshal(struct {
			Truncated bool   `json:"truncated"`
			Bytes     int    `json:"bytes"`
			SHA256    string `json:"sha256"`
		}{true, len(out), hex.EncodeToString(sum[:])})
	}
	return out, nil
}

func redact(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			if holdsSecret(name) && !empty(member) {
				v[name] = redacted
			} else {
				v[name] = redact(member)
			}
		}
	case []any:
		for i := range v {
			v[i] = redact(v[i])
		}
	}
	return v
}

// empty reports whether v can hold no secret: telling that one was absent, or
// that a switch was on, is what an audit is read for.
func empty(v any) bool {
	switch v := v.(type) {
	case nil, bool:
		return true
	case string:
		return v == ""
	}
	return false
}

// lastWord is the last word of a name in snake_case, kebab-case or camelCase, in lower case.
func lastWord(name string) string {
	if i := strings.LastIndexAny(name, "_-. "); i >= 0 {
		name = name[i+1:]
	}
	upper := func(b byte) bool { return b >= 'A' && b <= 'Z' }
	for i := len(name) - 1; i > 0; i-- {
		if upper(name[i]) && !upper(name[i-1]) { // ID and TTL are one word
			name = name[i:]
			break
		}
	}
	return strings.ToLower(name)
}

func holdsSecret(name string) bool {
	n := strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return -1
	}, name)
	if last := lastWord(name); len(last) < len(name) && slices.Contains(harmlessEnds, last) && !exact(n) {
		return false
	}
	for _, w := range secretWords {
		if w == "mac" || w == "otp" { // too short to be looked for inside words
			if n == w || strings.HasSuffix(strings.ToLower(name), "_"+w) {
				return true
			}
			continue
		}
		if strings.Contains(n, w) {
			return true
		}
	}
	return false
}

// exact reports whether n ends in a secret word as a whole, which then wins over a harmless end.
func exact(n string) bool {
	for _, w := range secretWords {
		if strings.HasSuffix(n, w) {
			return true
		}
	}
	return false
}

// Redact returns a JSON document with the values under keys that name secrets
// replaced, and null for what is not JSON.
func Redact(doc []byte) []byte {
	out, err := document(json.RawMessage(doc))
	if err != nil || out == nil {
		return []byte("null")
	}
	return out
}
