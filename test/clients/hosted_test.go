package clients

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"landline/test/internal/running"
	"landline/test/process"
)

// startHosted runs Landline for a browser: at localhost, which browsers take for
// safe without TLS, with a service behind it, and with a language whose every text
// is marked, so that what is not in the catalogue shows.
func startHosted(t *testing.T) settings {
	t.Helper()
	dir := t.TempDir()
	public := running.FreeAddress(t)
	_, port, err := net.SplitHostPort(public)
	if err != nil {
		t.Fatal(err)
	}
	bank := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"transfers":[]}`))
	}))
	t.Cleanup(bank.Close)
	s := settings{Landline: "http://localhost:" + port, Mail: filepath.Join(dir, "data", "mail"), Chromium: chromium(t), Shots: os.Getenv("HOSTED_PICTURES")}
	running.Node(t, process.Options{Binary: binary, Config: "hosted.yaml", Data: filepath.Join(dir, "data"), Public: public,
		Env: []string{"PUBLIC_URL=" + s.Landline, "BANK=" + bank.URL, "TEXTS=" + markedTexts(t)}}, startTime)
	return s
}

// chromium finds the browser; CHROMIUM names another one.
func chromium(t *testing.T) string {
	t.Helper()
	if own := os.Getenv("CHROMIUM"); own != "" {
		return own
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("these tests need Chromium: install it, or name it with CHROMIUM")
	return ""
}

// markedTexts is a folder with the English texts as if they were Arabic, each in ⟦ ⟧.
func markedTexts(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("../../internal/identity/pages/text/en.json")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	if err := json.Unmarshal(raw, &texts); err != nil {
		t.Fatal(err)
	}
	for key, text := range texts {
		texts[key] = "⟦" + text + "⟧"
	}
	if raw, err = json.Marshal(texts); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ar.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
