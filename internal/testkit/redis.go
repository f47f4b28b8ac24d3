package testkit

import (
	"crypto/rand"
	"os"
	"testing"
)

// Redis returns the address of the Redis that tests share. Keys and topics must
// start with a RedisPrefix.
func Redis(t testing.TB) (url string) {
	t.Helper()
	url = os.Getenv("TEST_REDIS_URL")
	if url == "" {
		t.Fatal("TEST_REDIS_URL is not set" + wayOut)
	}
	return url
}

// RedisPrefix returns a prefix that no other test has.
func RedisPrefix(t testing.TB) string {
	t.Helper()
	return "test:" + rand.Text()[:12] + ":"
}
