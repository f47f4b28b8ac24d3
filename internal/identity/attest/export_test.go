package attest

import "time"

// AppleAttest verifies with Apple's own root, in both environments.
func AppleAttest(team, bundle, keyID string, object, clientDataHash []byte, now time.Time) (*AppleKey, error) {
	return realApple(team, bundle).attest(keyID, object, clientDataHash, now)
}

// AppleAssert is the same for an assertion.
func AppleAssert(team, bundle string, k AppleKey, object, clientDataHash []byte) (AppleKey, error) {
	return realApple(team, bundle).assert(k, object, clientDataHash)
}

func realApple(team, bundle string) *apple {
	return newApple(AppleConfig{TeamID: team, BundleIDs: []string{bundle}, Environment: AppleBoth}, pinned(appleRootPEM))
}

// AndroidVerify verifies with Google's own roots.
func AndroidVerify(c AndroidKeyConfig, chain [][]byte, challenge []byte, now time.Time) (Verdict, error) {
	a, err := newAndroid(c, pinned(googleRootPEM, googleCA1PEM), nil)
	if err != nil {
		return Verdict{}, err
	}
	return a.verify(chain, challenge, now)
}
