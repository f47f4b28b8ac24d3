package attest

import (
	"testing"
	"time"
)

// The pinned certificates are the published ones: their SHA-256 fingerprints,
// and each signed itself.
func TestPinnedRoots(t *testing.T) {
	for _, c := range []struct{ name, pem, fingerprint, subject string }{
		{"Apple", appleRootPEM, "1cb9823ba28ba6ad2d33a006941de2ae4f513ef1d4e831b9f7e0fa7b6242c932", "CN=Apple App Attestation Root CA,O=Apple Inc.,ST=California"},
		{"Google", googleRootPEM, "cedb1cb6dc896ae5ec797348bce9286753c2b38ee71ce0fbe34a9a1248800dfc", "SERIALNUMBER=f92009e853b6b045"},
		{"Google CA1", googleCA1PEM, "6d9db4ce6c5c0b293166d08986e05774a8776ceb525d9e4329520de12ba4bcc0", "CN=Key Attestation CA1,OU=Android,O=Google LLC,C=US"},
	} {
		roots := pinned(c.pem)
		if len(roots) != 1 || fingerprint(roots[0]) != c.fingerprint || roots[0].Subject.String() != c.subject {
			t.Errorf("%s: %s of %s", c.name, fingerprint(roots[0]), roots[0].Subject)
		}
		if err := roots[0].CheckSignatureFrom(roots[0]); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if roots[0].NotAfter.Before(time.Date(2035, 1, 1, 0, 0, 0, 0, time.UTC)) {
			t.Errorf("%s expires %s", c.name, roots[0].NotAfter)
		}
	}
}
