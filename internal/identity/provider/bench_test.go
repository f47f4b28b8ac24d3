package provider

import (
	"context"
	"testing"
)

// BenchmarkVerify is the checking of one ID token with keys that are known, of RSA
// and of P-256 keys; the signature's own cost is the lower bound.
func BenchmarkVerify(b *testing.B) {
	for _, c := range []struct {
		name   string
		rotate bool
	}{{"RS256", false}, {"ES256", true}} {
		b.Run(c.name, func(b *testing.B) {
			f := newFixture(b)
			if c.rotate {
				f.acme.RotateES256()
			}
			p, token := f.get("oidc:acme"), Token{IDToken: f.token(), Nonce: nonce}
			if _, err := p.Verify(context.Background(), token); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Verify(context.Background(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
