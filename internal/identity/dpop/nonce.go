package dpop

import (
	"crypto/hmac"
	"encoding/binary"
	"fmt"
	"time"
)

// Keys authenticates data with versioned keys; *secret.Ring is one.
type Keys interface {
	MAC(purpose string, data []byte) (version int, mac []byte, err error)
	MACWith(purpose string, version int, data []byte) ([]byte, error)
}

// NonceStep is how often the nonce changes when NewNonces is given no other time.
const NonceStep = 2 * time.Minute

// Nonces makes and recognises server-provided nonces (RFC 9449 §8, §9) without
// storing any: a nonce is the number of a time step and its MAC, the same for
// all clients and nodes. The current step's and the one before are good, so that
// one is accepted for between one and two steps after it was given.
type Nonces struct {
	keys    Keys
	purpose string
	step    int64 // seconds
}

// NewNonces uses the HMAC keys of purpose. step is rounded up to whole seconds; 0 = NonceStep.
func NewNonces(keys Keys, purpose string, step time.Duration) *Nonces {
	if step <= 0 {
		step = NonceStep
	}
	return &Nonces{keys: keys, purpose: purpose, step: int64((step + time.Second - 1) / time.Second)}
}

// nonceSize is a step (8), a key version (4) and half a MAC (16).
const nonceSize = 8 + 4 + 16

// Current is the nonce to give: 38 characters of base64url.
func (n *Nonces) Current(now time.Time) (string, error) {
	step := now.Unix() / n.step
	version, mac, err := n.keys.MAC(n.purpose, stepData(step))
	if err != nil {
		return "", fmt.Errorf("dpop: make a nonce: %w", err)
	}
	if version < 0 || version > 1<<30 || len(mac) < 16 {
		return "", fmt.Errorf("dpop: make a nonce: key version %d or a MAC of %d bytes is out of range", version, len(mac))
	}
	raw := make([]byte, 0, nonceSize)
	raw = binary.BigEndian.AppendUint64(raw, uint64(step))    // #nosec G115 -- only its bits matter
	raw = binary.BigEndian.AppendUint32(raw, uint32(version)) // #nosec G115 -- checked above
	return b64.EncodeToString(append(raw, mac[:16]...)), nil
}

// Check reports whether text is a nonce that was given recently enough, when it
// stops being accepted, and whether it is of the step before, so that the answer
// should give a new one.
func (n *Nonces) Check(text string, now time.Time) (expires time.Time, old, ok bool) {
	raw, err := decode64(text)
	if err != nil || len(raw) != nonceSize {
		return time.Time{}, false, false
	}
	step := int64(binary.BigEndian.Uint64(raw)) // #nosec G115 -- compared below
	current := now.Unix() / n.step
	if step != current && step != current-1 {
		return time.Time{}, false, false
	}
	mac, err := n.keys.MACWith(n.purpose, int(binary.BigEndian.Uint32(raw[8:])), stepData(step))
	if err != nil || len(mac) < 16 || !hmac.Equal(mac[:16], raw[12:]) {
		return time.Time{}, false, false
	}
	return time.Unix((step+2)*n.step, 0), step != current, true
}

func stepData(step int64) []byte {
	return binary.BigEndian.AppendUint64([]byte("dpop-nonce\x00"), uint64(step)) // #nosec G115 -- only its bits matter
}
