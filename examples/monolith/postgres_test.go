package main

import (
	"testing"

	"landline/internal/testkit"
)

// postgres gives the program an empty database of its own.
func postgres(t *testing.T) (env string) {
	t.Helper()
	return "MONOLITH_DATABASE=" + testkit.PostgresURL(t)
}
