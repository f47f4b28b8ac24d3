package secret

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"testing"

	"landline/internal/sqldb"
)

// TestRSAKeysSignAndRotate shows the same life of an RS256 key as of an ES256
// one, and that a key is good for its own algorithm and purpose alone.
func TestRSAKeysSignAndRotate(t *testing.T) {
	engines(t, func(t *testing.T, n *nodes) {
		ctx := t.Context()
		must(t, n.a.Ensure(ctx, "id-token", RS256))
		must(t, n.b.Ensure(ctx, "id-token", RS256))
		must(t, n.a.Ensure(ctx, "token", ES256))
		must(t, n.b.Reload(ctx))
		kid, key, err := n.a.SignerRSA("id-token")
		must(t, err)
		digest := sha256.Sum256([]byte("hello"))
		sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
		must(t, err)
		verify := func(r *Ring) {
			t.Helper()
			public, purpose, ok := r.VerifierRSA(kid)
			if !ok || purpose != "id-token" || rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], sig) != nil {
				t.Errorf("%v, %q, or the signature does not verify", ok, purpose)
			}
		}
		verify(n.b)
		must(t, n.a.Rotate(ctx, "id-token"))
		must(t, n.b.Reload(ctx))
		verify(n.b)
		next, _, err := n.b.SignerRSA("id-token")
		if err != nil || next == kid {
			t.Errorf("after the rotation it signs with %s, %v", next, err)
		}
		set := n.b.JWKS("id-token", "token")
		algs := map[string]int{}
		for _, k := range set.Keys {
			if !k.IsPublic() || !k.Valid() {
				t.Errorf("key %s is not a valid public one", k.KeyID)
			}
			algs[k.Algorithm]++
		}
		if algs["RS256"] != 3 || algs["ES256"] != 2 {
			t.Errorf("the set has %v", algs)
		}
		if _, _, ok := n.b.Verifier(kid); ok {
			t.Error("an RSA key passes as an elliptic curve one")
		}
		if _, _, err := n.b.Signer("id-token"); err == nil {
			t.Error("a purpose of RSA keys signs ES256")
		}
		if _, _, err := n.b.SignerRSA("token"); err == nil {
			t.Error("a purpose of ES256 keys signs RS256")
		}
		ec, _, err := n.b.Signer("token")
		must(t, err)
		if _, _, ok := n.b.VerifierRSA(ec); ok {
			t.Error("an elliptic curve key passes as an RSA one")
		}
		must(t, n.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return n.a.Drop(ctx, tx, kid) }))
		must(t, n.b.Reload(ctx))
		if _, _, ok := n.b.VerifierRSA(kid); ok {
			t.Error("a dropped key still verifies")
		}
	})
}
