package attest

import (
	"crypto/subtle"
	"time"

	"github.com/go-jose/go-jose/v4/json"
)

// maxFake bounds a fake token, in bytes.
const maxFake = 1 << 10

// fakeToken is the JSON object, in base64url, that stands for evidence in
// development: emulators and tests have no secure hardware. It proves nothing,
// and its Verdict says Development.
type fakeToken struct {
	Level          Level  `json:"level"`
	ClientDataHash string `json:"client_data_hash"` // base64url
	Thumbprint     string `json:"jkt"`              // of the key that is meant to be attested; may be ""
}

func verifyFake(token string, clientDataHash []byte, now time.Time) (Verdict, error) {
	if len(token) > maxFake {
		return Verdict{}, bad(Fake, "token", "it has %d bytes, at most %d are accepted", len(token), maxFake)
	}
	raw, err := decode64(token)
	var t fakeToken
	if err != nil || json.Unmarshal(raw, &t) != nil {
		return Verdict{}, bad(Fake, "token", "it is not base64url of a JSON object with level and client_data_hash")
	}
	if sum, err := decode64(t.ClientDataHash); err != nil || subtle.ConstantTimeCompare(sum, clientDataHash) != 1 {
		return Verdict{}, bad(Fake, "client_data_hash", "it is not the hash of this client data")
	}
	return Verdict{Level: t.Level, Kind: Fake, Environment: Development, KeyThumbprint: signal(t.Thumbprint), At: now}, nil
}
