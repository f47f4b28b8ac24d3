package attest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// Bounds of an Android certificate chain.
const (
	MaxChain       = 8        // certificates
	MaxCertificate = 16 << 10 // bytes of one in DER
)

// android verifies key attestations, as Google's page "Verify hardware-backed
// key pairs with key attestation" says.
type android struct {
	packages     []string
	certificates map[[sha256.Size]byte]bool
	roots        []*x509.Certificate
	revoked      atomic.Pointer[Revocations]
}

func newAndroid(c AndroidKeyConfig, roots []*x509.Certificate, revoked *Revocations) (*android, error) {
	digests, err := parseDigests(c.CertificateDigests)
	if err != nil {
		return nil, fmt.Errorf("attest: android_key.certificate_digests: %w", err)
	}
	a := &android{packages: c.Packages, certificates: digests, roots: roots}
	a.revoked.Store(revoked)
	return a, nil
}

// verify checks a chain, the attested key's certificate first.
func (a *android) verify(chain [][]byte, clientDataHash []byte, now time.Time) (Verdict, error) {
	certificates, err := parseChain(chain)
	if err != nil {
		return Verdict{}, err
	}
	if err := a.checkChain(certificates, now); err != nil {
		return Verdict{}, err
	}
	leaf := certificates[0]
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return Verdict{}, bad(AndroidKey, "key", "the attested key is not a P-256 key")
	}
	point, err := key.Bytes()
	if err != nil {
		return Verdict{}, bad(AndroidKey, "key", "the attested key is not on its curve")
	}
	description, err := describe(certificates)
	if err != nil {
		return Verdict{}, err
	}
	if subtle.ConstantTimeCompare(description.challenge, clientDataHash) != 1 {
		return Verdict{}, bad(AndroidKey, "challenge", "the key was not made for this client data")
	}
	v, err := a.judge(description, now)
	v.KeyThumbprint = thumbprint(point)
	return v, err
}

func parseChain(chain [][]byte) ([]*x509.Certificate, error) {
	if len(chain) < 2 || len(chain) > MaxChain {
		return nil, bad(AndroidKey, "chain", "it has %d certificates, wanted 2 to %d", len(chain), MaxChain)
	}
	out := make([]*x509.Certificate, len(chain))
	for i, der := range chain {
		if len(der) > MaxCertificate {
			return nil, bad(AndroidKey, "chain", "certificate %d has %d bytes, at most %d are accepted", i+1, len(der), MaxCertificate)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, bad(AndroidKey, "chain", "certificate %d cannot be read", i+1)
		}
		out[i] = c
	}
	return out, nil
}

// checkChain verifies each signature up to a pinned root, the time of all but
// the first, whose time the device itself writes, and that none is revoked.
//
// Devices carry older certificates of the same root keys, so that the key is
// compared, and the root's own time does not matter.
func (a *android) checkChain(chain []*x509.Certificate, now time.Time) error {
	revoked := a.revoked.Load()
	for i, c := range chain {
		last := i == len(chain)-1
		if last {
			if !a.isRoot(c) {
				return bad(AndroidKey, "chain", "it does not lead to a root of Google's: the key is not attested by hardware")
			}
		} else if !bytes.Equal(c.RawIssuer, chain[i+1].RawSubject) || c.CheckSignatureFrom(chain[i+1]) != nil {
			return bad(AndroidKey, "chain", "certificate %d is not signed by the next one", i+1)
		}
		if i > 0 && !last && (now.Before(c.NotBefore) || now.After(c.NotAfter)) {
			return bad(AndroidKey, "chain", "certificate %d is not valid now", i+1)
		}
		if revoked.has(c) {
			return bad(AndroidKey, "revocation", "certificate %d is revoked or suspended", i+1)
		}
	}
	return nil
}

// isRoot reports whether c has the key of a pinned root, and signed itself with it.
func (a *android) isRoot(c *x509.Certificate) bool {
	return slices.ContainsFunc(a.roots, func(r *x509.Certificate) bool {
		return bytes.Equal(r.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo) && bytes.Equal(r.RawSubject, c.RawSubject) && c.CheckSignatureFrom(r) == nil
	})
}

// describe reads the extension of the first certificate. One in any other is
// refused: whoever may sign with an attested key could else vouch for a key of their own.
func describe(chain []*x509.Certificate) (*keyDescription, error) {
	var found *keyDescription
	for i, c := range chain {
		for _, e := range c.Extensions {
			if !e.Id.Equal(oidKeyDescription) {
				continue
			}
			if i > 0 {
				return nil, bad(AndroidKey, "chain", "certificate %d is of an attested key, which may not attest others", i+1)
			}
			d, err := parseKeyDescription(e.Value)
			if err != nil {
				return nil, bad(AndroidKey, "key_description", "%s", err)
			}
			found = d
		}
	}
	if found == nil {
		return nil, bad(AndroidKey, "key_description", "the first certificate has none: ask for the key with setAttestationChallenge")
	}
	return found, nil
}

// judge maps what the hardware says to a level. Another app's key is an error.
func (a *android) judge(d *keyDescription, now time.Time) (Verdict, error) {
	v := Verdict{Level: LevelHardware, Kind: AndroidKey, Environment: Production, At: now, Signals: Signals{
		SecurityLevel: securityLevels[min(d.attestation, d.keyMint)], OSVersion: d.osVersion, OSPatch: d.osPatch,
	}}
	switch {
	case d.allApplication:
		return Verdict{}, bad(AndroidKey, "application_id", "the key may be used by every app")
	case d.application == nil:
		return Verdict{}, bad(AndroidKey, "application_id", "the attestation names no app")
	case !d.signs:
		return Verdict{}, bad(AndroidKey, "purpose", "the key may not sign")
	}
	for _, p := range d.application.Packages {
		if slices.Contains(a.packages, string(p.Name)) {
			v.Signals.App, v.Signals.VersionCode = signal(string(p.Name)), p.Version
		}
	}
	if v.Signals.App == "" {
		return Verdict{}, bad(AndroidKey, "application_id", "the key is of another app")
	}
	for _, digest := range d.application.Digests {
		if len(digest) != sha256.Size || !a.certificates[[sha256.Size]byte(digest)] {
			v.lower(LevelNone, CertificateUnknown)
		}
	}
	if len(d.application.Digests) == 0 {
		v.lower(LevelNone, CertificateUnknown)
	}
	if d.attestation == securitySoftware || d.keyMint == securitySoftware {
		v.lower(LevelNone, SoftwareKey)
	}
	if d.origin != originGenerated {
		v.lower(LevelNone, ImportedKey)
	}
	if d.rootOfTrust == nil {
		v.lower(LevelKey, BootUnverified)
		return v, nil
	}
	v.Signals.BootState, v.Signals.Locked = bootStates[d.rootOfTrust.BootState], d.rootOfTrust.Locked
	if d.rootOfTrust.BootState != bootVerified || !d.rootOfTrust.Locked {
		// The key is in hardware; which app asked for it is only the word of the system.
		v.lower(LevelKey, BootUnverified)
	}
	return v, nil
}
