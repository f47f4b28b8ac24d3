package provider

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"time"
)

// appleSecretLifetime is short, because one is made for every call. Apple takes up
// to six months.
const appleSecretLifetime = 10 * time.Minute

// parseAppleKey reads the .p8 file that Apple gives: PKCS #8 of a P-256 key in PEM.
func parseAppleKey(text string) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("is not PEM with a PRIVATE KEY")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("is not a PKCS #8 key")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("is not a P-256 key")
	}
	return key, nil
}

// appleClientSecret is the JWT, signed ES256 with the team's key, that Apple takes
// for a client secret. Its iat is a minute ago, since Apple refuses one that its
// clock has not reached.
func appleClientSecret(key *ecdsa.PrivateKey, kid, team, clientID, audience string, now time.Time) (string, error) {
	head, err := json.Marshal(map[string]string{"alg": "ES256", "kid": kid})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": team, "sub": clientID, "aud": audience,
		"iat": now.Add(-clockSkew).Unix(), "exp": now.Add(appleSecretLifetime).Unix(),
	})
	if err != nil {
		return "", err
	}
	signed := b64.EncodeToString(head) + "." + b64.EncodeToString(claims)
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return "", fmt.Errorf("sign Apple's client secret: %w", err)
	}
	var sig [64]byte
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return signed + "." + b64.EncodeToString(sig[:]), nil
}
