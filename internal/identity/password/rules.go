package password

import (
	"context"
	"crypto/sha1" // #nosec G505 -- the format of the lists
	_ "embed"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Weakness says why a password may not be set.
type Weakness string

// The weaknesses.
const (
	TooShort Weakness = "too_short"
	TooLong  Weakness = "too_long"
	NotText  Weakness = "not_text"       // is not UTF-8
	Common   Weakness = "too_common"     // of the list, or a simple row
	Personal Weakness = "too_personal"   // the address, the name of the app
	Breached Weakness = "known_breached" // of the list of breaches
)

// WeakError is a password that may not be set. Its text may be shown.
type WeakError struct {
	Weakness Weakness
	Detail   string
}

func (e *WeakError) Error() string { return "password: it " + e.Detail }

// A List knows the passwords of breaches.
type List interface {
	// Contains reports whether the SHA-1 of a password is listed.
	Contains(ctx context.Context, sum [sha1.Size]byte) (bool, error)
}

// Rules decide which passwords may be set. They are safe for concurrent use.
type Rules struct {
	minLength int
	list      List
}

// NewRules returns the rules of c. list may be nil; see OpenList.
func NewRules(c Config, list List) *Rules { return &Rules{minLength: c.MinLength, list: list} }

// Check returns a *WeakError for a password that may not be set, or the error of
// the list. personal is what the password must not be: the person's address and
// name, the name of the app.
func (r *Rules) Check(ctx context.Context, password string, personal ...string) error {
	prepared, err := prepare(password)
	if err != nil {
		return err
	}
	if n := utf8.RuneCountInString(prepared); n < r.minLength {
		return &WeakError{TooShort, fmt.Sprintf("has %d characters, at least %d are needed", n, r.minLength)}
	}
	folded := strings.ToLower(prepared)
	for _, p := range personal {
		if isPersonal(folded, p) {
			return &WeakError{Personal, "is easily guessed from who you are or from this app"}
		}
	}
	if isCommon(folded) {
		return &WeakError{Common, "is one of the first that are tried"}
	}
	if r.list == nil {
		return nil
	}
	for _, spelling := range []string{password, prepared} { // lists are made of what people typed
		listed, err := r.list.Contains(ctx, sha1.Sum([]byte(spelling))) // #nosec G401 -- the format of the lists
		if err != nil {
			return err
		}
		if listed {
			return &WeakError{Breached, "is known from a breach of another service"}
		}
		if password == prepared {
			break
		}
	}
	return nil
}

// prepare bounds a password and writes it in NFKC, so that every keyboard gives
// the same bytes (NIST SP 800-63B §3.1.1.2).
func prepare(password string) (string, error) {
	switch {
	case len(password) > maxLength:
		return "", &WeakError{TooLong, fmt.Sprintf("has more than %d bytes", maxLength)}
	case !utf8.ValidString(password):
		return "", &WeakError{NotText, "is not UTF-8"}
	}
	prepared := norm.NFKC.String(password)
	if len(prepared) > maxLength {
		return "", &WeakError{TooLong, fmt.Sprintf("has more than %d bytes", maxLength)}
	}
	return prepared, nil
}

//go:embed common.txt
var commonText string

var common = func() map[string]bool {
	words := map[string]bool{}
	for line := range strings.Lines(commonText) {
		words[strings.TrimSpace(line)] = true
	}
	delete(words, "")
	return words
}()

// isCommon refuses the listed words, also with digits and signs around them, and
// rows of keys.
func isCommon(folded string) bool {
	core := strings.TrimFunc(folded, func(r rune) bool { return !unicode.IsLetter(r) })
	return common[folded] || core != "" && common[core] && utf8.RuneCountInString(folded)-utf8.RuneCountInString(core) <= 4 || isRow(folded)
}

// rows are what fingers do.
var rows = []string{"abcdefghijklmnopqrstuvwxyz", "01234567890123456789", "qwertyuiopasdfghjklzxcvbnm", "qwertzuiopasdfghjklyxcvbnm", "azertyuiopqsdfghjklmwxcvbn",
	"1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik,9ol.0p;/", "!@#$%^&*()"}

// isRow reports whether s is a part of a row, or a few characters over and over.
func isRow(s string) bool {
	distinct := map[rune]bool{}
	for _, r := range s {
		distinct[r] = true
	}
	if len(distinct) <= 2 {
		return true
	}
	for size := 1; size <= 4 && size < len(s); size++ {
		if strings.Repeat(s[:size], len(s)/size+1)[:len(s)] == s {
			return true
		}
	}
	for _, row := range rows {
		if strings.Contains(row, s) || strings.Contains(reverse(row), s) {
			return true
		}
	}
	return false
}

func reverse(s string) string {
	b := []byte(s) // rows are ASCII
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}

// isPersonal reports whether the password is p, its parts, or one of them with
// little around it.
func isPersonal(folded, p string) bool {
	p = strings.ToLower(norm.NFKC.String(p))
	local, domain, _ := strings.Cut(p, "@")
	site, _, _ := strings.Cut(domain, ".")
	for _, part := range []string{p, local, domain, site} {
		if utf8.RuneCountInString(part) < 4 {
			continue
		}
		if rest, found := strings.CutPrefix(folded, part); found && utf8.RuneCountInString(rest) <= 4 {
			return true
		}
		if rest, found := strings.CutSuffix(folded, part); found && utf8.RuneCountInString(rest) <= 4 {
			return true
		}
	}
	return false
}
