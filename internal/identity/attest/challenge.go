package attest

import (
	"crypto/hmac"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// ChallengeLife is how long a challenge may be answered.
const ChallengeLife = 5 * time.Minute

const (
	clockSkew     = 60 * time.Second // between nodes, and between Google and us
	challengeSize = 4 + 8 + 16 + 16  // key version, expiry, random, half a MAC
)

var b64 = base64.RawURLEncoding.Strict()

// Keys authenticates data with versioned keys; *secret.Ring is one.
type Keys interface {
	MAC(purpose string, data []byte) (version int, mac []byte, err error)
	MACWith(purpose string, version int, data []byte) ([]byte, error)
}

// Purpose is what a challenge is for, so that an answer cannot serve another.
type Purpose string

// The purposes.
const (
	Attest Purpose = "attest" // evidence that makes a Verdict
	Assert Purpose = "assert" // an App Attest assertion for one request
)

// Challenge is a value that a device must sign over. Nothing is stored when it
// is given; the caller stores ID until Expires when it is answered, and refuses
// the second answer.
type Challenge struct {
	Text    string    // for the device: 59 characters of base64url
	ID      string    // for single use: 22 characters
	Expires time.Time // from then on it is refused
}

// Challenges makes and recognises challenges.
type Challenges struct {
	keys    Keys
	purpose string
}

// NewChallenges uses the HMAC keys of purpose in keys.
func NewChallenges(keys Keys, purpose string) *Challenges {
	return &Challenges{keys: keys, purpose: purpose}
}

// New makes a challenge for subject, the id of an installation, or the
// thumbprint of its key before it has one.
func (c *Challenges) New(purpose Purpose, subject string, now time.Time) (Challenge, error) {
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return Challenge{}, fmt.Errorf("attest: make a challenge: %w", err)
	}
	expires := now.Add(ChallengeLife).Truncate(time.Second)
	data := challengeData(purpose, subject, expires, random[:])
	version, mac, err := c.keys.MAC(c.purpose, data)
	if err != nil {
		return Challenge{}, fmt.Errorf("attest: make a challenge: %w", err)
	}
	if version < 0 || version > 1<<30 || len(mac) < 16 {
		return Challenge{}, fmt.Errorf("attest: make a challenge: key version %d or a MAC of %d bytes is out of range", version, len(mac))
	}
	raw := binary.BigEndian.AppendUint32(make([]byte, 0, challengeSize), uint32(version)) // #nosec G115 -- checked above
	raw = binary.BigEndian.AppendUint64(raw, uint64(expires.Unix()))                      // #nosec G115 -- only its bits matter
	raw = append(append(raw, random[:]...), mac[:16]...)
	return Challenge{Text: b64.EncodeToString(raw), ID: b64.EncodeToString(random[:]), Expires: expires}, nil
}

// Open recognises a challenge that was made for the same purpose and subject and has not expired.
func (c *Challenges) Open(text string, purpose Purpose, subject string, now time.Time) (Challenge, error) {
	raw, err := decode64(text)
	if err != nil || len(raw) != challengeSize {
		return Challenge{}, bad("", "challenge", "it is not one of this server: get one and answer it as it is")
	}
	seconds := int64(binary.BigEndian.Uint64(raw[4:])) // #nosec G115 -- authenticated below
	random, sent := raw[12:28], raw[28:]
	expires := time.Unix(seconds, 0).UTC()
	mac, err := c.keys.MACWith(c.purpose, int(binary.BigEndian.Uint32(raw)), challengeData(purpose, subject, expires, random))
	if err != nil || len(mac) < 16 || !hmac.Equal(mac[:16], sent) {
		return Challenge{}, bad("", "challenge", "it was not given to this installation for this purpose")
	}
	if !now.Before(expires) || expires.Sub(now) > ChallengeLife+clockSkew {
		return Challenge{}, bad("", "challenge", "it is older than %s: get a new one", ChallengeLife)
	}
	return Challenge{Text: text, ID: b64.EncodeToString(random), Expires: expires}, nil
}

// challengeData is unambiguous: every part but the last two has its length in front.
func challengeData(purpose Purpose, subject string, expires time.Time, random []byte) []byte {
	out := make([]byte, 0, 64+len(subject))
	for _, part := range []string{"attest-challenge", string(purpose), subject} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(part))) // #nosec G115 -- short texts
		out = append(out, part...)
	}
	out = binary.BigEndian.AppendUint64(out, uint64(expires.Unix())) // #nosec G115 -- only its bits matter
	return append(out, random...)
}

// decode64 is strict base64url; Go's decoder alone would skip line breaks.
func decode64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, base64.CorruptInputError(0)
	}
	return b64.DecodeString(s)
}
