// Package attesttest makes device evidence for tests, right and wrong: it plays
// the certification authorities, the devices and Google's servers.
//
// Every maker takes functions that change one part before it is signed, so that
// a test can be wrong in one thing at a time.
package attesttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"landline/internal/identity/attest"
)

var b64 = base64.RawURLEncoding

// Keys is an attest.Keys (and a dpop.Keys) without a database. Its key versions are 1 and 2.
type Keys struct{ Current int }

// MAC implements attest.Keys.
func (k Keys) MAC(purpose string, data []byte) (int, []byte, error) {
	version := max(k.Current, 1)
	mac, err := k.MACWith(purpose, version, data)
	return version, mac, err
}

// MACWith implements attest.Keys.
func (k Keys) MACWith(purpose string, version int, data []byte) ([]byte, error) {
	if version != 1 && version != 2 {
		return nil, fmt.Errorf("there is no key %d", version)
	}
	h := hmac.New(sha256.New, binary.BigEndian.AppendUint32([]byte(purpose), uint32(version))) // #nosec G115 -- 1 or 2
	h.Write(data)
	return h.Sum(nil), nil
}

// ClientData is what an app signs over.
func ClientData(challenge, thumbprint string) []byte {
	return encodeJSON(map[string]string{"challenge": challenge, "jkt": thumbprint})
}

// FakeToken is evidence of the kind attest.Fake.
func FakeToken(level attest.Level, clientData []byte, thumbprint string) string {
	return b64.EncodeToString(encodeJSON(map[string]any{
		"level": level, "client_data_hash": b64.EncodeToString(attest.ClientDataHash(clientData)), "jkt": thumbprint,
	}))
}

// CA is a certification authority.
type CA struct {
	Certificate *x509.Certificate
	Key         *ecdsa.PrivateKey
}

// NewCA makes a self-signed authority, or one under parent.
func NewCA(name string, parent *CA, now time.Time) *CA {
	ca := &CA{Key: NewKey()}
	template := &x509.Certificate{
		SerialNumber: must(rand.Int(rand.Reader, big.NewInt(1<<60))), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(10, 0, 0),
	}
	issuer, key := template, ca.Key
	if parent != nil {
		issuer, key = parent.Certificate, parent.Key
	}
	ca.Certificate = parse(sign(template, issuer, &ca.Key.PublicKey, key))
	return ca
}

// Issue signs a certificate.
func (ca *CA) Issue(template *x509.Certificate, key *ecdsa.PublicKey) []byte {
	return sign(template, ca.Certificate, key, ca.Key)
}

// NewKey makes a P-256 key.
func NewKey() *ecdsa.PrivateKey {
	return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
}

// Point is the uncompressed point of a key.
func Point(k *ecdsa.PublicKey) []byte { return must(k.Bytes()) }

// Thumbprint is RFC 7638 of a P-256 key.
func Thumbprint(k *ecdsa.PublicKey) string {
	point := Point(k)
	sum := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + b64.EncodeToString(point[1:33]) + `","y":"` + b64.EncodeToString(point[33:]) + `"}`))
	return b64.EncodeToString(sum[:])
}

func sign(template, issuer *x509.Certificate, key *ecdsa.PublicKey, by *ecdsa.PrivateKey) []byte {
	return must(x509.CreateCertificate(rand.Reader, template, issuer, key, by))
}

func parse(der []byte) *x509.Certificate { return must(x509.ParseCertificate(der)) }

func encodeJSON(v any) []byte { return must(json.Marshal(v)) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// PEM writes a certificate.
func PEM(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}
