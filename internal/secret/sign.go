package secret

import (
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rsa"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// Signer returns the current ES256 key of the purpose and its id, the "kid" of
// what it signs. The key must not be stored, logged or formatted.
func (r *Ring) Signer(purpose string) (kid string, key *ecdsa.PrivateKey, err error) {
	p, err := r.purpose(purpose, ES256)
	if err != nil {
		return "", nil, err
	}
	return p.current.ID, p.current.private, nil
}

// Verifier returns the public key with this id and the purpose it belongs to,
// which the caller must compare. It is false for an unknown or expired key.
func (r *Ring) Verifier(kid string) (key *ecdsa.PublicKey, purpose string, ok bool) {
	k := r.snap.Load().keys[kid]
	if k == nil || k.private == nil || !k.live(r.clk.Now()) {
		return nil, "", false
	}
	return &k.private.PublicKey, k.Purpose, true
}

// SignerRSA is Signer for RS256.
func (r *Ring) SignerRSA(purpose string) (kid string, key *rsa.PrivateKey, err error) {
	p, err := r.purpose(purpose, RS256)
	if err != nil {
		return "", nil, err
	}
	return p.current.ID, p.current.rsa, nil
}

// VerifierRSA is Verifier for RS256 keys; the id of a key of another algorithm is unknown to it.
func (r *Ring) VerifierRSA(kid string) (key *rsa.PublicKey, purpose string, ok bool) {
	k := r.snap.Load().keys[kid]
	if k == nil || k.rsa == nil || !k.live(r.clk.Now()) {
		return nil, "", false
	}
	return &k.rsa.PublicKey, k.Purpose, true
}

// JWKS is the public key set (RFC 7517 §5) of the purposes: current, next, then
// previous keys that still verify. Purposes without signing keys add nothing.
func (r *Ring) JWKS(purposes ...string) jose.JSONWebKeySet {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	s, now := r.snap.Load(), r.clk.Now()
	for _, name := range purposes {
		p := s.purposes[name]
		if p == nil {
			continue
		}
		for _, k := range p.ordered {
			switch {
			case !k.live(now):
			case k.private != nil:
				set.Keys = append(set.Keys, jose.JSONWebKey{Key: &k.private.PublicKey, KeyID: k.ID, Algorithm: string(jose.ES256), Use: "sig"})
			case k.rsa != nil:
				set.Keys = append(set.Keys, jose.JSONWebKey{Key: &k.rsa.PublicKey, KeyID: k.ID, Algorithm: string(jose.RS256), Use: "sig"})
			}
		}
	}
	return set
}

// MAC authenticates data with the purpose's current HMAC key. Store the version
// beside the MAC: MACWith and VerifyMAC need it.
func (r *Ring) MAC(purpose string, data []byte) (version int, mac []byte, err error) {
	p, err := r.purpose(purpose, HMAC)
	if err != nil {
		return 0, nil, err
	}
	return p.current.Version, p.current.mac.sum(data), nil
}

// MACVersion is the version that MAC would return now, for what is to be
// authenticated with MACWith later.
func (r *Ring) MACVersion(purpose string) (int, error) {
	p, err := r.purpose(purpose, HMAC)
	if err != nil {
		return 0, err
	}
	return p.current.Version, nil
}

// MACWith is MAC with the key of an earlier version, to look a stored MAC up.
func (r *Ring) MACWith(purpose string, version int, data []byte) ([]byte, error) {
	p, err := r.purpose(purpose, HMAC)
	if err != nil {
		return nil, err
	}
	k := p.versions[version]
	if k == nil || !k.live(r.clk.Now()) {
		return nil, fmt.Errorf("secret: purpose %q, version %d: %w: it expired, or another node made it and this one must Reload", purpose, version, ErrNoPurpose)
	}
	return k.mac.sum(data), nil
}

// Ahead reports whether version of an HMAC purpose is newer than any known here
// by so little that another node may just have made it: Reload will tell.
func (r *Ring) Ahead(purpose string, version int) bool {
	p, err := r.purpose(purpose, HMAC)
	if err != nil {
		return false
	}
	newest := 0
	for v := range p.versions {
		newest = max(newest, v)
	}
	return version > newest && version <= newest+2
}

// VerifyMAC compares in constant time. It is false for an unknown version.
func (r *Ring) VerifyMAC(purpose string, version int, data, mac []byte) bool {
	want, err := r.MACWith(purpose, version, data)
	return err == nil && hmac.Equal(want, mac)
}

// BlindIndex is a keyed hash of value for equality look-ups of encrypted
// fields. It does not change when the purpose is rotated, and it reveals which
// rows are equal; use a purpose of its own for each kind of value.
func (r *Ring) BlindIndex(purpose string, value []byte) ([]byte, error) {
	p, err := r.purpose(purpose, HMAC)
	if err != nil {
		return nil, err
	}
	return p.first.index.sum(value), nil
}

func (r *Ring) purpose(name string, alg Alg) (*purpose, error) {
	p := r.snap.Load().purposes[name]
	if p == nil || p.current == nil {
		return nil, fmt.Errorf("secret: purpose %q: %w: call Ensure when the module is built", name, ErrNoPurpose)
	}
	if p.alg != alg {
		return nil, fmt.Errorf("secret: purpose %q has %s keys, wanted %s", name, p.alg, alg)
	}
	return p, nil
}
