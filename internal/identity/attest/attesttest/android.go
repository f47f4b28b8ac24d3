package attesttest

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"time"

	"landline/internal/identity/attest"
)

// Android is Google's authority for attested keys, and an app.
type Android struct {
	Root, Intermediate, Device *CA
	Package                    string
	Certificate                [sha256.Size]byte // SHA-256 of the app's certificate
	now                        time.Time
}

// NewAndroid makes an authority whose certificates are valid at now.
func NewAndroid(pkg string, now time.Time) *Android {
	root := NewCA("Test Key Attestation CA1", nil, now)
	intermediate := NewCA("Test CA2", root, now)
	return &Android{Root: root, Intermediate: intermediate, Device: NewCA("Test TEE", intermediate, now), Package: pkg, Certificate: sha256.Sum256([]byte(pkg)), now: now}
}

// Roots are for attest.Options.
func (a *Android) Roots() []*x509.Certificate { return []*x509.Certificate{a.Root.Certificate} }

// Config is what the app's owner writes.
func (a *Android) Config() attest.AndroidKeyConfig {
	return attest.AndroidKeyConfig{Packages: []string{a.Package}, CertificateDigests: []string{b64.EncodeToString(a.Certificate[:])}}
}

// Tagged is an element of an AuthorizationList; the value is marshalled as DER.
type Tagged struct {
	Tag   int
	Value any
}

// RootOfTrust is the element 704.
type RootOfTrust struct {
	BootKey   []byte
	Locked    bool
	BootState asn1.Enumerated
	BootHash  []byte
}

// Package is an app in the element 709.
type Package struct {
	Name    []byte
	Version int64
}

// KeyDescription are the parts of the extension.
type KeyDescription struct {
	Version             int
	Attestation         asn1.Enumerated
	KeyMint             asn1.Enumerated
	Challenge, UniqueID []byte
	Software, Hardware  []Tagged

	// Instead of the above.
	Raw []byte
	// Of the certificate.
	Key        *ecdsa.PrivateKey
	Issuer     *CA
	Extensions []pkix.Extension
	Chain      [][]byte
}

// ApplicationID is the value of the element 709.
func ApplicationID(packages []Package, digests ...[]byte) []byte {
	return must(asn1.Marshal(struct {
		Packages []Package `asn1:"set"`
		Digests  [][]byte  `asn1:"set"`
	}{packages, digests}))
}

// Set is a SET OF INTEGER.
func Set(values ...int) asn1.RawValue {
	return asn1.RawValue{FullBytes: must(asn1.MarshalWithParams(values, "set"))}
}

// Attest makes a key and its chain.
func (a *Android) Attest(clientData []byte, changes ...func(*KeyDescription)) (key *ecdsa.PrivateKey, chain [][]byte) {
	d := &KeyDescription{
		Version: 300, Attestation: 1, KeyMint: 1, Challenge: attest.ClientDataHash(clientData), UniqueID: []byte{}, Key: NewKey(), Issuer: a.Device,
		Software: []Tagged{{709, ApplicationID([]Package{{[]byte(a.Package), 42}}, a.Certificate[:])}},
		Hardware: []Tagged{
			{1, Set(2, 3)}, {2, 3}, {3, 256}, {702, 0}, {704, RootOfTrust{make([]byte, 32), true, 0, make([]byte, 32)}}, {705, 150000}, {706, 202602},
		},
	}
	for _, change := range changes {
		change(d)
	}
	if d.Raw == nil {
		d.Raw = Describe(d)
	}
	if d.Extensions == nil {
		d.Extensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 1, 17}, Value: d.Raw}}
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Android Keystore Key"}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0), ExtraExtensions: d.Extensions, // devices write any time
	}
	if d.Chain == nil {
		d.Chain = [][]byte{d.Issuer.Issue(template, &d.Key.PublicKey), d.Issuer.Certificate.Raw, a.Intermediate.Certificate.Raw, a.Root.Certificate.Raw}
	}
	return d.Key, d.Chain
}

// Describe encodes the extension.
func Describe(d *KeyDescription) []byte {
	return must(asn1.Marshal(struct {
		Version     int
		Attestation asn1.Enumerated
		Mint        int
		KeyMint     asn1.Enumerated
		Challenge   []byte
		UniqueID    []byte
		Software    asn1.RawValue
		Hardware    asn1.RawValue
	}{d.Version, d.Attestation, d.Version, d.KeyMint, d.Challenge, d.UniqueID, list(d.Software), list(d.Hardware)}))
}

// list encodes an AuthorizationList.
func list(items []Tagged) asn1.RawValue {
	out := asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSequence, IsCompound: true, Bytes: []byte{}}
	for _, item := range items {
		inner := must(asn1.Marshal(item.Value))
		out.Bytes = append(out.Bytes, must(asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: item.Tag, IsCompound: true, Bytes: inner}))...)
	}
	return out
}
