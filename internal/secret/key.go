package secret

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"landline/internal/id"
)

// Alg is what a purpose's keys are for.
type Alg string

// The algorithms.
const (
	ES256 Alg = "ES256" // ECDSA on P-256 with SHA-256 (RFC 7518 §3.4), signs
	RS256 Alg = "RS256" // RSASSA-PKCS1-v1_5 with SHA-256 and 2048 bits (RFC 7518 §3.3), signs what others may only be able to verify so
	HMAC  Alg = "HMAC"  // HMAC-SHA-256 (RFC 2104), authenticates and makes blind indexes
)

// rsaBits is the size of an RS256 key: what every client of OpenID Connect takes.
const rsaBits = 2048

// KeyState is where a key stands in its life.
type KeyState string

// The states, in the order a key goes through them.
const (
	Next     KeyState = "next"     // published, not yet used
	Current  KeyState = "current"  // signs
	Previous KeyState = "previous" // verifies until everything it signed has expired
)

// KeyInfo is what may be known of a key; it holds no key material.
type KeyInfo struct {
	ID          string     `json:"id"`
	Purpose     string     `json:"purpose"`
	Alg         Alg        `json:"alg"`
	Version     int        `json:"version"`
	State       KeyState   `json:"state"`
	CreatedAt   time.Time  `json:"created_at"`
	ActivatedAt *time.Time `json:"activated_at,omitempty"`
	RetiredAt   *time.Time `json:"retired_at,omitempty"` // when it became previous
	ExpiresAt   *time.Time `json:"expires_at,omitempty"` // when it stops verifying; unset = never
}

// key is one unwrapped row.
type key struct {
	KeyInfo
	private *ecdsa.PrivateKey // ES256
	rsa     *rsa.PrivateKey   // RS256
	mac     *hmacKey          // HMAC: the MAC key
	index   *hmacKey          // HMAC: the blind index key, derived so that a MAC and an index never coincide
}

// Format keeps a key out of every fmt verb.
func (k *key) Format(s fmt.State, _ rune) { io.WriteString(s, "secret.key("+k.ID+")") }

// LogValue keeps a key out of structured logs.
func (k *key) LogValue() slog.Value { return slog.StringValue("secret.key(" + k.ID + ")") }

// live says whether the key may still verify.
func (k *key) live(now time.Time) bool { return k.ExpiresAt == nil || now.Before(*k.ExpiresAt) }

// generate makes the material of a new key, as it is wrapped.
func generate(alg Alg) ([]byte, error) {
	switch alg {
	case ES256:
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		return private.Bytes()
	case RS256:
		private, err := rsa.GenerateKey(rand.Reader, rsaBits)
		if err != nil {
			return nil, err
		}
		return x509.MarshalPKCS1PrivateKey(private), nil
	case HMAC:
		b := make([]byte, keySize)
		rand.Read(b)
		return b, nil
	}
	return nil, fmt.Errorf("secret: algorithm %q is unknown: use ES256, RS256 or HMAC", alg)
}

// parse fills in the material. Errors do not quote it.
func (k *key) parse(material []byte) error {
	switch k.Alg {
	case ES256:
		private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), material)
		if err != nil {
			return fmt.Errorf("key %s of purpose %q is no P-256 private key", k.ID, k.Purpose)
		}
		k.private = private
		return nil
	case RS256:
		private, err := x509.ParsePKCS1PrivateKey(material)
		if err != nil || private.N.BitLen() < rsaBits {
			return fmt.Errorf("key %s of purpose %q is no RSA private key of %d bits", k.ID, k.Purpose, rsaBits)
		}
		k.rsa = private
		return nil
	case HMAC:
		if len(material) != keySize {
			return fmt.Errorf("key %s of purpose %q has a wrong length", k.ID, k.Purpose)
		}
		var err error
		if k.mac, err = newHMACKey(material, "landline/mac/v1"); err != nil {
			return err
		}
		k.index, err = newHMACKey(material, "landline/blind-index/v1")
		return err
	}
	return fmt.Errorf("key %s of purpose %q has the unknown algorithm %q: it was made by a newer Landline", k.ID, k.Purpose, k.Alg)
}

// aad binds a wrapped key to its row. The state is not in it: it changes.
func (k *KeyInfo) aad() string {
	return joinAAD("landline/key/v1", k.Purpose, strconv.Itoa(k.Version), string(k.Alg), k.ID)
}

// joinAAD is injective: every part is preceded by its length.
func joinAAD(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(strconv.Itoa(len(p)))
		b.WriteByte(':')
		b.WriteString(p)
	}
	return b.String()
}

func newKeyID() string { return id.New(id.Key) }
