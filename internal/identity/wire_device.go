package identity

import (
	"time"

	"landline/internal/identity/attest"
	"landline/internal/module"
)

// deviceChallengeBody is the body of POST /v1/installations/device-challenges.
type deviceChallengeBody struct {
	Purpose string `json:"purpose,omitempty" enum:"attest,assert" default:"attest" doc:"attest: for evidence; assert: for an App Attest assertion."`
}

type deviceChallengeAnswer struct {
	Challenge string        `json:"challenge" doc:"To be put into the client data unchanged, and used once."`
	ExpiresAt time.Time     `json:"expires_at"`
	Kinds     []attest.Kind `json:"kinds" nullable:"false" doc:"What this server accepts."`
}

// deviceProofBody is the body of POST /v1/installations/device-proof.
type deviceProofBody struct {
	Kind       string   `json:"kind" enum:"app_attest,play_integrity,android_key,fake"`
	ClientData []byte   `json:"client_data" maxLength:"6000" doc:"Base64 of the JSON object that was signed over."`
	Assertion  bool     `json:"assertion,omitempty" doc:"object is an App Attest assertion of the key that was attested before."`
	KeyID      string   `json:"key_id,omitempty" maxLength:"128" doc:"app_attest: what generateKey gave."`
	Object     []byte   `json:"object,omitempty" doc:"app_attest: base64 of what attestKey or generateAssertion gave."`
	Token      string   `json:"token,omitempty" maxLength:"32768" doc:"play_integrity: the integrity token."`
	Chain      [][]byte `json:"chain,omitempty" maxItems:"8" doc:"android_key: the certificates in base64 of DER, the key's first."`
}

type deviceProofAnswer struct {
	Level     module.DeviceLevel `json:"level" enum:"none,key,app,hardware"`
	Reasons   []attest.Reason    `json:"reasons" nullable:"false" doc:"Why the level is not higher."`
	ExpiresAt time.Time          `json:"expires_at" doc:"From then on the level does not count; prove again before."`
}
