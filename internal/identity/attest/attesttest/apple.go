package attesttest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"math/big"
	"time"

	"github.com/fxamacker/cbor/v2"

	"landline/internal/identity/attest"
)

// Apple is Apple's authority for App Attest.
type Apple struct {
	Root, Intermediate *CA
	now                time.Time
}

// NewApple makes an authority whose certificates are valid at now.
func NewApple(now time.Time) *Apple {
	root := NewCA("Test App Attestation Root CA", nil, now)
	return &Apple{Root: root, Intermediate: NewCA("Test App Attestation CA 1", root, now), now: now}
}

// Roots are for attest.Options.
func (a *Apple) Roots() []*x509.Certificate { return []*x509.Certificate{a.Root.Certificate} }

// Attestation are the parts of an attestation object. Zero parts that are
// computed from others are filled after the changes.
type Attestation struct {
	Key          *ecdsa.PrivateKey
	App          string // TeamID.bundleID
	AAGUID       string
	Counter      uint32
	Flags        byte
	CredentialID []byte
	COSE         any
	Extra        []byte // after the COSE key
	Format       string
	Receipt      []byte
	Nonce        []byte
	Extensions   []pkix.Extension
	Certificate  *x509.Certificate
	Issuer       *CA
	Chain        [][]byte
	AuthData     []byte
}

// The two aaguids.
const (
	ProductionAAGUID  = "appattest\x00\x00\x00\x00\x00\x00\x00"
	DevelopmentAAGUID = "appattestdevelop"
)

// Attest makes a key and its attestation object.
func (a *Apple) Attest(app string, clientData []byte, changes ...func(*Attestation)) (key *ecdsa.PrivateKey, keyID string, object []byte) {
	p := &Attestation{Key: NewKey(), App: app, AAGUID: ProductionAAGUID, Flags: 0x40, Format: "apple-appattest", Receipt: []byte("receipt"), Issuer: a.Intermediate}
	point := Point(&p.Key.PublicKey)
	id := sha256.Sum256(point)
	p.CredentialID = id[:]
	p.COSE = map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]}
	p.Certificate = &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "leaf"}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: a.now.Add(-time.Hour), NotAfter: a.now.Add(72 * time.Hour),
	}
	for _, change := range changes {
		change(p)
	}
	rpID := sha256.Sum256([]byte(p.App))
	if p.AuthData == nil {
		d := binary.BigEndian.AppendUint32(append(rpID[:], p.Flags), p.Counter)
		d = binary.BigEndian.AppendUint16(append(d, p.AAGUID...), uint16(len(p.CredentialID))) // #nosec G115 -- short
		p.AuthData = append(append(append(d, p.CredentialID...), must(cbor.Marshal(p.COSE))...), p.Extra...)
	}
	if p.Nonce == nil {
		nonce := sha256.Sum256(append(append([]byte{}, p.AuthData...), attest.ClientDataHash(clientData)...))
		p.Nonce = nonce[:]
	}
	if p.Extensions == nil {
		p.Extensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 8, 2}, Value: AppleNonce(p.Nonce)}}
	}
	p.Certificate.ExtraExtensions = p.Extensions
	if p.Chain == nil {
		p.Chain = [][]byte{p.Issuer.Issue(p.Certificate, &p.Key.PublicKey), p.Issuer.Certificate.Raw}
	}
	object = must(cbor.Marshal(map[string]any{
		"fmt": p.Format, "attStmt": map[string]any{"x5c": p.Chain, "receipt": p.Receipt}, "authData": p.AuthData,
	}))
	return p.Key, base64.StdEncoding.EncodeToString(id[:]), object
}

// AppleNonce is the value of the nonce's extension.
func AppleNonce(nonce []byte) []byte {
	return must(asn1.Marshal(struct {
		Nonce []byte `asn1:"tag:1,explicit"`
	}{nonce}))
}

// Assertion are the parts of an assertion.
type Assertion struct {
	App       string
	Flags     byte
	AuthData  []byte
	Signature []byte
}

// Assert makes an assertion with a key.
func Assert(key *ecdsa.PrivateKey, app string, counter uint32, clientData []byte, changes ...func(*Assertion)) []byte {
	p := &Assertion{App: app, Flags: 0x40}
	for _, change := range changes {
		change(p)
	}
	if p.AuthData == nil {
		rpID := sha256.Sum256([]byte(p.App))
		p.AuthData = binary.BigEndian.AppendUint32(append(rpID[:], p.Flags), counter)
	}
	if p.Signature == nil {
		nonce := sha256.Sum256(append(append([]byte{}, p.AuthData...), attest.ClientDataHash(clientData)...))
		digest := sha256.Sum256(nonce[:])
		p.Signature = must(ecdsa.SignASN1(rand.Reader, key, digest[:]))
	}
	return must(cbor.Marshal(map[string]any{"signature": p.Signature, "authenticatorData": p.AuthData}))
}
