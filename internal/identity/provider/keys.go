package provider

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxKeys       = 100
	maxKey        = 16 << 10
	maxKeyID      = 255
	maxCandidates = 4 // keys of one set that share an id, tried one after the other
	minRSA        = 2048
	maxRSA        = 8192
)

// algorithms are all that may be configured. None is symmetric: a public key can
// never be taken for a secret (RFC 8725 §2.1).
var algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// keySet is the keys of an issuer that can be used.
type keySet []jose.JSONWebKey

// parseKeys reads a JWK Set (RFC 7517 §5). Keys that cannot verify signatures, of
// types that are not known, symmetric or private are left out; a set without a key
// that can be used is an error.
func parseKeys(body []byte) (keySet, error) {
	var doc keyDocument
	if err := object(body, &doc); err != nil {
		return nil, err
	}
	if len(doc.Keys) > maxKeys {
		return nil, fmt.Errorf("it has %d keys, at most %d are accepted", len(doc.Keys), maxKeys)
	}
	var set keySet
	for _, raw := range doc.Keys {
		if key, ok := parseKey(raw); ok {
			set = append(set, key)
		}
	}
	if len(set) == 0 {
		return nil, fmt.Errorf("none of its %d keys can verify a signature", len(doc.Keys))
	}
	return set, nil
}

func parseKey(raw json.RawMessage) (key jose.JSONWebKey, ok bool) {
	var w keyWire
	if len(raw) > maxKey || json.Unmarshal(raw, &w) != nil {
		return key, false
	}
	switch {
	case w.Private != nil || w.Symmetric != nil || len(w.ID) > maxKeyID:
		return key, false // a private key that was published proves nothing any more
	case w.Use != "" && w.Use != "sig" || w.Operations != nil && !slices.Contains(w.Operations, "verify"):
		return key, false
	case w.Algorithm != "" && !slices.Contains(algorithms, w.Algorithm):
		return key, false
	}
	w.Operations = nil
	clean, err := json.Marshal(w)
	if err != nil || key.UnmarshalJSON(clean) != nil {
		return key, false
	}
	return key, usable(key.Key)
}

func usable(key any) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= minRSA && k.N.BitLen() <= maxRSA && k.E >= 3
	case *ecdsa.PublicKey:
		_, err := k.ECDH() // refuses points that are not on the curve
		return err == nil
	case ed25519.PublicKey:
		return len(k) == ed25519.PublicKeySize
	}
	return false
}

// parseStaticKeys reads keys of the configuration: a JWK Set, one JWK, or PEM
// blocks PUBLIC KEY (RFC 5280 SubjectPublicKeyInfo).
func parseStaticKeys(text string) (keySet, error) {
	if len(text) > maxDocument {
		return nil, fmt.Errorf("more than %d bytes", maxDocument)
	}
	if block, rest := pem.Decode([]byte(text)); block != nil {
		var set keySet
		for ; block != nil; block, rest = pem.Decode(rest) {
			key, err := x509.ParsePKIXPublicKey(block.Bytes)
			if block.Type != "PUBLIC KEY" || err != nil || !usable(key) {
				return nil, fmt.Errorf("a PEM block is not a usable PUBLIC KEY (RSA from 2048 bits, P-256, P-384, P-521, Ed25519)")
			}
			set = append(set, jose.JSONWebKey{Key: key})
		}
		return set, nil
	}
	if set, err := parseKeys([]byte(text)); err == nil {
		return set, nil
	}
	if key, ok := parseKey([]byte(text)); ok {
		return keySet{key}, nil
	}
	return nil, fmt.Errorf("neither a JWK Set nor a JWK nor PEM with a key that can verify signatures")
}

// candidates returns the keys that may have made a signature. A token without a
// key id is taken only from a set in which one key alone fits (OpenID Connect
// Core 1.0 §10.1).
func (s keySet) candidates(kid, alg string) []jose.JSONWebKey {
	var found []jose.JSONWebKey
	for _, key := range s {
		if (kid == "" || key.KeyID == kid) && fits(key, alg) {
			found = append(found, key)
		}
	}
	if kid == "" && len(found) != 1 {
		return nil
	}
	return found[:min(len(found), maxCandidates)]
}

// knows reports whether a key has the id, of whatever algorithm.
func (s keySet) knows(kid string) bool {
	return slices.ContainsFunc(s, func(k jose.JSONWebKey) bool { return k.KeyID == kid })
}

// fits reports whether the key is of the algorithm: by its own word where it has
// one, by its type and curve where not.
func fits(key jose.JSONWebKey, alg string) bool {
	if key.Algorithm != "" && key.Algorithm != alg {
		return false
	}
	switch k := key.Key.(type) {
	case *rsa.PublicKey:
		return alg[:2] == "RS" || alg[:2] == "PS"
	case *ecdsa.PublicKey:
		return alg == map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[k.Curve.Params().BitSize]
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}
