package dpop

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"landline/internal/identity/dpop/dpoptest"
)

// BenchmarkVerify is a resource request: one ES256 signature, no I/O.
func BenchmarkVerify(b *testing.B) {
	key := dpoptest.New()
	v := newVerifier(b, Options{})
	r := Request{Fields: []string{key.Proof("POST", testURL, testToken, "", testNow)}, Method: "POST", URL: testURL, AccessToken: testToken}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(r); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSignatureAlone is the part of BenchmarkVerify that no code of ours can save.
func BenchmarkSignatureAlone(b *testing.B) {
	key := dpoptest.New()
	digest := sha256.Sum256([]byte("x"))
	r, s, err := ecdsa.Sign(rand.Reader, key.Private, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !ecdsa.Verify(&key.Private.PublicKey, digest[:], r, s) {
			b.Fatal("refused")
		}
	}
}

// BenchmarkRefuseGarbage is what nonsense costs.
func BenchmarkRefuseGarbage(b *testing.B) {
	v := newVerifier(b, Options{})
	r := Request{Fields: []string{"a.b.c"}, Method: "POST", URL: testURL}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(r); err == nil {
			b.Fatal("accepted")
		}
	}
}

func BenchmarkReplayCache(b *testing.B) {
	r := newCache(b, 1<<24, nil)
	ids := make([]string, 1<<16)
	for i := range ids {
		ids[i] = replayID("key", fmt.Sprint(i))
	}
	expires := time.Now().Add(5 * time.Minute).Truncate(time.Second)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := r.Use(context.Background(), ids[i&(len(ids)-1)], expires); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkNormalizeURL(b *testing.B) {
	for _, raw := range []string{testURL, "https://api.example.com:443/v1/files/a.json"} {
		b.Run(raw[len("https://api.example.com"):][:3], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := NormalizeURL(raw); !ok {
					b.Fatal("refused")
				}
			}
		})
	}
}
