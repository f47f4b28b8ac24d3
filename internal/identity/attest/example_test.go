package attest_test

import (
	"fmt"

	"landline/internal/identity/attest"
	"landline/internal/identity/attest/attesttest"
)

// An iPhone attests its key once; a feature asks for hardware.
func Example() {
	apple := attesttest.NewApple(now)
	config := attest.DefaultConfig()
	config.Apple.TeamID, config.Apple.BundleIDs = "A1B2C3D4E5", []string{"com.example.flights"}
	challenges := attest.NewChallenges(attesttest.Keys{}, "attest")
	verifier, err := attest.New(config, attest.Options{Challenges: challenges, AppleRoots: apple.Roots()})
	if err != nil {
		panic(err)
	}
	challenge, err := challenges.New(attest.Attest, "ins_1", now)
	if err != nil {
		panic(err)
	}
	clientData := attesttest.ClientData(challenge.Text, "thumbprint of the installation's key")
	_, keyID, object := apple.Attest("A1B2C3D4E5.com.example.flights", clientData)

	result, err := verifier.Verify(
		attest.Evidence{Kind: attest.AppAttest, KeyID: keyID, Object: object, ClientData: clientData},
		attest.Expected{Subject: "ins_1", Thumbprint: "thumbprint of the installation's key"}, now)
	if err != nil {
		panic(err)
	}
	// In one transaction: use result.Challenge.ID once, store result.Apple and result.Verdict.
	fmt.Println(result.Verdict.Level, result.Verdict.Signals.App)
	fmt.Println(attest.Policy{MinLevel: attest.LevelHardware}.Decide(&result.Verdict, now))
	// Output:
	// hardware A1B2C3D4E5.com.example.flights
	// allowed
}
