package attest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Bounds of what App Attest sends, in bytes.
const (
	MaxAttestation = 32 << 10 // real ones have about 6 KiB
	MaxAssertion   = 2 << 10  // real ones have about 150 bytes
	MaxReceipt     = 16 << 10

	maxAppleChain = 4
	maxAuthData   = 1 << 10
)

// AppleKey is an attested key as it must be stored: its later assertions are
// verified with it. It may be stored as JSON.
type AppleKey struct {
	KeyID       string      `json:"key_id"`     // base64 of SHA-256 of the public key: what the app calls it
	PublicKey   []byte      `json:"public_key"` // uncompressed point, 65 bytes
	Thumbprint  string      `json:"thumbprint"` // RFC 7638
	App         string      `json:"app"`        // TeamID.bundleID
	Environment Environment `json:"environment"`
	Counter     uint32      `json:"counter"` // of the last assertion
	Receipt     []byte      `json:"receipt"` // for Apple's fraud metric; not needed here
}

// apple verifies App Attest, as Apple's pages "Validating apps that connect to
// your server" and "Attestation object validation guide" say.
type apple struct {
	apps         map[[sha256.Size]byte]string // rpIdHash → TeamID.bundleID
	environments map[Environment]bool
	roots        *x509.CertPool
}

var (
	oidAppleNonce = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 8, 2}

	aaguids = map[string]Environment{
		"appattest\x00\x00\x00\x00\x00\x00\x00": Production,
		"appattestdevelop":                      Development,
	}
)

func newApple(c AppleConfig, roots []*x509.Certificate) *apple {
	a := &apple{apps: map[[sha256.Size]byte]string{}, environments: map[Environment]bool{}, roots: x509.NewCertPool()}
	for _, bundle := range c.BundleIDs {
		app := c.TeamID + "." + bundle
		a.apps[sha256.Sum256([]byte(app))] = app
	}
	for _, r := range roots {
		a.roots.AddCert(r)
	}
	a.environments[Production] = c.Environment != AppleDevelopment
	a.environments[Development] = c.Environment == AppleDevelopment || c.Environment == AppleBoth
	return a
}

// cborMode reads what authenticators write: definite lengths, no tags, each key once.
var cborMode = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 8, MaxArrayElements: 16, MaxMapPairs: 16, FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

type attestationObject struct {
	Format    string `cbor:"fmt"`
	Statement struct {
		Chain   [][]byte `cbor:"x5c"`
		Receipt []byte   `cbor:"receipt"`
	} `cbor:"attStmt"`
	AuthData []byte `cbor:"authData"`
}

// attest verifies an attestation object over the client data hash.
func (a *apple) attest(keyID string, object []byte, clientDataHash []byte, now time.Time) (*AppleKey, error) {
	if len(object) > MaxAttestation {
		return nil, bad(AppAttest, "object", "it has %d bytes, at most %d are accepted", len(object), MaxAttestation)
	}
	id, err := base64.StdEncoding.Strict().DecodeString(keyID)
	if err != nil || len(id) != sha256.Size {
		return nil, bad(AppAttest, "key_id", "it is not base64 of 32 bytes, as generateKey gives it")
	}
	var o attestationObject
	if cborMode.Unmarshal(object, &o) != nil {
		return nil, bad(AppAttest, "object", "it is not the CBOR object that attestKey gives")
	}
	if o.Format != "apple-appattest" {
		return nil, bad(AppAttest, "fmt", "it is not apple-appattest")
	}
	if len(o.Statement.Receipt) == 0 || len(o.Statement.Receipt) > MaxReceipt {
		return nil, bad(AppAttest, "receipt", "it has %d bytes, wanted 1 to %d", len(o.Statement.Receipt), MaxReceipt)
	}
	leaf, err := a.chain(o.Statement.Chain, now)
	if err != nil {
		return nil, err
	}
	if err := checkAppleNonce(leaf, o.AuthData, clientDataHash); err != nil {
		return nil, err
	}
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, bad(AppAttest, "x5c", "the key of the first certificate is not a P-256 key")
	}
	point, err := key.Bytes()
	if err != nil {
		return nil, bad(AppAttest, "x5c", "the key of the first certificate is not on its curve")
	}
	if sum := sha256.Sum256(point); subtle.ConstantTimeCompare(sum[:], id) != 1 {
		return nil, bad(AppAttest, "key_id", "it is not the hash of the attested key")
	}
	k := &AppleKey{KeyID: keyID, PublicKey: point, Thumbprint: thumbprint(point), Receipt: o.Statement.Receipt}
	return k, a.credential(k, o.AuthData, id)
}

// chain verifies the certificates up to a pinned root.
func (a *apple) chain(x5c [][]byte, now time.Time) (*x509.Certificate, error) {
	if len(x5c) < 2 || len(x5c) > maxAppleChain {
		return nil, bad(AppAttest, "x5c", "it has %d certificates, wanted 2 to %d", len(x5c), maxAppleChain)
	}
	var leaf *x509.Certificate
	between := x509.NewCertPool()
	for i, der := range x5c {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, bad(AppAttest, "x5c", "certificate %d cannot be read", i+1)
		}
		if i == 0 {
			leaf = c
		} else {
			between.AddCert(c)
		}
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: a.roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return nil, bad(AppAttest, "x5c", "the certificates do not lead to Apple's root, or are not valid now")
	}
	return leaf, nil
}

// checkAppleNonce compares the certificate's nonce with SHA-256 of the authenticator data and the client data hash.
func checkAppleNonce(leaf *x509.Certificate, authData, clientDataHash []byte) error {
	for _, e := range leaf.Extensions {
		if !e.Id.Equal(oidAppleNonce) {
			continue
		}
		var v struct {
			Nonce []byte `asn1:"tag:1,explicit"`
		}
		want := sha256.Sum256(concat(authData, clientDataHash))
		if rest, err := asn1.Unmarshal(e.Value, &v); err != nil || len(rest) != 0 || subtle.ConstantTimeCompare(v.Nonce, want[:]) != 1 {
			return bad(AppAttest, "nonce", "the certificate was not made for this client data")
		}
		return nil
	}
	return bad(AppAttest, "nonce", "the certificate has no nonce")
}

// The flags of authenticator data (WebAuthn §6.1).
const (
	flagAttested   = 0x40
	flagExtensions = 0x80
)

// coseKey is a P-256 key (RFC 9053 §7.1.1).
type coseKey struct {
	Type      int    `cbor:"1,keyasint"`
	Algorithm int    `cbor:"3,keyasint"`
	Curve     int    `cbor:"-1,keyasint"`
	X         []byte `cbor:"-2,keyasint"`
	Y         []byte `cbor:"-3,keyasint"`
}

// credential checks the authenticator data of an attestation: rpIdHash (32),
// flags (1), counter (4), aaguid (16), length of the credential id (2), credential id, COSE key.
func (a *apple) credential(k *AppleKey, d, id []byte) error {
	const fixed = 32 + 1 + 4 + 16 + 2
	if len(d) < fixed+sha256.Size || len(d) > maxAuthData {
		return bad(AppAttest, "auth_data", "it has %d bytes", len(d))
	}
	if err := a.app(k, d); err != nil {
		return err
	}
	if d[32]&flagAttested == 0 {
		return bad(AppAttest, "flags", "the authenticator data has no attested key")
	}
	if binary.BigEndian.Uint32(d[33:]) != 0 {
		return bad(AppAttest, "counter", "it is not 0: the key was used before")
	}
	environment, ok := aaguids[string(d[37:53])]
	if !ok || !a.environments[environment] {
		return bad(AppAttest, "aaguid", "the key is of an environment that is not allowed here")
	}
	k.Environment = environment
	if binary.BigEndian.Uint16(d[53:]) != sha256.Size || subtle.ConstantTimeCompare(d[fixed:fixed+sha256.Size], id) != 1 {
		return bad(AppAttest, "credential_id", "it is not the key id")
	}
	var c coseKey
	rest, err := cborMode.UnmarshalFirst(d[fixed+sha256.Size:], &c)
	if err != nil || len(rest) > 0 && d[32]&flagExtensions == 0 {
		return bad(AppAttest, "credential_key", "it is not one COSE key")
	}
	if c.Type != 2 || c.Algorithm != -7 || c.Curve != 1 || !bytes.Equal(concat([]byte{4}, c.X, c.Y), k.PublicKey) {
		return bad(AppAttest, "credential_key", "it is not the key of the certificate")
	}
	return nil
}

// app recognises the app by the rpIdHash at the front of authenticator data.
func (a *apple) app(k *AppleKey, authData []byte) error {
	app, ok := a.apps[[sha256.Size]byte(authData[:sha256.Size])]
	if !ok || k.App != "" && k.App != app {
		return bad(AppAttest, "rp_id_hash", "it is of another app")
	}
	k.App = app
	return nil
}

type assertionObject struct {
	Signature []byte `cbor:"signature"`
	AuthData  []byte `cbor:"authenticatorData"`
}

// assert verifies an assertion and returns the key with its new counter.
func (a *apple) assert(k AppleKey, object, clientDataHash []byte) (AppleKey, error) {
	if len(object) > MaxAssertion {
		return k, bad(AppAttest, "object", "it has %d bytes, at most %d are accepted", len(object), MaxAssertion)
	}
	var o assertionObject
	if cborMode.Unmarshal(object, &o) != nil {
		return k, bad(AppAttest, "object", "it is not the CBOR object that generateAssertion gives")
	}
	if len(o.AuthData) < 37 || len(o.AuthData) > maxAuthData {
		return k, bad(AppAttest, "auth_data", "it has %d bytes", len(o.AuthData))
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), k.PublicKey)
	if err != nil {
		return k, bad(AppAttest, "key", "the stored key is not on its curve")
	}
	// The device signs the nonce as a message, so that it is hashed once more.
	nonce := sha256.Sum256(concat(o.AuthData, clientDataHash))
	digest := sha256.Sum256(nonce[:])
	if !ecdsa.VerifyASN1(key, digest[:], o.Signature) {
		return k, bad(AppAttest, "signature", "it does not verify with the attested key over this client data")
	}
	if !a.environments[k.Environment] {
		return k, bad(AppAttest, "aaguid", "the key is of an environment that is not allowed here")
	}
	if err := a.app(&k, o.AuthData); err != nil {
		return k, err
	}
	counter := binary.BigEndian.Uint32(o.AuthData[33:])
	if counter <= k.Counter {
		return k, bad(AppAttest, "counter", "it is not above the last one: the assertion was used before, or the key was copied")
	}
	k.Counter = counter
	return k, nil
}

func (k *AppleKey) verdict(now time.Time) Verdict {
	return Verdict{Level: LevelHardware, Kind: AppAttest, Environment: k.Environment, KeyThumbprint: k.Thumbprint, Signals: Signals{App: signal(k.App)}, At: now}
}

// thumbprint is RFC 7638 of an uncompressed P-256 point.
func thumbprint(point []byte) string {
	sum := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + b64.EncodeToString(point[1:33]) + `","y":"` + b64.EncodeToString(point[33:65]) + `"}`))
	return b64.EncodeToString(sum[:])
}

// concat copies, so that no caller's array is written behind its end.
func concat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// validTeamID is ten capital letters and digits.
func validTeamID(s string) bool {
	return len(s) == 10 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}
