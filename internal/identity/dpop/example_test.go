package dpop_test

import (
	"context"
	"fmt"
	"time"

	"landline/internal/clock"
	"landline/internal/identity/dpop"
	"landline/internal/identity/dpop/dpoptest"
)

// A resource server: the proof, its single use, and that the token is bound to its key.
func Example() {
	now := clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	verifier, err := dpop.New(dpop.Options{Clock: now})
	if err != nil {
		panic(err)
	}
	used, err := dpop.NewReplayCache(100_000, now)
	if err != nil {
		panic(err)
	}
	phone := dpoptest.New()
	field := phone.Proof("GET", "https://api.example.com/v1/me", "the access token", "", now.Now())

	serve := func() error {
		proof, err := verifier.Verify(dpop.Request{Fields: []string{field}, Method: "GET", URL: "https://api.example.com/v1/me?fields=id", AccessToken: "the access token"})
		if err != nil {
			return err
		}
		if err := dpop.CheckBinding("DPoP", phone.Thumbprint, proof); err != nil {
			return err
		}
		return dpop.Once(context.Background(), used, proof)
	}
	fmt.Println(serve())
	fmt.Println(dpop.Challenge(serve(), "", verifier.Algorithms()))
	// Output:
	// <nil>
	// DPoP error="invalid_dpop_proof", error_description="it was used before: make a new one, with a new jti, for every request and every retry", algs="ES256 EdDSA Ed25519"
}
