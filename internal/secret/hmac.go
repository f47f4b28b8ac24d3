package secret

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"sync"
)

// hmacKey is a key of HMAC-SHA-256 and what is computed from it for every
// message: half of a short message's work.
type hmacKey struct {
	key    []byte
	states sync.Pool // of hash.Hash
}

// newHMACKey derives a key from material for a use of its own.
func newHMACKey(material []byte, use string) (*hmacKey, error) {
	key, err := hkdf.Key(sha256.New, material, nil, use, keySize)
	if err != nil {
		return nil, err
	}
	k := &hmacKey{key: key}
	k.states.New = func() any { return hmac.New(sha256.New, k.key) }
	return k, nil
}

// sum is the MAC of data, of 32 bytes.
func (k *hmacKey) sum(data []byte) []byte {
	h := k.states.Get().(hash.Hash)
	defer k.states.Put(h)
	h.Reset()
	h.Write(data)
	return h.Sum(nil)
}

// Format keeps the key out of every fmt verb.
func (k *hmacKey) Format(s fmt.State, _ rune) { io.WriteString(s, "secret.hmacKey") }
