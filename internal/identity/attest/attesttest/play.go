package attesttest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"landline/internal/config"
	"landline/internal/identity/attest"
)

// Play is Google's server for integrity tokens of one app.
type Play struct {
	Package     string
	Certificate [sha256.Size]byte // SHA-256 of the app's certificate
	Decryption  []byte
	Signing     *ecdsa.PrivateKey
}

// NewPlay makes the keys.
func NewPlay(pkg string) *Play {
	p := &Play{Package: pkg, Certificate: sha256.Sum256([]byte(pkg)), Decryption: make([]byte, 32), Signing: NewKey()}
	if _, err := rand.Read(p.Decryption); err != nil {
		panic(err)
	}
	return p
}

// Config is what the app's owner writes.
func (p *Play) Config() attest.PlayConfig {
	der := must(x509.MarshalPKIXPublicKey(&p.Signing.PublicKey))
	return attest.PlayConfig{
		Package: p.Package, CertificateDigests: []string{b64.EncodeToString(p.Certificate[:])}, MaxAge: config.Duration(5 * time.Minute),
		DecryptionKey: config.Secret(base64.StdEncoding.EncodeToString(p.Decryption)), VerificationKey: base64.StdEncoding.EncodeToString(der),
	}
}

// Payload is what a token of a genuine app on a genuine device says.
func (p *Play) Payload(clientData []byte, now time.Time) map[string]any {
	return map[string]any{
		"requestDetails": map[string]any{
			"requestPackageName": p.Package, "nonce": b64.EncodeToString(attest.ClientDataHash(clientData)), "timestampMillis": strconv.FormatInt(now.UnixMilli(), 10),
		},
		"appIntegrity": map[string]any{
			"appRecognitionVerdict": "PLAY_RECOGNIZED", "packageName": p.Package, "certificateSha256Digest": []string{b64.EncodeToString(p.Certificate[:])}, "versionCode": "42",
		},
		"deviceIntegrity": map[string]any{
			"deviceRecognitionVerdict": []string{"MEETS_BASIC_INTEGRITY", "MEETS_DEVICE_INTEGRITY", "MEETS_STRONG_INTEGRITY"},
			"deviceAttributes":         map[string]any{"sdkVersion": 35}, "recentDeviceActivity": map[string]any{"deviceActivityLevel": "LEVEL_1"},
		},
		"accountDetails":     map[string]any{"appLicensingVerdict": "LICENSED"},
		"environmentDetails": map[string]any{"playProtectVerdict": "NO_ISSUES", "appAccessRiskVerdict": map[string]any{"appsDetected": []string{"KNOWN_INSTALLED"}}},
	}
}

// Token signs and encrypts a payload; a json.RawMessage is taken as it is.
func (p *Play) Token(payload any) string {
	raw, ok := payload.(json.RawMessage)
	if !ok {
		raw = encodeJSON(payload)
	}
	return Encrypt(p.Decryption, jose.A256KW, jose.A256GCM, "", []byte(SignJWS(jose.ES256, p.Signing, raw)))
}

// SignJWS makes a compact JWS.
func SignJWS(alg jose.SignatureAlgorithm, key any, payload []byte) string {
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, nil))
	return must(must(signer.Sign(payload)).CompactSerialize())
}

// Encrypt makes a compact JWE.
func Encrypt(key any, alg jose.KeyAlgorithm, enc jose.ContentEncryption, zip jose.CompressionAlgorithm, plain []byte) string {
	encrypter := must(jose.NewEncrypter(enc, jose.Recipient{Algorithm: alg, Key: key}, &jose.EncrypterOptions{Compression: zip}))
	return must(must(encrypter.Encrypt(plain)).CompactSerialize())
}

// Part replaces one part of a compact serialisation.
func Part(token string, i int, with string) string {
	parts := strings.Split(token, ".")
	parts[i] = with
	return strings.Join(parts, ".")
}
