package attest

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"
)

// MaxRevocations bounds a revocation list, in bytes.
const MaxRevocations = 32 << 20

// Revocations are the certificates of Android devices that Google revoked or
// suspended, by serial number. It is not changed after it was made, so that a
// new one may be swapped in while requests are served.
type Revocations struct {
	serials map[string]struct{}
}

// ParseRevocations reads the list as Google publishes it at
// https://android.googleapis.com/attestation/status: {"entries": {"<serial
// number in lower-case hex>": {"status": "REVOKED" or "SUSPENDED", …}}}. Every
// listed certificate is refused, whatever its status.
func ParseRevocations(raw []byte) (*Revocations, error) {
	if len(raw) > MaxRevocations {
		return nil, fmt.Errorf("it has %d bytes, at most %d are accepted", len(raw), MaxRevocations)
	}
	var list struct {
		Entries map[string]struct {
			Status string `json:"status"`
		} `json:"entries"`
	}
	if err := json.Unmarshal(raw, &list); err != nil || list.Entries == nil {
		return nil, fmt.Errorf("it is not a JSON object with the member entries, as https://android.googleapis.com/attestation/status gives it")
	}
	r := &Revocations{serials: make(map[string]struct{}, len(list.Entries))}
	for serial := range list.Entries {
		normal := strings.TrimLeft(strings.ToLower(serial), "0")
		if strings.Trim(normal, "0123456789abcdef") != "" || len(normal) > 64 {
			return nil, fmt.Errorf("it has a serial number that is not in hex")
		}
		r.serials[normal] = struct{}{}
	}
	return r, nil
}

// Len is how many certificates are listed.
func (r *Revocations) Len() int {
	if r == nil {
		return 0
	}
	return len(r.serials)
}

func (r *Revocations) has(c *x509.Certificate) bool {
	if r == nil {
		return false
	}
	_, ok := r.serials[c.SerialNumber.Text(16)]
	return ok
}
