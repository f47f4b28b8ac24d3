package passkey

import (
	"math/big"

	"github.com/go-webauthn/webauthn/protocol/webauthncose"
)

// checkKey refuses a key that could never verify, or only slowly, before it is
// stored. Points and moduli are checked by the library when it reads a key; that
// the algorithm is one for this kind of key is not.
func checkKey(cose []byte) error {
	parsed, err := webauthncose.ParsePublicKey(cose)
	if err != nil {
		e := fail(BadAlgorithm, "the public key is not one of its algorithm")
		e.Cause = err
		return e
	}
	fits := false
	switch key := parsed.(type) {
	case webauthncose.EC2PublicKeyData:
		fits = key.Algorithm == int64(webauthncose.AlgES256) && key.Curve == int64(webauthncose.P256)
	case webauthncose.OKPPublicKeyData:
		fits = key.Algorithm == int64(webauthncose.AlgEdDSA) && key.Curve == int64(webauthncose.Ed25519)
	case webauthncose.RSAPublicKeyData:
		if bits := new(big.Int).SetBytes(key.Modulus).BitLen(); bits < 2048 || bits > 4096 {
			return fail(BadAlgorithm, "the RSA key has %d bits, wanted 2048 to 4096", bits)
		}
		fits = key.Algorithm == int64(webauthncose.AlgRS256)
	}
	if !fits {
		return fail(BadAlgorithm, "the public key is not one of its algorithm")
	}
	return nil
}
