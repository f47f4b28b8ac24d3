package admin

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"time"

	"landline/internal/module"
)

// TokenPrefix is how every operator token begins, so that scanners find leaked ones.
const TokenPrefix = "llo_"

// tokenPurpose names the key that operator tokens are stored under.
const tokenPurpose = "operator-token"

// usedEvery is how coarse last_used_at is: a write per request would be waste.
const usedEvery = 5 * time.Minute

// Operator is a person or program that may use the admin API.
type Operator struct {
	ID         string
	Name       string
	Role       module.Role
	CreatedAt  time.Time
	RotatedAt  time.Time // when the present token was made
	LastUsedAt time.Time // within five minutes; zero = never
	DisabledAt time.Time // zero = may come in
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._@+-]{0,63}$`)

func checkOperator(name string, role module.Role) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("operator name must have 1 to 64 of a-z 0-9 . _ @ + - and begin with a letter or digit")
	}
	if !role.Allows(role) {
		return fmt.Errorf("role must be one of viewer, support, operator, owner")
	}
	return nil
}

// newToken returns a token of 256 random bits.
func newToken() string {
	var b [32]byte
	rand.Read(b[:])
	return TokenPrefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// wellFormed reports whether s can be a token at all; it spares the database the rest.
func wellFormed(s string) bool {
	rest, ok := strings.CutPrefix(s, TokenPrefix)
	if !ok || len(rest) != 43 {
		return false
	}
	_, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	return err == nil
}
