package attest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// MaxPlayToken bounds an integrity token, in bytes; real ones have about 2 KiB.
const MaxPlayToken = 16 << 10

// play verifies integrity tokens of classic requests with the response keys of
// the Play Console: a JWS of ES256 within a JWE of A256KW and A256GCM, as
// Google's pages "Make a classic API request" and "Integrity verdicts" say.
type play struct {
	pkg          string
	certificates map[[sha256.Size]byte]bool
	decryption   []byte
	verification *ecdsa.PublicKey
	maxAge       time.Duration
	minVersion   int64
}

func newPlay(c PlayConfig) (*play, error) {
	p := &play{pkg: c.Package, maxAge: c.MaxAge.D(), minVersion: c.MinVersionCode}
	var err error
	if p.certificates, err = parseDigests(c.CertificateDigests); err != nil {
		return nil, fmt.Errorf("attest: play.certificate_digests: %w", err)
	}
	if p.decryption, err = parseDecryptionKey(c.DecryptionKey.Reveal()); err != nil {
		return nil, fmt.Errorf("attest: play.decryption_key: %w", err)
	}
	if p.verification, err = parseVerificationKey(c.VerificationKey); err != nil {
		return nil, fmt.Errorf("attest: play.verification_key: %w", err)
	}
	return p, nil
}

// parseDecryptionKey reads the AES-256 key as the console shows it.
func parseDecryptionKey(text string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) != 32 {
		return nil, fmt.Errorf("it is not base64 of 32 bytes")
	}
	return key, nil
}

// parseVerificationKey reads the P-256 key as the console shows it.
func parseVerificationKey(text string) (*ecdsa.PublicKey, error) {
	der, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil, fmt.Errorf("it is not base64")
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	key, ok := parsed.(*ecdsa.PublicKey)
	if err != nil || !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("it is not a P-256 key (a SubjectPublicKeyInfo in base64)")
	}
	return key, nil
}

// parseDigests reads SHA-256 digests in hex, with or without colons, or in base64url.
func parseDigests(texts []string) (map[[sha256.Size]byte]bool, error) {
	out := make(map[[sha256.Size]byte]bool, len(texts))
	for i, text := range texts {
		raw, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
		if err != nil || len(raw) != sha256.Size {
			raw, err = b64.DecodeString(strings.TrimRight(text, "="))
		}
		if err != nil || len(raw) != sha256.Size {
			return nil, fmt.Errorf("item %d is not a SHA-256 digest in hex or base64url", i+1)
		}
		out[[sha256.Size]byte(raw)] = true
	}
	return out, nil
}

// millis is a number of milliseconds that proto3 writes as a text.
type millis int64

func (m *millis) UnmarshalJSON(b []byte) error {
	n, err := strconv.ParseInt(strings.Trim(string(b), `"`), 10, 64)
	*m = millis(n)
	return err
}

type integrity struct {
	Request struct {
		Package   string `json:"requestPackageName"`
		Nonce     string `json:"nonce"`       // of a classic request
		Hash      string `json:"requestHash"` // of a standard request
		Timestamp millis `json:"timestampMillis"`
	} `json:"requestDetails"`
	App struct {
		Recognition  string   `json:"appRecognitionVerdict"`
		Package      string   `json:"packageName"`
		Certificates []string `json:"certificateSha256Digest"`
		Version      millis   `json:"versionCode"`
	} `json:"appIntegrity"`
	Device struct {
		Recognition []string `json:"deviceRecognitionVerdict"`
		Attributes  struct {
			SDK int `json:"sdkVersion"`
		} `json:"deviceAttributes"`
		Activity struct {
			Level string `json:"deviceActivityLevel"`
		} `json:"recentDeviceActivity"`
	} `json:"deviceIntegrity"`
	Account struct {
		Licensing string `json:"appLicensingVerdict"`
	} `json:"accountDetails"`
	Environment struct {
		PlayProtect string `json:"playProtectVerdict"`
		Access      struct {
			Apps []string `json:"appsDetected"`
		} `json:"appAccessRiskVerdict"`
	} `json:"environmentDetails"`
}

// verify opens a token and checks that it answers the client data now.
func (p *play) verify(token string, clientDataHash []byte, now time.Time) (Verdict, error) {
	payload, err := p.open(token)
	if err != nil {
		return Verdict{}, err
	}
	var t integrity
	if json.Unmarshal(payload, &t) != nil {
		return Verdict{}, bad(PlayIntegrity, "payload", "it is not a verdict")
	}
	if t.Request.Package != p.pkg {
		return Verdict{}, bad(PlayIntegrity, "request_package", "it was asked for by another app")
	}
	nonce := b64.EncodeToString(clientDataHash)
	switch answer := strings.TrimRight(t.Request.Nonce, "="); {
	case answer != "" && t.Request.Hash != "", answer == "" && t.Request.Hash == "":
		return Verdict{}, bad(PlayIntegrity, "nonce", "it has not one of nonce and requestHash")
	case answer+t.Request.Hash != nonce:
		return Verdict{}, bad(PlayIntegrity, "nonce", "it was not made for this client data")
	}
	made := time.UnixMilli(int64(t.Request.Timestamp))
	if now.Sub(made) > p.maxAge || made.Sub(now) > clockSkew {
		return Verdict{}, bad(PlayIntegrity, "timestamp", "it was not made within the last %s", p.maxAge)
	}
	return p.judge(&t, now), nil
}

// open decrypts the outer and verifies the inner token.
func (p *play) open(token string) ([]byte, error) {
	if len(token) > MaxPlayToken || strings.Count(token, ".") != 4 {
		return nil, bad(PlayIntegrity, "token", "it is not a compact JWE of at most %d bytes", MaxPlayToken)
	}
	for part := range strings.SplitSeq(token, ".") {
		if _, err := decode64(part); err != nil { // strict: one token has one spelling
			return nil, bad(PlayIntegrity, "token", "a part of it is not base64url")
		}
	}
	if err := checkJOSEHeader(token, "A256KW", "A256GCM"); err != nil {
		return nil, err
	}
	jwe, err := jose.ParseEncryptedCompact(token, []jose.KeyAlgorithm{jose.A256KW}, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		return nil, bad(PlayIntegrity, "token", "it is not a compact JWE of A256KW and A256GCM")
	}
	inner, err := jwe.Decrypt(p.decryption)
	if err != nil {
		return nil, bad(PlayIntegrity, "token", "it does not decrypt with decryption_key")
	}
	if len(inner) > MaxPlayToken || strings.Count(string(inner), ".") != 2 {
		return nil, bad(PlayIntegrity, "token", "it does not hold a compact JWS")
	}
	if err := checkJOSEHeader(string(inner), "ES256", ""); err != nil {
		return nil, err
	}
	jws, err := jose.ParseSignedCompact(string(inner), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, bad(PlayIntegrity, "token", "it does not hold a compact JWS of ES256")
	}
	payload, err := jws.Verify(p.verification)
	if err != nil {
		return nil, bad(PlayIntegrity, "signature", "it does not verify with verification_key")
	}
	return payload, nil
}

// checkJOSEHeader allows the one combination that Google uses, and nothing that
// changes how the rest is read: no compression, no critical extension.
func checkJOSEHeader(token, alg, enc string) error {
	text, _, _ := strings.Cut(token, ".")
	raw, err := decode64(text)
	var h struct {
		Alg  string          `json:"alg"`
		Enc  string          `json:"enc"`
		Zip  json.RawMessage `json:"zip"`
		Crit json.RawMessage `json:"crit"`
		B64  json.RawMessage `json:"b64"`
	}
	if err != nil || json.Unmarshal(raw, &h) != nil {
		return bad(PlayIntegrity, "header", "it is not a JSON object")
	}
	if h.Alg != alg || h.Enc != enc || h.Zip != nil || h.Crit != nil || h.B64 != nil {
		return bad(PlayIntegrity, "header", "it is not as Google makes it")
	}
	return nil
}

// judge maps what a genuine token says to a level.
func (p *play) judge(t *integrity, now time.Time) Verdict {
	v := Verdict{Level: LevelHardware, Kind: PlayIntegrity, Environment: Production, At: now, Signals: Signals{
		App: signal(t.App.Package), VersionCode: int64(t.App.Version), Device: signals(t.Device.Recognition), OSVersion: t.Device.Attributes.SDK,
		Recognition: signal(t.App.Recognition), Licensing: signal(t.Account.Licensing), Activity: signal(t.Device.Activity.Level),
		PlayProtect: signal(t.Environment.PlayProtect), AccessRisk: signals(t.Environment.Access.Apps),
	}}
	if t.App.Recognition != "PLAY_RECOGNIZED" {
		v.lower(LevelNone, AppUnrecognized)
	}
	if t.App.Package != p.pkg {
		v.lower(LevelNone, AppUnknown)
	}
	if !allKnown(p.certificates, t.App.Certificates) {
		v.lower(LevelNone, CertificateUnknown)
	}
	if int64(t.App.Version) < p.minVersion {
		v.lower(LevelNone, VersionTooOld)
	}
	switch {
	case !slices.Contains(t.Device.Recognition, "MEETS_DEVICE_INTEGRITY"):
		v.lower(LevelNone, DeviceUntrusted)
	case !slices.Contains(t.Device.Recognition, "MEETS_STRONG_INTEGRITY"):
		v.lower(LevelApp, HardwareUnproven)
	}
	return v
}

// allKnown reports whether there are digests and every one is configured.
func allKnown(known map[[sha256.Size]byte]bool, digests []string) bool {
	for _, d := range digests {
		raw, err := b64.DecodeString(strings.TrimRight(d, "="))
		if err != nil || len(raw) != sha256.Size || !known[[sha256.Size]byte(raw)] {
			return false
		}
	}
	return len(digests) > 0
}
