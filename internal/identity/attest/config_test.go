package attest_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"landline/internal/config"
	"landline/internal/identity/attest"
	"landline/internal/identity/attest/attesttest"
)

type section struct {
	DeviceProof attest.Config `yaml:"device_proof" doc:"…"`
}

func load(t *testing.T, yaml string, files map[string]string) (attest.Config, error) {
	t.Helper()
	dir := t.TempDir()
	files["landline.yaml"] = "identity:\n  device_proof:\n" + yaml
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := section{DeviceProof: attest.DefaultConfig()}
	err := config.Load(filepath.Join(dir, "landline.yaml"), []config.Section{{Key: "identity", Ptr: &s, Doc: "…"}}, config.SystemEnv())
	return s.DeviceProof, err
}

func TestConfigLoads(t *testing.T) {
	android, play, apple := attesttest.NewAndroid(pkg, now), attesttest.NewPlay(pkg), attesttest.NewApple(now)
	p := play.Config()
	c, err := load(t, `
    apple: {team_id: `+team+`, bundle_ids: [`+bundle+`], environment: both, root_file: apple.pem}
    play: {package: `+pkg+`, certificate_digests: ['`+p.CertificateDigests[0]+`'], decryption_key: "${file:decryption}", verification_key: "`+p.VerificationKey+`", max_age: 2m}
    android_key: {packages: [`+pkg+`], certificate_digests: ['`+strings.Repeat("6A:", 31)+`6A'], root_file: google.json, revocation_file: revoked.json}
`, map[string]string{
		"apple.pem": attesttest.PEM(apple.Root.Certificate), "decryption": p.DecryptionKey.Reveal() + "\n",
		"google.json":  string(must(json.Marshal([]string{attesttest.PEM(android.Root.Certificate), attesttest.PEM(apple.Root.Certificate)}))),
		"revoked.json": `{"entries":{"` + android.Device.Certificate.SerialNumber.Text(16) + `":{"status":"REVOKED"}}}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	v, err := attest.New(c, attest.Options{Challenges: w.challenges})
	if err != nil {
		t.Fatal(err)
	}
	if kinds := v.Kinds(); len(kinds) != 3 {
		t.Errorf("accepts %v", kinds)
	}
	data := w.clientData(t, attest.Attest)
	_, id, object := apple.Attest(app, data)
	if _, err := v.Verify(attest.Evidence{Kind: attest.AppAttest, KeyID: id, Object: object, ClientData: data}, w.want, now); err != nil {
		t.Errorf("with the root of the file: %v", err)
	}
	if _, err := v.Verify(attest.Evidence{Kind: attest.PlayIntegrity, Token: play.Token(play.Payload(data, now)), ClientData: data}, w.want, now); err != nil {
		t.Errorf("with the keys of the file: %v", err)
	}
	_, chain := android.Attest(data)
	_, err = v.Verify(attest.Evidence{Kind: attest.AndroidKey, Chain: chain, ClientData: data}, w.want, now)
	refused(t, "revoked by the file", "revocation", err)
}

func TestConfigFaults(t *testing.T) {
	for yaml, want := range map[string]string{
		`apple: {team_id: short, bundle_ids: [a.b]}`:                              "apple.team_id",
		`apple: {bundle_ids: [a.b]}`:                                              "apple.team_id",
		`apple: {team_id: A1B2C3D4E5}`:                                            "apple.bundle_ids",
		`apple: {team_id: A1B2C3D4E5, bundle_ids: ["a b"]}`:                       "apple.bundle_ids[0]",
		`apple: {team_id: A1B2C3D4E5, bundle_ids: [a.b], environment: sandbox}`:   "apple.environment",
		`apple: {team_id: A1B2C3D4E5, bundle_ids: [a.b], root_file: missing.pem}`: "apple.root_file",
		`apple: {team_id: A1B2C3D4E5, bundle_ids: [a.b], root_file: empty.pem}`:   "apple.root_file",
		`apple: {team_id: A1B2C3D4E5, bundle_ids: [a.b], root_file: leaf.pem}`:    "apple.root_file",
		`apple: {team_id: A1B2C3D4E5, bundle_ids: [a.b], root_file: broken.json}`: "apple.root_file",
		`play: {package: x}`:                                            "play.package",
		`play: {package: a.b}`:                                          "play.certificate_digests",
		`play: {package: a.b, certificate_digests: [zz]}`:               "play.certificate_digests[0]",
		`play: {package: a.b, decryption_key: "${file:empty.pem}"}`:     "play.decryption_key",
		`play: {package: a.b, verification_key: AAAA}`:                  "play.verification_key",
		`play: {package: a.b, verification_key: "?"}`:                   "play.verification_key",
		`play: {package: a.b, max_age: 1s}`:                             "play.max_age",
		`play: {package: a.b, min_version_code: -1}`:                    "play.min_version_code",
		`android_key: {packages: []}`:                                   "android_key.packages",
		`android_key: {packages: [x]}`:                                  "android_key.packages[0]",
		`android_key: {packages: [a.b]}`:                                "android_key.certificate_digests",
		`android_key: {packages: [a.b], revocation_file: missing.json}`: "android_key.revocation_file",
		`android_key: {packages: [a.b], revocation_file: empty.pem}`:    "android_key.revocation_file",
		`android_key: {packages: [a.b], root_file: empty.pem}`:          "android_key.root_file",
		`desktop: {}`: "desktop",
	} {
		leaf := attesttest.NewCA("x", nil, now)
		_, err := load(t, "    "+yaml+"\n", map[string]string{
			"empty.pem": "", "leaf.pem": attesttest.PEM(leafOf(leaf)), "broken.json": "[1]",
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", yaml, err)
		}
	}
}

func TestConfigIsDocumented(t *testing.T) {
	s := section{DeviceProof: attest.DefaultConfig()}
	var page strings.Builder
	if err := config.Reference(&page, []config.Section{{Key: "identity", Ptr: &s, Doc: "…"}}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"apple.team_id", "apple.environment", "play.decryption_key", "play.max_age", "android_key.revocation_file"} {
		if !strings.Contains(page.String(), "`identity.device_proof."+key+"`") {
			t.Errorf("%s is not documented:\n%s", key, page.String())
		}
	}
}

// No key shows in what is printed.
func TestConfigHidesTheKey(t *testing.T) {
	c := attesttest.NewPlay(pkg).Config()
	raw, err := json.Marshal(c)
	if err != nil || strings.Contains(string(raw), c.DecryptionKey.Reveal()) {
		t.Errorf("%s, %v", raw, err)
	}
}

// leafOf issues a certificate that is of no authority.
func leafOf(ca *attesttest.CA) *x509.Certificate {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "leaf"}, NotBefore: now, NotAfter: now.AddDate(1, 0, 0)}
	return must(x509.ParseCertificate(ca.Issue(template, &attesttest.NewKey().PublicKey)))
}
