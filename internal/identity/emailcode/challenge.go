package emailcode

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/big"
	"strings"
	"time"
	"unicode"
)

// Keys make and check the keyed hashes of codes; the version names the key, so
// that it can be changed.
type Keys interface {
	MAC(data []byte) (version int, mac []byte, err error)
	VerifyMAC(version int, data, mac []byte) bool // in constant time
}

// State is what has become of a code.
type State string

// The states. A code that is too old stays Active; see Expired.
const (
	Active State = "active"
	Used   State = "used"
	Dead   State = "dead" // guessed wrong too often
)

// Challenge is a code that was sent, as it is stored: under Slot, so that a new
// one takes the place of the one before.
type Challenge struct {
	ID           string    `json:"id"`
	Purpose      string    `json:"purpose"` // for example "sign_in"; a code for one is none for another
	Address      string    `json:"-"`       // Address.Key. It is not stored: who finds the row by its Slot knows it, and sets it
	Installation string    `json:"installation"`
	Decoy        bool      `json:"decoy,omitempty"` // was never sent and is never accepted
	Digits       int       `json:"digits"`
	KeyVersion   int       `json:"key_version"`
	MAC          []byte    `json:"mac"`
	State        State     `json:"state"`
	Wrong        int       `json:"wrong"`
	Attempts     int       `json:"attempts"` // Wrong at which it dies
	CreatedAt    time.Time `json:"created_at"`
	ExpiresAt    time.Time `json:"expires_at"`
}

// Request asks for a code.
type Request struct {
	Purpose      string
	Address      Address
	Installation string
	Decoy        bool // nothing will be sent: the same in every respect to who asks
}

// Rules make codes and decide who may have one. They hold no state.
type Rules struct{ c Config }

// NewRules returns the rules of c, which must be checked.
func NewRules(c Config) Rules { return Rules{c: c} }

// New makes a code for r, and what to store. Ask CanSend before. strangers are of
// the address: where strangers try, the code is longer.
func (r Rules) New(keys Keys, q Request, strangers Strangers, now time.Time) (Challenge, string, error) {
	c := Challenge{
		ID: rand.Text(), Purpose: q.Purpose, Address: q.Address.Key, Installation: q.Installation, Decoy: q.Decoy,
		Digits: r.digits(strangers, now), State: Active, Attempts: r.c.Attempts,
		CreatedAt: now.UTC(), ExpiresAt: now.Add(r.c.Lifetime.D()).UTC(),
	}
	code, err := newCode(c.Digits)
	if err != nil {
		return Challenge{}, "", err
	}
	if c.KeyVersion, c.MAC, err = keys.MAC(c.message(code)); err != nil {
		return Challenge{}, "", fmt.Errorf("emailcode: %w", err)
	}
	return c, code, nil
}

func newCode(digits int) (string, error) {
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(digits)), nil)
	n, err := rand.Int(rand.Reader, limit)
	if err != nil {
		return "", fmt.Errorf("emailcode: %w", err)
	}
	return fmt.Sprintf("%0*d", digits, n), nil
}

// message is what is hashed: the code for exactly this use.
func (c *Challenge) message(code string) []byte {
	var m []byte
	for _, part := range []string{"emailcode v1", c.ID, c.Purpose, c.Address, c.Installation, code} {
		m = binary.AppendUvarint(m, uint64(len(part)))
		m = append(m, part...)
	}
	return m
}

// Slot names the place of a code: one is active per purpose, address and
// installation. That of one installation never takes the place of another's, or
// strangers could keep the owner from ever having a good one.
func Slot(purpose, address, installation string) string {
	h := sha256.New()
	for _, part := range []string{purpose, address, installation} {
		h.Write(binary.AppendUvarint(nil, uint64(len(part))))
		h.Write([]byte(part))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// Slot is where c is stored.
func (c *Challenge) Slot() string { return Slot(c.Purpose, c.Address, c.Installation) }

// Expired reports whether it is too late for c.
func (c *Challenge) Expired(now time.Time) bool { return !now.Before(c.ExpiresAt) }

// Left is how many wrong guesses c still stands, 0 = none will be accepted. It
// may be told to the installation that c belongs to: decoys count the same.
func (c *Challenge) Left() int {
	if c.State != Active {
		return 0
	}
	return max(c.Attempts-c.Wrong, 0)
}

// Outcome is how a guess ended. To who guessed, all but Accepted are one answer.
type Outcome string

// The outcomes.
const (
	Accepted  Outcome = "accepted"
	Wrong     Outcome = "wrong"     // counts; see Rules.Failed
	Malformed Outcome = "malformed" // no code at all: counts for nothing
	Foreign   Outcome = "foreign"   // from another installation: counts for nothing here
	TooLate   Outcome = "too_late"
	Spent     Outcome = "spent" // used or dead
)

// OK reports whether the guess was right.
func (o Outcome) OK() bool { return o == Accepted }

// Verify tries input, as typed, from installation. The Challenge that it returns
// must be stored before the outcome is acted on, in one transaction that fails
// when c was changed meanwhile.
func (c Challenge) Verify(keys Keys, installation, input string, now time.Time) (Challenge, Outcome) {
	code, ok := cleanCode(input)
	switch {
	case installation != c.Installation || c.Installation == "":
		return c, Foreign
	case !ok || len(code) != c.Digits:
		return c, Malformed
	case c.Left() == 0:
		return c, Spent
	case c.Expired(now):
		return c, TooLate
	}
	if right := keys.VerifyMAC(c.KeyVersion, c.message(code), c.MAC); right && !c.Decoy {
		c.State = Used
		return c, Accepted
	}
	c.Wrong++
	if c.Wrong >= c.Attempts {
		c.State = Dead
	}
	return c, Wrong
}

// zeros are the digits 0 of scripts whose keyboards have their own.
var zeros = []rune{'0', '\u0660', '\u06f0', '\u0966', '\u09e6', '\u0e50', '\uff10'}

// cleanCode takes the digits out of what a person typed or pasted.
func cleanCode(input string) (string, bool) {
	if len(input) > 64 {
		return "", false
	}
	var b strings.Builder
	for _, r := range input {
		if unicode.IsSpace(r) || r == '-' || r == '\u2011' || r == '\u2013' {
			continue
		}
		digit := rune(-1)
		for _, zero := range zeros {
			if r >= zero && r <= zero+9 {
				digit = r - zero
			}
		}
		if digit < 0 {
			return "", false
		}
		b.WriteByte(byte('0' + digit)) // #nosec G115 -- 0 to 9
	}
	return b.String(), b.Len() > 0
}
