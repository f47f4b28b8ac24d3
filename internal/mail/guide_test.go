package mail_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"landline/internal/config"
	"landline/internal/mail"
)

// The examples of docs/guide/mail.md work, and its table names every message.
func TestGuide(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "guide", "mail.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := func(language string) string {
		_, rest, ok := strings.Cut(string(page), "```"+language+"\n")
		text, _, closed := strings.Cut(rest, "```")
		if !ok || !closed {
			t.Fatalf("the guide has no block of %s", language)
		}
		return text
	}
	cfg := mail.DefaultConfig()
	env := config.Env{Lookup: func(string) (string, bool) { return "s3cret", true }}
	if err := config.LoadBytes("landline.yaml", []byte(block("yaml")), []config.Section{mail.Section(&cfg)}, env); err != nil {
		t.Error(err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "en"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "en", "sign_in_code.txt"), []byte(block("text")), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := load(t, dir, "en").Render(mail.SignInCode, "en", values)
	if err != nil || m.Subject != "012345 is your code for Flights" || !strings.Contains(m.Text, "good for 10 minutes.") {
		t.Errorf("%+v %v", m, err)
	}
	for _, name := range mail.Names() {
		if !strings.Contains(string(page), "`"+string(name)+"`") {
			t.Errorf("the guide does not name %s", name)
		}
	}
}
