package audit

import (
	"strings"
	"testing"
)

// A name is harmless by its last word, not by its last letters.
func TestRedactGoesByWords(t *testing.T) {
	for name, hidden := range map[string]bool{
		"password_again": true, "secret_plain": true, "token_login": true, "passwordAdmin": true, "api_key_main": true, "tokenPlain": true,
		"token_type": false, "tokenID": false, "token_expires_at": false, "secret_version": false, "password_count": false, "tokenTTL": false,
	} {
		out, err := document(map[string]string{name: "value-to-hide"})
		if err != nil {
			t.Fatal(err)
		}
		if got := !strings.Contains(string(out), "value-to-hide"); got != hidden {
			t.Errorf("%s: hidden=%v, want %v", name, got, hidden)
		}
	}
}
