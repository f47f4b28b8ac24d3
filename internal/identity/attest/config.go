package attest

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"landline/internal/config"
)

// Config says which device proofs are accepted: identity.device_proof of
// landline.yaml. A kind is accepted when its block is written.
type Config struct {
	Apple      AppleConfig      `yaml:"apple" doc:"App Attest of iOS apps."`
	Play       PlayConfig       `yaml:"play" doc:"Play Integrity of Android apps: classic requests, with response keys of your own (Play Console, App integrity, manage and download my response encryption keys)."`
	AndroidKey AndroidKeyConfig `yaml:"android_key" doc:"Key attestation of Android apps."`
}

// DefaultConfig accepts no kind.
func DefaultConfig() Config {
	return Config{
		Apple: AppleConfig{BundleIDs: []string{}, Environment: AppleProduction},
		Play:  PlayConfig{CertificateDigests: []string{}, MaxAge: config.Duration(ChallengeLife)},
		AndroidKey: AndroidKeyConfig{
			Packages: []string{}, CertificateDigests: []string{},
		},
	}
}

// AppleEnvironment says which of App Attest's environments are accepted.
type AppleEnvironment string

// The choices. Builds of the App Store and of TestFlight are made for production.
const (
	AppleProduction  AppleEnvironment = "production"
	AppleDevelopment AppleEnvironment = "development"
	AppleBoth        AppleEnvironment = "both"
)

// Choices implements config.Chooser.
func (AppleEnvironment) Choices() []string { return []string{"production", "development", "both"} }

// AppleConfig is identity.device_proof.apple.
type AppleConfig struct {
	TeamID      string           `yaml:"team_id" doc:"The ten characters of your Apple developer team." example:"A1B2C3D4E5"`
	BundleIDs   []string         `yaml:"bundle_ids" doc:"The bundle ids of your iOS apps." example:"[com.example.flights]"`
	Environment AppleEnvironment `yaml:"environment" doc:"Which keys are accepted: those of production, which App Store and TestFlight builds make, those of development builds, or both."`
	RootFile    string           `yaml:"root_file" doc:"A file with other root certificates in PEM, in place of the Apple App Attestation Root CA that is built in. Relative to this file." example:"apple-root.pem"`

	roots []*x509.Certificate
}

// Check reports what is missing or malformed.
func (c *AppleConfig) Check(v *config.Validator) {
	if !validTeamID(c.TeamID) {
		v.At("team_id").Fault("it is on the membership page of developer.apple.com", "a team id has ten capital letters and digits")
	}
	if len(c.BundleIDs) == 0 {
		v.At("bundle_ids").Fault("write for example [com.example.flights]", "names no app")
	}
	for i, id := range c.BundleIDs {
		if !validName(id) {
			v.At("bundle_ids", i).Fault("write for example com.example.flights", "a bundle id has 1 to 155 characters of A-Z a-z 0-9 . -")
		}
	}
	c.roots = readRoots(v.At("root_file"), c.RootFile)
}

// PlayConfig is identity.device_proof.play.
type PlayConfig struct {
	Package            string          `yaml:"package" doc:"The package of your Android app." example:"com.example.flights"`
	CertificateDigests []string        `yaml:"certificate_digests" doc:"SHA-256 of every certificate that the app is signed with, in hex, as the Play Console shows them: that of the app signing key." example:"['6A:6A:14:…']"`
	DecryptionKey      config.Secret   `yaml:"decryption_key" doc:"The response decryption key of the Play Console, base64 of 32 bytes." example:"${PLAY_DECRYPTION_KEY}"`
	VerificationKey    string          `yaml:"verification_key" doc:"The response verification key of the Play Console, a public P-256 key in base64."`
	MaxAge             config.Duration `yaml:"max_age" min:"30s" max:"1h" doc:"How old a token may be."`
	MinVersionCode     int64           `yaml:"min_version_code" min:"0" doc:"The oldest build that counts as genuine; 0 = any."`
}

// Check reports what is missing or malformed.
func (c *PlayConfig) Check(v *config.Validator) {
	checkPackage(v.At("package"), c.Package)
	checkDigests(v.At("certificate_digests"), c.CertificateDigests)
	const where = "copy it from the Play Console: App integrity, Play Integrity API, response encryption"
	if _, err := parseDecryptionKey(c.DecryptionKey.Reveal()); err != nil {
		v.At("decryption_key").Fault(where, "%s", err)
	}
	if _, err := parseVerificationKey(c.VerificationKey); err != nil {
		v.At("verification_key").Fault(where, "%s", err)
	}
}

// AndroidKeyConfig is identity.device_proof.android_key.
type AndroidKeyConfig struct {
	Packages           []string `yaml:"packages" doc:"The packages of your Android apps." example:"[com.example.flights]"`
	CertificateDigests []string `yaml:"certificate_digests" doc:"SHA-256 of every certificate that the apps are signed with, in hex." example:"['6A:6A:14:…']"`
	RootFile           string   `yaml:"root_file" doc:"A file with other root certificates, in PEM or as https://android.googleapis.com/attestation/root gives them, in place of Google's that are built in. Relative to this file." example:"google-roots.json"`
	RevocationFile     string   `yaml:"revocation_file" doc:"A file with the list of revoked certificates, as https://android.googleapis.com/attestation/status gives it; fetch it daily. Without it, keys that leaked from devices are accepted. Relative to this file." example:"android-revocations.json"`

	roots   []*x509.Certificate
	revoked *Revocations
}

// Check reports what is missing or malformed.
func (c *AndroidKeyConfig) Check(v *config.Validator) {
	if len(c.Packages) == 0 {
		v.At("packages").Fault("write for example [com.example.flights]", "names no app")
	}
	for i, p := range c.Packages {
		checkPackage(v.At("packages", i), p)
	}
	checkDigests(v.At("certificate_digests"), c.CertificateDigests)
	c.roots = readRoots(v.At("root_file"), c.RootFile)
	if c.RevocationFile == "" {
		return
	}
	at := v.At("revocation_file")
	raw, err := at.ReadFile(c.RevocationFile)
	if err == nil {
		if c.revoked, err = ParseRevocations(raw); err == nil {
			return
		}
	}
	at.Fault("fetch https://android.googleapis.com/attestation/status", "%s", err)
}

// readRoots returns nil, which means the built-in roots, when no file is named.
func readRoots(v *config.Validator, name string) []*x509.Certificate {
	if name == "" {
		return nil
	}
	raw, err := v.ReadFile(name)
	if err != nil {
		v.Fault("leave it out to use the roots that are built in", "%s", err)
		return nil
	}
	roots, err := parseRoots(raw)
	if err != nil {
		v.Fault("write the certificates in PEM, or leave it out to use the roots that are built in", "%s", err)
	}
	return roots
}

func checkPackage(v *config.Validator, name string) {
	if !validName(name) || !strings.Contains(name, ".") {
		v.Fault("write for example com.example.flights", "a package has names with dots between them, of A-Z a-z 0-9 _")
	}
}

func checkDigests(v *config.Validator, digests []string) {
	if len(digests) == 0 {
		v.Fault("copy the SHA-256 certificate fingerprint from the Play Console, App signing", "names no certificate")
	}
	for i := range digests {
		if _, err := parseDigests(digests[i : i+1]); err != nil {
			v.At(i).Fault("copy the SHA-256 certificate fingerprint from the Play Console, App signing", "is not a SHA-256 digest in hex")
		}
	}
}

func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_') {
			return false
		}
	}
	return s != "" && len(s) <= 155
}

// complete reports a block that is set from Go and lacks something; Check tells
// it better for what is written in YAML.
func (c *Config) complete() error {
	switch {
	case c.Apple.TeamID != "" && len(c.Apple.BundleIDs) == 0, c.Apple.TeamID == "" && len(c.Apple.BundleIDs) > 0:
		return fmt.Errorf("attest: apple needs team_id and bundle_ids")
	case c.Play.Package != "" && len(c.Play.CertificateDigests) == 0:
		return fmt.Errorf("attest: play needs certificate_digests")
	case c.Play.Package != "" && c.Play.MaxAge.D() < time.Second:
		return fmt.Errorf("attest: play needs max_age")
	case len(c.AndroidKey.Packages) > 0 && len(c.AndroidKey.CertificateDigests) == 0:
		return fmt.Errorf("attest: android_key needs certificate_digests")
	}
	return nil
}
