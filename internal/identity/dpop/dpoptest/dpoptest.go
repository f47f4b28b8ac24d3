// Package dpoptest makes DPoP proofs, right and wrong ones, for tests.
package dpoptest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"time"

	"github.com/go-jose/go-jose/v4"
)

var b64 = base64.RawURLEncoding

// Key is a client's P-256 key.
type Key struct {
	Private    *ecdsa.PrivateKey
	JWK        map[string]any // public
	Thumbprint string
}

// New makes a key. It panics when there is no randomness.
func New() *Key {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	jwk := jose.JSONWebKey{Key: &private.PublicKey}
	sum, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		panic(err)
	}
	k := &Key{Private: private, Thumbprint: b64.EncodeToString(sum)}
	raw, err := jwk.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(raw, &k.JWK)
	}
	if err != nil {
		panic(err)
	}
	return k
}

// Header is what the header of a right proof says.
func (k *Key) Header() map[string]any {
	return map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": maps.Clone(k.JWK)}
}

// Claims are those of a right proof. token and nonce may be "".
func Claims(method, url, token, nonce string, now time.Time) map[string]any {
	c := map[string]any{"jti": rand.Text(), "htm": method, "htu": url, "iat": now.Unix()}
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		c["ath"] = b64.EncodeToString(sum[:])
	}
	if nonce != "" {
		c["nonce"] = nonce
	}
	return c
}

// Proof is a right proof.
func (k *Key) Proof(method, url, token, nonce string, now time.Time) string {
	return k.Sign(k.Header(), Claims(method, url, token, nonce, now))
}

// Sign signs any header and payload ES256; values of type json.RawMessage are
// taken as they are.
func (k *Key) Sign(header, payload any) string {
	signed := b64.EncodeToString(encode(header)) + "." + b64.EncodeToString(encode(payload))
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, k.Private, digest[:])
	if err != nil {
		panic(err)
	}
	var sig [64]byte
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return signed + "." + b64.EncodeToString(sig[:])
}

func encode(v any) []byte {
	if raw, ok := v.(json.RawMessage); ok {
		return raw
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
