package apikey

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"regexp"
	"strings"
	"time"

	"landline/internal/limit"
	"landline/internal/problem"
)

// TokenPrefix is how every API key begins, so that scanners find leaked ones.
const TokenPrefix = "llk_"

// MaxKeys is how many keys may be live at once: every node holds them all.
const MaxKeys = 10_000

// idPrefix is the type of a key's id.
const idPrefix = "apk"

// Key is one API key, without its secret. It must not be changed.
type Key struct {
	ID         string
	Name       string
	Rate       *limit.Rate // in place of the rate of limits by api_key; nil = theirs
	CreatedAt  time.Time
	ExpiresAt  time.Time // zero = never
	DisabledAt time.Time // zero = live

	pace *limit.Pace // of Rate
}

// Pace is Rate as limits take it; nil = their own.
func (k *Key) Pace() *limit.Pace { return k.pace }

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._@+-]{0,63}$`)

// New is what a key is made of.
type New struct {
	Name      string
	Rate      *limit.Rate
	ExpiresAt time.Time // zero = never
	Reason    string    // for the audit log
}

// check returns the pace of the key's own rate.
func (n *New) check(now time.Time) (*limit.Pace, error) {
	if !nameForm.MatchString(n.Name) {
		return nil, problem.New(problem.InvalidRequest, "name: must have 1 to 64 of a-z 0-9 . _ @ + - and begin with a letter or digit")
	}
	if !n.ExpiresAt.IsZero() && !n.ExpiresAt.After(now) {
		return nil, problem.New(problem.InvalidRequest, "expires_at: must be in the future")
	}
	if n.Rate == nil {
		return nil, nil
	}
	pace, err := limit.NewPace(*n.Rate)
	if err != nil {
		return nil, problem.New(problem.InvalidRequest, "rate_limit: %s", err.Error())
	}
	return pace, nil
}

func newToken() string {
	var b [32]byte
	rand.Read(b[:])
	return TokenPrefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// errUnknown says that a token is no live key's.
var errUnknown = errors.New("the token is no API key's")

// wellFormed reports whether s can be a key at all.
func wellFormed(s string) bool {
	rest, ok := strings.CutPrefix(s, TokenPrefix)
	if !ok || len(rest) != 43 {
		return false
	}
	_, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	return err == nil
}
