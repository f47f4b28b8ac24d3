package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// proofWindow is how far the time of a proof may be from ours: phones' clocks are wrong.
const proofWindow = 10 * time.Minute

const (
	maxProof     = 4 << 10
	maxPublicKey = 2 << 10
	typeProof    = "dpop+jwt"
)

// PublicKey is an installation's P-256 key.
type PublicKey struct {
	JWK        string // canonical: the required members in lexicographic order
	Thumbprint string // RFC 7638, SHA-256, base64url
}

// newPublicKey refuses points that are not on the curve.
func newPublicKey(key *ecdsa.PublicKey) (PublicKey, error) {
	point, err := key.ECDH()
	if err != nil || key.Curve != elliptic.P256() {
		return PublicKey{}, fmt.Errorf("is not a P-256 key")
	}
	xy := point.Bytes()[1:]
	jwk := `{"crv":"P-256","kty":"EC","x":"` + b64.EncodeToString(xy[:32]) + `","y":"` + b64.EncodeToString(xy[32:]) + `"}`
	sum := sha256.Sum256([]byte(jwk))
	return PublicKey{JWK: jwk, Thumbprint: b64.EncodeToString(sum[:])}, nil
}

// parsePublicKey reads a P-256 key from a JWK object (RFC 7517), or from a JSON
// string of base64url of its SubjectPublicKeyInfo (RFC 5280), as iOS and Android export it.
func parsePublicKey(raw []byte) (PublicKey, error) {
	if len(raw) > maxPublicKey {
		return PublicKey{}, fmt.Errorf("has %d bytes, at most %d are accepted", len(raw), maxPublicKey)
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		der, err := decode64(strings.TrimRight(text, "="))
		if err != nil {
			return PublicKey{}, fmt.Errorf("is not base64url of a SubjectPublicKeyInfo")
		}
		parsed, err := x509.ParsePKIXPublicKey(der)
		if err != nil {
			return PublicKey{}, fmt.Errorf("is not base64url of a SubjectPublicKeyInfo")
		}
		key, ok := parsed.(*ecdsa.PublicKey)
		if !ok {
			return PublicKey{}, fmt.Errorf("is not a P-256 key")
		}
		return newPublicKey(key)
	}
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(raw); err != nil {
		return PublicKey{}, fmt.Errorf("is neither a JWK with kty EC and crv P-256 nor base64url of a SubjectPublicKeyInfo")
	}
	if !jwk.IsPublic() {
		return PublicKey{}, fmt.Errorf("holds a private key: send the public part alone, and replace this key, which has now left the device")
	}
	key, ok := jwk.Key.(*ecdsa.PublicKey)
	if !ok {
		return PublicKey{}, fmt.Errorf("is not a P-256 key")
	}
	return newPublicKey(key)
}

// Proof is a verified proof of possession (RFC 9449 §4) for one request.
type Proof struct {
	Key     PublicKey
	ID      string    // hash of key and jti, for single use
	Expires time.Time // after that it is refused by its time
}

// parseProof verifies everything about a proof but that it is used for the
// first time. Errors say what is wrong in words that may be shown.
func parseProof(text, method, url string, now time.Time) (*Proof, error) {
	if len(text) > maxProof || strings.Count(text, ".") != 2 {
		return nil, fmt.Errorf("it is not a compact JWS of at most %d bytes", maxProof)
	}
	jws, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, fmt.Errorf("it is not a compact JWS signed ES256")
	}
	head := jws.Signatures[0].Protected
	if typ, _ := head.ExtraHeaders[jose.HeaderType].(string); typ != typeProof {
		return nil, fmt.Errorf("its typ is not %s", typeProof)
	}
	if head.JSONWebKey == nil || !head.JSONWebKey.IsPublic() {
		return nil, fmt.Errorf("its header has no public jwk")
	}
	raw, ok := head.JSONWebKey.Key.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("its jwk is not a P-256 key")
	}
	key, err := newPublicKey(raw)
	if err != nil {
		return nil, fmt.Errorf("its jwk is not a P-256 key")
	}
	payload, err := jws.Verify(raw)
	if err != nil {
		return nil, fmt.Errorf("its signature does not verify with its jwk")
	}
	var c proofClaims
	if json.Unmarshal(payload, &c) != nil || c.IssuedAt == nil {
		return nil, fmt.Errorf("it lacks jti, htm, htu or iat")
	}
	switch at := time.Unix(*c.IssuedAt, 0); {
	case len(c.ID) < 8 || len(c.ID) > 255:
		return nil, fmt.Errorf("its jti has %d characters, wanted 8 to 255", len(c.ID))
	case c.Method != method:
		return nil, fmt.Errorf("its htm is not %s", method)
	case c.URL != url:
		return nil, fmt.Errorf("its htu is not %s", url)
	case *c.IssuedAt < 0 || *c.IssuedAt > 1<<40 || now.Sub(at).Abs() > proofWindow:
		return nil, fmt.Errorf("its iat is more than %s from the server's time; correct the device's clock by the Date header", proofWindow)
	default:
		sum := sha256.Sum256([]byte(key.Thumbprint + "\x00" + c.ID))
		return &Proof{Key: key, ID: b64.EncodeToString(sum[:]), Expires: at.Add(proofWindow)}, nil
	}
}

// same compares without telling by time where keys differ.
func (k PublicKey) same(thumbprint string) bool {
	return subtle.ConstantTimeCompare([]byte(k.Thumbprint), []byte(thumbprint)) == 1
}
