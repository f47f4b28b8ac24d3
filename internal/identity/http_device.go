package identity

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/identity/attest"
	"landline/internal/module"
)

const maxDeviceProof = 256 << 10 // bytes of a body with evidence

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

type deviceChallengeInput struct{ Body deviceChallengeBody }
type deviceProofInput struct{ Body deviceProofBody }

func (s *Service) deviceRoutes(api huma.API) {
	op := func(path, id, summary, description string) huma.Operation {
		return huma.Operation{OperationID: id, Method: http.MethodPost, Path: path, Summary: summary, Description: description, Tags: []string{"identity"},
			Security: module.SignedIn, MaxBodyBytes: maxDeviceProof, Errors: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable}}
	}
	huma.Register(api, op("/v1/installations/device-challenges", "create-device-challenge", "Get a challenge for a device proof", ""), s.handleDeviceChallenge)
	huma.Register(api, op("/v1/installations/device-proof", "prove-device", "Prove the app and the device",
		"The level is in the access tokens that are issued from then on: refresh to get one. Features may ask for a level."), s.handleDeviceProof)
}

func (s *Service) handleDeviceChallenge(ctx context.Context, in *deviceChallengeInput) (*output[deviceChallengeAnswer], error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	purpose := attest.Attest
	if in.Body.Purpose == string(attest.Assert) {
		purpose = attest.Assert
	}
	c, err := s.challenges.New(purpose, p.InstallationID, s.now())
	kinds := append([]attest.Kind{}, s.device.Kinds()...)
	return &output[deviceChallengeAnswer]{noStore, p.UserID, deviceChallengeAnswer{Challenge: c.Text, ExpiresAt: c.Expires, Kinds: kinds}}, err
}

func (s *Service) handleDeviceProof(ctx context.Context, in *deviceProofInput) (*output[deviceProofAnswer], error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	b := in.Body
	v, err := s.ProveDevice(ctx, p, attest.Evidence{Kind: attest.Kind(b.Kind), ClientData: b.ClientData, KeyID: b.KeyID, Object: b.Object, Token: b.Token, Chain: b.Chain}, b.Assertion)
	if err != nil {
		return nil, err
	}
	out := deviceProofAnswer{Level: module.DeviceLevel(v.Level.String()), Reasons: append([]attest.Reason{}, v.Reasons...), ExpiresAt: v.At.Add(s.config.DeviceMaxAge.D())}
	return &output[deviceProofAnswer]{noStore, p.UserID, out}, nil
}
