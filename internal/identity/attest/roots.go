package attest

import (
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
)

// The pinned roots, as Apple and Google publish them. A test holds their
// fingerprints and verifies their own signatures.
var (
	//go:embed roots/apple_app_attestation_root_ca.pem
	appleRootPEM string // https://www.apple.com/certificateauthority/Apple_App_Attestation_Root_CA.pem

	//go:embed roots/google_hardware_attestation_root.pem
	googleRootPEM string // https://android.googleapis.com/attestation/root

	//go:embed roots/google_key_attestation_ca1.pem
	googleCA1PEM string // the same; it signs remotely provisioned keys since 2026
)

const maxRoots = 16

// parseRoots reads certificates from PEM, or from a JSON array of PEM texts, as
// Google's address gives them.
func parseRoots(text []byte) ([]*x509.Certificate, error) {
	if trimmed := strings.TrimSpace(string(text)); strings.HasPrefix(trimmed, "[") {
		var list []string
		if err := json.Unmarshal([]byte(trimmed), &list); err != nil {
			return nil, fmt.Errorf("it is not a JSON array of PEM texts")
		}
		text = []byte(strings.Join(list, "\n"))
	}
	var roots []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			return nil, fmt.Errorf("block %d is not a certificate", len(roots)+1)
		}
		if !c.IsCA {
			return nil, fmt.Errorf("certificate %d is not of a certification authority", len(roots)+1)
		}
		if roots = append(roots, c); len(roots) > maxRoots {
			return nil, fmt.Errorf("it has more than %d certificates", maxRoots)
		}
	}
	if len(roots) == 0 {
		return nil, fmt.Errorf("it has no certificate in PEM")
	}
	return roots, nil
}

// pinned parses what is compiled in.
func pinned(texts ...string) []*x509.Certificate {
	roots, err := parseRoots([]byte(strings.Join(texts, "\n")))
	if err != nil { // a test parses them
		panic("attest: pinned root: " + err.Error())
	}
	return roots
}

// fingerprint is SHA-256 over the DER, in hex.
func fingerprint(c *x509.Certificate) string { return fmt.Sprintf("%x", sha256.Sum256(c.Raw)) }
