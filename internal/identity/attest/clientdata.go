package attest

import (
	"crypto/sha256"

	"github.com/go-jose/go-jose/v4/json"
)

// MaxClientData bounds the client data, in bytes.
const MaxClientData = 4 << 10

// clientData is the JSON object that an app makes and of which the platform
// signs the SHA-256:
//
//	{"challenge": "…", "jkt": "…"}
//
// challenge is the server's; jkt is the RFC 7638 thumbprint of the
// installation's key. Other members are the app's own, for example the hash of
// the request that an assertion is for.
type clientData struct {
	Challenge  string `json:"challenge"`
	Thumbprint string `json:"jkt"`

	hash [sha256.Size]byte
}

func parseClientData(raw []byte) (*clientData, error) {
	if len(raw) > MaxClientData {
		return nil, bad("", "client_data", "it has %d bytes, at most %d are accepted", len(raw), MaxClientData)
	}
	d := &clientData{hash: sha256.Sum256(raw)}
	if json.Unmarshal(raw, d) != nil || d.Challenge == "" {
		return nil, bad("", "client_data", "it is not a JSON object with the text challenge, each member once")
	}
	return d, nil
}

// ClientDataHash is what the app hands to the platform: as clientDataHash to App
// Attest, in base64url as the nonce to Play Integrity, as attestation challenge
// to Android's key store.
func ClientDataHash(clientData []byte) []byte {
	sum := sha256.Sum256(clientData)
	return sum[:]
}
