package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Header names of the specification.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
)

// Tolerance is how far a message's timestamp may be from a receiver's clock.
const Tolerance = 5 * time.Minute

// Bounds of a secret by the specification, and of what Verify reads.
const (
	secretPrefix   = "whsec_" // #nosec G101 -- how secrets begin, no secret
	minSecret      = 24       // bytes
	maxSecret      = 64
	maxHeaderField = 4 << 10
	maxSignatures  = 32 // looked at in one message
)

// ErrSignature says that a message is not genuine, or not of now. It does not
// tell an attacker which; errors.Unwrap gives nothing more.
var ErrSignature = errors.New("webhook: the message does not verify")

// Key is a decoded signing secret. It must not be printed.
type Key []byte

// String hides the key.
func (Key) String() string { return "webhook.Key" }

// Format keeps the key out of every fmt verb.
func (k Key) Format(s fmt.State, _ rune) { io.WriteString(s, k.String()) }

// ParseSecret decodes a secret of the form whsec_ and the base64 of 24 to 64 bytes.
func ParseSecret(text string) (Key, error) {
	rest, ok := strings.CutPrefix(text, secretPrefix)
	if !ok {
		return nil, errors.New("webhook: a signing secret begins with " + secretPrefix)
	}
	key, err := base64.StdEncoding.DecodeString(rest)
	if err != nil {
		return nil, errors.New("webhook: a signing secret is " + secretPrefix + " and base64") // the cause would quote it
	}
	if len(key) < minSecret || len(key) > maxSecret {
		return nil, fmt.Errorf("webhook: a signing secret has %d to %d bytes before base64, this one has %d", minSecret, maxSecret, len(key))
	}
	return key, nil
}

// Sign returns the value of webhook-signature: one signature for each key,
// separated by spaces, so that a receiver that knows any of them can verify.
func Sign(keys []Key, id string, at time.Time, body []byte) string {
	all := make([]string, len(keys))
	for i, k := range keys {
		all[i] = "v1," + base64.StdEncoding.EncodeToString(mac(k, id, strconv.FormatInt(at.Unix(), 10), body))
	}
	return strings.Join(all, " ")
}

func mac(key Key, id, timestamp string, body []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(id))
	h.Write([]byte{'.'})
	h.Write([]byte(timestamp))
	h.Write([]byte{'.'})
	h.Write(body)
	return h.Sum(nil)
}

// Verify is what a receiver does with a message before it believes it: the
// headers must be there once, the timestamp within Tolerance of now, and one
// signature made with one of the keys. It returns the message's id, by which
// repetitions are told. Any other outcome is ErrSignature.
func Verify(keys []Key, h http.Header, body []byte, now time.Time) (id string, err error) {
	id, timestamp, signatures := one(h, HeaderID), one(h, HeaderTimestamp), one(h, HeaderSignature)
	if id == "" || strings.Contains(id, ".") || timestamp == "" || signatures == "" {
		return "", ErrSignature
	}
	sent, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || sent < 0 || sent > 1<<40 || now.Sub(time.Unix(sent, 0)).Abs() > Tolerance || strconv.FormatInt(sent, 10) != timestamp {
		return "", ErrSignature
	}
	wanted := make([][]byte, len(keys))
	for i, k := range keys {
		wanted[i] = mac(k, id, timestamp, body)
	}
	genuine := false
	for i, s := range strings.Fields(signatures) {
		if i == maxSignatures {
			break
		}
		encoded, ok := strings.CutPrefix(s, "v1,")
		if !ok {
			continue // of another scheme, v1a
		}
		got, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if err != nil {
			continue
		}
		for _, want := range wanted {
			if hmac.Equal(got, want) {
				genuine = true // go on: the time must not tell which
			}
		}
	}
	if !genuine {
		return "", ErrSignature
	}
	return id, nil
}

// one returns the value of a field that is there once and not too long, or "".
func one(h http.Header, name string) string {
	if v := h.Values(name); len(v) == 1 && len(v[0]) <= maxHeaderField {
		return v[0]
	}
	return ""
}
