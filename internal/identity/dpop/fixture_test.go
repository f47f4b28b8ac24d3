package dpop

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"landline/internal/clock"
	"landline/internal/kv"
	"landline/internal/secret"
)

var (
	_ Keys   = (*secret.Ring)(nil)
	_ Setter = kv.Store(nil)
)

// testKeys is a Keys of two versions.
type testKeys struct{ current int }

func (k testKeys) MAC(purpose string, data []byte) (int, []byte, error) {
	mac, err := k.MACWith(purpose, k.current, data)
	return k.current, mac, err
}

func (k testKeys) MACWith(purpose string, version int, data []byte) ([]byte, error) {
	if version < 1 || version > 2 {
		return nil, errors.New("no such key")
	}
	h := hmac.New(sha256.New, binary.BigEndian.AppendUint32([]byte(purpose), uint32(version)))
	h.Write(data)
	return h.Sum(nil), nil
}

var testNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	testURL   = "https://api.example.com/v1/trips"
	testToken = "access.token.value"
)

func newVerifier(t testing.TB, o Options) *Verifier {
	t.Helper()
	if o.Clock == nil {
		o.Clock = clock.NewFake(testNow)
	}
	v, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func codeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}
