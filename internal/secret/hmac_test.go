package secret

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// A state that has been used leaves nothing behind, whoever uses it next.
func TestSumIsHMAC(t *testing.T) {
	k, err := newHMACKey(bytes.Repeat([]byte{7}, keySize), "test")
	must(t, err)
	rapid.Check(t, func(t *rapid.T) {
		messages := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 200), 1, 8).Draw(t, "messages")
		var all sync.WaitGroup
		for _, m := range messages {
			all.Go(func() {
				h := hmac.New(sha256.New, k.key)
				h.Write(m)
				if got := k.sum(m); !bytes.Equal(got, h.Sum(nil)) {
					t.Errorf("%x: %x", m, got)
				}
			})
		}
		all.Wait()
	})
}
