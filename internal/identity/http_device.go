package identity

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"landline/internal/identity/attest"
	"landline/internal/module"
)

const maxDeviceProof = 256 << 10 // bytes of a body with evidence

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
